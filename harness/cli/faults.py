"""List the faults that can be injected, and what each does."""

from __future__ import annotations

import argparse

from harness.cli.ending import HELD, Ending

NAME = "faults"
SUMMARY = "list the faults, and what each does"
EXAMPLE = "assay faults"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> Ending:
    """One line each, under what its kind does."""
    from harness import catalogue

    kind = None
    found = catalogue.faults()
    for name, fault in found.items():
        if type(fault) is not kind:
            kind = type(fault)
            print((kind.__doc__ or "").strip().splitlines()[0])
        print(f"    {name}  ({fault.hold_s:g} s)")
    return Ending(code=HELD, reason=f"{len(found)} faults")
