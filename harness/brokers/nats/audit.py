"""What does a stream still hold, message by message? It is read by sequence from the stream's leader.

By sequence and not by a consumer: a second consumer is refused on a work queue and changes what an interest stream
keeps; and not by direct get, which any replica may answer, however old its copy is.
*owed*: not delivered to the group yet, or delivered and not acknowledged; *stored*: kept, and owed to nobody any more.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.brokers.nats.gateway import Gateway, Reply, error_code, error_of
from harness.clock import happens
from harness.operation import decode_payload
from harness.system.service import Census

OWED = "owed"
STORED = "stored"
WINDOW = 256
ROUND_S = 20.0
WITHIN_S = 10.0
"""How long sequences that were not answered are asked for again."""

TRIES = 3
NO_MESSAGE = 10037
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read of the sequences `first` to `last`: (sequence, packed message id) in order. `why_not`: not all."""

    messages: tuple[tuple[int, int], ...]
    corrupt: int
    foreign: int
    why_not: str | None

    @property
    def count(self) -> int:
        """Messages read, whatever they are."""
        return len(self.messages) + self.corrupt + self.foreign


def take_census(gateway: Gateway, stream: str, group: str, run: int, *, undisturbed: bool) -> Census:
    """Read the whole stream. A stream that is gone is read to its end; a consumer that is gone is owed nothing.

    `undisturbed`: no server restarted and no leader changed since the stream was made, so that its counters compare.
    """
    why_not = ""
    for _ in range(TRIES):
        before, consumer = _info(gateway, f"STREAM.INFO.{stream}"), _info(gateway, f"CONSUMER.INFO.{stream}.{group}")
        if error_code(before) == STREAM_NOT_FOUND:
            return Census(found=(), places=(), exhaustive=True)
        if before is None or error_code(before):
            why_not = f"stream {stream!r} does not answer: {error_of(before)}"
        elif consumer is None or error_code(consumer) not in (0, CONSUMER_NOT_FOUND):
            why_not = f"consumer {group!r} does not answer: {error_of(consumer)}"
        else:
            state = before["state"]
            reading = read_stream(gateway, stream, int(state["first_seq"]), int(state["last_seq"]), run)
            after = _info(gateway, f"STREAM.INFO.{stream}")
            if after is None or after.get("state") != state:
                why_not = f"stream {stream!r} changed while it was read"
            elif reading.why_not is not None:
                why_not = reading.why_not
            elif reading.count != int(state["messages"]):
                why_not = f"stream {stream!r} says it holds {state['messages']} messages, and gave {reading.count}"
            else:
                return _counted(reading, state, None if error_code(consumer) else consumer, undisturbed)
    return Census(found=(), places=(), exhaustive=False, why_not=why_not)


def _info(gateway: Gateway, what: str) -> Reply | None:
    return gateway.ask(f"$JS.API.{what}", {}, within_s=2.0)


def _counted(
    reading: Reading, state: Mapping[str, Any], consumer: Mapping[str, Any] | None, undisturbed: bool
) -> Census:
    counters = {"published": int(state["last_seq"]), "stored": int(state["messages"])}
    if consumer is not None:
        counters |= {
            "delivered": int(consumer["delivered"]["consumer_seq"]),
            "unsettled": int(consumer["num_ack_pending"]),
            "undelivered": int(consumer["num_pending"]),
        }
    return Census(
        found=tuple(message for _, message in reading.messages),
        places=tuple(
            OWED if consumer is not None and is_owed(sequence, consumer) else STORED for sequence, _ in reading.messages
        ),
        sequences=tuple(sequence for sequence, _ in reading.messages),
        exhaustive=True,
        counters=counters,
        comparable=frozenset({"published", "delivered"} & counters.keys()) if undisturbed else frozenset(),
        corrupt=reading.corrupt,
        foreign=reading.foreign,
    )


def read_stream(gateway: Gateway, stream: str, first: int, last: int, run: int) -> Reading:
    """Read every message of a stream from sequence `first` to `last` (closed); deleted ones are gaps."""
    replies: dict[int, Reply] = {}
    missing = list(range(max(1, first), last + 1))

    def read_all() -> bool:
        nonlocal missing
        bodies = [{"seq": sequence} for sequence in missing]
        subject = f"$JS.API.STREAM.MSG.GET.{stream}"
        for sequence, reply in zip(
            missing, gateway.fetch(subject, bodies, window=WINDOW, within_s=ROUND_S), strict=True
        ):
            if reply is not None and error_code(reply) in (0, NO_MESSAGE):
                replies[sequence] = reply
        missing = [sequence for sequence in missing if sequence not in replies]
        return not missing

    happens(read_all, within_s=WITHIN_S)
    messages: list[tuple[int, int]] = []
    corrupt = foreign = 0
    for sequence, reply in replies.items():
        if error_code(reply):
            continue
        decoded = decode_payload(base64.b64decode(reply["message"].get("data", "")))
        if decoded.corrupt:
            corrupt += 1
        elif decoded.run != run:
            foreign += 1
        else:
            messages.append((sequence, decoded.message))
    why_not = f"{len(missing)} sequences of stream {stream!r} could not be read, from {missing[0]}" if missing else None
    return Reading(messages=tuple(sorted(messages)), corrupt=corrupt, foreign=foreign, why_not=why_not)


def is_owed(sequence: int, consumer: Mapping[str, Any]) -> bool:
    """Whether a stored message is still owed to the group, by what its consumer says of itself.

    Between the acknowledged floor and the last delivered one, JetStream names no single messages. While some of them
    are unsettled all count as owed: that can excuse a message, never accuse the broker.

    >>> consumer = {"delivered": {"stream_seq": 9}, "ack_floor": {"stream_seq": 4}, "num_ack_pending": 1}
    >>> [is_owed(sequence, consumer) for sequence in (4, 5, 9, 10)]
    [False, True, True, True]
    >>> is_owed(5, {**consumer, "num_ack_pending": 0})
    False
    """
    if sequence > int(consumer["delivered"]["stream_seq"]):
        return True
    return sequence > int(consumer["ack_floor"]["stream_seq"]) and int(consumer["num_ack_pending"]) > 0
