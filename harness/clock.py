"""The run's clock, and the only place that waits.

CLOCK_MONOTONIC is one clock for every process of a machine, so a time stamp of a client and one of the harness can be
compared. Times of a run are ns since its origin, which is one reading of that clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.errors import Trouble

T = TypeVar("T")
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class RunClock:
    """Monotonic nanoseconds since `origin_ns` (a reading of CLOCK_MONOTONIC)."""

    origin_ns: int

    @classmethod
    def start(cls) -> RunClock:
        """A clock that begins now."""
        return cls(time.monotonic_ns())

    def now_ns(self) -> int:
        """Nanoseconds since the run began."""
        return time.monotonic_ns() - self.origin_ns


def boot_id() -> str:
    """Which boot of this machine this is: monotonic times of two boots cannot be compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def until(
    condition: Callable[[], T | None],
    *,
    within_s: float,
    what: str,
    last_seen: Callable[[], str] | None = None,
    poll_s: float = POLL_S,
    cure: str | None = None,
) -> T:
    """Poll `condition` every `poll_s` until it answers something true, and return that.

    Raises Trouble after `within_s`: "`what` after 30 s; last seen: ...", with what `last_seen()` says then.
    Exceptions of `condition` pass through: a condition decides itself which of its errors mean "not yet".
    """
    deadline = time.monotonic() + within_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            seen = f"; last seen: {last_seen()}" if last_seen is not None else ""
            raise Trouble(f"waited in vain for {what} (limit {within_s:g} s){seen}", cure=cure)
        time.sleep(poll_s)


def happens(condition: Callable[[], object], *, within_s: float, poll_s: float = POLL_S) -> bool:
    """Whether `condition` becomes true within `within_s`; for what may legally never happen."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll_s)
    return True
