"""How are figures said? A line each, as soon as it is measured, or one JSON document; then which goals were missed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.cli.ending import HELD, VIOLATED, Ending

if TYPE_CHECKING:
    from harness.bench.figure import Figure

Tell = Callable[[str], None]


def show(arguments: argparse.Namespace, measure: Callable[[Tell], Iterator[Figure]], *, note: str) -> Ending:
    """Measure, print and compare with the goals. `note`: how it is measured, for the head of the table."""
    from harness.bench import calibration

    told_machine = machine()
    if not arguments.json:
        print(described(told_machine))
        print(f"{'what':<78}{'measured':>10}  {'':<16}{'goal':>10}   {note}")
    calibrated = [*shown(arguments, calibration.measure())]
    figures = [*shown(arguments, measure(tell))]
    if arguments.json:
        document = {"machine": told_machine, "calibration": plain(calibrated), "figures": plain(figures)}
        print(json.dumps(document, indent=2))
    verdicts = [(figure.name, figure.met) for figure in figures]
    return ending(arguments, "figures", verdicts, sum(bool(figure.unavailable) for figure in figures))


def machine() -> dict[str, object]:
    """What this machine is, and what runs the harness on it."""
    import numpy as np

    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def described(machine: Mapping[str, object]) -> str:
    """A machine in one line."""
    return (
        f"{machine['platform']}, {machine['cores']} cores, load {machine['load']}, "
        f"Python {machine['python']}, numpy {machine['numpy']}"
    )


def shown(arguments: argparse.Namespace, figures: Iterator[Figure]) -> Iterator[Figure]:
    """The same figures; a line of each is printed as it comes, unless one document is asked for."""
    for figure in figures:
        if not arguments.json:
            print(line(figure), flush=True)
        yield figure


def plain(figures: Sequence[Figure]) -> list[dict[str, object]]:
    """Figures as plain data."""
    return [{**dataclasses.asdict(figure), "met": figure.met} for figure in figures]


def line(figure: Figure) -> str:
    """One figure beside its goal."""
    if figure.value is None:
        return f"{figure.name:<78}not available here: {figure.unavailable}"
    goal = "" if figure.goal is None else f"{'<=' if figure.at_most else '>='} {figure.goal:g}"
    mark = "   missed" if figure.met is False else ""
    return f"{figure.name:<78}{figure.value:>10.2f}  {figure.unit:<16}{goal:>10}   {figure.detail}{mark}"


def tell(what: str) -> None:
    """Say on stderr what is being measured."""
    print(f"  measuring {what}", file=sys.stderr, flush=True)


def ending(
    arguments: argparse.Namespace, what: str, verdicts: Sequence[tuple[str, bool | None]], absent: int
) -> Ending:
    """The end. `verdicts`: names, and whether a goal was met; None where there is none or nothing was measured."""
    missed = [name for name, met in verdicts if met is False]
    met = sum(met is True for _, met in verdicts)
    reason = f"missed: {', '.join(missed)}" if missed else f"{met} {what} within their goals"
    if absent:
        reason += f", {absent} not available here"
    return Ending(code=VIOLATED if arguments.goals and missed else HELD, reason=reason, aside=arguments.json)
