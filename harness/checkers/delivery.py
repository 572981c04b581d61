"""Was every message delivered, and was any delivered twice, or out of nowhere?

*acked*: some publication of it ended OK; *discharged*: some delivery of it had its acknowledgement invoked; *found*:
the auditor read it where it is still owed, or dead-lettered. *lost* is what is none of the last two, and was not
dropped by a policy that the configuration asked for. Duplicates are counted inside one group: fan-out is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.checkers.anomaly import Anomaly, of_deliveries, of_messages
from harness.checkers.facts import Facts
from harness.checkers.places import marked
from harness.checkers.repeats import Repeats, repeats, stored_twice
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
    again = repeats(facts)
    gone = ~facts.discharged & ~facts.found
    dropped = facts.dropped & gone
    lost = facts.acked & gone & ~dropped
    lost_unconfirmed = facts.sent & gone & ~dropped
    dropped_acked = facts.believed & dropped
    left = facts.owed & ~facts.received
    stranded = left & facts.believed
    visible_failure = facts.failed & facts.received
    recovered = facts.indeterminate & facts.received
    swallowed = lost & _only_duplicates(facts) & ~facts.received & ~facts.stored
    duplicate_publish = stored_twice(facts)
    classes = _classes(facts, lost | lost_unconfirmed)

    def why_lost(place: int) -> str:
        where = next(name for name, members in classes.items() if members[place])
        how = "vanished after delivery" if facts.received[place] else "never delivered"
        return f"{how}, not in the broker ({where} of its producer's sequence)"

    sets = {
        "lost": of_messages(facts, "lost", lost, why_lost),
        "lost_unconfirmed": of_messages(facts, "lost_unconfirmed", lost_unconfirmed, why_lost),
        "dropped_acked": of_messages(
            facts, "dropped_acked", dropped_acked, "dropped by a policy after its publish was OK"
        ),
        "swallowed": of_messages(facts, "swallowed", swallowed, "answered as a duplicate, no copy was ever stored"),
        "stranded": of_messages(
            facts, "stranded", stranded, "in the broker, never delivered, though consumers were idle"
        ),
        "visible_failure": of_messages(facts, "visible_failure", visible_failure, "refused for certain, yet delivered"),
        "duplicate_publish": of_messages(facts, "duplicate_publish", duplicate_publish, "stored more than once"),
        "duplicate_delivery": of_messages(
            facts, "duplicate_delivery", again.delivery, lambda place: _why_twice(again, place)
        ),
        "again_after_confirmed_ack": of_messages(
            facts,
            "again_after_confirmed_ack",
            again.confirmed & ~again.late,
            "delivered again by a fetch invoked after the acknowledgement was confirmed",
        ),
        "again_after_late_ack": of_messages(
            facts,
            "again_after_late_ack",
            again.confirmed & again.late,
            "delivered again after a confirmed acknowledgement that came later than ack_wait",
        ),
        "unflagged_redelivery": of_messages(
            facts, "unflagged_redelivery", again.unflagged, "delivered more than once and never flagged as redelivered"
        ),
        **_strange(facts),
    }
    return DeliveryFindings(
        anomalies=sets,
        counts={
            "attempted": int(facts.attempted.sum()),
            "acked": int(facts.acked.sum()),
            "sent": int(facts.sent.sum()),
            "indeterminate": int(facts.indeterminate.sum()),
            "failed": int(facts.failed.sum()),
            "delivered": int(facts.received.sum()),
            "discharged": int(facts.discharged.sum()),
            "recovered": int(recovered.sum()),
            "dropped_by_policy": int(dropped.sum()),
            "dead_lettered": int(facts.dead_lettered.sum()),
            "owed": int(facts.owed.sum()),
            "left_unpromised": int((left & ~facts.believed).sum()),
            "deliveries": facts.history.deliveries.rows,
            "attempts": facts.history.publications.rows,
            "ack_wait_exceeded": int((again.delivery & again.late).sum()),
            "lost_never_delivered": int(((lost | lost_unconfirmed) & ~facts.received).sum()),
            "lost_after_delivery": int(((lost | lost_unconfirmed) & facts.received).sum()),
            **{f"lost_{name}": int(members.sum()) for name, members in classes.items()},
        },
        dropped=_by_policy(facts, dropped),
    )


def _only_duplicates(facts: Facts) -> Array:
    """Messages whose every OK answer called them a duplicate."""
    publications = facts.history.publications
    ok = publications.outcome == 1
    called = publications.duplicate != 0
    count = facts.places.count
    return marked(count, facts.published[ok & called]) & ~marked(count, facts.published[ok & ~called])


def _classes(facts: Facts, lost: Array) -> dict[str, Array]:
    """Where in its producer's sequence each lost message fell: before the first delivered, between, after the last.

    Of a producer of which nothing was delivered, all is suffix.
    """
    places = np.flatnonzero(lost)
    earlier, later = facts.places.neighbours(places, facts.received)
    count = facts.places.count
    return {
        "prefix": marked(count, places[~earlier & later]),
        "middle": marked(count, places[earlier & later]),
        "suffix": marked(count, places[~later]),
    }


def _why_twice(again: Repeats, place: int) -> str:
    if again.late[place]:
        return (
            "delivered more than once to one group; the first copy waited longer than ack_wait for its acknowledgement"
        )
    return "delivered more than once to one group"


def _strange(facts: Facts) -> dict[str, Anomaly]:
    deliveries, terms = facts.history.deliveries, facts.history.terms
    corrupt = np.flatnonzero(deliveries.corrupt != 0)
    foreign = np.flatnonzero((deliveries.foreign != 0) & (deliveries.corrupt == 0))
    return {
        "phantom": of_deliveries(facts, "phantom", facts.strangers, "nobody ever published it", facts.census_strangers),
        "corrupt": of_deliveries(facts, "corrupt", corrupt, "its check sum or form is wrong", terms.census_corrupt),
        "foreign": of_deliveries(facts, "foreign", foreign, "it is of another run", terms.census_foreign),
    }


def _by_policy(facts: Facts, dropped: Array) -> dict[str, int]:
    table = facts.history.dropped
    at = facts.places.of(table.message)
    counted = {}
    for policy in np.unique(table.policy):
        of_policy = at[(table.policy == policy) & (at >= 0)]
        members = marked(facts.places.count, of_policy) & dropped
        if members.any():
            counted[facts.history.word(policy)] = int(members.sum())
    return counted
