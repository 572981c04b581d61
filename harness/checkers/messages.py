"""How are sets of messages held, of which there may be 10^8? As flags: 16 bits a message say in which sets it is.

A *set* is then the combinations of flags that its members have: a table of 65,536 answers, whatever the number of
messages. The algebra of anomalies, `acked & ~discharged`, is done on these tables; how many members there are follows
from how often each combination occurs, which is counted once.
"""

from __future__ import annotations

import functools
from typing import Any, overload

import numpy as np

from harness.history.history import CHUNK_ROWS, Array

(
    ATTEMPTED,
    INVOKED,
    ACKED,
    SENT,
    NOT_FAILED,
    ORIGINAL,
    CALLED_DUPLICATE,
    RECEIVED,
    DISCHARGED,
    REPEATED,
    OWED,
    STORED,
    DEAD_LETTERED,
    DROPPED,
    EFFECT,
    EFFECT_AGAIN,
) = (1 << bit for bit in range(16))
COMBINATIONS = 1 << 16


@functools.cache
def _with(flag: int) -> Array:
    """Which combinations have a flag."""
    return np.asarray((np.arange(COMBINATIONS) & flag) != 0)


class Flags:
    """The flags of every message, by place, and how often each combination of them occurs."""

    __slots__ = ("_times", "of")

    def __init__(self, of: Array) -> None:
        self.of = of
        self._times: Array | None = None

    @property
    def times(self) -> Array:
        """How many messages have each combination."""
        if self._times is None:
            self._times = np.zeros(COMBINATIONS, np.int64)
            for begin in range(0, len(self.of), CHUNK_ROWS):
                some = self.of[begin : begin + CHUNK_ROWS]
                if (some == some[0]).all():
                    self._times[some[0]] += len(some)
                else:
                    self._times += np.bincount(some, minlength=COMBINATIONS)
        return self._times


class Messages:
    """A set of messages. Behaves as the boolean array over places that it stands for: `&`, `|`, `~`, `[places]`,
    `sum()`; and beside such an array it becomes one."""

    __slots__ = ("_flags", "_which")
    __array_ufunc__ = None  # an array beside it lets it answer

    def __init__(self, flags: Flags, which: Array) -> None:
        self._flags = flags
        self._which = which

    @classmethod
    def flagged(cls, flags: Flags, flag: int) -> Messages:
        """Those that have a flag."""
        return cls(flags, _with(flag))

    @overload
    def __and__(self, other: Messages) -> Messages: ...
    @overload
    def __and__(self, other: Array) -> Array: ...
    def __and__(self, other: Messages | Array) -> Messages | Array:
        return Messages(self._flags, self._which & other._which) if isinstance(other, Messages) else self.mask() & other

    @overload
    def __or__(self, other: Messages) -> Messages: ...
    @overload
    def __or__(self, other: Array) -> Array: ...
    def __or__(self, other: Messages | Array) -> Messages | Array:
        return Messages(self._flags, self._which | other._which) if isinstance(other, Messages) else self.mask() | other

    __rand__ = __and__
    __ror__ = __or__

    def __invert__(self) -> Messages:
        return Messages(self._flags, ~self._which)

    def __getitem__(self, places: Any) -> Any:
        """Whether it holds the message at a place, or those at an array of places."""
        return self._which[self._flags.of[places]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.mask()

    def __bool__(self) -> bool:
        return self.sum() > 0

    def __len__(self) -> int:
        return len(self._flags.of)

    def sum(self) -> int:
        """How many messages it holds."""
        return int(self._flags.times[self._which].sum())

    def mask(self) -> Array:
        """The set as a boolean array over all places."""
        mask: Array = self._which[self._flags.of]
        return mask

    def places(self) -> Array:
        """The places of its members, ascending."""
        if not self:
            return np.empty(0, np.int64)
        return places_of(self._flags.of, lambda flags: self._which[flags])

    def ends(self, begin: int, end: int) -> tuple[int, int]:
        """The least and the greatest place of its members from `begin` to before `end`; (end, -1) where none is."""
        first, last = end, -1
        for at in range(begin, end, CHUNK_ROWS):
            found = np.flatnonzero(self[at : min(at + CHUNK_ROWS, end)])
            if len(found):
                first = at + int(found[0])
                break
        for at in range(end, first, -CHUNK_ROWS):
            low = max(at - CHUNK_ROWS, first)
            found = np.flatnonzero(self[low:at])
            if len(found):
                last = low + int(found[-1])
                break
        return first, last


def places_of(array: Array, chosen: Any) -> Array:
    """Where `chosen` (of some of an array) is true, looked at a chunk at a time."""
    found = [np.empty(0, np.int64)]
    for begin in range(0, len(array), CHUNK_ROWS):
        found.append(np.flatnonzero(chosen(array[begin : begin + CHUNK_ROWS])) + begin)
    return np.concatenate(found)
