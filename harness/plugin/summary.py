"""What does a reader see of a session? A header, a line for each cell, the matrix of verdicts, where the report is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import AssayError
from harness.plugin.collect import SESSION
from harness.plugin.fixtures import LEFT
from harness.plugin.options import SETTINGS, on_worker
from harness.plugin.outcome import FIELD
from harness.plugin.progress import keep_terminal

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from harness.plugin.session import SessionRecord
    from harness.report.session import SessionCell

GLYPHS = {"passed": "✓", "failed": "✗", "unknown": "?", "error": "!", "not-run": "·"}
NO_CLAIM = "NO CLAIM"
_REPORT: pytest.StashKey[str] = pytest.StashKey()


def pytest_report_header(config: pytest.Config) -> str:
    """The seed first: with it the session can be run again."""
    settings = config.stash[SETTINGS]
    return f"assay: seed {settings.seed}, engine {settings.engine}, tier {settings.tier} (--assay-seed {settings.seed})"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Keep the terminal for the live line, and give each cell its line."""
    keep_terminal(session.config)
    if not on_worker(session.config):
        session.config.pluginmanager.register(CellLines(session.config), "assay-lines")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Cells have lines of their own, so files need none."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and session.config.stash.get(SESSION, None) is not None:
        reporter.showfspath = False
        reporter._show_progress_info = False


class CellLines:
    """One plain line for each cell that ended: verdict, cell, seconds."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Print the line."""
        told = getattr(report, FIELD, None)
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if told is None or reporter is None or self.config.get_verbosity() != 0:
            return
        markup = {"passed": "green", "failed": "red", "unknown": "yellow", "error": "red"}[told["outcome"]]
        if reporter._tw.width_of_current_line:
            reporter.write("\n")
        word = said(told)
        reporter.write(f"{'·' if word == NO_CLAIM else GLYPHS[told['outcome']]} {word:<9}", **{markup: True})
        reason = f"  {told['message'].splitlines()[0][:140]}" if told["message"] else ""
        reporter.write_line(f"{told['id']}  {told['wall_s']:.1f} s{reason}")


def said(told: dict[str, Any]) -> str:
    """The word for a cell's outcome: it is HELD only if something was demanded to hold, and did."""
    if told["outcome"] == "passed":
        if told["violate"]:
            return "AS TOLD" if told["keep"] else "BROKE"
        return "HELD" if told["keep"] else NO_CLAIM
    return {"failed": "VIOLATED", "unknown": "UNKNOWN", "error": "ERROR"}[str(told["outcome"])]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Close the record, build the report from files, and let allowed UNKNOWNs pass."""
    config = session.config
    record = config.stash.get(SESSION, None)
    if record is None or on_worker(config):
        return
    try:
        record.close()
    except AssayError as error:
        config.stash[_REPORT] = f"no report: {error}"
        return
    if session.exitstatus == pytest.ExitCode.TESTS_FAILED and allowed(config, record, session.testsfailed):
        session.exitstatus = pytest.ExitCode.OK
    config.stash[_REPORT] = _build(record)


def allowed(config: pytest.Config, record: SessionRecord, failed: int) -> bool:
    """Whether all that failed is UNKNOWN, and no more of it than was allowed."""
    unknown = record.counts()["unknown"]
    return failed == unknown and 100 * unknown <= config.stash[SETTINGS].allow_unknown * len(record.cells)


def _build(record: SessionRecord) -> str:
    from harness.report.build import build

    try:
        return f"report: {build(record.directory).html}"
    except AssayError as error:
        return f"no report: {error}"
    except Exception as error:  # a defect of a page must not hide what the session found
        return f"no report: {type(error).__name__}: {error}"


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """What is UNKNOWN and why, the matrix, the seed, the report."""
    record = config.stash.get(SESSION, None)
    if record is None:
        return
    unknown = [cell for cell in record.cells if cell.outcome == "unknown"]
    if unknown:
        terminalreporter.section("UNKNOWN", yellow=True)
        for cell in unknown:
            terminalreporter.write_line(f"? {cell.test}", yellow=True)
            for line in cell.message.splitlines():
                terminalreporter.write_line(f"    {line}")
    terminalreporter.section("assay")
    delivering = [cell for cell in record.cells if not cell.mechanism]
    for cells in (delivering, [cell for cell in record.cells if cell.mechanism]):
        for line in matrix_lines(cells) if cells else ():
            terminalreporter.write_line(line)
    for row in record.file.not_applicable:
        name = row.configuration + (f" / {row.mechanism}" if row.mechanism else "")
        terminalreporter.write_line(f"not applicable: {name} x {row.fault}: {row.reason}")
    settings = config.stash[SETTINGS]
    if unknown:
        share = 100 * len(unknown) / len(record.cells)
        terminalreporter.write_line(
            f"{len(unknown)} of {len(record.cells)} cells ({share:.1f} %) are UNKNOWN; allowed are up to "
            f"{settings.allow_unknown:g} % (--assay-allow-unknown)"
        )
    demanded = [cell for cell in record.cells if cell.expected.keep and not cell.expected.violate]
    clean = sum(cell.outcome == "passed" for cell in demanded)
    if clean and not any(cell.outcome == "failed" for cell in record.cells):
        from harness.checkers.bounds import excluded

        terminalreporter.write_line(excluded(clean))
    for trouble in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"left behind, the next session tries again: {trouble}", red=True)
    terminalreporter.write_line(f"seed {settings.seed}; session {record.directory}")
    terminalreporter.write_line(config.stash.get(_REPORT, "no report: the session did not come to its end"))


def matrix_lines(cells: Sequence[SessionCell]) -> list[str]:
    """Configurations (rows) x faults (columns), a glyph and a word each; columns beyond the page's width go below."""
    rows: dict[str, dict[str, list[SessionCell]]] = {}
    for cell in cells:
        name = cell.configuration + (f" / {cell.mechanism}" if cell.mechanism else "")
        rows.setdefault(name, {}).setdefault(cell.fault, []).append(cell)
    faults = list(dict.fromkeys(cell.fault for cell in cells))
    first = max(len(name) for name in rows)
    lines = []
    for begin in range(0, len(faults), _COLUMNS):
        shown = faults[begin : begin + _COLUMNS]
        heads = [_wrapped(fault) for fault in shown]
        for depth in range(max(map(len, heads))):
            words = [head[depth] if depth < len(head) else "" for head in heads]
            lines.append(_line("", first, words))
        for name, row in rows.items():
            if any(fault in row for fault in shown):
                lines.append(_line(name, first, [_cell_word(row.get(fault, [])) for fault in shown]))
        lines.append("")
    if any(cell.outcome == "passed" and cell.expected.violate for cell in cells):
        lines.append("BROKE, AS TOLD: the violation that its suite predicts was seen (AS TOLD: and something was kept)")
    return lines


_COLUMNS = 6
_WIDTH = 16


def _line(name: str, first: int, words: Sequence[str]) -> str:
    return (f"{name:<{first}}" + "".join(f"  {word:<{_WIDTH}}" for word in words)).rstrip()


def _wrapped(fault: str) -> list[str]:
    """A fault's name in lines that fit a column.

    >>> _wrapped("crash_consumer_between_ack_and_effect")
    ['crash_consumer_', 'between_ack_and_', 'effect']
    """
    lines = [""]
    for place, part in enumerate(fault.split("_")):
        piece = part if place == fault.count("_") else f"{part}_"
        if len(lines[-1]) + len(piece) <= _WIDTH:
            lines[-1] += piece
        else:
            lines.append(piece)
    return lines


def _cell_word(cells: Sequence[SessionCell]) -> str:
    """The worst of a field's cells, in a glyph and a word."""
    if not cells:
        return "–"
    order = ("error", "failed", "unknown", "not-run", "passed")
    worst = min(cells, key=lambda cell: order.index(cell.outcome))
    if worst.outcome == "not-run":
        return f"{GLYPHS['not-run']} not run"
    told = {"outcome": worst.outcome, "keep": worst.expected.keep, "violate": worst.expected.violate}
    word = said(told)
    return f"{'·' if word == NO_CLAIM else GLYPHS[worst.outcome]} {word}"
