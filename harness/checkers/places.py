"""Where does a message stand in every set? At its place: ids are dense per producer, so a set is an array of bits.

*place*: a number from 0 up, ascending with the message's id; only published messages have one. Sets are boolean arrays
indexed by place, so that the algebra of anomalies is numpy's: `acked & ~discharged`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from harness.history.history import CHUNK_ROWS, Array
from harness.operation import SEQUENCE_BITS, SEQUENCE_MAX

NOWHERE = -1
"""The place of a message that was never published."""

_SPARSE_FACTOR = 4
_SPARSE_FREE = 4096
_BLOCK = 1 << 15
"""Rows at a time where several passes follow one another: what they leave to the next stays in the cache."""


class Places:
    """The places of the messages that `ids` name: packed, in any order, repeated or not; or what yields arrays of them.

    Dense ids become places by arithmetic alone. Where ids are so sparse that the holes between them would cost more
    than `4 x rows + 4096` places, they are sorted instead; nobody sees a difference but in speed.
    """

    __slots__ = ("_ascending", "_base", "_low", "_producers", "_shift", "_size", "_sorted", "count")

    def __init__(self, ids: Array | Callable[[], Iterable[Array]]) -> None:
        parts = ids if callable(ids) else lambda: _in_blocks(ids)
        self._sorted: Array | None = None
        self._ascending: set[tuple[int, int]] = set()
        extents = _extents(parts(), self._ascending)
        if extents is None:
            self._sort(parts())
            return
        # The last entry is of no producer: what is of none that is known is looked up there, and is not found.
        low, high = np.append(extents[0], 0), np.append(extents[1], -1)
        size = np.maximum(high - low + 1, 0)
        self._low = low
        self._size = size
        self._base = np.cumsum(size) - size
        self._shift = self._base - low
        self._producers = np.flatnonzero(size)
        self.count = int(size.sum())

    def _sort(self, parts: Iterable[Array]) -> None:
        distinct = [np.unique(part.view(np.uint64)) for part in parts]
        self._sorted = np.unique(np.concatenate(distinct))
        self.count = len(self._sorted)

    @property
    def sparse(self) -> bool:
        """Whether places are found by searching."""
        return self._sorted is not None

    @property
    def extents(self) -> tuple[Array, Array, Array]:
        """(least sequence, its place, how many places) of each producer by its number, where ids are not sparse; the
        last is of none, and has no places."""
        return self._low, self._base, self._size

    def ascend(self, first: int, rows: int) -> bool:
        """Whether so many ids, from that one on of all that it was made of, came as one part, each greater than the one
        before it: False where that is not known."""
        return (first, rows) in self._ascending

    def of(self, ids: Array) -> Array:
        """The place of each id; NOWHERE where it is out of range. A hole between published ids has a place too."""
        if self.count == 0:
            return np.full(len(ids), NOWHERE, np.int64)
        if self._sorted is not None:
            found = np.minimum(np.searchsorted(self._sorted, ids), self.count - 1)
            return np.where(self._sorted[found] == ids, found, NOWHERE)
        packed = ids.view(np.uint64)
        found = np.empty(len(packed), np.int64)
        for begin in range(0, len(packed), _BLOCK):
            some = packed[begin : begin + _BLOCK]
            producers = (some >> np.uint64(SEQUENCE_BITS)).view(np.int64)
            offset = (some & np.uint64(SEQUENCE_MAX)).view(np.int64) - self._low.take(producers, mode="clip")
            # What is below the least sequence wraps, so that one comparison finds both ends.
            known = offset.view(np.uint64) < self._size.take(producers, mode="clip").view(np.uint64)
            offset += self._base.take(producers, mode="clip")
            if not known.all():
                offset[~known] = NOWHERE
            found[begin : begin + _BLOCK] = offset
        return found

    def near(self, ids: Array) -> Array:
        """The place of each id that has one; of any other some number, which may be no place. Half the cost of `of`,
        for who compares the ids at these places with those asked for anyway."""
        if self._sorted is not None:
            return np.asarray(np.searchsorted(self._sorted, ids))
        if self.count == 0:
            return np.zeros(len(ids), np.int64)
        packed = ids.view(np.int64)
        found = np.empty(len(packed), np.int64)
        for begin in range(0, len(packed), _BLOCK):
            some = packed[begin : begin + _BLOCK]
            shift = self._shift.take(some >> SEQUENCE_BITS, mode="clip")
            np.add(shift, some & SEQUENCE_MAX, out=found[begin : begin + _BLOCK])
        return found

    def ids(self, places: Array) -> Array:
        """The packed ids at these places."""
        if self._sorted is not None:
            return np.asarray(self._sorted[places])
        which = self._producer_at(places)
        sequences = places - self._base[which] + self._low[which]
        return np.asarray((which << SEQUENCE_BITS) | sequences, np.uint64)

    def extent(self, places: Array) -> tuple[Array, Array]:
        """Of each place's producer: its first place, and the first place after its last."""
        if self._sorted is None:
            which = self._producer_at(places)
            return self._base[which], self._base[which] + self._size[which]
        owner = self._sorted[places] >> np.uint64(SEQUENCE_BITS)
        bounds = [
            np.searchsorted(self._sorted, (owner + np.uint64(more)) << np.uint64(SEQUENCE_BITS)) for more in (0, 1)
        ]
        return bounds[0], bounds[1]

    def _producer_at(self, places: Array) -> Array:
        bases = self._base[self._producers]
        return np.asarray(self._producers[np.searchsorted(bases, places, side="right") - 1])


def _in_blocks(ids: Array) -> Iterator[Array]:
    for begin in range(0, len(ids), CHUNK_ROWS):
        yield ids[begin : begin + CHUNK_ROWS]


def _extents(parts: Iterable[Array], ascending: set[tuple[int, int]]) -> tuple[Array, Array] | None:
    """The least and the greatest sequence of each producer, by its number; None where ids are too sparse for that. Adds
    the parts whose ids ascend, of one producer each: where they begin, and how many ids they have."""
    low = np.empty(0, np.int64)
    high = np.empty(0, np.int64)
    rows = 0
    for part in parts:
        rows += len(part)
        packed = part.view(np.int64)
        if packed[0] >> SEQUENCE_BITS == packed[-1] >> SEQUENCE_BITS and (packed[1:] > packed[:-1]).all():
            ascending.add((rows - len(part), len(part)))
            packed = packed[[0, -1]]  # so all are between these
        producers, sequences = packed >> SEQUENCE_BITS, packed & SEQUENCE_MAX
        starts = np.concatenate([[0], np.flatnonzero(producers[1:] != producers[:-1]) + 1])
        owners = producers[starts]
        if int(owners.min()) < 0 or int(owners.max()) >= _SPARSE_FREE + rows:
            return None
        if (more := int(owners.max()) + 1 - len(low)) > 0:
            low = np.concatenate([low, np.full(more, SEQUENCE_MAX + 1)])
            high = np.concatenate([high, np.full(more, -1)])
        np.minimum.at(low, owners, np.minimum.reduceat(sequences, starts))
        np.maximum.at(high, owners, np.maximum.reduceat(sequences, starts))
    sparse = int(np.maximum(high - low + 1, 0).sum()) > _SPARSE_FACTOR * rows + _SPARSE_FREE
    return None if sparse else (low, high)


def ascending(places: Array) -> bool:
    """Whether each is greater than the one before it."""
    return bool((places[1:] > places[:-1]).all())


def marked(count: int, places: Array) -> Array:
    """The set of these places, out of `count`."""
    members = np.zeros(count, np.bool_)
    members[places] = True
    return members


def runs(columns: Sequence[Array], within: Sequence[Array] = ()) -> tuple[Array, Array]:
    """Bring rows together that are equal in all `columns`: (order, where each run of equals starts in it).

    Inside a run, rows are ordered by `within`, then as they stood.
    """
    order = np.lexsort((*within[::-1], *columns[::-1]))
    if len(order) == 0:
        return order, order
    new = np.zeros(len(order), np.bool_)
    new[0] = True
    for column in columns:
        in_order = column[order]
        new[1:] |= in_order[1:] != in_order[:-1]
    return order, np.flatnonzero(new)
