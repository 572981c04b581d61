"""What happened to one message, from its first publish to its last settlement, event by event?

A *life* is the story of a witness, told from the tables alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from harness.guarantee import Verdict
from harness.history.columns import NEVER
from harness.history.history import Columns, History, Table
from harness.history.terms import InjectionTerms
from harness.operation import AckKind, MessageId, Outcome

LIVES_MAX = 8
_EVENTS_MAX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to a message. `kind`: publish, answer, receipt, effect, acknowledgement, end."""

    at_ns: int | None
    kind: str
    what: str
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A witness: which anomaly it shows of which guarantee, its story in a sentence, and all its events in order."""

    guarantee: str
    anomaly: str
    message: str
    story: str
    events: tuple[Event, ...]
    left_out: int = 0


def lives(history: History, verdicts: Iterable[Verdict]) -> tuple[Life, ...]:
    """The lives of the first witnesses: of each verdict in turn, each message and anomaly once, at most LIVES_MAX."""
    queues = [(verdict, list(verdict.witnesses)) for verdict in verdicts if verdict.witnesses]
    seen: set[tuple[str, int | None]] = set()
    found: list[Life] = []
    while queues and len(found) < LIVES_MAX:
        for verdict, witnesses in queues:
            witness = witnesses.pop(0)
            if (witness.anomaly, witness.message) in seen or len(found) >= LIVES_MAX:
                continue
            seen.add((witness.anomaly, witness.message))
            events = _events(history, witness.message) if witness.message is not None else []
            found.append(
                Life(
                    guarantee=verdict.guarantee,
                    anomaly=witness.anomaly,
                    message="" if witness.message is None else str(MessageId.unpack(witness.message)),
                    story=witness.story,
                    events=tuple(events[:_EVENTS_MAX]),
                    left_out=max(0, len(events) - _EVENTS_MAX),
                )
            )
        queues = [queue for queue in queues if queue[1]]
    return tuple(found)


def faults_at(injections: Iterable[InjectionTerms], at_ns: int) -> tuple[str, ...]:
    """The faults that were on at that time: from their asking to their mending."""
    return tuple(
        f"{injection.fault} #{injection.number + 1}"
        for injection in injections
        if injection.asked_ns <= at_ns and (injection.mended_ns is None or at_ns <= injection.mended_ns)
    )


def _events(history: History, message: int) -> list[Event]:
    timed = sorted(
        (*_publications(history, message), *_deliveries(history, message), *_effects(history, message)),
        key=lambda event: event[0],
    )
    events = [
        Event(at_ns=at_ns, kind=kind, what=what, faults=faults_at(history.terms.injections, at_ns))
        for at_ns, kind, what in timed
    ]
    return [*events, *_end(history, message)]


def _rows_of(table: Table, message: int) -> Columns:
    return table.select(("message",), lambda chunk: np.asarray(chunk.message == message), tuple(table))


def _publications(history: History, message: int) -> Iterator[tuple[int, str, str]]:
    table = _rows_of(history.publications, message)
    for row in range(table.rows):
        attempt, client = int(table.attempt[row]), history_client(history, int(table.client[row]))
        error = history.word(table.error[row])
        invoked_ns, completed_ns = int(table.invoked_ns[row]), int(table.completed_ns[row])
        outcome = Outcome(int(table.outcome[row]))
        if invoked_ns == NEVER:
            yield (
                int(table.intended_ns[row]),
                "publish",
                f"attempt {attempt} by {client} was due, and not sent: {error}",
            )
            continue
        route = history.word(table.route[row])
        yield invoked_ns, "publish", f"attempt {attempt} by {client}" + (f" to {route}" if route else "")
        if completed_ns != NEVER:
            sequence = int(table.broker_sequence[row])
            said = [outcome.name, f"sequence {sequence}" if sequence else "", f"error {error}" if error else ""]
            if table.duplicate[row]:
                said.append("called a duplicate by the broker")
            by = "the broker" if table.acknowledged_by[row] else "nobody: the call returned"
            yield completed_ns, "answer", f"attempt {attempt} answered by {by}: {', '.join(filter(None, said))}"
        else:
            yield invoked_ns, "answer", f"attempt {attempt} was never answered: it may have happened"


def _deliveries(history: History, message: int) -> Iterator[tuple[int, str, str]]:
    table = _rows_of(history.deliveries, message)
    for row in range(table.rows):
        client, number = history_client(history, int(table.client[row])), int(table.number[row])
        flags = [
            f"attempt {int(table.attempt[row])}",
            "redelivered" if table.redelivered[row] else "not flagged as redelivered",
            f"delivery count {int(table.delivery_count[row])}" if table.delivery_count[row] else "",
            f"sequence {int(table.broker_sequence[row])}" if table.broker_sequence[row] else "",
            "corrupt" if table.corrupt[row] else "",
            "of another run" if table.foreign[row] else "",
        ]
        said = ", ".join(filter(None, flags))
        yield int(table.received_ns[row]), "receipt", f"delivery {number} to {client} ({said})"
        if table.handled_ns[row] != NEVER:
            yield int(table.handled_ns[row]), "effect", f"delivery {number}: {client} had done its work"
        if table.ack_invoked_ns[row] != NEVER:
            kind = AckKind(int(table.ack_kind[row])).name.lower()
            yield (
                int(table.ack_invoked_ns[row]),
                "acknowledgement",
                f"delivery {number}: acknowledgement ({kind}) given",
            )
        if table.settled_ns[row] != NEVER:
            outcome = Outcome(int(table.settlement[row])).name
            yield int(table.settled_ns[row]), "acknowledgement", f"delivery {number}: acknowledgement ended {outcome}"


def _effects(history: History, message: int) -> Iterator[tuple[int, str, str]]:
    table = _rows_of(history.effects, message)
    for row in range(table.rows):
        count = int(table["count"][row])
        yield int(table.first_ns[row]), "effect", f"first effect in the sink; it holds {count} in the end"
        if count > 1:
            yield int(table.last_ns[row]), "effect", "last effect in the sink"


def _end(history: History, message: int) -> Iterator[Event]:
    census = history.census
    places = sorted({history.word(census.place[row]) for row in np.flatnonzero(census.message == message)})
    if places:
        yield Event(at_ns=None, kind="end", what=f"the auditor read it: {', '.join(places)}")
    elif history.terms.exhaustive:
        yield Event(at_ns=None, kind="end", what="the auditor read to the end and did not find it")
    else:
        yield Event(at_ns=None, kind="end", what=f"the auditor did not read to the end: {_why_not(history)}")
    for row in np.flatnonzero(history.dropped.message == message):
        yield Event(at_ns=None, kind="end", what=f"dropped by the policy {history.word(history.dropped.policy[row])}")


def _why_not(history: History) -> str:
    return history.terms.exhaustive_why_not or history.terms.interrupted or "no reason recorded"


def history_client(history: History, number: int) -> str:
    """The name of a client, or its number where the history does not know it."""
    rows = np.flatnonzero(history.clients.client == number)
    return history.word(history.clients["name"][rows[0]]) if len(rows) else f"client {number}"
