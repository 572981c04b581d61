"""How is it said what cells cost? A line each, its phases side by side, or one JSON document."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from typing import TYPE_CHECKING

from harness.cli.ending import Ending
from harness.cli.figures import ending, tell

if TYPE_CHECKING:
    from harness.bench.cells import Cost


def show(arguments: argparse.Namespace) -> Ending:
    """Run the cells, print what each cost, and compare with the goals."""
    from harness.bench.cells import PHASES, measure

    costs: list[Cost] = []
    if not arguments.json:
        print(f"{platform.platform()}, Python {platform.python_version()}")
        print(f"{'cell':<22}{'engine':<12}" + "".join(f"{phase:>9}" for phase in PHASES), end="")
        print(f"{'silence':>9}{'wall':>8}{'goal':>8}   seconds; the goal is for wall without silence")
    for cost in measure(tell=tell):
        costs.append(cost)
        if not arguments.json:
            print(_line(cost, PHASES), flush=True)
    if arguments.json:
        print(json.dumps([{**dataclasses.asdict(cost), "met": cost.met} for cost in costs], indent=2))
    verdicts = {f"{cost.asked.name} on {cost.asked.engine}": cost.met for cost in costs}
    return ending(arguments, "cells", verdicts, sum(cost.met is None for cost in costs))


def _line(cost: Cost, phases: tuple[str, ...]) -> str:
    head = f"{cost.asked.name:<22}{cost.asked.engine:<12}"
    if cost.phases_s is None:
        return f"{head}not available here: {cost.unavailable}"
    row = "".join(f"{cost.phases_s[phase]:>9.2f}" for phase in phases)
    mark = "" if cost.met else "   missed"
    return f"{head}{row}{cost.silence_s:>9.2f}{cost.wall_s:>8.2f}{cost.asked.goal_s:>8.1f}{mark}"
