"""What was found, of which messages, and how does one of them tell its story? The records that checkers hand back.

An *anomaly* is a set of messages to which the same thing happened. Its *span* is when: from the first invocation of
the message to the last thing that happened to it; a violation belongs to every injection that this interval overlaps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from harness.checkers.facts import Facts
from harness.guarantee import Witness
from harness.history.columns import NEVER
from harness.history.history import Array
from harness.operation import AckKind, MessageId, Outcome

WITNESSES_MAX = 5
_EVENTS_MAX = 8


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


def of_messages(facts: Facts, name: str, members: Array, why: Callable[[int], str] | str) -> Anomaly:
    """The anomaly that befell a set of messages; `why` (of a place) ends each witness's story."""
    places = np.flatnonzero(members)
    if len(places) == 0:
        return Anomaly(name=name, count=0)
    first_ns, last_ns = spans(facts, members, places)
    ids = facts.places.ids(places)
    witnesses = tuple(
        Witness(name, int(packed), f"{story(facts, int(place))}: {why if isinstance(why, str) else why(int(place))}")
        for place, packed in zip(places[:WITNESSES_MAX], ids[:WITNESSES_MAX], strict=True)
    )
    return Anomaly(name=name, count=len(places), ids=ids, first_ns=first_ns, last_ns=last_ns, witnesses=witnesses)


def of_deliveries(facts: Facts, name: str, rows: Array, why: str, beyond: int = 0) -> Anomaly:
    """The anomaly of deliveries that are of no message of ours; `beyond`: how many more the auditor read."""
    deliveries = facts.history.deliveries
    received_ns = deliveries.received_ns[rows]
    witnesses = tuple(
        Witness(
            name,
            None if deliveries.corrupt[row] else int(deliveries.message[row]),
            f"delivery {deliveries.number[row]} to client {deliveries.client[row]} at "
            f"{seconds(deliveries.received_ns[row])}: {why}",
        )
        for row in rows[:WITNESSES_MAX]
    )
    if beyond and len(witnesses) < WITNESSES_MAX:
        witnesses += (Witness(name, None, f"{beyond} read by the auditor: {why}"),)
    return Anomaly(name=name, count=len(rows) + beyond, first_ns=received_ns, last_ns=received_ns, witnesses=witnesses)


def spans(facts: Facts, members: Array, places: Array) -> tuple[Array, Array]:
    """(first, last) of each place in `places`, which are the members: first invoked, last settled or received."""
    publications = facts.history.publications
    first = np.full(len(places), np.iinfo(np.int64).max)
    last = np.full(len(places), NEVER)
    rows = np.flatnonzero(members[facts.published])
    at = np.searchsorted(places, facts.published[rows])
    np.minimum.at(first, at, publications.invoked_ns[rows])
    np.maximum.at(last, at, np.maximum(publications.completed_ns[rows], publications.invoked_ns[rows]))
    rows = np.flatnonzero(members[facts.delivered])
    at = np.searchsorted(places, facts.delivered[rows])
    for column in ("received_ns", "handled_ns", "ack_invoked_ns", "settled_ns"):
        np.maximum.at(last, at, facts.delivery(column)[rows])
    return first, np.maximum(last, first)


# ---- stories ---------------------------------------------------------------------------------------------------------


def seconds(ns: object) -> str:
    """A time of the run for a reader: "1.234 s"."""
    return f"{int(str(ns)) / 1e9:.3f} s"


def story(facts: Facts, place: int) -> str:
    """What happened to one message, in order: its publications, deliveries, what was read of it, its effect."""
    events = sorted([*_publications(facts, place), *_deliveries(facts, place)])
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
    if facts.effect_count[place]:
        told.append(f"effect in the sink x{facts.effect_count[place]}")
    return f"message {MessageId.unpack(int(facts.places.ids(np.array([place]))[0]))}: {'; '.join(told)}"


def _publications(facts: Facts, place: int) -> list[tuple[int, str]]:
    publications = facts.history.publications
    events = []
    for row in np.flatnonzero(facts.published == place):
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
        events.append((invoked_ns, f"attempt {publications.attempt[row]} at {seconds(invoked_ns)} {said}"))
    return events


def _deliveries(facts: Facts, place: int) -> list[tuple[int, str]]:
    deliveries = facts.history.deliveries
    events = []
    for row in facts.rows[np.flatnonzero(facts.delivered == place)]:
        received_ns = int(deliveries.received_ns[row])
        text = (
            f"delivered to client {deliveries.client[row]} at {seconds(received_ns)} (attempt {deliveries.attempt[row]}"
        )
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
        events.append((received_ns, text))
    return events
