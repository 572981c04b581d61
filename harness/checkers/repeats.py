"""Was any message stored twice, or delivered twice to one group of consumers? And if so, whose doing was it?

Two deliveries are copies of one another when they are of the same attempt, or of the same sequence in the broker, of
one message in one group. Only messages with two deliveries in a group are looked at row by row: the rest is counting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.checkers.facts import DEAD_LETTER, Facts
from harness.checkers.places import NOWHERE, runs
from harness.history.columns import NEVER
from harness.history.history import Array
from harness.operation import AckKind, Outcome

_NO_TIME = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """Sets of messages: `delivery`: a copy was delivered more than once to a group; `late`: a first copy among them
    waited longer than ack_wait for its acknowledgement; `confirmed`: again by a fetch invoked after a confirmed
    acknowledgement; `unflagged`: two deliveries of one attempt, neither flagged as redelivered."""

    delivery: Array
    late: Array
    confirmed: Array
    unflagged: Array


def repeats(facts: Facts) -> Repeats:
    """Every repeated delivery of a history."""
    count = facts.places.count
    rows = _of_repeated_messages(facts)
    at, group = facts.delivered[rows], facts.group[rows]
    attempt, sequence = facts.delivery("attempt")[rows], facts.delivery("broker_sequence")[rows]
    received_ns = facts.delivery("received_ns")[rows]
    fetched_ns = facts.delivery("fetch_invoked_ns")[rows]
    acknowledged_ns = facts.delivery("ack_invoked_ns")[rows]
    unflagged = facts.delivery("redelivered")[rows] == 0
    confirmed = (facts.delivery("ack_kind")[rows] == AckKind.CONFIRMED) & (
        facts.delivery("settlement")[rows] == Outcome.OK
    )
    confirmed_ns = np.where(confirmed, facts.delivery("settled_ns")[rows], _NO_TIME)
    confirmed_ns = np.where(confirmed_ns == NEVER, _NO_TIME, confirmed_ns)
    ack_wait_s = facts.history.terms.ack_wait_s
    ack_wait_ns = _NO_TIME if ack_wait_s is None else int(ack_wait_s * 1e9)
    late_copy = (acknowledged_ns != NEVER) & (acknowledged_ns - received_ns > ack_wait_ns)

    twice, late, again, silent = (np.zeros(count, np.bool_) for _ in range(4))
    for identity, chosen in ((attempt, np.arange(len(rows))), (sequence, np.flatnonzero(sequence != 0))):
        order, starts = runs((group[chosen], at[chosen], identity[chosen]), within=(received_ns[chosen],))
        if len(order) == 0:
            continue
        order = chosen[order]
        sizes = np.diff(starts, append=len(order))
        several = sizes > 1
        of = at[order[starts]]
        twice[of[several]] = True
        late[of[several & late_copy[order[starts]]]] = True
        # Two copies of one attempt that the broker numbered apart are a message stored twice, of which one was settled.
        settled_ns = np.where(sequence == 0, confirmed_ns, _NO_TIME) if identity is attempt else confirmed_ns
        first_confirmed = np.minimum.reduceat(settled_ns[order], starts)
        last_fetch = np.maximum.reduceat(fetched_ns[order], starts)
        again[of[several & (last_fetch > first_confirmed)]] = True  # a push was fetched at NEVER, before all
        if identity is attempt:
            silent[of[np.add.reduceat(unflagged[order].astype(np.int64), starts) > 1]] = True
    return Repeats(delivery=twice, late=late, confirmed=again, unflagged=silent)


def _of_repeated_messages(facts: Facts) -> Array:
    """Indices (into `facts.rows`) of deliveries of messages that some group received more than once."""
    count = facts.places.count
    groups = facts.groups
    if len(groups) == 0:
        return np.empty(0, np.int64)
    if len(groups) == 1:
        return np.flatnonzero(np.bincount(facts.delivered, minlength=count)[facts.delivered] > 1)
    found = []
    for word in groups:
        rows = np.flatnonzero(facts.group == word)
        at = facts.delivered[rows]
        found.append(rows[np.bincount(at, minlength=count)[at] > 1])
    return np.concatenate(found)


def stored_twice(facts: Facts) -> Array:
    """Messages of which the broker stored more than one copy: two sequences, or two attempts both delivered.

    An answer that calls a message a duplicate names the original's sequence, or none: it is no copy. Queues and
    streams number on their own, so with several groups each group's deliveries are compared among themselves.
    """
    twice = np.zeros(facts.places.count, np.bool_)
    attempt = facts.delivery("attempt")
    for rows in _by_group(facts):
        _differing(twice, facts.delivered[rows], attempt[rows])
    for at, sequence in _sequences(facts):
        numbered = sequence != 0
        if numbered.any():
            _differing(twice, at[numbered], sequence[numbered])
    return twice & facts.attempted


def _differing(members: Array, at: Array, value: Array) -> None:
    """Add the places that have two different values."""
    one = np.zeros(len(members), value.dtype)
    one[at] = value
    members[at[one[at] != value]] = True


def _by_group(facts: Facts) -> Iterator[Array]:
    groups = facts.groups
    if len(groups) == 1:
        yield np.arange(len(facts.group))
        return
    for word in groups:
        yield np.flatnonzero(facts.group == word)


def _sequences(facts: Facts) -> Iterator[tuple[Array, Array]]:
    """(places, sequences) of each numbering: what answers, deliveries and auditor called the copies."""
    publications, census = facts.history.publications, facts.history.census
    original = (publications.outcome == Outcome.OK) & (publications.duplicate == 0)
    answered = facts.published[original], publications.broker_sequence[original]
    delivered = facts.delivery("broker_sequence")
    if len(facts.groups) > 1:
        yield answered
        for rows in _by_group(facts):
            yield facts.delivered[rows], delivered[rows]
        return
    at = facts.places.of(census.message)
    # A dead-letter queue numbers on its own.
    read = (at != NOWHERE) & (census.place != facts.history.word_number(DEAD_LETTER))
    yield (
        np.concatenate([answered[0], facts.delivered, at[read]]),
        np.concatenate([answered[1], delivered, census.broker_sequence[read]]),
    )
