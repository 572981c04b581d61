"""How are figures said? A line each, as soon as it is measured, or one JSON document; then which goals were missed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from harness.cli.ending import HELD, VIOLATED, Ending

if TYPE_CHECKING:
    from harness.bench.figure import Figure

Tell = Callable[[str], None]


def show(arguments: argparse.Namespace, measure: Callable[[Tell], Iterator[Figure]], *, note: str) -> Ending:
    """Measure, print and compare with the goals. `note`: how it is measured, for the head of the table."""
    import numpy as np

    machine = {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    figures: list[Figure] = []
    if not arguments.json:
        print(f"{machine['platform']}, {machine['cores']} cores, load {machine['load']},", end=" ")
        print(f"Python {machine['python']}, numpy {machine['numpy']}")
        print(f"{'what':<78}{'measured':>10}  {'':<16}{'goal':>10}   {note}")
    for figure in measure(tell):
        figures.append(figure)
        if not arguments.json:
            print(line(figure), flush=True)
    if arguments.json:
        told = [{**dataclasses.asdict(figure), "met": figure.met} for figure in figures]
        print(json.dumps({"machine": machine, "figures": told}, indent=2))
    verdicts = {figure.name: figure.met for figure in figures}
    return ending(arguments, "figures", verdicts, sum(bool(figure.unavailable) for figure in figures))


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


def ending(arguments: argparse.Namespace, what: str, verdicts: Mapping[str, bool | None], absent: int) -> Ending:
    """The end: `verdicts` say by name whether a goal was met, None where there is none or nothing was measured."""
    missed = [name for name, met in verdicts.items() if met is False]
    met = sum(met is True for met in verdicts.values())
    reason = f"missed: {', '.join(missed)}" if missed else f"{met} {what} within their goals"
    if absent:
        reason += f", {absent} not available here"
    return Ending(code=VIOLATED if arguments.goals and missed else HELD, reason=reason, aside=arguments.json)
