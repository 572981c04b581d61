"""Run the cell of a finished run again, with its seed: the same plan, on brokers of today."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli import verify
from harness.cli.ending import Ending
from harness.errors import Refused

NAME = "replay"
SUMMARY = "run the cell of a finished run again, with its seed"
EXAMPLE = "assay replay reports/20261124T080000Z-7/runs/nats-core-kill_leader"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and verify's own arguments."""
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="a run directory: reports/SESSION/runs/CELL")
    verify.add_arguments(parser)


def run(arguments: argparse.Namespace) -> Ending:
    """What `assay verify --replay RUN` does."""
    if arguments.replay is not None:
        raise Refused("assay replay: the run was named twice", cure="leave --replay out")
    arguments.replay = str(arguments.run_directory)
    return verify.run(arguments)
