"""Was a delivery overtaken? Every lane keeps the time of the latest publication that it has brought so far.

*lane*: one connection of a producer and one of a consumer. Deliveries are fed in the order of their receipt; one that
was invoked no later than the latest of its lane so far is a *suspect*: it was overtaken, or is a further receipt of
an attempt. Connections are numbered from 1 up; 0 is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from harness.history.history import Array, Columns

_NO_TIME = np.iinfo(np.int64).min
LATEST, KEPT = range(2)
_RUNS_MAX = 1 << 10
_TABLE_MAX = 1 << 22


@dataclass(slots=True)
class Connections:
    """Numbers of connections, by client and epoch. `zero`: whether epoch 0 is one, too; else it is none."""

    zero: bool
    numbers: dict[int, int] = field(default_factory=dict)

    def of(self, rows: Columns) -> Array:
        """The number of each row's connection."""
        if constant(rows.client) and constant(rows.epoch):
            return np.broadcast_to(np.uint32(self.one(rows.client[0], rows.epoch[0])), rows.rows)
        code = (rows.client.astype(np.uint32) << np.uint32(16)) | rows.epoch
        starts = starts_of(code)
        distinct, which = np.unique(code[starts], return_inverse=True)
        numbers = np.array([self._number(one) for one in distinct.tolist()], np.uint32)[which]
        return np.repeat(numbers, np.diff(starts, append=rows.rows))

    def one(self, client: int, epoch: int) -> int:
        """The number of one connection."""
        return self._number(int(client) << 16 | int(epoch))

    def _number(self, code: int) -> int:
        return self.numbers.setdefault(code, len(self.numbers) + 1) if self.zero or code & 0xFFFF else 0


def constant(array: Array) -> bool:
    """Whether all values are equal."""
    return array.strides == (0,) or bool(array[0] == array[-1] and array.min() == array.max())


def starts_of(array: Array) -> Array:
    """Where each run of equal values starts."""
    if constant(array):
        return np.zeros(1, np.int64)
    return np.concatenate([[0], np.flatnonzero(array[1:] != array[:-1]) + 1])


@dataclass(frozen=True, slots=True)
class Suspects:
    """Deliveries that need a closer look: numbers of their rows, places, lanes, and whether each was overtaken."""

    row: Array
    place: Array
    lane: Array
    overtaken: Array


@dataclass(slots=True)
class Lanes:
    """All lanes. `state`: of each, when its latest publication was invoked (as a time, or any number that is in the
    order of the times), and how many deliveries it has. `table`: the lane of each pair of connections, -1 of none.
    `unsorted`: some row stands before one that was received earlier.
    """

    state: Array = field(default_factory=lambda: np.empty((0, 2), np.int64))
    unsorted: bool = False
    count: int = 0
    table: Array = field(default_factory=lambda: np.full((1, 1), -1, np.int32))
    _numbers: dict[int, int] = field(default_factory=dict)
    _last: dict[int, tuple[int, int]] = field(default_factory=dict)
    _suspects: list[tuple[Array, Array, Array, Array]] = field(default_factory=list)

    def of(self, published: Array, delivered: Array) -> Array:
        """The lane of each pair of connections, none of which is 0."""
        if not len(published):
            return np.empty(0, np.int64)
        most = int(published.max()) + 1, int(delivered.max()) + 1
        if not self.widen(*most):
            code = (published.astype(np.int64) << 32) | delivered
            distinct, which = np.unique(code, return_inverse=True)
            return np.array([self._new(one) for one in distinct.tolist()])[which]
        at = published.astype(np.int64) * self.table.shape[1] + delivered
        lane: Array = self.table.take(at)
        while lane[unknown := int(lane.argmin())] < 0:
            self.admit(int(published[unknown]), int(delivered[unknown]))
            lane = self.table.take(at)
        return lane

    def widen(self, published: int, delivered: int) -> bool:
        """Whether the table of lanes holds so many connections; it grows as far as is sensible."""
        shape = max(published, self.table.shape[0]), max(delivered, self.table.shape[1])
        if shape[0] * shape[1] > _TABLE_MAX:
            return False
        if shape != self.table.shape:
            wider = np.full((2 * shape[0], 2 * shape[1]), -1, np.int32)
            wider[: self.table.shape[0], : self.table.shape[1]] = self.table
            self.table = wider
        return True

    def admit(self, published: int, delivered: int) -> None:
        """Give the lane of this pair its number in the table."""
        self.table[published, delivered] = self._new(published << 32 | delivered)

    def _new(self, code: int) -> int:
        number = self._numbers.setdefault(code, len(self._numbers))
        self.count = len(self._numbers)
        if number >= len(self.state):
            more = np.full((len(self.state) + 16, 2), _NO_TIME)
            more[:, KEPT] = 0
            self.state = np.concatenate([self.state, more])
        return number

    @property
    def kept(self) -> Array:
        """How many deliveries each lane has."""
        return self.state[: self.count, KEPT]

    def look_for_disorder(self, delivered: Array, received_ns: Array, number: Array) -> None:
        """See whether rows stand in the order of their receipt, of each connection of a consumer."""
        if self.unsorted or not len(delivered):
            return
        starts = starts_of(delivered)
        if len(starts) > _RUNS_MAX:  # rows of many connections, mixed: it is cheaper to sort them
            self.unsorted = True
            return
        late = received_ns[1:] <= received_ns[:-1]
        if late.any():
            late &= (received_ns[1:] < received_ns[:-1]) | (number[1:] < number[:-1])
            late[starts[1:] - 1] = False
            self.unsorted = bool(late.any())
        for begin, end in pairwise([*starts.tolist(), len(delivered)]):
            connection = int(delivered[begin])
            first, last = ((int(received_ns[row]), int(number[row])) for row in (begin, end - 1))
            self.unsorted |= first < self._last.get(connection, first)
            self._last[connection] = last

    def feed(self, lane: Array, invoked: Array, row: Array, place: Array) -> None:
        """Some more deliveries, in the order of their receipt; `invoked`: when each was published, as in `state`."""
        if not len(lane):
            return
        # Of small numbers, a stable sort is a radix sort.
        order = np.argsort(lane.astype(np.uint16) if self.count <= 1 << 16 else lane, kind="stable")
        in_order = lane[order]
        starts = starts_of(in_order)
        ends = np.append(starts[1:], len(order))
        times = invoked[order]
        latest = np.empty_like(times)
        for begin, end, which in zip(starts.tolist(), ends.tolist(), in_order[starts].tolist(), strict=True):
            before = self.state[which, LATEST]
            latest[begin] = before
            np.maximum.accumulate(times[begin : end - 1], out=latest[begin + 1 : end])
            np.maximum(latest[begin:end], before, out=latest[begin:end])
            self.state[which, LATEST] = max(latest[end - 1], times[end - 1])
            self.state[which, KEPT] += end - begin
        behind = np.flatnonzero(times <= latest)
        if len(behind):
            at = order[behind]
            self.suspect(row[at], place[at], lane[at], times[behind] < latest[behind])

    def suspect(self, row: Array, place: Array, lane: Array, overtaken: Array) -> None:
        """Note some suspects."""
        self._suspects.append((row, place, lane, overtaken))

    @property
    def suspects(self) -> Suspects:
        """All of them."""
        nothing = np.empty(0, np.int64)
        parts = [*self._suspects, (nothing, nothing, nothing, np.empty(0, np.bool_))]
        return Suspects(*(np.concatenate(column) for column in zip(*parts, strict=True)))
