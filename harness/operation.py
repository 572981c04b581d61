"""What clients do and what is done to them: the records of a history, one operation at a time.

*message*: the logical thing, whose id never changes across retries; *attempt*: one publish call of it;
*delivery*: one receipt of it; *effect*: what processing it left in a sink; *injection*: that a fault happened.
Standard library only: client processes and checkers both start with this module.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple, Self

SEQUENCE_BITS = 40
SEQUENCE_MAX = (1 << SEQUENCE_BITS) - 1
PRODUCER_MAX = (1 << 24) - 1


class MessageId(NamedTuple):
    """Identity of a message: the number of the client that published it, and its place in that client's sequence.

    >>> MessageId(3, 7).packed
    3298534883335
    >>> MessageId.unpack(3298534883335)
    MessageId(producer=3, sequence=7)
    """

    producer: int
    sequence: int

    @property
    def packed(self) -> int:
        """The id as one unsigned 64-bit number: `producer << 40 | sequence`."""
        return (self.producer << SEQUENCE_BITS) | self.sequence

    @classmethod
    def unpack(cls, packed: int) -> Self:
        """The id that `packed` stands for."""
        return cls(packed >> SEQUENCE_BITS, packed & SEQUENCE_MAX)

    def __str__(self) -> str:
        return f"{self.producer}:{self.sequence}"


class Outcome(IntEnum):
    """How an operation ended. INFO is the default: it may have happened. Only a proven non-event is FAIL."""

    INFO = 0
    OK = 1
    FAIL = 2


class AcknowledgedBy(IntEnum):
    """Who said OK: nobody (the call returned; a configuration without confirms), or the broker."""

    NONE = 0
    BROKER = 1


class AckKind(IntEnum):
    """How a delivery is settled: by the broker as it sends, by a message that is never answered, or with an answer."""

    AUTOMATIC = 0
    SENT = 1
    CONFIRMED = 2


class Role(StrEnum):
    """Whom a fault may hit. Node roles are resolved at the moment of injection: the broker says who leads, the kernel
    which node a client is connected to (`CLIENT_NODE`)."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    BOTH = "both"
    LEADER = "leader"
    FOLLOWER = "follower"
    ANY_NODE = "any_node"
    CLIENT_NODE = "client_node"


class CrashPoint(StrEnum):
    """Where a client can be made to kill itself (SIGKILL), between two steps of its work."""

    BEFORE_PUBLISH = "before-publish"
    BETWEEN_PUBLISH_AND_CONFIRM = "between-publish-and-confirm"
    AFTER_RECEIVE = "after-receive"
    BETWEEN_ACK_AND_EFFECT = "between-ack-and-effect"
    BETWEEN_EFFECT_AND_ACK = "between-effect-and-ack"
    BETWEEN_ACK_AND_CONFIRM = "between-ack-and-confirm"

    @property
    def number(self) -> int:
        """The point as the journal's control word writes it: 1 and up, in the order above; 0 is "none armed"."""
        return list(CrashPoint).index(self) + 1

    @classmethod
    def numbered(cls, number: int) -> CrashPoint:
        """The point that `number` (1 and up) stands for."""
        return list(cls)[number - 1]


class Stage(StrEnum):
    """How far a send had got when the client died: a call that returned is not a byte sent."""

    HANDED = "handed"
    WRITTEN = "written"
    ANSWERED = "answered"

    @property
    def number(self) -> int:
        """The stage as the journal's control word writes it: 1 and up, in the order above; 0 is "any"."""
        return list(Stage).index(self) + 1


class Conduct(IntEnum):
    """How a consumer settles what it receives: as it should; not at all; the newest first; each delivery twice."""

    USUAL = 0
    HOARDS = 1
    REVERSES = 2
    TWICE = 3


class Crash(NamedTuple):
    """Where a client ended itself, as the last record of its journal says: how far the send of that message had got
    (None where the point follows no send), and the packed id of the message."""

    point: CrashPoint
    stage: Stage | None
    message: int


UNANSWERED_END = "unanswered-end"
"""What a client notes whose broker did not answer its goodbye in time: what was on its way then, the client cut off."""


CUT = "cut-by-itself"
"""Why a connection is lost that the client closed without a goodbye, as it was told to."""


OUT_OF_ORDER = "acknowledged-out-of-order"
"""What a consumer notes of each acknowledgement that it sends after that of a later delivery; with its number."""


TWICE = "acknowledged-twice"
"""What a consumer notes of each delivery that it acknowledges a second time; with its number."""


UNSENT_ACK = "unsent-acknowledgement"
"""What a client notes when an acknowledgement that it has recorded found no room, or no connection."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured that shows that a fault bit.

    `targets`: the names of what was hit. `bit_ns`: when it bit, in ns of the run's clock, or None if it did not.
    `facts`: what was read or counted, by name (plain values only). `why_not`: why it did not bite, in one sentence.
    """

    targets: tuple[str, ...]
    bit_ns: int | None
    facts: Mapping[str, object] = field(default_factory=dict)
    why_not: str | None = None

    @property
    def bit(self) -> bool:
        """Whether the fault bit."""
        return self.bit_ns is not None


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault that was injected. All times in ns of the run's clock; None: did not happen.

    `planned_ns` is when the plan wanted it, `asked_ns` when the nemesis began, `bit_ns` when evidence dates the
    bite, `mended_ns` when mending returned, `recovered_ns` when the system was whole and clients were served again.
    `at_risk` counts the operations that were under way when it bit, as far as the fault could touch them.
    """

    fault: str
    number: int
    targets: tuple[str, ...]
    planned_ns: int
    asked_ns: int
    bit_ns: int | None
    mended_ns: int | None
    recovered_ns: int | None
    at_risk: int
    facts: Mapping[str, object] = field(default_factory=dict)
    why_not: str | None = None


# ---- payload -------------------------------------------------------------------------------------------------------

_HEAD = struct.Struct("<4sQQHHI")  # magic, run, message, attempt, size of the whole payload, CRC32 of all else
PAYLOAD_SIZE_MIN = _HEAD.size
PAYLOAD_SIZE_MAX = 65_535
_MAGIC = b"ASY1"
_CRC_AT = _HEAD.size - 4


class Decoded(NamedTuple):
    """What a payload says of itself. `corrupt`: its CRC or form is wrong (`message` is then 0 or not to be trusted)."""

    run: int
    message: int
    attempt: int
    corrupt: bool


def encode_payload(run: int, message: int, attempt: int, size: int) -> bytes:
    """A payload of `size` bytes (at least PAYLOAD_SIZE_MIN) for one attempt of one message of run `run` (64 bits).

    >>> decode_payload(encode_payload(9, 5, 1, 64))
    Decoded(run=9, message=5, attempt=1, corrupt=False)
    """
    head = bytearray(_HEAD.pack(_MAGIC, run, message, attempt, size, 0))
    padding = bytes(size - _HEAD.size)
    crc = zlib.crc32(padding, zlib.crc32(head[:_CRC_AT]))
    head[_CRC_AT:] = crc.to_bytes(4, "little")
    return bytes(head) + padding


def decode_payload(payload: bytes) -> Decoded:
    """Read a payload back. Never raises: what cannot be read is `corrupt`."""
    if len(payload) < _HEAD.size:
        return Decoded(0, 0, 0, True)
    magic, run, message, attempt, size, crc = _HEAD.unpack_from(payload)
    good = magic == _MAGIC and size == len(payload)
    good = good and zlib.crc32(payload[_HEAD.size :], zlib.crc32(payload[:_CRC_AT])) == crc
    return Decoded(run, message, attempt, not good)
