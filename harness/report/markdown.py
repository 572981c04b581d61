"""What does a CI run's own page show? `summary.md`: the verdict, the matrix, and what to look at first."""

from __future__ import annotations

import re

from harness.checkers import bounds
from harness.report.matrix import Matrix, figures
from harness.report.model import CellView, Report, Tally

GLYPHS = {"kept": "✓", "violated": "✗", "unknown": "?", "predicted": "◆", "unclaimed": "·"}
WORDS = {
    "kept": "kept",
    "violated": "violated",
    "unknown": "unknown",
    "predicted": "broke as predicted",
    "unclaimed": "nothing claimed",
}
BYTES_MAX = 200_000
"""Far below what CI servers take for a step summary."""
_ROWS_MAX, _LISTED_MAX, _LINE_MAX = 100, 20, 400
_COSTS = [
    "guarantee",
    "mechanism",
    "broker",
    "unprocessed",
    "duplicated",
    "p50 ms",
    "p99 ms",
    "effects/s",
    "settings",
    "parts",
]


def summary(report: Report) -> str:
    """The content of summary.md, at most BYTES_MAX bytes."""
    session = report.session
    parts = [
        f"## {_text(report.headline)}",
        f"Claims: {_tally(report.claims)}. Cells: {_tally(report.cell_tally)}, {report.cell_tally.unclaimed} without a "
        f"claim. Seed {session.seed}, engine {_text(session.engine or 'unknown')}, Assay {_text(session.assay)}.",
        _excluded(report.cell_tally),
        *(_matrix(matrix) for matrix in report.matrices),
        _legend() if report.matrices else "",
        _listed("Violated", report.worst),
        _listed("Unknown", report.undecided),
        _untested(report),
        _comparison(report),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    data = text.encode("utf-8", errors="replace")
    if len(data) <= BYTES_MAX:
        return text
    return data[:BYTES_MAX].decode(errors="ignore").rsplit("\n", 1)[0] + "\n\n(cut here; see index.html)\n"


def _excluded(cells: Tally) -> str:
    """What a session without any violation excludes."""
    return f"{bounds.excluded(cells.held)}." if cells.held and not cells.violated else ""


def _matrix(matrix: Matrix) -> str:
    lines = [
        f"### {matrix.subject.capitalize()}: claimed and observed",
        "",
        "| configuration | " + " | ".join(_text(column.replace("_", " ")) for column in matrix.columns) + " |",
        "| --- |" + " --- |" * len(matrix.columns),
    ]
    for row in matrix.rows[:_ROWS_MAX]:
        cells = [_cell(matrix, row, column) for column in matrix.columns]
        lines.append(f"| {_text(row)} | " + " | ".join(cells) + " |")
    if (more := len(matrix.rows) - _ROWS_MAX) > 0:
        lines.append(f"\nand {more} more configurations")
    return "\n".join(lines)


def _legend() -> str:
    glyphs = ", ".join(f"{glyph} {WORDS[grade]}" for grade, glyph in GLYPHS.items())
    return f"{glyphs}: of what is claimed; then what was observed, and how many were lost or came more than once"


def _cell(matrix: Matrix, row: str, column: str) -> str:
    views = matrix.cells.get((row, column), ())
    if not views:
        return "means nothing" if (row, column) in matrix.senseless else "not tested"
    return "<br>".join(f"{GLYPHS[view.grade]} {_text(view.observed)}{_figures(view)}" for view in views)


def _figures(view: CellView) -> str:
    if view.ran is None:
        return ""
    bad = [figure for figure in figures(view.ran.counts, processing=bool(view.ran.terms.mechanism)) if figure.bad]
    return "".join(f", {figure.count:,} {figure.words}" for figure in bad)


def _untested(report: Report) -> str:
    lines = ["### What was not tested", "", *(f"- {_text(line)}" for line in report.untested[:_LISTED_MAX])]
    if (more := len(report.untested) - _LISTED_MAX) > 0:
        lines.append(f"- and {more} more")
    return "\n".join(lines)


def _listed(title: str, views: tuple[CellView, ...]) -> str:
    if not views:
        return ""
    lines = [f"### {title}", ""]
    for view in views[:_LISTED_MAX]:
        lines.append(f"- **{_text(view.cell.id)}**: {_text(view.headline)}")
        lines.append(f"  {_code(view.command)}")
    if (more := len(views) - _LISTED_MAX) > 0:
        lines.append(f"- and {more} more")
    return "\n".join(lines)


def _comparison(report: Report) -> str:
    if not report.comparison:
        return ""
    lines = [
        "### What each processing guarantee costs",
        "",
        f"| {' | '.join(_COSTS)} |",
        f"| {' | '.join(['---'] * 3 + ['--:'] * (len(_COSTS) - 3))} |",
    ]
    for row in report.comparison[:_ROWS_MAX]:
        mark = " (unknown)" if row.doubts else ""
        cells = [row.promised + mark, row.mechanism.replace("_", " "), row.configuration, row.unprocessed]
        measured = [row.p50_ms, row.p99_ms, row.throughput_hz]
        cells += [row.duplicated, *("not measured" if value is None else f"{value:,.1f}" for value in measured)]
        lines.append("| " + " | ".join(_text(str(cell)) for cell in [*cells, row.settings, len(row.parts)]) + " |")
    lines += [f"\n{_text(row.configuration)}: {_text(doubt)}" for row in report.comparison for doubt in row.doubts]
    return "\n".join(lines)


def _tally(tally: Tally) -> str:
    said = f"{tally.held} held, {tally.violated} violated, {tally.unknown} unknown"
    return said + (f", {tally.predicted} broke as predicted" if tally.predicted else "")


def _code(text: str) -> str:
    """A code span, between more backticks than the text has in a row."""
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _text(text: str) -> str:
    """Plain words on one line, which Markdown shows as they are."""
    line = " ".join(text.split())
    line = line if len(line) <= _LINE_MAX else line[: _LINE_MAX - 3] + "..."
    for letter in "\\`*_[]<>|":
        line = line.replace(letter, "\\" + letter if letter not in "<>" else {"<": "&lt;", ">": "&gt;"}[letter])
    return line
