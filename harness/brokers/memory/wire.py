"""Which bytes does the memory broker speak? Frames: length u32 (of the rest), operation u8, then its fields.

    HELLO      JSON: name, queue, role, prefetch, automatic, deduplicate              client -> server
    PUBLISH    tag u64, size of native id u8, native id, payload                      client -> server
    SETTLE     sequence u64, token u64 (0: no answer wanted)                          client -> server
    CONSUME    -                                                                      client -> server
    STOP       -                                                                      client -> server
    ASK        JSON: what is asked                                                    harness -> server
    PING       token u64                                                              both ways, answered by PONG
    PONG       token u64
    CONFIRM    tag u64, outcome u8, duplicate u8, sequence u64, error                 server -> client
    DELIVER    sequence u64, number u64, redelivered u8, count u16, payload           server -> client
    SETTLED    token u64, outcome u8                                                  server -> client
    TOLD       JSON: the answer                                                       server -> client or harness
    PULL       -                                                                      client -> server
    PULLED     whether a message came, just before, u8                                server -> client

Little-endian. Both ends give a connection up that has been silent for SILENCE_S; both see to it that it is not.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

HELLO, PUBLISH, SETTLE, CONSUME, STOP, ASK, PING, PONG, CONFIRM, DELIVER, SETTLED, TOLD, PULL, PULLED = range(1, 15)
HEAD = struct.Struct("<IB")
U64 = struct.Struct("<Q")
PUBLISH_HEAD = struct.Struct("<IBQB")
PUBLISH_BODY = struct.Struct("<QB")
PAIR = struct.Struct("<QQ")
CONFIRM_BODY = struct.Struct("<QBBQ")
DELIVER_BODY = struct.Struct("<QQBH")
SETTLED_BODY = struct.Struct("<QB")
PING_S = 0.25
SILENCE_S = 2.0


def frame(operation: int, body: bytes = b"") -> bytes:
    """One frame."""
    return HEAD.pack(len(body) + 1, operation) + body


def spoken(operation: int, what: object) -> bytes:
    """One frame with JSON in it."""
    return frame(operation, json.dumps(what).encode())


def heard(body: bytes) -> Any:
    """The JSON in a frame's body."""
    return json.loads(body)


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(operation, body) of each frame that is whole now."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= 5:
            length, operation = HEAD.unpack_from(data, at)
            if end - at < 4 + length:
                break
            yield operation, data[at + 5 : at + 4 + length]
            at += 4 + length
        self._rest = data[at:]
