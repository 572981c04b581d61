"""Write a run's history in a form that other programs read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.cli.ending import HELD, Ending

NAME = "export"
SUMMARY = "write a run's history for other programs"
EXAMPLE = "assay export reports/SESSION/runs/CELL --to parquet --out /tmp/history"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the form, the place."""
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="a run directory: reports/SESSION/runs/CELL")
    parser.add_argument(
        "--to",
        choices=["jsonl", "parquet", "edn"],
        default="jsonl",
        help="jsonl: one JSON object a line (default); parquet: one file a table; edn: operations, as Jepsen has them",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="files into DIR (default: all to stdout, but Parquet)")


def run(arguments: argparse.Namespace) -> Ending:
    """Write it."""
    from harness.history.exchange import export_directory, export_stream
    from harness.run import Run

    history = Run(arguments.run_directory).history
    if arguments.out is None:
        export_stream(history, sys.stdout, arguments.to)
        return Ending(code=HELD, reason="the history is written", path=arguments.run_directory, aside=True)
    paths = export_directory(history, arguments.out, arguments.to)
    return Ending(code=HELD, reason=f"{len(paths)} files are written", path=arguments.out)
