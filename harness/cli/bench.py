"""Measure what Assay itself costs, on this machine, in this run: its clients, its journal, its cells, its checkers, its
reports; beside what else does the same, where that is here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from harness.cli import costs, figures
from harness.cli.ending import Ending

NAME = "bench"
SUMMARY = "what Assay costs here: its load, its records, a cell, a checker, a report"
EXAMPLE = "assay bench cells --goals"


def _cells(arguments: argparse.Namespace) -> Ending:
    return costs.show(arguments)


def _lin(arguments: argparse.Namespace) -> Ending:
    from harness.bench import lin

    return figures.show(arguments, lin.measure, note=lin.NOTE)


def _record(arguments: argparse.Namespace) -> Ending:
    from harness.bench import record

    return figures.show(arguments, record.measure, note=record.NOTE)


def _load(arguments: argparse.Namespace) -> Ending:
    from harness.bench import load

    return figures.show(arguments, load.measure, note=load.NOTE)


def _report(arguments: argparse.Namespace) -> Ending:
    from harness.bench import report

    return figures.show(arguments, report.measure, note=report.NOTE)


def _check(arguments: argparse.Namespace) -> Ending:
    from harness.bench import check

    return figures.show(arguments, lambda tell: check.measure(tell, arguments.rows), note=check.NOTE)


SUBJECTS: Mapping[str, tuple[Callable[[argparse.Namespace], Ending], str]] = {
    "record": (_record, "what writing down costs, beside json.dumps, and whether a killed client loses any of it"),
    "load": (_load, "how fast clients publish and consume, recorded, bare, and beside native clients"),
    "report": (_report, "how long a reader waits for the report of a big session or history, or for a command"),
    "cells": (_cells, "the wall time of whole cells, phase by phase, and how many an hour"),
    "check": (_check, "how fast a history is judged, and how much room it takes, on a disk and in memory"),
    "lin": (_lin, "how fast a queue is found linearizable or not, beside np.sort and Porcupine"),
}
"""What can be measured, and what that says."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure, and how to say it."""
    parser.add_argument(
        "subject", choices=list(SUBJECTS), help="; ".join(f"{name}: {says}" for name, (_, says) in SUBJECTS.items())
    )
    parser.add_argument(
        "--rows",
        type=_rows,
        default=10_000_000,
        metavar="N",
        help="check: rows of the largest history (1e7; 1e8 takes minutes)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")
    parser.add_argument("--goals", action="store_true", help="exit 1 if a goal is missed")


def _rows(text: str) -> int:
    rows = int(float(text))
    if rows < 100_000:
        raise argparse.ArgumentTypeError(f"{text} rows are too few to be timed: at least 1e5")
    return rows


def run(arguments: argparse.Namespace) -> Ending:
    """Measure, print, and compare with the goals if asked."""
    measure, _ = SUBJECTS[arguments.subject]
    return measure(arguments)
