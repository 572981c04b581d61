"""How fast did clients work in some interval of the run? Rates of attempts and of good answers.

*attempts*: every publish that fell due, whatever came of it, those included for which no connection was there;
*offered*: first attempts that were handed to the library; *good*: answers OK, at the time of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.history.columns import NEVER
from harness.history.history import Array, History, Table
from harness.operation import Outcome

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


@dataclass(frozen=True, slots=True)
class Load:
    """Times of attempts, first attempts, and good answers, each ascending."""

    attempts_ns: Array
    offered_ns: Array
    good_ns: Array

    @classmethod
    def of(cls, history: History) -> Load:
        """The load of a history."""
        publications = history.publications
        ok = publications.outcome == Outcome.OK
        unsent = never_handed_over(publications)
        due_ns = np.where(publications.invoked_ns != NEVER, publications.invoked_ns, publications.intended_ns)
        return cls(
            attempts_ns=_ascending(due_ns),
            offered_ns=_ascending(due_ns[(publications.attempt == 1) & ~unsent]),
            good_ns=_ascending(publications.completed_ns[ok]),
        )

    def rate(self, times_ns: Array, window: Window) -> float:
        """Events a second in a window; 0 in an empty one."""
        return _count(times_ns, window) / window.seconds if window.seconds else 0.0

    def best_rate(self, times_ns: Array, window: Window) -> float:
        """The rate of the whole window or of its last second, whichever is higher."""
        last = Window(max(window.begin_ns, window.end_ns - LAST_NS), window.end_ns)
        return max(self.rate(times_ns, window), self.rate(times_ns, last))

    def count(self, times_ns: Array, window: Window) -> int:
        """Events in a window."""
        return _count(times_ns, window)


def never_handed_over(publications: Table) -> Array:
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


def _ascending(times_ns: Array) -> Array:
    # Each client's times ascend already: a stable sort merges such runs.
    return times_ns if np.all(times_ns[1:] >= times_ns[:-1]) else np.sort(times_ns, kind="stable")


def _count(times_ns: Array, window: Window) -> int:
    first = np.searchsorted(times_ns, window.begin_ns, side="left")
    last = np.searchsorted(times_ns, window.end_ns, side="right")
    return max(int(last - first), 0)
