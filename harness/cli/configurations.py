"""List the configurations of the default matrix, with the settings that matter."""

from __future__ import annotations

import argparse

from harness.cli.ending import HELD, Ending

NAME = "configurations"
SUMMARY = "list the configurations, with their settings"
EXAMPLE = "assay configurations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> Ending:
    """One line each, its settings below."""
    from harness import catalogue

    found = catalogue.configurations()
    for name, configuration in found.items():
        promise = configuration.promise()
        print(f"{name}  ({len(configuration.nodes())} nodes)")
        print("    " + ", ".join(f"{setting}={value}" for setting, value in promise.settings.items()))
    return Ending(code=HELD, reason=f"{len(found)} configurations")
