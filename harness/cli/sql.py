"""Ask a run in SQL: its tables, and injections, claims, counters and terms, are read-only views of DuckDB.

Which publishes took longest; what was acked and never delivered; how publishes ended while each fault held:

    assay sql RUN "select message_id, outcome, (completed_ns - invoked_ns) / 1e6 as ms from publications order by ms desc limit 10"
    assay sql RUN "select message_id, min(invoked_ns) / 1e9 as at_s from publications p where outcome = 'OK' and not exists (select 1 from deliveries d where d.message = p.message) group by all order by at_s"
    assay sql RUN "select fault, trial, outcome, count(*) as publishes from injections join publications on invoked_ns between asked_ns and coalesce(recovered_ns, mended_ns) group by all order by all"

Words of SQL that are columns too stand in double quotes: "group", "order". Times are ns of the run.
"""  # noqa: E501 - a query that somebody copies is one line

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.ending import HELD, Ending

if TYPE_CHECKING:
    from harness.history.query import Answer

NAME = "sql"
SUMMARY = "ask a run in SQL"
EXAMPLE = 'assay sql reports/SESSION/runs/CELL "select outcome, count(*) from publications group by outcome"'
_WIDTH_MAX = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the question, and the form of the answer."""
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="a run directory: reports/SESSION/runs/CELL")
    parser.add_argument("query", metavar="QUERY", help="one SELECT, DESCRIBE, SUMMARIZE or EXPLAIN")
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")


def run(arguments: argparse.Namespace) -> Ending:
    """Print the answer."""
    from harness.history.query import ROWS_MAX, ask
    from harness.run import Run

    answer = ask(Run(arguments.run_directory).history, arguments.query)
    if arguments.json:
        print(json.dumps(_document(answer), indent=2, ensure_ascii=False))
    else:
        _print(answer)
    more = f", the first of more: at most {ROWS_MAX:,} are given" if answer.cut else ""
    reason = f"{len(answer.rows)} row{'' if len(answer.rows) == 1 else 's'}{more}"
    return Ending(code=HELD, reason=reason, path=arguments.run_directory, aside=arguments.json)


def _document(answer: Answer) -> dict[str, Any]:
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    return {"format": 1, "columns": list(answer.columns), "rows": rows, "cut": answer.cut}


def _print(answer: Answer) -> None:
    """A table with its columns aligned, numbers to the right."""
    columns = list(zip(*answer.rows, strict=True)) or [() for _ in answer.columns]
    padded = []
    for name, values in zip(answer.columns, columns, strict=True):
        cells = [_shown(name), *map(_shown, values)]
        width = max(map(len, cells))
        right = any(isinstance(value, int | float) for value in values)
        padded.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
    for place, row in enumerate(zip(*padded, strict=True)):
        print("  ".join(row).rstrip())
        if place == 0:
            print("  ".join("-" * len(cell) for cell in row))


def _shown(value: Any) -> str:
    """A value in a cell: printable, on one line, of bounded width; nothing for null."""
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _WIDTH_MAX else f"{text[: _WIDTH_MAX - 3]}..."
