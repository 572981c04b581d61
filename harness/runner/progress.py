"""Where is a run now? `progress.json`, and whoever watches."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness.clock import RunClock
from harness.history.proceedings import Proceedings

Watcher = Callable[[str, str], None]
"""Told (cell id, phase) at each change."""

TICK_S = 0.01


def silent(cell: str, phase: str) -> None:
    """A watcher that looks away."""


class Progress:
    """Announces phases, and writes each down when the next begins."""

    def __init__(self, directory: Path, cell: str, clock: RunClock, proceedings: Proceedings, watcher: Watcher) -> None:
        self._path = directory / "progress.json"
        self._cell = cell
        self._clock = clock
        self._proceedings = proceedings
        self._watcher = watcher
        self._phase: tuple[str, int, int] | None = None

    def phase(self, name: str, trial: int = -1) -> None:
        """A phase begins, and the one before ends."""
        now_ns = self._clock.now_ns()
        self.end(now_ns)
        self._phase = (name, trial, now_ns)
        self._path.write_text(
            json.dumps({"cell": self._cell, "phase": name, "trial": trial, "since_ns": now_ns, "pid": os.getpid()})
            + "\n"
        )
        self._watcher(self._cell, name if trial < 0 else f"{name} {trial + 1}")

    def end(self, at_ns: int | None = None) -> None:
        """The running phase ends now."""
        if self._phase is None:
            return
        name, trial, begin_ns = self._phase
        self._phase = None
        self._proceedings.write(
            "phase", phase=name, trial=trial, begin_ns=begin_ns, end_ns=self._clock.now_ns() if at_ns is None else at_ns
        )


class Ticker:
    """Ticks every 10 ms and writes down when it could not: then the harness itself was starved, and timings lie."""

    def __init__(self, clock: RunClock, proceedings: Proceedings, limit_ms: float) -> None:
        self._clock = clock
        self._proceedings = proceedings
        self._limit_ns = int(limit_ms * 1e6)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="assay-ticker", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last_ns = time.monotonic_ns()
        while not self._stop.wait(TICK_S):
            now_ns = time.monotonic_ns()
            if now_ns - last_ns > self._limit_ns:
                self._proceedings.write(
                    "health",
                    time_ns=self._clock.now_ns(),
                    client=-1,
                    member="runner",
                    state="ticker-gap",
                    value=now_ns - last_ns,
                    planned=False,
                )
            last_ns = now_ns

    def stop(self) -> None:
        """Stop ticking. Idempotent."""
        self._stop.set()
        self._thread.join(timeout=1)
