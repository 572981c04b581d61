"""Which files does a report consist of? All of them made from `session.json` and the runs, and from nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Trouble
from harness.history.store import write_json
from harness.report.html.page import page
from harness.report.json import badge, results
from harness.report.junit import junit
from harness.report.markdown import summary
from harness.report.model import Report, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where a session's report lies, and the report itself."""

    html: Path
    results: Path
    summary: Path
    junit: Path
    badge: Path
    report: Report


def build(directory: Path) -> Paths:
    """Write the report of a session's directory into it, beside `session.json`.

    Raises Refused where the directory is no session, Trouble where a file cannot be written.
    """
    return write(directory, load(directory))


def write(directory: Path, report: Report) -> Paths:
    """Write a report into its session's directory. Raises Trouble where a file cannot be written."""
    paths = Paths(
        html=directory / "index.html",
        results=directory / "results.json",
        summary=directory / "summary.md",
        junit=directory / "junit.xml",
        badge=directory / "badge.json",
        report=report,
    )
    write_json(paths.results, results(report))
    write_json(paths.badge, badge(report))
    for path, text in ((paths.html, page(report)), (paths.summary, summary(report)), (paths.junit, junit(report))):
        _write(path, text)
    return paths


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # What cannot be encoded (a lone surrogate out of somebody's log) is shown as a question mark.
        temporary.write_bytes(text.encode("utf-8", errors="replace"))
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Trouble(f"{path} cannot be written: {error.strerror}", cure="make room, then `assay report`") from error
