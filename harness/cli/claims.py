"""List what documentation claims: configurations, guarantee, page, and the faults that it speaks of."""

from __future__ import annotations

import argparse
import fnmatch

from harness.cli.ending import HELD, Ending
from harness.errors import Refused

NAME = "claims"
SUMMARY = "list what documentation claims, with its pages"
EXAMPLE = "assay claims --configuration 'rabbitmq-quorum-*'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which configurations."""
    parser.add_argument("--configuration", metavar="GLOB", default="*", help="only claims that speak of matching ones")


def run(arguments: argparse.Namespace) -> Ending:
    """Three lines each."""
    from harness.claims.claims import DIRECTORY, entries

    shown = [entry for entry in entries() if _speaks_of(entry.configurations, arguments.configuration)]
    if not shown:
        raise Refused(f'no claim speaks of "{arguments.configuration}"', cure="assay claims lists them all")
    for entry in shown:
        claim = entry.claim
        print(f"{', '.join(entry.configurations)}: {claim.guarantee}")
        print(f'    "{claim.says}"')
        print(f"    {claim.page}; faults: {', '.join(claim.faults)}; versions: {claim.versions}; {entry.where}")
    return Ending(code=HELD, reason=f"{len(shown)} claims", path=DIRECTORY)


def _speaks_of(patterns: tuple[str, ...], asked: str) -> bool:
    """Whether a claim's patterns and what was asked meet, whichever of the two is the wider."""
    return any(fnmatch.fnmatchcase(pattern, asked) or fnmatch.fnmatchcase(asked, pattern) for pattern in patterns)
