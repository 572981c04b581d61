"""What was measured, which goal it has, and how two sides are measured so that a busy machine disturbs both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

PAIRS = 7
"""How often each side of a comparison is measured, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing measured: `value` in `unit`, and the goal for it, None if it has none.

    `at_most`: whether the goal is an upper limit. `detail`: what it was made of. `unavailable`: why it could not be
    measured here ("" if it was).
    """

    name: str
    unit: str
    value: float | None = None
    goal: float | None = None
    at_most: bool = False
    detail: str = ""
    unavailable: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none, or nothing was measured."""
        if self.value is None or self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds, of this process, that the work takes."""
    begin_s = time.process_time()
    work()
    return time.process_time() - begin_s


def paired(one: Callable[[], object], other: Callable[[], object]) -> tuple[list[float], list[float]]:
    """CPU seconds of both, PAIRS times, in the order A B B A."""
    return alternated(lambda: cpu_s(one), lambda: cpu_s(other))


def alternated(one: Callable[[], T], other: Callable[[], T], pairs: int = PAIRS) -> tuple[list[T], list[T]]:
    """What both measured, `pairs` times, in the order A B B A."""
    ours: list[T] = []
    theirs: list[T] = []
    for number in range(pairs):
        sides = [(one, ours), (other, theirs)]
        for measured, values in sides if number % 2 == 0 else sides[::-1]:
            values.append(measured())
    return ours, theirs


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median over pairs of one side by the other."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))
