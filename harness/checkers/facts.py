"""Which messages were attempted, acked, received, discharged, found? The sets that every checker speaks of.

All sets are of messages that were published (harness/checkers/messages.py), and gathered chunk by chunk:
*acked*: some publication of it ended OK, acknowledged by the broker; *sent*: OK where nobody confirms;
*invoked*: some attempt was handed to the library, whatever came of it;
*failed*: every attempt ended FAIL, a proven non-event; *received*: delivered in any way, to anybody;
*discharged*: some delivery of it had its acknowledgement invoked, or was received under automatic acknowledgement
(with several groups: in every one of them, for a copy is due to each);
*owed*: the auditor read it where its group has yet to get or settle it; *found*: owed or dead-lettered. A stream keeps
what it owes to nobody any more (*stored*), so that is no excuse for a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.checkers import gathering as g
from harness.checkers import messages as flag
from harness.checkers.gathering import Gathering
from harness.checkers.messages import Flags, Messages
from harness.checkers.places import NOWHERE, Places
from harness.history.columns import TABLES
from harness.history.history import Array, Columns, History, Table

STORED = "stored"
DEAD_LETTER = "dead-letter"
COMPILED_ROWS_MIN = 20_000_000
"""Rows from which on machine code saves more than it takes to load."""

_Gatherer = Callable[[Gathering, Columns], None]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A history and its sets, each a set of messages.

    `flags`: of which the sets are made. `gathered`: what else the rows said. `groups`: the words of the groups that
    received anything. `whole`: how many deliveries are whole, of this run, and of a published message. `apart`: places
    of messages that the broker numbered twice. `strangers`: rows of deliveries of what was never invoked; `corrupt`,
    `foreign`: of what has not the form, and of what is of another run; `census_strangers`, `effect_strangers`: how many
    strangers the auditor read in the broker and in the sink.
    """

    history: History
    places: Places
    flags: Flags
    gathered: Gathering
    groups: Array
    apart: Array
    strangers: Array
    corrupt: Array
    foreign: Array
    census_strangers: int
    effect_strangers: int

    @property
    def whole(self) -> int:
        """How many deliveries are whole, of this run, and of a message of ours."""
        return self.gathered.whole

    def flagged(self, bit: int) -> Messages:
        """The messages with a flag."""
        return Messages.flagged(self.flags, bit)

    # ---- sets --------------------------------------------------------------------------------------------------------

    @property
    def attempted(self) -> Messages:
        """Some publish of it fell due, whatever came of it."""
        return self.flagged(flag.ATTEMPTED)

    @property
    def acked(self) -> Messages:
        """Some publication of it ended OK, acknowledged by the broker."""
        return self.flagged(flag.ACKED)

    @property
    def sent(self) -> Messages:
        """Some publication of it ended OK, and none was acknowledged by the broker."""
        return self.flagged(flag.SENT) & ~self.acked

    @property
    def failed(self) -> Messages:
        """Every attempt ended FAIL."""
        return self.attempted & ~self.flagged(flag.NOT_FAILED)

    @property
    def indeterminate(self) -> Messages:
        """Nobody knows whether it was published."""
        return self.attempted & ~self.acked & ~self.sent & ~self.failed

    @property
    def received(self) -> Messages:
        """Delivered in any way, to anybody."""
        return self.flagged(flag.RECEIVED)

    @property
    def repeated(self) -> Messages:
        """Delivered more than once to some group."""
        return self.flagged(flag.REPEATED)

    @property
    def discharged(self) -> Messages:
        """Acknowledged, or received under automatic acknowledgement, in every group."""
        return self.flagged(flag.DISCHARGED)

    @property
    def owed(self) -> Messages:
        """The auditor read it where its group has yet to get or settle it."""
        return self.flagged(flag.OWED)

    @property
    def stored(self) -> Messages:
        """The auditor read it where it is kept, and owed to nobody."""
        return self.flagged(flag.STORED)

    @property
    def dead_lettered(self) -> Messages:
        """The auditor read it in a dead-letter queue."""
        return self.flagged(flag.DEAD_LETTERED)

    @property
    def dropped(self) -> Messages:
        """Dropped by a policy that the configuration asked for."""
        return self.flagged(flag.DROPPED)

    @property
    def only_duplicates(self) -> Messages:
        """Every OK answer, of at least one, called it a duplicate."""
        return self.flagged(flag.CALLED_DUPLICATE) & ~self.flagged(flag.ORIGINAL)

    @property
    def effect(self) -> Messages:
        """The sink holds its effect."""
        return self.flagged(flag.EFFECT)

    @property
    def effect_again(self) -> Messages:
        """The sink holds its effect more than once."""
        return self.flagged(flag.EFFECT_AGAIN)

    @property
    def found(self) -> Messages:
        """Read by the auditor where it excuses a loss."""
        return self.owed | self.dead_lettered

    @property
    def believed(self) -> Messages:
        """What its producer was entitled to believe delivered: acked, or sent without confirms."""
        return self.acked | self.sent

    # ---- some rows ---------------------------------------------------------------------------------------------------

    def publications_of(self, members: Messages | Array, *columns: str) -> Columns:
        """These columns of the publications of some messages, with their places as the column "place". `members`: a set
        of messages, or a boolean array over places. Only chunks that have any are read whole."""
        publications = self.history.publications
        return self._rows_of(publications, members, columns, range(publications.chunk_count), self._published_in)

    def deliveries_of(self, members: Messages | Array, *columns: str) -> Columns:
        """As `publications_of`, of the deliveries that are whole, of this run, and of a published message."""
        chunks = self.gathered.chunks.having(members)
        return self._rows_of(self.history.deliveries, members, columns, chunks, self._delivered_in)

    def _rows_of(
        self,
        table: Table,
        members: Messages | Array,
        columns: tuple[str, ...],
        chunks: Iterable[int],
        places_in: Callable[[int], tuple[Array, Array]],
    ) -> Columns:
        found: dict[str, list[Array]] = {name: [np.empty(0, TABLES[table.name][name].type)] for name in columns}
        found["place"], found["row"] = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for number in chunks:
            rows, places = places_in(number)
            chosen = members[places]
            if not chosen.any():
                continue
            chunk, rows = table.chunk(number, *columns), rows[chosen]
            for name in columns:
                found[name].append(chunk[name][rows])
            found["place"].append(places[chosen])
            found["row"].append(rows + chunk.first)
        selected = {name: np.concatenate(parts) for name, parts in found.items()}
        return Columns(table.name, selected, len(selected["row"]))

    def _published_in(self, number: int) -> tuple[Array, Array]:
        chunk = self.history.publications.chunk(number, "message")
        return np.arange(chunk.rows), self.places.of(chunk.message)

    def _delivered_in(self, number: int) -> tuple[Array, Array]:
        mask, places = g.whole(self.gathered, self.history.deliveries.chunk(number, "message", "corrupt", "foreign"))
        return np.flatnonzero(mask), places

    # ---- all rows, for who must see them all at once ----------------------------------------------------------------

    @cached_property
    def published(self) -> Array:
        """The place of each row of publications. Takes 8 bytes a row."""
        return self.places.of(self.history.publications.message)

    @cached_property
    def _delivered_rows(self) -> tuple[Array, Array]:
        parts = [self._delivered_in(number) for number in range(self.history.deliveries.chunk_count)]
        firsts = range(0, self.history.deliveries.rows, self.history.deliveries.chunk_rows)
        nothing = np.empty(0, np.int64)
        rows = [nothing, *(rows + first for first, (rows, _) in zip(firsts, parts, strict=True))]
        return np.concatenate(rows), np.concatenate([nothing, *(places for _, places in parts)])

    @property
    def rows(self) -> Array:
        """The rows of deliveries that are whole, of this run, and of a published message. Takes 8 bytes a row."""
        return self._delivered_rows[0]

    @property
    def delivered(self) -> Array:
        """The place of each of `rows`."""
        return self._delivered_rows[1]

    def delivery(self, column: str) -> Array:
        """A column of deliveries, at `rows`."""
        array = self.history.deliveries[column]
        return array if self.whole == len(array) else array[self.rows]

    @property
    def group(self) -> Array:
        """The group's word of each of `rows`."""
        return self.delivery("group")


# ---- gathering -------------------------------------------------------------------------------------------------------


def gather(history: History, *, compiled: bool | None = None) -> Facts:
    """The sets of a history, in one pass over its publications and one over its deliveries. `compiled`: by machine
    code, which says the same; None: where it is installed and pays."""
    gathered = Gathering.of(history)
    gather_publications, gather_deliveries = _gatherers(history, compiled)
    for chunk in history.publications.chunks(*g.PUBLICATION_COLUMNS):
        gather_publications(gathered, chunk)
    g.all_published(gathered)
    answered_apart = len(gathered.apart)
    candidates = _candidates(history)
    if len(candidates) > 1 or len(history.terms.groups) > 1:
        gathered.by_group = {word: np.zeros(gathered.places.count, np.uint8) for word in candidates}
    for chunk in history.deliveries.chunks(*g.DELIVERY_COLUMNS):
        gather_deliveries(gathered, chunk)
    groups = _groups(gathered, candidates)
    if len(history.terms.groups) > 1:
        _discharged_everywhere(gathered, history)
    census_strangers = _census(gathered, history, numbered=len(groups) < 2)
    apart = gathered.apart if len(groups) < 2 else gathered.apart[:answered_apart]
    return Facts(
        history=history,
        places=gathered.places,
        flags=Flags(gathered.flags),
        gathered=gathered,
        groups=groups,
        apart=_joined(apart),
        strangers=_joined(gathered.strangers),
        corrupt=_joined(gathered.corrupt),
        foreign=_joined(gathered.foreign),
        census_strangers=census_strangers,
        effect_strangers=_effects(gathered, history),
    )


def _gatherers(history: History, compiled: bool | None) -> tuple[_Gatherer, _Gatherer]:
    """(of publications, of deliveries)."""
    rows = history.publications.rows + history.deliveries.rows
    if compiled is False or (compiled is None and rows < COMPILED_ROWS_MIN):
        return g.publications, g.deliveries
    try:
        from harness.checkers.compiled import deliveries, publications
    except ImportError:
        if compiled:
            raise
        return g.publications, g.deliveries
    return publications, deliveries


def _joined(parts: list[Array]) -> Array:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _candidates(history: History) -> list[int]:
    """The words of the groups that deliveries name."""
    words: set[int] = set()
    for chunk in history.deliveries.chunks("group"):
        group = chunk.group
        words.update([int(group[0])] if (group == group[0]).all() else np.unique(group).tolist())
    return sorted(words)


def _groups(gathered: Gathering, candidates: list[int]) -> Array:
    if gathered.by_group:
        candidates = [word for word in candidates if gathered.by_group[word].any()]
    return np.array(candidates if gathered.whole else [], np.int64)


def _discharged_everywhere(gathered: Gathering, history: History) -> None:
    """With several groups a message is discharged when it is in every one of them, for a copy is due to each."""
    everywhere = np.ones(gathered.places.count, np.bool_)
    for name in history.terms.groups:
        state = gathered.by_group.get(history.word_number(name))
        everywhere &= (state & g.DONE) != 0 if state is not None else np.False_
    gathered.flags[~everywhere] &= np.uint16(~flag.DISCHARGED & 0xFFFF)


def _census(gathered: Gathering, history: History, *, numbered: bool) -> int:
    """Add what the auditor read, and what policies dropped; how many strangers the auditor read."""
    strangers = 0
    stored, dead = history.word_number(STORED), history.word_number(DEAD_LETTER)
    for chunk in history.census.chunks():
        at = g.known(gathered, chunk.message)
        there = at != NOWHERE
        strangers += int((~there).sum())
        for places, bit in (
            (chunk.place == stored, flag.STORED),
            (chunk.place == dead, flag.DEAD_LETTERED),
            ((chunk.place != stored) & (chunk.place != dead), flag.OWED),
        ):
            gathered.flags[at[there & places]] |= bit
        published = gathered.places.of(chunk.message)
        # A dead-letter queue numbers on its own.
        read = (published != NOWHERE) & (chunk.place != dead)
        if numbered:
            gathered.number(published[read], chunk.broker_sequence[read], once=False)
    for chunk in history.dropped.chunks():
        at = g.known(gathered, chunk.message)
        gathered.flags[at[at != NOWHERE]] |= flag.DROPPED
    return strangers


def _effects(gathered: Gathering, history: History) -> int:
    """Add the effects that the sink holds; how many are of strangers."""
    strangers = 0
    for chunk in history.effects.chunks("message", "count"):
        at = g.known(gathered, chunk.message)
        counted = at != NOWHERE
        strangers += int((~counted).sum())
        at, times = at[counted], chunk["count"][counted]
        at, times = at[times > 0], times[times > 0]
        gathered.flags[at[times > 1]] |= flag.EFFECT_AGAIN
        gathered.flags[g.again(at, (gathered.flags[at] & flag.EFFECT) != 0)] |= flag.EFFECT_AGAIN
        gathered.flags[at] |= flag.EFFECT
    return strangers
