"""Where does a message stand in every set? At its place: ids are dense per producer, so a set is an array of bits.

*place*: a number from 0 up, ascending with the message's id; only published messages have one. Sets are boolean arrays
indexed by place, so that the algebra of anomalies is numpy's: `acked & ~discharged`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.history.history import Array
from harness.operation import SEQUENCE_BITS, SEQUENCE_MAX

NOWHERE = -1
"""The place of a message that was never published."""

_SPARSE_FACTOR = 4
_SPARSE_FREE = 4096
_BLOCK = 1 << 15
"""Rows at a time where several passes follow one another: what they leave to the next stays in the cache."""


class Places:
    """The places of the messages that `ids` (packed, in any order, repeated or not) name.

    Dense ids become places by arithmetic alone. Where ids are so sparse that the holes between them would cost more
    than `4 x rows + 4096` places, they are sorted instead; nobody sees a difference but in speed.
    """

    __slots__ = ("_base", "_low", "_producers", "_shift", "_size", "_sorted", "count")

    def __init__(self, ids: Array) -> None:
        packed = ids.view(np.int64)
        producers = packed >> SEQUENCE_BITS
        sequences = packed & SEQUENCE_MAX
        self._sorted: Array | None = None
        numbers = int(producers.max()) + 1 if len(packed) else 0
        if (len(packed) and int(producers.min()) < 0) or numbers > _SPARSE_FREE + len(packed):
            self._sort(packed)
            return
        low = np.full(numbers, SEQUENCE_MAX + 1, np.int64)
        high = np.full(numbers, -1, np.int64)
        np.minimum.at(low, producers, sequences)
        np.maximum.at(high, producers, sequences)
        size = np.maximum(high - low + 1, 0)
        if int(size.sum()) > _SPARSE_FACTOR * len(packed) + _SPARSE_FREE:
            self._sort(packed)
            return
        self._low = low
        self._size = size
        self._base = np.cumsum(size) - size
        self._shift = self._base - low
        self._producers = np.flatnonzero(size)
        self.count = int(size.sum())

    def _sort(self, packed: Array) -> None:
        self._sorted = np.unique(packed.view(np.uint64))
        self.count = len(self._sorted)

    def of(self, ids: Array) -> Array:
        """The place of each id; NOWHERE where it is out of range. A hole between published ids has a place too."""
        if self.count == 0:
            return np.full(len(ids), NOWHERE, np.int64)
        if self._sorted is not None:
            found = np.minimum(np.searchsorted(self._sorted, ids), self.count - 1)
            return np.where(self._sorted[found] == ids, found, NOWHERE)
        packed = ids.view(np.int64)
        producers = packed >> SEQUENCE_BITS
        known = (producers >= 0) & (producers < len(self._size))
        producers = np.where(known, producers, 0)
        offset = (packed & SEQUENCE_MAX) - self._low[producers]
        known &= (offset >= 0) & (offset < self._size[producers])
        return np.where(known, self._base[producers] + offset, NOWHERE)

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

    def neighbours(self, places: Array, present: Array) -> tuple[Array, Array]:
        """For each place: whether `present` (a set) holds an earlier, and a later, one of the same producer."""
        there = np.flatnonzero(present)
        if len(there) == 0:
            nothing = np.zeros(len(places), np.bool_)
            return nothing, nothing.copy()
        producers = self.ids(places) >> np.uint64(SEQUENCE_BITS)
        others = self.ids(there) >> np.uint64(SEQUENCE_BITS)
        below, beyond = np.searchsorted(there, places), np.searchsorted(there, places, side="right")
        earlier = (below > 0) & (others[np.maximum(below - 1, 0)] == producers)
        later = (beyond < len(there)) & (others[np.minimum(beyond, len(there) - 1)] == producers)
        return earlier, later

    def _producer_at(self, places: Array) -> Array:
        bases = self._base[self._producers]
        return np.asarray(self._producers[np.searchsorted(bases, places, side="right") - 1])


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
