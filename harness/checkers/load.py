"""How fast did clients work in some interval of the run? Rates of attempts and of good answers.

*attempts*: every publish that fell due, whatever came of it, those included for which no connection was there;
*offered*: first attempts that were handed to the library; *good*: answers OK, at the time of the answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.history.columns import NEVER
from harness.history.history import Array, Columns, History, Table
from harness.operation import Outcome

_REMEMBERED = 8
LAST_NS = 1_000_000_000
"""A quiet phase goes on until the load is at its floor again, so its last second may speak for it."""


@dataclass(frozen=True, slots=True)
class Window:
    """A closed interval of the run."""

    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """Its length in s."""
        return max(self.end_ns - self.begin_ns, 0) / 1e9

    def contains(self, times_ns: Array) -> Array:
        """Which of these times lie in it."""
        return (times_ns >= self.begin_ns) & (times_ns <= self.end_ns)


@dataclass(slots=True)
class Times:
    """Times of one kind of event, in blocks: of each block its first and last time, how many there are, and its number.
    A block that a window cuts is read again, and looked at."""

    _read: Callable[[int], Array]
    _blocks: list[tuple[int, int, int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, table: Table, columns: Sequence[str], times: Callable[[Columns], Array]) -> Times:
        """Those that `times` finds in a chunk of these columns; the blocks that were read last are remembered."""
        return cls(functools.lru_cache(_REMEMBERED)(lambda number: times(table.chunk(number, *columns))))

    def add(self, number: int, times_ns: Array) -> None:
        """Add the times of a block."""
        if len(times_ns):
            self._blocks.append((int(times_ns.min()), int(times_ns.max()), len(times_ns), number))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._blocks)

    @property
    def first_ns(self) -> int:
        """The earliest."""
        return min(first_ns for first_ns, *_ in self._blocks)

    def count(self, window: Window) -> int:
        """How many lie in a window."""
        total = 0
        for first_ns, last_ns, count, number in self._blocks:
            if window.begin_ns <= first_ns and last_ns <= window.end_ns:
                total += count
            elif window.begin_ns <= last_ns and first_ns <= window.end_ns:
                total += int(window.contains(self._read(number)).sum())
        return total


@dataclass(frozen=True, slots=True)
class Load:
    """Times of attempts, first attempts, and good answers."""

    attempts: Times
    offered: Times
    good: Times

    @classmethod
    def of(cls, history: History) -> Load:
        """The load of a history."""
        publications = history.publications
        due, answer = ("intended_ns", "invoked_ns"), ("completed_ns", "outcome")
        load = cls(
            attempts=Times.of(publications, due, due_ns),
            offered=Times.of(publications, (*due, *answer, "attempt"), _offered_ns),
            good=Times.of(publications, answer, good_ns),
        )
        for number, chunk in enumerate(publications.chunks(*due, *answer, "attempt")):
            load.attempts.add(number, due_ns(chunk))
            load.offered.add(number, _offered_ns(chunk))
            load.good.add(number, good_ns(chunk))
        return load

    def rate(self, times: Times, window: Window) -> float:
        """Events a second in a window; 0 in an empty one."""
        return times.count(window) / window.seconds if window.seconds else 0.0

    def best_rate(self, times: Times, window: Window) -> float:
        """The rate of the whole window or of its last second, whichever is higher."""
        last = Window(max(window.begin_ns, window.end_ns - LAST_NS), window.end_ns)
        return max(self.rate(times, window), self.rate(times, last))


def due_ns(publications: Columns) -> Array:
    """When each attempt fell due: as it was invoked, or as the workload wanted it where it never was."""
    return np.where(publications.invoked_ns != NEVER, publications.invoked_ns, publications.intended_ns)


def _offered_ns(publications: Columns) -> Array:
    offered = (publications.attempt == 1) & ~never_handed_over(publications)
    return np.asarray(due_ns(publications)[offered])


def good_ns(publications: Columns) -> Array:
    """When each good answer came."""
    return np.asarray(publications.completed_ns[publications.outcome == Outcome.OK])


def never_handed_over(publications: Columns) -> Array:
    """Attempts for which there was no connection or no room: refused in the instant in which they fell due."""
    refused = publications.outcome == Outcome.FAIL
    return np.asarray(refused & (publications.completed_ns == publications.invoked_ns))


def quiet_windows(history: History) -> list[Window]:
    """The quiet phases, in order: load, and no fault."""
    return phase_windows(history, "quiet")


def phase_windows(history: History, name: str) -> list[Window]:
    """The phases of that name, in order."""
    phases = history.phases
    rows = np.flatnonzero(phases.phase == history.word_number(name))
    windows = [Window(int(phases.begin_ns[row]), int(phases.end_ns[row])) for row in rows]
    return sorted(windows, key=lambda window: window.begin_ns)
