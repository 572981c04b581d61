"""Write a session's report again, from its files alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.ending import HELD, Ending

NAME = "report"
SUMMARY = "write a session's report again, from its files"
EXAMPLE = "assay report reports/20261124T080000Z-7"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The session."""
    parser.add_argument("session", type=Path, metavar="SESSION", help="a session directory: reports/SESSION")


def run(arguments: argparse.Namespace) -> Ending:
    """Build it and say what its first line says."""
    from harness.report.build import build

    paths = build(arguments.session)
    print(paths.report.headline)
    return Ending(code=HELD, reason="the report is written", path=paths.html)
