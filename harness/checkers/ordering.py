"""Did one consumer receive what one producer published in published order?

*lane*: one epoch of one producer and one epoch of one consumer. In a lane, an attempt is *reordered* when it is first
received after another that was invoked later. Only what is unflagged counts, and of each attempt only its first
receipt: everything else is "not ordered by contract", and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harness.checkers.anomaly import Anomaly, of_messages
from harness.checkers.facts import Facts
from harness.checkers.places import marked, runs
from harness.history.history import Array

_UNKNOWN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFindings:
    """`reordered`: messages received out of order. `compared`: deliveries under a contract of order, in lanes that
    have another to compare them with; `exempt`: the others."""

    reordered: Anomaly
    compared: int
    exempt: int


def check(facts: Facts) -> OrderFindings:
    """Find every message that was overtaken in its lane. One pass along each lane with a running maximum."""
    deliveries = len(facts.rows)
    publication = _publication_of_delivery(facts)
    eligible = (facts.delivery("redelivered") == 0) & (publication != _UNKNOWN)
    rows = np.flatnonzero(eligible)
    epoch = facts.history.publications.epoch[publication[rows]]
    connected = epoch != 0
    rows, epoch = rows[connected], epoch[connected]
    publication = publication[rows]
    columns = (
        facts.history.publications.client[publication],
        epoch,
        facts.delivery("client")[rows],
        facts.delivery("epoch")[rows],
    )
    first = _first_receipts(facts, rows, columns, publication)
    rows, publication = rows[first], publication[first]
    columns = tuple(column[first] for column in columns)
    invoked_ns = facts.history.publications.invoked_ns[publication]
    order, starts = runs(columns, within=(facts.delivery("received_ns")[rows], facts.delivery("number")[rows]))
    overtaken = np.zeros(len(rows), np.bool_)
    compared = 0
    for start, end in pairwise(np.append(starts, len(order))):
        lane = order[start:end]
        compared += len(lane) if len(lane) > 1 else 0
        times = invoked_ns[lane]
        overtaken[lane] = times < np.maximum.accumulate(times)
    members = marked(facts.places.count, facts.delivered[rows[overtaken]])
    return OrderFindings(
        reordered=of_messages(
            facts, "reordered", members, "received after a message that the same connection published later"
        ),
        compared=compared,
        exempt=deliveries - len(rows),
    )


def _publication_of_delivery(facts: Facts) -> Array:
    """The row of publications that each delivery is a copy of; _UNKNOWN where that attempt was never invoked."""
    attempts = facts.history.publications.attempt
    attempt = facts.delivery("attempt")
    found = np.full(len(facts.rows), _UNKNOWN, np.int64)
    first = np.full(facts.places.count, _UNKNOWN, np.int64)
    firsts = np.flatnonzero(attempts == 1)
    first[facts.published[firsts]] = firsts
    is_first = attempt == 1
    found[is_first] = first[facts.delivered[is_first]]
    retries, retried = np.flatnonzero(attempts != 1), np.flatnonzero(~is_first)
    if len(retries) and len(retried):
        wide = int(max(attempts.max(), attempt.max())) + 1
        keys = facts.published[retries] * wide + attempts[retries]
        order = np.argsort(keys, kind="stable")
        wanted = facts.delivered[retried] * wide + attempt[retried]
        at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        found[retried] = np.where(keys[order][at] == wanted, retries[order][at], _UNKNOWN)
    return found


def _first_receipts(facts: Facts, rows: Array, lane: tuple[Array, ...], publication: Array) -> Array:
    """Indices of the first receipt of each attempt in its lane, in the order of rows."""
    times = np.bincount(publication, minlength=1)
    if len(publication) == 0 or times.max() == 1:
        return np.arange(len(rows))
    repeated = np.flatnonzero(times[publication] > 1)
    columns = [column[repeated] for column in (*lane, publication)]
    within = facts.delivery("received_ns")[rows][repeated], facts.delivery("number")[rows][repeated]
    order, starts = runs(columns, within=within)
    keep = np.ones(len(rows), np.bool_)
    keep[repeated] = False
    keep[repeated[order[starts]]] = True
    return np.flatnonzero(keep)
