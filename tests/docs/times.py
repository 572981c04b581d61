"""How long does each fault take to bite, and the system to recover from it? Read from sessions, for docs/faults.md.

    .venv/bin/python tests/docs/times.py reports/SESSION ...

Prints the page's table, and how many injections bit within a quarter of a second of their planned moment.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SOON_MS = 250.0


def injections(sessions: Iterable[Path]) -> list[dict[str, Any]]:
    """Every injection of every cell of these sessions, as their results.json tells it."""
    return [
        injection
        for session in sessions
        for cell in json.loads((session / "results.json").read_text(encoding="utf-8"))["cells"]
        for injection in cell["injections"]
        if injection["fault"] != "nothing"
    ]


def span(values: list[float], digits: int) -> str:
    """The least and the greatest, or the one.

    >>> span([12.4, 151.0, 30.2], 0)
    '12 to 151'
    """
    if not values:
        return "-"
    least, greatest = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return least if least == greatest else f"{least} to {greatest}"


def table(told: list[dict[str, Any]]) -> str:
    """One row a fault, in the order of the catalogue, then what is composed."""
    from harness import catalogue

    lines = ["| fault | injections | bit after, ms | recovered after, s |", "| --- | --- | --- | --- |"]
    for fault in (name for name in catalogue.FAULTS if any(one["fault"] == name for one in told)):
        mine = [one for one in told if one["fault"] == fault]
        bit = [(one["bit_s"] - one["asked_s"]) * 1e3 for one in mine if one["bit_s"] is not None]
        back = [
            one["recovered_s"] - one["mended_s"]
            for one in mine
            if one["mended_s"] is not None and one["recovered_s"] is not None
        ]
        lines.append(f"| `{fault}` | {len(mine)} | {span(bit, 0)} | {span(back, 2)} |")
    return "\n".join(lines)


def punctual(told: list[dict[str, Any]]) -> str:
    """How many bit soon after the moment for which they were planned; armed crash points come when a client does."""
    due = [one for one in told if not one["fault"].startswith("crash_")]
    late = [one for one in due if one["bit_s"] is None or (one["bit_s"] - one["planned_s"]) * 1e3 > SOON_MS]
    faults = sorted({one["fault"] for one in late})
    return (
        f"{len(due) - len(late)} of {len(due)} injections bit within {SOON_MS:g} ms of their planned moment; "
        f"not: {', '.join(faults) or 'none'}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sessions", type=Path, nargs="+", metavar="SESSION", help="session directories")
    told = injections(parser.parse_args().sessions)
    print(table(told))
    print()
    print(punctual(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
