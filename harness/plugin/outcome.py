"""How did a cell end? passed, failed, error, or UNKNOWN: a word of its own, never a pass and never a skip."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.errors import AssayError, Refused, Trouble, Undecided, Violated
from harness.plugin.collect import SESSION, cell_of
from harness.plugin.fixtures import DIRECTORY, RUN
from harness.plugin.options import SETTINGS, distributed, on_worker

FIELD = "assay_cell"
"""Attribute of a test report, plain data: what a worker tells its controller of a cell."""

INTERNAL = 70
LETTERS = {"passed": ".", "failed": "F", "unknown": "U", "error": "E"}
WORDS = {"passed": "PASSED", "failed": "FAILED", "unknown": "UNKNOWN", "error": "ERROR"}
COLOURS = {"passed": "green", "failed": "red", "unknown": "yellow", "error": "red"}
UNKEPT: pytest.StashKey[Trouble] = pytest.StashKey()
"""Why the session's record could not be written."""
_COST_S: pytest.StashKey[float] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """After the test has had its say, what is claimed of its cell has to hold as well."""
    yield
    if (run := item.stash.get(RUN, None)) is not None:
        run.settle()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the cell's outcome on the report, and say violations, doubts and troubles in words instead of tracebacks."""
    report = yield
    cell = cell_of(item)
    if cell is None:
        return report
    cost_s = item.stash[_COST_S] = item.stash.setdefault(_COST_S, 0.0) + call.duration
    raised = None if call.excinfo is None else call.excinfo.value
    if report.when == "setup" and raised is None:
        return report
    if report.when == "teardown" and raised is None:
        return report
    settings = item.config.stash[SETTINGS]
    outcome, status, code = _classify(raised, str(report.when), report.skipped)
    message = "" if raised is None else _message(raised)
    if isinstance(raised, AssayError) or report.skipped:
        report.longrepr = message
    if raised is not None:
        report.sections.append(("assay", f"seed {settings.seed}; {settings.directory / item.stash.get(DIRECTORY, '')}"))
        report.outcome = "failed"
    run = item.stash.get(RUN, None)
    setattr(
        report,
        FIELD,
        {
            "id": cell.id,
            "run": item.stash.get(DIRECTORY, None),
            "outcome": outcome,
            "status": status,
            "exit_code": code,
            "message": message[:4000],
            "keep": [] if run is None else list(dict.fromkeys(run.kept)),
            "violate": [] if run is None else list(dict.fromkeys(run.violated)),
            "wall_s": round(cost_s, 3),
        },
    )
    return report


def _classify(raised: BaseException | None, when: str, skipped: bool) -> tuple[str, str, int]:
    """Outcome, status of the cell, exit code."""
    if raised is None:
        return "passed", "ran", 0
    if isinstance(raised, Undecided):
        return "unknown", "not-run" if when == "setup" else "ran", Undecided.exit_code
    if skipped:  # pytest.skip in a guarantee test: nothing was shown
        return "unknown", "ran" if when == "call" else "not-run", Undecided.exit_code
    if when != "call":
        kind = type(raised) if isinstance(raised, AssayError) else None
        return "error", "error", INTERNAL if kind is None else kind.exit_code
    if isinstance(raised, Refused | Trouble):
        return "error", "error", raised.exit_code
    if isinstance(raised, AssertionError | Violated | pytest.fail.Exception):
        return "failed", "ran", Violated.exit_code
    return "error", "ran", INTERNAL


def _message(raised: BaseException) -> str:
    if isinstance(raised, BaseExceptionGroup):  # several things went wrong, as a failure and another while mending
        return "; ".join(_message(part) for part in raised.exceptions)
    if isinstance(raised, AssayError):
        return str(raised) or type(raised).__name__
    return f"{type(raised).__name__}: {raised}"


def pytest_report_teststatus(report: Any, config: pytest.Config) -> tuple[str, str, Any] | None:
    """Letter and word of a cell; UNKNOWN has its own, and its own count in the last line.

    Unless told to be quiet or verbose, a cell has a line of its own (see summary), so its letter is left out.
    """
    told = getattr(report, FIELD, None)
    if told is None:
        return None
    outcome = told["outcome"]
    letter = "" if config.get_verbosity() == 0 else LETTERS[outcome]
    return outcome, letter, (WORDS[outcome], {COLOURS[outcome]: True})


class Keeper:
    """Keeps `session.json` in step with the session; only in the process that owns it."""

    def __init__(self, tests: pytest.Session) -> None:
        self.tests = tests
        self.config = tests.config

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Where the record cannot be written, the session stops after this cell: what cannot be told was not shown."""
        try:
            yield
        except Trouble as trouble:
            self.config.stash.setdefault(UNKEPT, trouble)
            self.tests.shouldstop = trouble.message

    def session(self) -> Any:
        """The record of the session; under pytest-xdist what a worker wrote down at collection. None without cells."""
        session = self.config.stash.get(SESSION, None)
        if session is None and distributed(self.config):
            directory = self.config.stash[SETTINGS].directory
            from harness.plugin.session import SessionRecord

            try:
                session = self.config.stash[SESSION] = SessionRecord.read(directory)
            except Refused:
                return None
        return session

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A cell begins."""
        if (session := self.session()) is not None:
            with self._writing():
                session.started(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """A cell ended."""
        told = getattr(report, FIELD, None)
        session = self.session() if told is not None else None
        if told is None or session is None:
            return
        from harness.report.session import Expected

        before = next((cell for cell in session.cells if cell.id == told["id"]), None)
        if report.when == "teardown" and before is not None and before.exit_code != 0:
            return  # what went wrong first stands
        with self._writing():
            session.ended(
                told["id"],
                status=told["status"],
                reason="" if told["status"] == "ran" else told["message"],
                run=told["run"],
                outcome=told["outcome"],
                message=told["message"],
                exit_code=told["exit_code"],
                expected=Expected(keep=tuple(told["keep"]), violate=tuple(told["violate"])),
                wall_s=told["wall_s"],
            )


def pytest_sessionstart(session: pytest.Session) -> None:
    """The owner of the session keeps its record."""
    if not on_worker(session.config):
        session.config.pluginmanager.register(Keeper(session), "assay-keeper")
