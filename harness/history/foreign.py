"""How does a recording become a history that can be judged? What it does not say is left open, never supposed.

Nobody injected anything in it, no auditor read the broker, and nobody watched its clients: such a history shows
violations, and can never be HELD. Where its recorder did not write down of which attempt a delivery was, whether it was
flagged, or what `ack_wait` is, guarantees that hang on it are not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from harness.errors import Refused
from harness.history.columns import NEVER, TABLES
from harness.history.history import Array, History, Table
from harness.history.mapping import DELIVERY, PUBLICATION
from harness.history.recording import MISSING, Recording
from harness.history.terms import Claimed, Terms
from harness.history.values import texts
from harness.operation import SEQUENCE_BITS, AckKind, AcknowledgedBy, Outcome

GROUP = "group"
_DEMANDED = "demanded by whoever imported it"
_ROLES = {PUBLICATION: "producer", DELIVERY: "consumer"}
UNKNOWN_ATTEMPT = 0
"""The attempt of a delivery of a message that was published several times, where nobody wrote down which it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the user says besides. `drained`: consumers had read all there was, and the broker kept nothing, so that
    what was not delivered is lost. `fan_out`: each group is due a copy of each message. `keep`: guarantees demanded of
    it. `ack_wait_s`: after which the broker delivers again what is not acknowledged; None: not known."""

    name: str
    recorded_by: str
    drained: bool = False
    fan_out: bool = False
    keep: tuple[str, ...] = ()
    ack_wait_s: float | None = None


def history_of(recording: Recording, said: Said) -> History:
    """The history that a recording tells of. Times begin at 0 with the first thing that happened."""
    published = {name: np.array(column, "i8") for name, column in recording.kinds[PUBLICATION].columns.items()}
    delivered = {name: np.array(column, "i8") for name, column in recording.kinds[DELIVERY].columns.items()}
    recorded = recording.kinds[DELIVERY].recorded
    times = [published["invoked"], delivered["received"], delivered["fetched"][delivered["fetched"] != MISSING]]
    origin_ns = min((int(column.min()) for column in times if len(column)), default=0)

    def since(column: Array) -> Array:
        return np.where(column == MISSING, NEVER, column - origin_ns)

    packed = _packed_ids(recording, published)
    groups = _or(delivered["group"], recording.words.number(GROUP))
    ack = AckKind.CONFIRMED if "settled" in recorded else AckKind.SENT if "acknowledged" in recorded else None
    tables = {name: Table.empty(name) for name in TABLES}
    tables["publications"] = _publications(
        published, packed[published["message"]], _attempts(recording, published), since
    )
    # A corrupt delivery need not say of which message it is.
    named = delivered["message"] != MISSING
    message = np.where(named, delivered["message"], 0)
    times_published = np.bincount(published["message"], minlength=max(len(packed), 1))[message]
    ids = np.where(named, packed[message] if len(packed) else 0, 0)
    tables["deliveries"] = _deliveries(delivered, ids, times_published, groups, ack, since)
    tables["clients"] = _clients(recording, tables)
    by = _or(published["acknowledged_by"], int(AcknowledgedBy.BROKER))
    flagged = (delivered["redelivered"] != MISSING) | (delivered["delivery_count"] != MISSING)
    numbers = {number: word for word, number in recording.words.numbers.items()}
    terms = Terms(
        cell=said.name,
        seed=0,
        run=0,
        configuration=said.name,
        family="",
        broker_version="",
        faults=(),
        acknowledged_by=AcknowledgedBy.BROKER if by.any() else AcknowledgedBy.NONE,
        ack=AckKind.AUTOMATIC if ack is None else ack,
        pulled=said.ack_wait_s is not None and "fetched" in recorded,
        ordered=bool(flagged.all()),
        ack_wait_s=said.ack_wait_s,
        claims=tuple(Claimed(guarantee=name, page=_DEMANDED, says=_DEMANDED) for name in said.keep),
        groups=tuple(numbers[int(word)] for word in np.unique(groups)) if said.fan_out else (GROUP,),
        drain="broker",
        drained=said.drained,
        drained_why_not="" if said.drained else "whoever recorded it does not say so",
        exhaustive=said.drained,
        exhaustive_why_not="" if said.drained else "there was none",
        brokers_up=said.drained,
        recorded_by=said.recorded_by,
    )
    return History(tables, terms, tuple(recording.words.numbers))


def identities(recording: Recording) -> Iterator[tuple[str, str]]:
    """(id as text, identity in the recording) of every message."""
    published = {name: np.array(column, "i8") for name, column in recording.kinds[PUBLICATION].columns.items()}
    ids = texts(_packed_ids(recording, published))
    yield from zip(ids, recording.messages, strict=True)


def _packed_ids(recording: Recording, published: dict[str, Array]) -> Array:
    """The packed id of each message: its first publisher's number, and its place among what that one published first.

    What nobody published is of producer 0, which there is not.
    """
    ids = np.zeros(len(recording.messages), "u8")
    order = np.argsort(published["invoked"], kind="stable")
    messages, first = np.unique(published["message"][order], return_index=True)
    rows = order[np.sort(first)]  # of first calls, in the order of time
    clients = published["client"][rows]
    ids[published["message"][rows]] = (clients << SEQUENCE_BITS) | _ranks(clients, np.arange(len(rows)))
    strangers = np.setdiff1d(np.arange(len(ids)), messages)
    ids[strangers] = np.arange(1, len(strangers) + 1)
    return ids


def _attempts(recording: Recording, published: dict[str, Array]) -> Array:
    """The attempt of each publication: as recorded, else its place among the calls for its message."""
    attempts = _or(published["attempt"], _ranks(published["message"], published["invoked"]))
    _refuse_repeated_attempts(recording, published["message"], attempts)
    return np.minimum(attempts, np.iinfo("u2").max)


def _ranks(of: Array, within: Array) -> Array:
    """1, 2, 3... among equals in `of`, in the order of `within`."""
    order = np.lexsort((within, of))
    starts = np.flatnonzero(np.diff(of[order], prepend=MISSING))
    ranks = np.empty(len(order), "i8")
    ranks[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order))) + 1
    return ranks


def _refuse_repeated_attempts(recording: Recording, message: Array, attempts: Array) -> None:
    order = np.lexsort((attempts, message))
    again = (np.diff(message[order]) == 0) & (np.diff(attempts[order]) == 0)
    if again.any():
        place = int(np.flatnonzero(again)[0])
        rows = recording.kinds[PUBLICATION].row
        first, then = sorted(rows[int(row)] for row in order[place : place + 2])
        raise Refused(
            f"rows {first} and {then} are calls for one message, and both are attempt {attempts[order[place]]}",
            cure="record 1, 2, 3... of each message, in every row; or in none, and they are counted",
        )


def _publications(
    published: dict[str, Array], packed: Array, attempts: Array, since: Callable[[Array], Array]
) -> Table:
    rows = len(packed)
    invoked_ns, completed_ns = since(published["invoked"]), since(published["completed"])
    outcome = _or(published["outcome"], int(Outcome.INFO))
    # Refused in the instant in which it was called would mean that there was no connection to send it over.
    completed_ns = completed_ns + ((outcome == Outcome.FAIL) & (completed_ns == invoked_ns))
    return Table(
        "publications",
        {
            "client": published["client"],
            "epoch": _or(published["epoch"], 1),
            "route": _or(published["route"], 0),
            "message": packed,
            "attempt": attempts,
            "native_id": np.zeros(rows),
            "intended_ns": invoked_ns,
            "invoked_ns": invoked_ns,
            "written_ns": np.full(rows, NEVER),
            "completed_ns": completed_ns,
            "outcome": outcome,
            "acknowledged_by": _or(published["acknowledged_by"], int(AcknowledgedBy.BROKER)),
            "broker_sequence": _or(published["broker_sequence"], 0),
            "duplicate": _or(published["duplicate"], 0),
            "error": _or(published["error"], 0),
        },
    )


def _deliveries(
    delivered: dict[str, Array],
    packed: Array,
    times_published: Array,
    group: Array,
    ack: AckKind | None,
    since: Callable[[Array], Array],
) -> Table:
    rows = len(packed)
    attempt = _or(delivered["attempt"], np.where(times_published > 1, UNKNOWN_ATTEMPT, 1))
    sequence = _or(delivered["broker_sequence"], 0)
    settled_ns = since(delivered["settled"])
    ack_invoked_ns = since(_or(delivered["acknowledged"], delivered["settled"]))
    # Of two copies that nobody can tell apart, one was settled: the other came by right, if it is of another attempt.
    known = (settled_ns != NEVER) & ((attempt != UNKNOWN_ATTEMPT) | (sequence != 0))
    flagged = np.where(delivered["delivery_count"] == MISSING, 0, delivered["delivery_count"] > 1)
    return Table(
        "deliveries",
        {
            "client": delivered["client"],
            "epoch": _or(delivered["epoch"], 1),
            "group": group,
            "message": packed,
            "attempt": attempt,
            "number": _or(delivered["number"], _numbers(delivered)),
            "broker_sequence": sequence,
            "redelivered": _or(delivered["redelivered"], flagged),
            "delivery_count": _or(delivered["delivery_count"], 0),
            "fetch_invoked_ns": since(delivered["fetched"]),
            "received_ns": since(delivered["received"]),
            "handled_ns": ack_invoked_ns,
            "ack_kind": np.full(rows, int(AckKind.AUTOMATIC if ack is None else ack)),
            "ack_invoked_ns": ack_invoked_ns,
            "settled_ns": np.where(known, settled_ns, NEVER),
            "settlement": np.where(known, int(Outcome.OK), int(Outcome.INFO)),
            "corrupt": _or(delivered["corrupt"], 0),
            "foreign": np.zeros(rows),
        },
    )


def _numbers(delivered: dict[str, Array]) -> Array:
    """1, 2, 3... within each client, in the order of receipt; of equal times, in that of the rows."""
    return _ranks(delivered["client"], delivered["received"])


def _clients(recording: Recording, tables: Mapping[str, Table]) -> Table:
    """One row a client: there from the first thing that it did until the last."""
    columns: dict[str, list[int]] = {column: [] for column in TABLES["clients"]}
    began, ended = (np.full(len(recording.clients) + 1, value) for value in (np.iinfo("i8").max, NEVER))
    for name, first, last in (
        ("publications", "invoked_ns", "completed_ns"),
        ("deliveries", "received_ns", "received_ns"),
    ):
        table = tables[name]
        np.minimum.at(began, table.client, table[first])
        np.maximum.at(ended, table.client, np.maximum(table[last], table[first]))
    for (kind, name), number in recording.clients.items():
        word = recording.words.number(name)
        row = {
            "client": number,
            "name": word,
            "slot": word,
            "role": recording.words.number(_ROLES[kind]),
            "group": 0,
            "start_ns": int(began[number]),
            "end_ns": int(ended[number]),
            "exit": 0,
            "planned": 1,
            "peer_is_proxy": 0,
            "crash_point": 0,
            "crash_ns": NEVER,
        }
        for column, value in row.items():
            columns[column].append(value)
    return Table("clients", columns)


def _or(column: Array, instead: int | Array) -> Array:
    return np.where(column == MISSING, instead, column)
