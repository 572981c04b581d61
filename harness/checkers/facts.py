"""Which messages were attempted, acked, received, discharged, found? The sets that every checker speaks of.

All sets are boolean arrays over the places of published messages (harness/checkers/places.py):
*acked*: some publication of it ended OK, acknowledged by the broker; *sent*: OK where nobody confirms;
*invoked*: some attempt was handed to the library, whatever came of it;
*failed*: every attempt ended FAIL, a proven non-event; *received*: delivered in any way, to anybody;
*discharged*: some delivery of it had its acknowledgement invoked, or was received under automatic acknowledgement
(with several groups: in every one of them, for a copy is due to each);
*owed*: the auditor read it where its group has yet to get or settle it; *found*: owed or dead-lettered. A stream keeps
what it owes to nobody any more (*stored*), so that is no excuse for a loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.checkers.load import never_handed_over
from harness.checkers.places import NOWHERE, Places, marked
from harness.history.columns import NEVER
from harness.history.history import Array, History
from harness.operation import AckKind, AcknowledgedBy, Outcome

STORED = "stored"
DEAD_LETTER = "dead-letter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A history and its sets.

    `published`: the place of each row of publications. `rows`: the rows of deliveries that are whole, of this run, and
    of a published message; `delivered`: the place of each of these rows; `group`: its group's word.
    `effect_count`: how often the sink holds the effect of each. `strangers`: rows of deliveries of what was never
    invoked; `census_strangers`, `effect_strangers`: how many of those the auditor read in the broker and in the sink.
    """

    history: History
    places: Places
    published: Array
    rows: Array
    delivered: Array
    group: Array
    attempted: Array
    acked: Array
    sent: Array
    failed: Array
    indeterminate: Array
    received: Array
    discharged: Array
    owed: Array
    stored: Array
    dead_lettered: Array
    dropped: Array
    effect_count: Array
    strangers: Array
    census_strangers: int
    effect_strangers: int

    @property
    def found(self) -> Array:
        """Read by the auditor where it excuses a loss."""
        return self.owed | self.dead_lettered

    @property
    def believed(self) -> Array:
        """What its producer was entitled to believe delivered: acked, or sent without confirms."""
        return self.acked | self.sent

    def delivery(self, column: str) -> Array:
        """A column of deliveries, at `rows`."""
        array = self.history.deliveries[column]
        return array if len(self.rows) == len(array) else array[self.rows]

    @property
    def groups(self) -> Array:
        """The words of the groups that received anything."""
        return np.flatnonzero(np.bincount(self.group)) if len(self.group) else np.empty(0, np.int64)


def gather(history: History) -> Facts:
    """The sets of a history."""
    publications, deliveries = history.publications, history.deliveries
    places = Places(publications.message)
    count = places.count
    published = places.of(publications.message)
    attempted = marked(count, published)
    invoked = marked(count, published[~never_handed_over(publications)])

    ok = publications.outcome == Outcome.OK
    by_broker = publications.acknowledged_by == AcknowledgedBy.BROKER
    acked = marked(count, published[ok & by_broker])
    sent = marked(count, published[ok & ~by_broker]) & ~acked
    failed = attempted & ~marked(count, published[publications.outcome != Outcome.FAIL])

    def known(ids: Array) -> Array:
        at = places.of(ids)
        return np.where((at != NOWHERE) & invoked[at], at, NOWHERE) if count else at

    intact = (deliveries.corrupt == 0) & (deliveries.foreign == 0)
    at = known(deliveries.message)
    rows = np.flatnonzero(intact & (at != NOWHERE))
    strangers = np.flatnonzero(intact & (at == NOWHERE))
    everything = len(rows) == deliveries.rows
    delivered = at if everything else at[rows]
    group = deliveries.group if everything else deliveries.group[rows]
    done = (deliveries.ack_kind == AckKind.AUTOMATIC) | (deliveries.ack_invoked_ns != NEVER)
    done = done if everything else done[rows]

    census, census_at = history.census, known(history.census.message)
    stored_here = census.place == history.word_number(STORED)
    dead_here = census.place == history.word_number(DEAD_LETTER)
    there = census_at != NOWHERE
    effects_at = known(history.effects.message)
    effect_count = np.zeros(count, np.int64)
    counted = effects_at != NOWHERE
    np.add.at(effect_count, effects_at[counted], history.effects["count"][counted].astype(np.int64))
    dropped_at = known(history.dropped.message)

    return Facts(
        history=history,
        places=places,
        published=published,
        rows=rows,
        delivered=delivered,
        group=group,
        attempted=attempted,
        acked=acked,
        sent=sent,
        failed=failed,
        indeterminate=attempted & ~acked & ~sent & ~failed,
        received=marked(count, delivered),
        discharged=_discharged(history, count, delivered[done], group[done]),
        owed=marked(count, census_at[there & ~stored_here & ~dead_here]),
        stored=marked(count, census_at[there & stored_here]),
        dead_lettered=marked(count, census_at[there & dead_here]),
        dropped=marked(count, dropped_at[dropped_at != NOWHERE]),
        effect_count=effect_count,
        strangers=strangers,
        census_strangers=int((~there).sum()),
        effect_strangers=int((~counted).sum()),
    )


def _discharged(history: History, count: int, delivered: Array, group: Array) -> Array:
    if len(history.terms.groups) < 2:
        return marked(count, delivered)
    everywhere = np.ones(count, np.bool_)
    for name in history.terms.groups:
        everywhere &= marked(count, delivered[group == history.word_number(name)])
    return everywhere
