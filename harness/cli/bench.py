"""Measure what Assay itself costs, on this machine, in this run: whole cells phase by phase, or what deciding takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from harness.cli import costs, figures
from harness.cli.ending import Ending

NAME = "bench"
SUMMARY = "what Assay costs here: a cell by phase, or deciding linearizability"
EXAMPLE = "assay bench cells --goals"


def _cells(arguments: argparse.Namespace) -> Ending:
    return costs.show(arguments)


def _lin(arguments: argparse.Namespace) -> Ending:
    from harness.bench import lin

    return figures.show(arguments, lin.measure, note=lin.NOTE)


SUBJECTS: Mapping[str, tuple[Callable[[argparse.Namespace], Ending], str]] = {
    "cells": (_cells, "the wall time of whole cells, phase by phase"),
    "lin": (_lin, "how fast a queue is found linearizable or not, beside np.sort and Porcupine"),
}
"""What can be measured, and what that says."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure, and how to say it."""
    parser.add_argument(
        "subject", choices=list(SUBJECTS), help="; ".join(f"{name}: {says}" for name, (_, says) in SUBJECTS.items())
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")
    parser.add_argument("--goals", action="store_true", help="exit 1 if a goal is missed")


def run(arguments: argparse.Namespace) -> Ending:
    """Measure, print, and compare with the goals if asked."""
    measure, _ = SUBJECTS[arguments.subject]
    return measure(arguments)
