"""Does the broker's log keep its numbers? Each one message, the same for every reader, read in order, none skipped.

*Number*: the stream sequence or offset that the broker gave a message. *Log*: one numbering: what one group reads of
one route. *Told*: publishers' answers name a number (those that call a message a duplicate do not count: they name the
original's, or none). *Read*: a consumer, or the auditor, was handed a message under its number. Queues that number
nothing have no log; they are not judged.

A *gap* is a number that was stored (an answer named it, or the auditor found it kept and owed to nobody) and that no
consumer saw, though the group saw earlier and later numbers of the same route. Each condition keeps a healthy broker
out of it: what lies before the first or after the last number that was seen may be where the group began, or what it
did not come to; a route of which the group read nothing may be filtered away; what is still owed or dead-lettered was
not passed over; an attempt that came under another number came; what one member of the group saw another one need not
see, so that work queues and several members have no gaps; and an answer that was never given promised nothing. With
several groups nothing says that they read one numbering (queues count on their own): only what one group saw is
compared, and no gap is called.

*Non-monotonic*: a lower number after a higher one, in one epoch of one consumer, unflagged, and not received there
before. Redeliveries go backwards by right, and so does a new connection. A jump forward that is made good later,
unflagged, is such a read; one that is never made good is a gap; one that is made good flagged is a redelivery.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from harness.checkers.anomaly import Anomaly, of_messages
from harness.checkers.facts import DEAD_LETTER, Facts
from harness.checkers.places import NOWHERE, Places, marked, runs
from harness.checkers.plain_log import plainly_kept
from harness.history.history import Array
from harness.operation import SEQUENCE_BITS, SEQUENCE_MAX, AckKind, Outcome

NAMES = ("gap", "inconsistent_offset", "divergence", "non_monotonic_read")
"""What may be found of a log."""

ROWS_MAX = 4_000_000
"""Publications and deliveries of which every number is held at once, some 60 bytes each. Of more it is only asked
whether the log is plainly kept."""

_NOBODY = -1
"""The reader of what an answer told: it shows what the broker said, not what anybody was served."""

_AUDITOR = 1 << 16
"""The auditor, as a reader: no client has this number."""

_ATTEMPT_BITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFindings:
    """`anomalies`: by name. `numbers`: numbers of which anything is known. `doubts`: why a gap that was found proves
    nothing. `untold`: why the log may be broken although nothing was found."""

    anomalies: dict[str, Anomaly]
    numbers: int
    doubts: tuple[str, ...]
    untold: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sightings:
    """One row each time that a number was named together with its message: `number` (log << 40 | sequence), `place`,
    `attempt` (0: not known), `reader` (client's number, _AUDITOR or _NOBODY)."""

    number: Array
    place: Array
    attempt: Array
    reader: Array

    def where(self, chosen: Array) -> _Sightings:
        """These rows of it."""
        return _Sightings(self.number[chosen], self.place[chosen], self.attempt[chosen], self.reader[chosen])

    @property
    def identity(self) -> Array:
        """Each row's attempt of its message, as one number."""
        return _identity(self.place, self.attempt)


def applies(facts: Facts) -> bool:
    """Whether the history can show anything of a log: some delivery names its number."""
    return any(chunk.broker_sequence.any() for chunk in facts.history.deliveries.chunks("broker_sequence"))


def check(facts: Facts) -> StreamFindings:
    """Find every message whose number in the log is not kept. Nothing is sorted but consumers' lanes."""
    rows = facts.history.publications.rows + facts.history.deliveries.rows
    if rows > ROWS_MAX:
        kept = plainly_kept(facts)
        large = f"{rows:,} rows are too many to compare number by number ({ROWS_MAX:,} are the most), and {kept}"
        return StreamFindings(
            anomalies={name: Anomaly(name=name, count=0) for name in NAMES},
            numbers=kept if isinstance(kept, int) else 0,
            doubts=(),
            untold=() if isinstance(kept, int) else (large,),
        )
    count, logs = facts.places.count, _Logs(facts)
    answered, delivered, read = logs.answered(), logs.delivered(), logs.read()
    told = _joined(answered, delivered, read)
    numbers = Places(told.number)
    at = numbers.of(told.number)
    shared = _differing(numbers.count, at, told.place)
    diverged = shared & _differently_served(numbers, told)
    missing, passed = _missing(facts, numbers, delivered, _joined(answered, read))

    gap = marked(count, missing.place[passed])
    divergence = marked(count, told.place[diverged[at]])
    inconsistent_offset = (marked(count, told.place[shared[at]]) | _moved(told, count)) & ~divergence
    non_monotonic_read = _backwards(facts, logs)
    return StreamFindings(
        anomalies={
            "gap": of_messages(facts, "gap", gap, "its number was stored, and its readers passed over it"),
            "inconsistent_offset": of_messages(
                facts,
                "inconsistent_offset",
                inconsistent_offset,
                "its number is not its own alone, or not its only one",
            ),
            "divergence": of_messages(
                facts, "divergence", divergence, "two readers were served different messages under one number"
            ),
            "non_monotonic_read": of_messages(
                facts, "non_monotonic_read", non_monotonic_read, "received after a higher number of the same log"
            ),
        },
        numbers=int(marked(numbers.count, at).sum()),
        doubts=tuple(_doubts(facts)),
        untold=tuple(_untold(facts, int((~passed).sum()))),
    )


def _doubts(facts: Facts) -> Iterator[str]:
    terms = facts.history.terms
    if terms.ack == AckKind.AUTOMATIC:
        yield "what is settled as it is sent may have gone down with a connection: that is no skip of the log's"
    if terms.policies:
        yield (
            f"the configuration asked that messages may be dropped ({', '.join(terms.policies)}): a number that was "
            "dropped is not skipped"
        )


def _untold(facts: Facts, unseen: int) -> Iterator[str]:
    publications, terms = facts.history.publications, facts.history.terms
    if _several_groups(facts):
        yield "several groups received, and nothing says that they read one log"
    if not terms.ordered:
        yield "deliveries do not tell which are redeliveries, so nobody knows whether a read went backwards"
    original = (publications.outcome == Outcome.OK) & (publications.duplicate == 0)
    if nameless := int((original & (publications.broker_sequence == 0)).sum()):
        yield f"{nameless} publishes were OK and given no number, so the log's passing over them would not show"
    if unseen:
        yield f"{unseen} numbers were stored, and nobody saw them or anything beyond"


class _Logs:
    """Which log each message is in. One that was published over several routes is in none that could be named."""

    def __init__(self, facts: Facts) -> None:
        publications = facts.history.publications
        self._facts = facts
        self._several = _several_groups(facts)
        self._route = np.zeros(facts.places.count, np.int64)
        self._route[facts.published] = publications.route
        self._known = facts.attempted & ~_differing(facts.places.count, facts.published, publications.route)

    def answered(self) -> _Sightings:
        """What publishers were told."""
        publications = self._facts.history.publications
        original = (publications.outcome == Outcome.OK) & (publications.duplicate == 0)
        place = np.where(original, self._facts.published, NOWHERE)
        nobody = np.full(len(place), _NOBODY)
        return self._sightings(place, publications.broker_sequence, publications.attempt, nobody)[0]

    def delivered(self) -> _Sightings:
        """What consumers were served."""
        return self.deliveries()[0]

    def deliveries(self) -> tuple[_Sightings, Array]:
        """The same, with the places of the rows in `facts.rows`."""
        facts = self._facts
        sequence, attempt, client = (facts.delivery(name) for name in ("broker_sequence", "attempt", "client"))
        group = facts.group if self._several else None
        return self._sightings(facts.delivered, sequence, attempt, client, group)

    def read(self) -> _Sightings:
        """What the auditor read. A dead-letter queue numbers on its own; so do the queues of several groups."""
        facts, census = self._facts, self._facts.history.census
        known = (census.place != facts.history.word_number(DEAD_LETTER)) & (not self._several)
        place = np.where(known, facts.places.of(census.message), NOWHERE)
        auditor, unknown = np.full(len(place), _AUDITOR), np.zeros(len(place), np.int64)
        return self._sightings(place, census.broker_sequence, unknown, auditor)[0]

    def _sightings(
        self, place: Array, sequence: Array, attempt: Array, reader: Array, group: Array | None = None
    ) -> tuple[_Sightings, Array]:
        rows = np.flatnonzero((place != NOWHERE) & (sequence != 0) & (sequence <= SEQUENCE_MAX))
        rows = rows[self._known[place[rows]]]
        log = self._route[place[rows]] * len(self._facts.history.words)
        if group is not None:
            log = log + group[rows]
        number = (log << SEQUENCE_BITS) | sequence[rows].astype(np.int64)
        told = (number.view(np.uint64), place[rows], attempt[rows].astype(np.int64), reader[rows].astype(np.int64))
        return _Sightings(*told), rows


def _several_groups(facts: Facts) -> bool:
    return len(facts.groups) > 1 or len(facts.history.terms.groups) > 1


def _identity(place: Array, attempt: Array) -> Array:
    return np.asarray((place << _ATTEMPT_BITS) | attempt.astype(np.int64)).view(np.uint64)


def _logs_of(told: _Sightings) -> Array:
    """The logs that are told of, ascending. There is one, as a rule, and nothing to sort."""
    logs = told.number >> np.uint64(SEQUENCE_BITS)
    return logs[:1] if len(logs) == 0 or logs.min() == logs.max() else np.unique(logs)


def _joined(*parts: _Sightings) -> _Sightings:
    columns = ([getattr(part, column.name) for part in parts] for column in fields(_Sightings))
    return _Sightings(*(np.concatenate(column) for column in columns))


def _differing(count: int, at: Array, value: Array) -> Array:
    """The set of those places, out of `count`, that have two different values."""
    one = np.zeros(count, value.dtype)
    one[at] = value
    return marked(count, at[one[at] != value])


def _differently_served(numbers: Places, told: _Sightings) -> Array:
    """Numbers with two readers, and two messages among what they were served: so some two saw different ones."""
    served = told.where(told.reader != _NOBODY)
    at = numbers.of(served.number)
    return _differing(numbers.count, at, served.place) & _differing(numbers.count, at, served.reader)


def _moved(told: _Sightings, count: int) -> Array:
    """Messages of which one attempt had two numbers of one log. A retry is an entry of its own, with its own number."""
    moved = np.zeros(count, np.bool_)
    logs = _logs_of(told)
    for log in logs:
        mine = told if len(logs) == 1 else told.where(told.number >> np.uint64(SEQUENCE_BITS) == log)
        first, retry = mine.where(mine.attempt == 1), mine.where(mine.attempt > 1)
        moved |= _differing(count, first.place, first.number)
        attempts = Places(retry.identity)
        at = attempts.of(retry.identity)
        moved[retry.place[_differing(attempts.count, at, retry.number)[at]]] = True
    return moved


def _missing(facts: Facts, numbers: Places, delivered: _Sightings, stored: _Sightings) -> tuple[_Sightings, Array]:
    """(stored numbers that nobody saw and nothing excuses, which of them lie between two that were seen)."""
    if _several_groups(facts):
        return stored.where(np.zeros(0, np.int64)), np.zeros(0, np.bool_)
    seen = marked(numbers.count, numbers.of(delivered.number))[numbers.of(stored.number)]
    missing = stored.where(~seen & ~(facts.found | facts.dropped)[stored.place])
    # Where either side does not know its attempt, any receipt of the message may be the one that is missed.
    rows = np.flatnonzero(marked(facts.places.count, missing.place)[facts.delivered])
    place, attempt = facts.delivered[rows], facts.delivery("attempt")[rows]
    came = np.isin(missing.identity, _identity(place, attempt))
    came |= marked(facts.places.count, place[attempt == 0])[missing.place]
    came |= (missing.attempt == 0) & facts.received[missing.place]
    missing = missing.where(~came)
    logs = _logs_of(delivered)
    log = np.searchsorted(logs, delivered.number >> np.uint64(SEQUENCE_BITS))
    lowest, highest = np.full(len(logs) + 1, np.iinfo(np.uint64).max), np.zeros(len(logs) + 1, np.uint64)
    np.minimum.at(lowest, log, delivered.number)
    np.maximum.at(highest, log, delivered.number)
    mine = np.searchsorted(logs, missing.number >> np.uint64(SEQUENCE_BITS))
    return missing, (missing.number > lowest[mine]) & (missing.number < highest[mine])


def _backwards(facts: Facts, logs: _Logs) -> Array:
    """Messages received, unflagged and for the first time in their lane, after a higher number of their log."""
    served, rows = logs.deliveries()
    if not facts.history.terms.ordered:
        return np.zeros(facts.places.count, np.bool_)
    lane = (served.reader, facts.delivery("epoch")[rows], facts.group[rows], served.number >> np.uint64(SEQUENCE_BITS))
    order, starts = runs(lane, within=(facts.delivery("received_ns")[rows], facts.delivery("number")[rows]))
    served, flagged = served.where(order), facts.delivery("redelivered")[rows[order]] != 0
    late = np.zeros(len(order), np.bool_)
    for start, end in pairwise(np.append(starts, len(order))):
        numbers = served.number[start:end]
        highest = np.maximum.accumulate(np.where(flagged[start:end], 0, numbers))
        behind = np.flatnonzero((numbers < highest) & ~flagged[start:end])
        if len(behind):
            _, first = np.unique(numbers, return_index=True)
            late[start + np.intersect1d(behind, first)] = True
    return marked(facts.places.count, served.place[late])
