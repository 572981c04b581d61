"""Say what is here, what is missing, what works without it, and the cure."""

from __future__ import annotations

import argparse
import json

from harness.cli.ending import HELD, TROUBLE, Ending

NAME = "doctor"
SUMMARY = "what is here, what is missing, and the cure"
EXAMPLE = "assay doctor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The form of the answer."""
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")


def run(arguments: argparse.Namespace) -> Ending:
    """Look, and change nothing; the code is 0 if any engine is ready."""
    from harness.engines.doctor import as_json, examine

    findings = examine()
    document = as_json(findings)
    ready = [name for name, good in json.loads(document)["ready"].items() if good]
    if arguments.json:
        print(document)
    else:
        for finding in findings:
            print(f"{'✓' if finding.available else '✗'} {finding.name:<18} {finding.detail or finding.reason}")
            if not finding.available:
                print(f"    needed for: {finding.needed_for}\n    cure: {finding.cure}")
    reason = f"ready: {', '.join(ready)}" if ready else "no engine is ready"
    return Ending(code=HELD if ready else TROUBLE, reason=reason, aside=arguments.json)
