"""Was every message delivered, and was any delivered twice, or out of nowhere?

*acked*: some publication of it ended OK; *discharged*: some delivery of it had its acknowledgement invoked; *found*:
the auditor read it where it is still owed, or dead-lettered. *lost* is what is none of the last two, and was not
dropped by a policy that the configuration asked for. Duplicates are counted inside one group: fan-out is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.checkers.anomaly import Anomaly, of_deliveries, of_sets
from harness.checkers.facts import Facts
from harness.checkers.messages import Messages
from harness.checkers.repeats import Repeats, copies_of, repeats, stored_twice
from harness.history.history import Array

STRANGE = ("phantom", "corrupt", "foreign")
"""What breaks every guarantee: deliveries of what this run never published, or not in this form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFindings:
    """What was found: anomalies by name, further counts by name, and messages dropped by each policy."""

    anomalies: dict[str, Anomaly]
    counts: dict[str, int]
    dropped: dict[str, int]


def check(facts: Facts) -> DeliveryFindings:
    """Find every anomaly of delivery. Whether the read was good enough to call a message lost is not asked here."""
    copies = copies_of(facts)
    again = repeats(facts, copies)
    gone = ~facts.discharged & ~facts.found
    dropped = facts.dropped & gone
    lost = facts.acked & gone & ~dropped
    lost_unconfirmed = facts.sent & gone & ~dropped
    dropped_acked = facts.believed & dropped
    left = facts.owed & ~facts.received
    stranded = left & facts.believed
    visible_failure = facts.failed & facts.received
    recovered = facts.indeterminate & facts.received
    swallowed = lost & facts.only_duplicates & ~facts.received & ~facts.stored
    classes = _classes(facts, lost | lost_unconfirmed)

    def why_lost(place: int) -> str:
        where = next(name for name, places in classes.items() if _holds(places, place))
        how = "vanished after delivery" if facts.received[place] else "never delivered"
        return f"{how}, not in the broker ({where} of its producer's sequence)"

    sets: dict[str, tuple[Messages | Array, Callable[[int], str] | str]] = {
        "lost": (lost, why_lost),
        "lost_unconfirmed": (lost_unconfirmed, why_lost),
        "dropped_acked": (dropped_acked, "dropped by a policy after its publish was OK"),
        "swallowed": (swallowed, "answered as a duplicate, no copy was ever stored"),
        "stranded": (stranded, "in the broker, never delivered, though consumers were idle"),
        "visible_failure": (visible_failure, "refused for certain, yet delivered"),
        "duplicate_publish": (stored_twice(facts, copies), "stored more than once"),
        "duplicate_delivery": (again.delivery, lambda place: _why_twice(again, place)),
        "again_after_confirmed_ack": (
            np.setdiff1d(again.confirmed, again.late, assume_unique=True),
            "delivered again by a fetch invoked after the acknowledgement was confirmed",
        ),
        "again_after_late_ack": (
            np.intersect1d(again.confirmed, again.late, assume_unique=True),
            "delivered again after a confirmed acknowledgement that came later than ack_wait",
        ),
        "unflagged_redelivery": (again.unflagged, "delivered more than once and never flagged as redelivered"),
    }
    return DeliveryFindings(
        anomalies={**of_sets(facts, sets), **_strange(facts)},
        counts={
            "attempted": facts.attempted.sum(),
            "acked": facts.acked.sum(),
            "sent": facts.sent.sum(),
            "indeterminate": facts.indeterminate.sum(),
            "failed": facts.failed.sum(),
            "delivered": facts.received.sum(),
            "discharged": facts.discharged.sum(),
            "recovered": recovered.sum(),
            "dropped_by_policy": dropped.sum(),
            "dead_lettered": facts.dead_lettered.sum(),
            "owed": facts.owed.sum(),
            "left_unpromised": (left & ~facts.believed).sum(),
            "deliveries": facts.history.deliveries.rows,
            "attempts": facts.history.publications.rows,
            "ack_wait_exceeded": len(np.intersect1d(again.delivery, again.late, assume_unique=True)),
            "lost_never_delivered": ((lost | lost_unconfirmed) & ~facts.received).sum(),
            "lost_after_delivery": ((lost | lost_unconfirmed) & facts.received).sum(),
            **{f"lost_{name}": len(places) for name, places in classes.items()},
        },
        dropped=_by_policy(facts, dropped),
    )


def _classes(facts: Facts, lost: Messages) -> dict[str, Array]:
    """Places of lost messages, by where in its producer's sequence each fell: before the first delivered, between,
    after the last.

    Of a producer of which nothing was delivered, all is suffix.
    """
    places = lost.places()
    begins, ends = facts.places.extent(places)
    first, last = np.empty(len(places), np.int64), np.empty(len(places), np.int64)
    for begin in np.unique(begins):
        own = begins == begin
        first[own], last[own] = facts.received.ends(int(begin), int(ends[own][0]))
    earlier, later = first < places, last > places
    return {"prefix": places[~earlier & later], "middle": places[earlier & later], "suffix": places[~later]}


def _why_twice(again: Repeats, place: int) -> str:
    if _holds(again.late, place):
        return (
            "delivered more than once to one group; the first copy waited longer than ack_wait for its acknowledgement"
        )
    return "delivered more than once to one group"


def _holds(places: Array, place: int) -> bool:
    at = int(np.searchsorted(places, place))
    return at < len(places) and int(places[at]) == place


def _strange(facts: Facts) -> dict[str, Anomaly]:
    terms = facts.history.terms
    return {
        "phantom": of_deliveries(facts, "phantom", facts.strangers, "nobody ever published it", facts.census_strangers),
        "corrupt": of_deliveries(
            facts, "corrupt", facts.corrupt, "its check sum or form is wrong", terms.census_corrupt
        ),
        "foreign": of_deliveries(facts, "foreign", facts.foreign, "it is of another run", terms.census_foreign),
    }


def _by_policy(facts: Facts, dropped: Messages) -> dict[str, int]:
    if not dropped:
        return {}
    table = facts.history.dropped
    at = facts.places.of(table.message)
    counted = {}
    for policy in np.unique(table.policy):
        of_policy = np.unique(at[(table.policy == policy) & (at >= 0)])
        if members := int(dropped[of_policy].sum()):
            counted[facts.history.word(policy)] = members
    return counted
