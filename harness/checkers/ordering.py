"""Did one consumer receive what one producer published in published order?

*lane*: one epoch of one producer and one epoch of one consumer. In a lane, an attempt is *reordered* when it is first
received after another that was invoked later. Only what is unflagged counts, and of each attempt only its first
receipt: everything else is "not ordered by contract", and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.checkers.anomaly import Anomaly, of_messages
from harness.checkers.facts import Facts
from harness.checkers.gathering import feed, under_contract
from harness.checkers.lanes import Lanes
from harness.checkers.places import marked, runs
from harness.history.history import Array, Columns

_COLUMNS = ("client", "epoch", "attempt", "redelivered", "received_ns", "number")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFindings:
    """`reordered`: messages received out of order. `compared`: deliveries under a contract of order, in lanes that
    have another to compare them with; `exempt`: the others."""

    reordered: Anomaly
    compared: int
    exempt: int


def check(facts: Facts) -> OrderFindings:
    """Find every message that was overtaken in its lane, among those that the gathering found suspicious."""
    lanes = facts.gathered.lanes
    if lanes.unsorted:
        lanes = _in_order_of_receipt(facts)
    suspects, kept = lanes.suspects, lanes.kept.copy()
    overtaken = suspects.overtaken
    if len(suspects.row) and (facts.repeated or len(facts.groups) > 1):
        rows, of = _further_receipts(facts, lanes, suspects.place)
        overtaken = overtaken & ~np.isin(suspects.row, rows)
        np.subtract.at(kept, of, 1)
    return OrderFindings(
        reordered=of_messages(
            facts,
            "reordered",
            np.unique(suspects.place[overtaken]),
            "received after a message that the same connection published later",
        ),
        compared=int(kept[kept > 1].sum()),
        exempt=facts.whole - int(kept.sum()),
    )


def _in_order_of_receipt(facts: Facts) -> Lanes:
    """The lanes, fed with all deliveries in the order of their receipt, which is not that of their rows."""
    rows = facts.deliveries_of(facts.attempted, *_COLUMNS)
    order = np.lexsort((rows.number, rows.received_ns))
    columns = {name: rows[name][order] for name in rows}
    lanes = Lanes()
    feed(facts.gathered, lanes, Columns(rows.name, columns, rows.rows), columns["place"], columns["row"])
    return lanes


def _further_receipts(facts: Facts, lanes: Lanes, places: Array) -> tuple[Array, Array]:
    """(numbers of rows, their lanes) of deliveries of these messages that brought an attempt to its lane again."""
    rows = facts.deliveries_of(marked(facts.places.count, places), *_COLUMNS)
    lane, _, eligible = under_contract(facts.gathered, lanes, rows, rows.place)
    at = np.flatnonzero(eligible)
    order, starts = runs((lane, rows.place[at], rows.attempt[at]), within=(rows.received_ns[at], rows.number[at]))
    further = np.ones(len(order), np.bool_)
    further[starts] = False
    return rows.row[at[order[further]]], lane[order[further]]
