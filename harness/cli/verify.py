"""Run the suites' cells on real brokers, judge them, and write a report.

A thin front of pytest: everything after `--` is handed on to it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.ending import (
    HELD,
    INTERNAL,
    INTERRUPTED,
    TERMINATED,
    TROUBLE,
    UNKNOWN,
    USAGE,
    VIOLATED,
    Ending,
    worst,
)
from harness.errors import Refused

if TYPE_CHECKING:
    from harness.errors import Trouble
    from harness.plugin.session import SessionRecord

NAME = "verify"
NOT_VERIFIED = frozenset({"control", "__pycache__"})
"""Folders of suites/ that are run only when named: control tests Assay itself, on real brokers."""

SUMMARY = "run the suites, judge them, write a report: the product"
EXAMPLE = "assay verify --configuration 'rabbitmq-*' --fault kill_leader --seed 7"
ALLOW_UNKNOWN_PERCENT = 5.0

# This command is the package that pytest would like to import first.
_QUIET = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
_INTERRUPTED, _INTERNAL, _USAGE, _NOTHING = 2, 3, 4, 5  # pytest's own codes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Each option stands for the plugin's `--assay-...` of the same name, which is understood too."""
    parser.add_argument(
        "suites",
        nargs="*",
        type=Path,
        metavar="SUITE",
        help="files or directories (default: all in suites/ but control)",
    )
    parser.add_argument("--list", action="store_true", help="list the cells and run nothing")
    for name, metavar, help_text in (
        ("configuration", "GLOB", "only cells of matching configurations; `assay configurations` lists them"),
        ("fault", "GLOB", "only cells with matching faults; `assay faults` lists them"),
        ("seed", "NUMBER", "draw the same plans again (default: a new seed, printed)"),
        ("engine", "NAME", "containers, processes or auto, the first that can (default)"),
        ("tier", "NAME", "smoke (default), standard or soak"),
        ("repeat", "TIMES", "run each cell so many times"),
        ("replay", "RUN", "run the cell of this run directory again, with its seed"),
        ("shard", "I/N", "run the I-th of N parts"),
        ("reports", "DIR", "where session directories go (default: reports)"),
    ):
        parser.add_argument(f"--{name}", f"--assay-{name}", dest=name, metavar=metavar, help=help_text)
    parser.add_argument(
        "--allow-unknown",
        "--assay-allow-unknown",
        dest="allow_unknown",
        metavar="PERCENT",
        nargs="?",
        const="100",
        default=f"{ALLOW_UNKNOWN_PERCENT:g}",
        help=f"how many per cent of the cells may be UNKNOWN (default: {ALLOW_UNKNOWN_PERCENT:g})",
    )
    parser.add_argument("--fresh", "--assay-fresh", action="store_true", help="never use a warm broker")


def run(arguments: argparse.Namespace) -> Ending:
    """Run pytest over the suites, and say what its session showed."""
    suites = [str(path) for path in arguments.suites or _suites()]
    for suite in suites:
        if not Path(suite.partition("::")[0]).exists():
            raise Refused(f"there is no suite {suite}", cure="name a file or directory of suites")
    import pytest

    watch = _Watch()
    code = int(pytest.main([*_QUIET, *suites, *_options(arguments), *arguments.beyond], plugins=[watch]))
    if arguments.list and code == 0:
        return Ending(code=HELD, reason=f"{watch.collected} cells, none was run", path=Path(os.path.commonpath(suites)))
    return watch.ending(code)


def _options(arguments: argparse.Namespace) -> list[str]:
    options = [
        f"--assay-{name}={value}"
        for name in ("configuration", "fault", "seed", "engine", "tier", "repeat", "replay", "shard", "reports")
        if (value := getattr(arguments, name)) is not None
    ]
    options.append(f"--assay-allow-unknown={arguments.allow_unknown}")
    if arguments.fresh:
        options.append("--assay-fresh")
    return [*options, "--collect-only", "-q"] if arguments.list else options


def _suites() -> list[Path]:
    """The default suites, in suites/ here, else in the one beside the package (a checkout)."""
    for base in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (base / "suites").is_dir():
            inside = sorted((base / "suites").iterdir())
            named = [path for path in inside if path.name not in NOT_VERIFIED]
            return [path for path in named if path.is_dir() or path.match("test_*.py")] or [base / "suites"]
    raise Refused("there is no directory suites/ here", cure="name your suites: assay verify path/to/suites")


class _Watch:
    """Sees in pytest's session what its exit code does not tell."""

    def __init__(self) -> None:
        self.record: SessionRecord | None = None
        self.interrupt: type[BaseException] | None = None
        self.refused: list[str] = []
        self.collected = 0
        self.unkept: Trouble | None = None

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        """Ctrl-C or SIGTERM."""
        self.interrupt = excinfo.type

    def pytest_collectreport(self, report: Any) -> None:
        """A suite that could not be collected."""
        if report.failed:
            self.refused.append(report.nodeid)

    def pytest_collection_finish(self, session: Any) -> None:
        """What is to run."""
        self.collected = len(session.items)

    def pytest_unconfigure(self, config: Any) -> None:
        """The session's record, complete."""
        from harness.plugin.collect import SESSION
        from harness.plugin.outcome import UNKEPT

        self.record = config.stash.get(SESSION, None)
        self.unkept = config.stash.get(UNKEPT, None)

    def ending(self, code: int) -> Ending:
        """What pytest's code and the session's record mean to `assay`."""
        from harness.plugin.termination import Terminated

        record = self.record
        path = None
        if record is not None:
            page = record.directory / "index.html"
            path = page if page.exists() else record.directory
        if self.unkept is not None:  # it stopped the session as Ctrl-C would
            return Ending(code=TROUBLE, reason=self.unkept.message, path=path)
        if self.interrupt is not None and issubclass(self.interrupt, KeyboardInterrupt):
            terminated = issubclass(self.interrupt, Terminated)
            reason = f"ended by {'SIGTERM' if terminated else 'Ctrl-C'}{_reached(record)}"
            return Ending(code=TERMINATED if terminated else INTERRUPTED, reason=reason, path=path)
        if code == _INTERNAL:
            return Ending(code=INTERNAL, reason="internal error of the session, shown above", path=path)
        if code == _USAGE:
            return Ending(code=USAGE, reason="bad usage, said above", path=path)
        if self.refused:
            return Ending(code=USAGE, reason=f"not collected: {', '.join(self.refused)}", path=path)
        if code == _NOTHING or record is None:
            return Ending(code=USAGE if code else HELD, reason="no cell was collected", path=path)
        if code == _INTERRUPTED:
            return Ending(code=INTERNAL, reason=f"the session was cut short{_reached(record)}", path=path)
        return self._judged(record, code, path)

    def _judged(self, record: SessionRecord, code: int, path: Path | None) -> Ending:
        counts = record.counts()
        said = [
            f"{counts[outcome]} {word}"
            for outcome, word in (
                ("failed", "violated"),
                ("unknown", "unknown"),
                ("error", "in error"),
                ("not-run", "not run"),
            )
            if counts[outcome]
        ]
        reason = f"{counts['passed']} of {len(record.cells)} cells as claimed" + (
            f", {', '.join(said)}" if said else ""
        )
        if code == 0:
            return Ending(code=HELD, reason=reason, path=path)
        worst_code = worst(cell.exit_code for cell in record.cells)
        if worst_code == HELD:  # not a cell: another test of the suites
            worst_code, reason = VIOLATED, f"{reason}; a test that is no cell failed"
        if worst_code == UNKNOWN and counts["not-run"]:
            reason = f"{reason}; the session was stopped early"
        return Ending(code=worst_code, reason=reason, path=path)


def _reached(record: SessionRecord | None) -> str:
    if record is None:
        return ""
    counts = record.counts()
    return f" after {len(record.cells) - counts['not-run']} of {len(record.cells)} cells"
