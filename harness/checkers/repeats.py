"""Was any message stored twice, or delivered twice to one group of consumers? And if so, whose doing was it?

Two deliveries are copies of one another when they are of the same attempt, or of the same sequence in the broker, of
one message in one group. Only messages with two deliveries in a group are looked at row by row: the rest is counting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.checkers.facts import Facts
from harness.checkers.places import runs
from harness.history.columns import NEVER
from harness.history.history import Array, Columns
from harness.operation import AckKind, Outcome

_NO_TIME = np.iinfo(np.int64).max
_COLUMNS = (
    "group",
    "attempt",
    "broker_sequence",
    "redelivered",
    "fetch_invoked_ns",
    "received_ns",
    "ack_kind",
    "ack_invoked_ns",
    "settled_ns",
    "settlement",
)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Places of messages, ascending. `delivery`: a copy was delivered more than once to a group; `late`: a first copy
    among them waited longer than ack_wait for its acknowledgement; `confirmed`: again by a fetch invoked after a
    confirmed acknowledgement; `unflagged`: two deliveries of one attempt, neither flagged as redelivered."""

    delivery: Array
    late: Array
    confirmed: Array
    unflagged: Array


def copies_of(facts: Facts) -> Columns:
    """The deliveries of the messages that some group received more than once."""
    if not facts.repeated:
        return Columns("deliveries", {"place": np.empty(0, np.int64)}, 0)
    return facts.deliveries_of(facts.repeated, *_COLUMNS)


def repeats(facts: Facts, copies: Columns) -> Repeats:
    """Every repeated delivery of a history, among its `copies_of`."""
    if not copies.rows:
        return Repeats(*(np.empty(0, np.int64) for _ in range(4)))
    at, group, attempt, sequence = copies.place, copies.group, copies.attempt, copies.broker_sequence
    received_ns, fetched_ns, acknowledged_ns = copies.received_ns, copies.fetch_invoked_ns, copies.ack_invoked_ns
    unflagged = copies.redelivered == 0
    confirmed = (copies.ack_kind == AckKind.CONFIRMED) & (copies.settlement == Outcome.OK)
    confirmed_ns = np.where(confirmed, copies.settled_ns, _NO_TIME)
    confirmed_ns = np.where(confirmed_ns == NEVER, _NO_TIME, confirmed_ns)
    ack_wait_s = facts.history.terms.ack_wait_s
    ack_wait_ns = _NO_TIME if ack_wait_s is None else int(ack_wait_s * 1e9)
    late_copy = (acknowledged_ns != NEVER) & (acknowledged_ns - received_ns > ack_wait_ns)

    twice, late, again, silent = ([np.empty(0, np.int64)] for _ in range(4))
    for identity, chosen in ((attempt, np.arange(copies.rows)), (sequence, np.flatnonzero(sequence != 0))):
        order, starts = runs((group[chosen], at[chosen], identity[chosen]), within=(received_ns[chosen],))
        if len(order) == 0:
            continue
        order = chosen[order]
        sizes = np.diff(starts, append=len(order))
        several = sizes > 1
        of = at[order[starts]]
        twice.append(of[several])
        late.append(of[several & late_copy[order[starts]]])
        # Two copies of one attempt that the broker numbered apart are a message stored twice, of which one was settled.
        settled_ns = np.where(sequence == 0, confirmed_ns, _NO_TIME) if identity is attempt else confirmed_ns
        first_confirmed = np.minimum.reduceat(settled_ns[order], starts)
        last_fetch = np.maximum.reduceat(fetched_ns[order], starts)
        again.append(of[several & (last_fetch > first_confirmed)])  # a push was fetched at NEVER, before all
        if identity is attempt:
            silent.append(of[np.add.reduceat(unflagged[order].astype(np.int64), starts) > 1])
    return Repeats(*(np.unique(np.concatenate(found)) for found in (twice, late, again, silent)))


def stored_twice(facts: Facts, copies: Columns) -> Array:
    """Places of messages of which the broker stored more than one copy: two sequences, or two attempts both delivered.

    An answer that calls a message a duplicate names the original's sequence, or none: it is no copy. Queues and
    streams number on their own, so with several groups each group's deliveries are compared among themselves.
    """
    found = [facts.apart]
    if copies.rows:
        for word in facts.groups:
            own = copies.group == word
            found.append(_differing(copies.place[own], copies.attempt[own]))
            own &= copies.broker_sequence != 0
            found.append(_differing(copies.place[own], copies.broker_sequence[own]))
    places: Array = np.unique(np.concatenate(found))
    return np.asarray(places[facts.attempted[places]])


def _differing(at: Array, value: Array) -> Array:
    """The places that have two different values."""
    order, starts = runs((at, value))
    of = at[order[starts]]
    return np.asarray(of[1:][of[1:] == of[:-1]])
