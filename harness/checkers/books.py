"""Do the broker's own books agree with the history? Its counters, compared with what clients wrote down.

Only like is compared with like, and only counters that no restart has reset. A lower or upper limit is all that some
can give: what was sent into a connection that died was counted by the broker and seen by nobody. A mismatch means that
the harness or the broker miscounts: nothing is HELD then, and what rests on the mistaken book is no violation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.checkers.facts import Facts
from harness.checkers.load import never_handed_over
from harness.operation import AckKind, AcknowledgedBy, Outcome

UNSEEN_DELIVERIES = (
    *("lost", "lost_unconfirmed", "swallowed", "unprocessed", "never_processed", "stranded"),
    *("passed_over", "false_empty"),
)
UNSEEN_PUBLICATIONS = ("phantom", "duplicate_publish")
UNSENT_DELIVERIES = ("duplicate_delivery", "again_after_confirmed_ack", "unflagged_redelivery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """`mismatches`: one sentence each. `covers`: the anomalies that each of them takes the ground from."""

    mismatches: tuple[str, ...]
    covers: tuple[tuple[str, ...], ...]

    def doubts(self, anomaly: str) -> tuple[str, ...]:
        """The mismatches that cover an anomaly."""
        return tuple(
            sentence for sentence, covered in zip(self.mismatches, self.covers, strict=True) if anomaly in covered
        )


def audit(facts: Facts) -> Books:
    """Compare the broker's comparable counters, and the sink's, with the history."""
    found = list(_mismatches(facts))
    return Books(mismatches=tuple(sentence for sentence, _ in found), covers=tuple(covers for _, covers in found))


def _mismatches(facts: Facts) -> Iterator[tuple[str, tuple[str, ...]]]:
    counters = {counter.name: counter.value for counter in facts.history.terms.counters if counter.comparable}
    if "published" in counters:
        yield from _published(facts, counters["published"])
    if "delivered" in counters:
        yield from _delivered(facts, counters["delivered"])
    if "acked" in counters:
        yield from _acked(facts, counters["acked"])
    if facts.effect_strangers:
        yield (
            f"harness or sink miscounts: the sink holds effects of {facts.effect_strangers} messages that nobody "
            "published",
            UNSEEN_PUBLICATIONS,
        )
    unseen = (facts.effect & ~facts.received).sum()
    if unseen:
        yield (
            f"harness or sink miscounts: the sink holds effects of {unseen} messages that no consumer received",
            UNSEEN_DELIVERIES,
        )


def _published(facts: Facts, counted: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    stored = handed = 0
    for chunk in facts.history.publications.chunks("outcome", "duplicate", "invoked_ns", "completed_ns"):
        stored += int(((chunk.outcome == Outcome.OK) & (chunk.duplicate == 0)).sum())
        handed += int((~never_handed_over(chunk)).sum())
    # Brokers differ in whether they count what they refuse or take for a duplicate: all that was handed over may be.
    if facts.history.terms.acknowledged_by == AcknowledgedBy.NONE:
        stored = 0
    if counted < stored:
        yield f"harness or broker miscounts: the broker counted {counted} publishes, {stored} were confirmed", ()
    elif counted > handed:
        yield (
            f"harness or broker miscounts: the broker counted {counted} publishes, the clients made {handed}",
            UNSEEN_PUBLICATIONS,
        )


def _delivered(facts: Facts, counted: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    history = facts.history
    received = history.deliveries.rows
    lost_word = history.word_number("lost")
    undisturbed = not np.any(history.health.state == lost_word) and all(
        injection.bit_ns is None for injection in history.terms.injections
    )
    if counted < received:
        yield (
            f"harness or broker miscounts: the broker counted {counted} deliveries, {received} were received",
            UNSENT_DELIVERIES,
        )
    elif counted > received and undisturbed:
        yield (
            f"harness or broker miscounts: the broker counted {counted} deliveries, {received} were received over "
            "connections that never broke",
            UNSEEN_DELIVERIES,
        )


def _acked(facts: Facts, counted: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    if facts.history.terms.ack == AckKind.AUTOMATIC:
        return
    invoked = confirmed = 0
    for chunk in facts.history.deliveries.chunks("ack_invoked_ns", "ack_kind", "settlement"):
        invoked += int((chunk.ack_invoked_ns >= 0).sum())
        confirmed += int(((chunk.ack_kind == AckKind.CONFIRMED) & (chunk.settlement == Outcome.OK)).sum())
    if not confirmed <= counted <= invoked:
        yield (
            f"harness or broker miscounts: the broker counted {counted} acknowledgements; {invoked} were made and "
            f"{confirmed} confirmed",
            (),
        )
