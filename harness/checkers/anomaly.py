"""What was found, of which messages, and how does one of them tell its story? The records that checkers hand back.

An *anomaly* is a set of messages to which the same thing happened. Its *span* is when: from the first invocation of
the message to the last thing that happened to it; a violation belongs to every injection that this interval overlaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.checkers.facts import Facts
from harness.checkers.messages import Messages
from harness.checkers.places import NOWHERE, marked
from harness.guarantee import Witness
from harness.history.columns import NEVER, TABLES
from harness.history.history import Array, Columns
from harness.operation import AckKind, MessageId, Outcome

WITNESSES_MAX = 5
_EVENTS_MAX = 8
_FEW = 10_000
_BEGUN = ("invoked_ns", "completed_ns")
_ENDED = ("received_ns", "handled_ns", "ack_invoked_ns", "settled_ns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One kind of anomaly in one history.

    `name`: as the counts call it. `count`: messages (deliveries, where a delivery has no message of ours). `ids`:
    their packed ids, ascending; empty where there are none. `first_ns`, `last_ns`: the span of each occurrence.
    `witnesses`: at most WITNESSES_MAX, the smallest ids first.
    """

    name: str
    count: int
    ids: Array = field(default_factory=lambda: np.empty(0, np.uint64))
    first_ns: Array = field(default_factory=lambda: np.empty(0, np.int64))
    last_ns: Array = field(default_factory=lambda: np.empty(0, np.int64))
    witnesses: tuple[Witness, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.count > 0


def of_messages(facts: Facts, name: str, members: Messages | Array, why: Callable[[int], str] | str) -> Anomaly:
    """The anomaly that befell a set of messages, or those at some places (a boolean array over all, or numbers that
    ascend); `why` (of a place) ends each witness's story."""
    return of_sets(facts, {name: (members, why)})[name]


def of_sets(
    facts: Facts, sets: Mapping[str, tuple[Messages | Array, Callable[[int], str] | str]]
) -> dict[str, Anomaly]:
    """Several anomalies, by name, as `of_messages`: the rows of all of them are looked up together."""
    places = {name: _places(members) for name, (members, _) in sets.items()}
    if not any(len(at) for at in places.values()):
        return {name: Anomaly(name=name, count=0) for name in sets}
    everyone = np.unique(np.concatenate(list(places.values())))
    shown = np.unique(np.concatenate([at[:WITNESSES_MAX] for at in places.values()]))
    if len(everyone) <= _FEW:
        rows = told_rows = _rows(facts, everyone, TABLES["publications"], TABLES["deliveries"])
    else:
        rows = _rows(facts, everyone, _BEGUN, _ENDED)
        told_rows = _rows(facts, shown, TABLES["publications"], TABLES["deliveries"])
    first_ns, last_ns = _spans(everyone, *rows)
    told = stories(facts, shown, *told_rows)
    anomalies = {}
    for name, (_, why) in sets.items():
        at = places[name]
        ids = facts.places.ids(at) if len(at) else np.empty(0, np.uint64)
        among = np.searchsorted(everyone, at)
        witnesses = tuple(
            Witness(name, int(packed), f"{told[place]}: {why if isinstance(why, str) else why(place)}")
            for place, packed in zip(at[:WITNESSES_MAX].tolist(), ids[:WITNESSES_MAX], strict=True)
        )
        anomalies[name] = Anomaly(
            name=name,
            count=len(at),
            ids=ids,
            first_ns=first_ns[among],
            last_ns=last_ns[among],
            witnesses=witnesses,
        )
    return anomalies


def _places(members: Messages | Array) -> Array:
    if isinstance(members, Messages):
        return members.places()
    return np.flatnonzero(members) if members.dtype == np.bool_ else np.asarray(members)


def of_deliveries(facts: Facts, name: str, rows: Array, why: str, beyond: int = 0) -> Anomaly:
    """The anomaly of deliveries that are of no message of ours; `beyond`: how many more the auditor read."""
    deliveries = facts.history.deliveries.pick(rows, "client", "message", "number", "received_ns", "corrupt")
    received_ns = deliveries.received_ns
    witnesses = tuple(
        Witness(
            name,
            None if deliveries.corrupt[row] else int(deliveries.message[row]),
            f"delivery {deliveries.number[row]} to client {deliveries.client[row]} at "
            f"{seconds(received_ns[row])}: {why}",
        )
        for row in range(min(len(rows), WITNESSES_MAX))
    )
    if beyond and len(witnesses) < WITNESSES_MAX:
        witnesses += (Witness(name, None, f"{beyond} read by the auditor: {why}"),)
    return Anomaly(name=name, count=len(rows) + beyond, first_ns=received_ns, last_ns=received_ns, witnesses=witnesses)


def _rows(facts: Facts, places: Array, published: Iterable[str], delivered: Iterable[str]) -> tuple[Columns, Columns]:
    """These columns of the publications and deliveries of the messages at these places."""
    members = marked(facts.places.count, places)
    return facts.publications_of(members, *published), facts.deliveries_of(members, *delivered)


def _spans(places: Array, publications: Columns, deliveries: Columns) -> tuple[Array, Array]:
    """(first, last) of each of these places: first invoked, last settled or received."""
    first = np.full(len(places), np.iinfo(np.int64).max)
    last = np.full(len(places), NEVER)
    at = np.searchsorted(places, publications.place)
    np.minimum.at(first, at, publications.invoked_ns)
    np.maximum.at(last, at, np.maximum(publications.completed_ns, publications.invoked_ns))
    at = np.searchsorted(places, deliveries.place)
    for column in _ENDED:
        np.maximum.at(last, at, deliveries[column])
    return first, np.maximum(last, first)


# ---- stories ---------------------------------------------------------------------------------------------------------


def seconds(ns: object) -> str:
    """A time of the run for a reader: "1.234 s"."""
    return f"{int(str(ns)) / 1e9:.3f} s"


def stories(facts: Facts, places: Array, publications: Columns, deliveries: Columns) -> dict[int, str]:
    """What happened to each of a few messages, in order: publications, deliveries, what was read of it, its effect."""
    members = marked(facts.places.count, places)
    events: dict[int, list[tuple[int, str]]] = {place: [] for place in places.tolist()}
    for rows, tell in ((publications, _publication), (deliveries, _delivery)):
        for row in np.flatnonzero(members[rows.place]).tolist():
            events[int(rows.place[row])].append(tell(facts, rows, row))
    times = dict.fromkeys(events, 0)
    for chunk in facts.history.effects.chunks("message", "count"):
        at = facts.places.of(chunk.message)
        for row in np.flatnonzero((at != NOWHERE) & members[at]).tolist():
            times[int(at[row])] += int(chunk["count"][row])
    return {place: _story(facts, place, sorted(events[place]), times[place]) for place in events}


def _story(facts: Facts, place: int, events: list[tuple[int, str]], effects: int) -> str:
    told = [text for _, text in events[:_EVENTS_MAX]]
    if len(events) > _EVENTS_MAX:
        told.append(f"and {len(events) - _EVENTS_MAX} more")
    for members, where in (
        (facts.owed, "still owed by the broker at the end"),
        (facts.stored, "kept by the stream, owed to nobody"),
        (facts.dead_lettered, "in a dead-letter queue"),
    ):
        if members[place]:
            told.append(where)
    if effects:
        told.append(f"effect in the sink x{effects}")
    return f"message {MessageId.unpack(int(facts.places.ids(np.array([place]))[0]))}: {'; '.join(told)}"


def _publication(facts: Facts, publications: Columns, row: int) -> tuple[int, str]:
    outcome = Outcome(int(publications.outcome[row]))
    said = {Outcome.OK: "acked", Outcome.FAIL: "refused", Outcome.INFO: "never answered"}[outcome]
    if outcome is Outcome.OK and not publications.acknowledged_by[row]:
        said = "sent, unconfirmed"
    if publications.duplicate[row]:
        said += " as a duplicate"
    if publications.broker_sequence[row]:
        said += f", sequence {publications.broker_sequence[row]}"
    if error := facts.history.word(publications.error[row]):
        said += f" ({error})"
    invoked_ns = int(publications.invoked_ns[row])
    return invoked_ns, f"attempt {publications.attempt[row]} at {seconds(invoked_ns)} {said}"


def _delivery(facts: Facts, deliveries: Columns, row: int) -> tuple[int, str]:
    received_ns = int(deliveries.received_ns[row])
    text = f"delivered to client {deliveries.client[row]} at {seconds(received_ns)} (attempt {deliveries.attempt[row]}"
    if deliveries.broker_sequence[row]:
        text += f", sequence {deliveries.broker_sequence[row]}"
    text += ", flagged redelivered)" if deliveries.redelivered[row] else ")"
    if deliveries.ack_kind[row] == AckKind.AUTOMATIC:
        text += ", settled as it was sent"
    elif deliveries.ack_invoked_ns[row] == NEVER:
        text += ", never acknowledged"
    else:
        text += f", acknowledged at {seconds(deliveries.ack_invoked_ns[row])}"
        if deliveries.settlement[row] == Outcome.OK:
            text += f", confirmed at {seconds(deliveries.settled_ns[row])}"
    return received_ns, text
