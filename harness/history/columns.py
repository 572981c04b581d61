"""Which tables does a history have, and what does each column mean? The public format, written down once.

Every column is a numpy array of the given type; all of a table have equal length, one row an operation. Times are ns
of the run's clock (monotonic, since the run began); NEVER stands for "did not happen". `word` columns index the run's
list of words (text is stored once). Outcomes, kinds and flags are the numbers of harness/operation.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NEVER = -1
"""The time of what did not happen, and the number of what does not exist."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its numpy type ("i8", "u8", ...), its unit or meaning of values, and one sentence."""

    type: str
    unit: str
    says: str


def _c(type_: str, unit: str, says: str) -> Column:
    return Column(type_, unit, says)


TABLES: Mapping[str, Mapping[str, Column]] = {
    "publications": {
        "client": _c("u2", "client number", "who published"),
        "epoch": _c("u2", "count", "which connection of that client; 0: none was there"),
        "route": _c("u2", "word", "exchange and key, or subject"),
        "message": _c("u8", "packed id", "producer << 40 | sequence"),
        "attempt": _c("u2", "count", "1 for the first publish of the message, 2 for its first retry, ..."),
        "native_id": _c("u1", "0/1", "whether a deduplication id of the broker was sent with it"),
        "intended_ns": _c("i8", "ns", "when the workload wanted it published"),
        "invoked_ns": _c("i8", "ns", "when the library was called"),
        "written_ns": _c("i8", "ns", "when its bytes had left the client's buffer, as far as known"),
        "completed_ns": _c("i8", "ns", "when the answer came (or the call returned, without confirms)"),
        "outcome": _c("u1", "Outcome", "INFO 0, OK 1, FAIL 2"),
        "acknowledged_by": _c("u1", "AcknowledgedBy", "nobody 0, broker 1"),
        "broker_sequence": _c("u8", "sequence", "what the broker's answer called it; 0: nothing"),
        "duplicate": _c("u1", "0/1", "whether the broker's answer called it a duplicate"),
        "error": _c("u2", "word", "code of the error; the empty word for none"),
    },
    "deliveries": {
        "client": _c("u2", "client number", "who received"),
        "epoch": _c("u2", "count", "which connection of that client"),
        "group": _c("u2", "word", "queue or durable consumer whose members share the messages"),
        "message": _c("u8", "packed id", "as the payload says; 0 if corrupt"),
        "attempt": _c("u2", "count", "as the payload says"),
        "number": _c("u4", "count", "1, 2, 3... within the client"),
        "broker_sequence": _c("u8", "sequence", "stream sequence or offset; 0: the broker has none"),
        "redelivered": _c("u1", "0/1", "the broker's flag"),
        "delivery_count": _c("u2", "count", "as the broker counts; 0: it does not"),
        "fetch_invoked_ns": _c("i8", "ns", "when the fetch that brought it was invoked; NEVER for push"),
        "received_ns": _c("i8", "ns", "when its bytes were parsed"),
        "handled_ns": _c("i8", "ns", "when its effect was done, as the consumer believes"),
        "ack_kind": _c("u1", "AckKind", "automatic 0, sent 1, confirmed 2"),
        "ack_invoked_ns": _c("i8", "ns", "when the acknowledgement was handed to the library"),
        "settled_ns": _c("i8", "ns", "when the broker confirmed it"),
        "settlement": _c("u1", "Outcome", "of the acknowledgement; INFO where it is never answered"),
        "corrupt": _c("u1", "0/1", "CRC or form of the payload was wrong"),
        "foreign": _c("u1", "0/1", "the payload names another run"),
    },
    "dequeues": {
        "client": _c("u2", "client number", "who pulled, one message at a time"),
        "epoch": _c("u2", "count", "which connection of that client"),
        "group": _c("u2", "word", "queue or durable consumer that was asked"),
        "message": _c("u8", "packed id", "what came, as in deliveries; 0: nothing, or nothing whole of this run"),
        "delivery": _c("u4", "count", "number of the delivery that it brought; 0: none"),
        "redelivered": _c("u1", "0/1", "the broker's flag: it may have been handed out before"),
        "found_empty": _c("u1", "0/1", "whether the answer was that nothing is there"),
        "invoked_ns": _c("i8", "ns", "when the library was called"),
        "completed_ns": _c("i8", "ns", "when the answer came; NEVER for none"),
        "outcome": _c(
            "u1", "Outcome", "OK: answered; INFO: not, so it may have taken a message; FAIL: refused, it took none"
        ),
    },
    "effects": {
        "message": _c("u8", "packed id", "whose effect"),
        "count": _c("u4", "count", "how often the sink holds it"),
        "first_ns": _c("i8", "ns", "when the first was written, as written into the sink"),
        "last_ns": _c("i8", "ns", "when the last was written"),
        "order": _c("u8", "count", "place among the effects by their first writing, 0 and up"),
    },
    "clients": {
        "client": _c("u2", "client number", "who"),
        "name": _c("u2", "word", "its slot and number, as the broker sees it"),
        "slot": _c("u2", "word", "producer-1, consumer-1, ...: a successor has its predecessor's slot"),
        "role": _c("u2", "word", "producer or consumer"),
        "group": _c("u2", "word", "of a consumer; else the empty word"),
        "start_ns": _c("i8", "ns", "process started"),
        "end_ns": _c("i8", "ns", "process seen to have ended"),
        "exit": _c("i4", "code", "exit code; -9 for SIGKILL"),
        "planned": _c("u1", "0/1", "whether it ended as it was told or as the plan wanted"),
        "peer_is_proxy": _c("u1", "0/1", "every connection that the broker listed for it came from the proxy"),
        "crash_point": _c("u2", "word", "crash point reached; the empty word for none"),
        "crash_ns": _c("i8", "ns", "when it was reached"),
    },
    "phases": {
        "phase": _c("u2", "word", "deploy, quiet, break, mend, recover, drain, audit"),
        "trial": _c("i4", "number", "which trial it belongs to, 0 and up; NEVER for none"),
        "begin_ns": _c("i8", "ns", "begin"),
        "end_ns": _c("i8", "ns", "end"),
    },
    "health": {
        "time_ns": _c("i8", "ns", "when"),
        "client": _c("i4", "client number", "who; NEVER for the runner or a node"),
        "member": _c("u2", "word", "name of the member"),
        "state": _c("u2", "word", "ticker-gap, basic.cancel, connection.blocked, connected, lost, cpu-steal, ..."),
        "value": _c("i8", "ns or count", "length of the gap, or what the state counts"),
        "planned": _c("u1", "0/1", "whether a fault of the plan explains it"),
    },
    "census": {
        "message": _c("u8", "packed id", "read by the auditor, by identity"),
        "place": _c("u2", "word", "owed (not yet settled by its group), stored (kept, owed to nobody), dead-letter"),
        "broker_sequence": _c("u8", "sequence", "where it has one; else 0"),
    },
    "dropped": {
        "message": _c("u8", "packed id", "dropped by a policy that the configuration asked for"),
        "policy": _c("u2", "word", "name of the policy"),
    },
}

SINCE_FORMAT_1 = frozenset({"dequeues"})
"""Tables that came to the format later: a run or an export that does not name one has no row of it."""
