"""Undo what sessions that were killed left behind: containers, networks, processes, directories of ours.

Only what a dead session of Assay's wrote down or labelled is touched.
"""

from __future__ import annotations

import argparse

from harness.cli.ending import HELD, Ending

NAME = "sweep"
SUMMARY = "undo what killed sessions left behind"
EXAMPLE = "assay sweep --labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How far to look."""
    parser.add_argument(
        "--labels", action="store_true", help="also ask the container engine for what carries our label"
    )


def run(arguments: argparse.Namespace) -> Ending:
    """Sweep, and say what was undone."""
    from harness.engines.sweep import sweep

    said = sweep(labels=arguments.labels)
    for line in said:
        print(line)
    return Ending(code=HELD, reason=f"{len(said)} things undone" if said else "nothing was left behind")
