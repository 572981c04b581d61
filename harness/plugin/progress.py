"""What is going on right now? On a terminal one live line: cell, phase, seconds, counts so far; else nothing.

pytest captures what a test prints, so the line is written to a copy of the terminal that was made before.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import pytest

from harness.plugin.collect import SESSION
from harness.plugin.options import on_worker

if TYPE_CHECKING:
    from rich.text import Text

Watcher = Callable[[str, str], None]
_TERMINAL: pytest.StashKey[IO[str]] = pytest.StashKey()


def keep_terminal(config: pytest.Config) -> None:
    """Keep a copy of the terminal, if there is one to draw on."""
    if on_worker(config) or config.get_verbosity() < 0 or not sys.stdout.isatty():
        return
    config.stash[_TERMINAL] = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    config.add_cleanup(config.stash[_TERMINAL].close)


@contextmanager
def watching(config: pytest.Config, cell: str) -> Iterator[Watcher]:
    """A watcher for the runner, for one cell."""
    terminal = config.stash.get(_TERMINAL, None)
    if terminal is None:
        yield lambda cell, phase: None
        return
    from rich.console import Console
    from rich.live import Live

    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
    line = _Line(cell, _so_far(config))
    with Live(line, console=Console(file=terminal), refresh_per_second=4, transient=True):
        yield line.watch


class _Line:
    def __init__(self, cell: str, so_far: str) -> None:
        self.cell = cell
        self.phase = "begin"
        self.so_far = so_far
        self.began_s = time.monotonic()

    def watch(self, cell: str, phase: str) -> None:
        self.phase = phase

    def __rich__(self) -> Text:
        from rich.text import Text

        seconds = f"{time.monotonic() - self.began_s:.0f} s"
        text = f"▸ {self.cell}  [bold]{self.phase}[/]  {seconds}   [dim]{self.so_far}[/]"
        return Text.from_markup(text, overflow="ellipsis")


def _so_far(config: pytest.Config) -> str:
    session = config.stash.get(SESSION, None)
    if session is None:
        return ""
    counts = session.counts()
    words = {"passed": "as claimed", "failed": "violated", "unknown": "unknown", "error": "errors", "not-run": "to go"}
    return " · ".join(f"{counts[outcome]} {word}" for outcome, word in words.items() if counts[outcome])
