"""How long does a reader wait? For the pages of a big session, for the page of a big history, for a command to start.

*Once it is judged*: from what was read and judged to the files of the report; reading and judging are told apart, for
they are done once a cell, however often a report is written.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.bench import sessions
from harness.bench.figure import PAIRS, Figure, cpu_s
from harness.checkers.judge import judge
from harness.errors import Trouble
from harness.report import build, life, model, series, timeline
from harness.report.html.page import page

CELLS = 1_000
CELL_MESSAGES = 1_000
CELL_RATE_HZ = 500.0
HISTORY_ROWS = 10**7
RECHECK_ROWS = 10**4
NOTE = "CPU time, one core: the fastest"
_RUNS = 10
_START_S = 60.0


def measure(
    tell: Callable[[str], None] = lambda _: None, *, cells: int = CELLS, rows: int = HISTORY_ROWS
) -> Iterator[Figure]:
    """Measure everything, one figure after another. `tell` hears what is being done.

    Raises Trouble if a command fails, or a history that keeps everything is not judged so.
    """
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as name:
        directory = Path(name)
        yield from _session(directory / "session", cells, tell)
        yield from _history(directory / "one", rows, tell)
        yield from _commands(directory / "recheck", tell)


def _session(directory: Path, cells: int, tell: Callable[[str], None]) -> Iterator[Figure]:
    tell(f"a session of {cells:,} cells: read and judge")
    sessions.session(directory, cells=cells, runs=_RUNS, messages=CELL_MESSAGES, rate_hz=CELL_RATE_HZ)
    reports: list[model.Report] = []
    load_s = cpu_s(lambda: reports.append(model.load(directory)))
    report = reports[0]
    if report.cell_tally.held != cells:
        raise Trouble(f"{report.cell_tally.held} of {cells} cells were judged to have kept their claim, which all did")
    yield Figure(
        name=f"read and judge a cell of {2 * CELL_MESSAGES:,} rows",
        unit="ms",
        value=load_s / cells * 1e3,
        detail=f"{load_s:.1f} s for {cells:,}",
    )
    tell(f"a session of {cells:,} cells: its report")
    times_s = [cpu_s(lambda: build.write(directory, report)) for _ in range(PAIRS)]
    yield Figure(
        name=f"report of {cells:,} cells, once they are judged",
        unit="s",
        value=min(times_s),
        goal=1.0,
        at_most=True,
        detail=f"median {statistics.median(times_s):.2f}",
    )
    yield Figure(
        name=f"page of {cells:,} cells",
        unit="MB",
        value=(directory / "index.html").stat().st_size / 1e6,
        goal=3.0,
        at_most=True,
    )


def _history(directory: Path, rows: int, tell: Callable[[str], None]) -> Iterator[Figure]:
    tell(f"a history of {rows:,} rows: make it")
    history = sessions.history(rows // 2)
    tell(f"a history of {rows:,} rows: judge it")
    judge_s = cpu_s(lambda: judge(history))
    yield Figure(name=f"judge a history of {rows:,} rows", unit="s", value=judge_s)
    # What a page shows does not grow with the rows, so any session's page takes as long to render.
    report = model.load(sessions.session(directory, cells=1, runs=1, messages=CELL_MESSAGES, rate_hz=CELL_RATE_HZ))

    def shown() -> None:
        series.series(history)
        series.phase_loads(history)
        timeline.timeline(history)
        life.lives(history, [])
        page(report)

    tell(f"a history of {rows:,} rows: its page")
    times_s = [cpu_s(shown) for _ in range(PAIRS)]
    yield Figure(
        name=f"page of a history of {rows:,} rows, once it is judged",
        unit="s",
        value=min(times_s),
        goal=2.0,
        at_most=True,
        detail=f"median {statistics.median(times_s):.2f}",
    )


def _commands(directory: Path, tell: Callable[[str], None]) -> Iterator[Figure]:
    sessions.session(directory, cells=1, runs=1, messages=RECHECK_ROWS // 2)
    run = str(directory / "runs" / "run-0")
    for name, words in (("assay --help", ["--help"]), (f"assay recheck of {RECHECK_ROWS:,} rows", ["recheck", run])):
        tell(f"{name}, {PAIRS} times")
        times = [_command(words) for _ in range(PAIRS)]
        yield Figure(
            name=f"{name}, from a cold process",
            unit="s",
            value=min(cpu for cpu, _ in times),
            goal=0.4,
            at_most=True,
            detail=f"median {statistics.median(cpu for cpu, _ in times):.2f}; "
            f"wall {min(wall for _, wall in times):.2f}, median {statistics.median(wall for _, wall in times):.2f}",
        )


def _command(words: Sequence[str]) -> tuple[float, float]:
    """CPU and wall seconds of one command. Raises Trouble where it fails."""
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli.main", *words],
        capture_output=True,
        check=False,
        text=True,
        timeout=_START_S,
        env={**os.environ, "NO_COLOR": "1"},
    )
    after, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began_s
    if done.returncode:
        raise Trouble(f"assay {' '.join(words)} ended with {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s
