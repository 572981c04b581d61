"""How is it said what cells cost? A line each, its phases side by side, or one JSON document."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from harness.cli.ending import Ending
from harness.cli.figures import described, ending, machine, plain, shown, tell

if TYPE_CHECKING:
    from harness.bench.cells import Cost


def show(arguments: argparse.Namespace) -> Ending:
    """Run the cells, print what each cost, and compare with the goals."""
    from harness.bench import calibration, pace
    from harness.bench.cells import PHASES, measure

    costs: list[Cost] = []
    told_machine = machine()
    if not arguments.json:
        print(described(told_machine))
    calibrated = [*shown(arguments, calibration.measure())]
    if not arguments.json:
        print(f"{'cell':<22}{'engine':<12}" + "".join(f"{phase:>9}" for phase in PHASES), end="")
        print(f"{'silence':>9}{'wall':>8}{'goal':>8}{'overhead':>10}{'goal':>8}   s; the first goal is without silence")
    for cost in measure(tell=tell):
        costs.append(cost)
        if not arguments.json:
            print(_line(cost, PHASES), flush=True)
    if not arguments.json:
        print(f"\n{'cells an hour':<78}{'measured':>10}  {'':<16}{'goal':>10}   {pace.NOTE}")
    paces = [*shown(arguments, pace.measure(tell=tell))]
    if arguments.json:
        told = [{**dataclasses.asdict(cost), "met": cost.met, **_overhead(cost)} for cost in costs]
        head = {"machine": told_machine, "calibration": plain(calibrated)}
        print(json.dumps({**head, "cells": told, "figures": plain(paces)}, indent=2))
    verdicts: list[tuple[str, bool | None]] = []
    for cost in costs:
        name = f"{cost.asked.name} on {cost.asked.engine}"
        verdicts += [(name, cost.met), (f"overhead of {name}", cost.overhead_met)]
    verdicts += [(figure.name, figure.met) for figure in paces]
    absent = sum(bool(cost.unavailable) for cost in costs) + sum(bool(figure.unavailable) for figure in paces)
    return ending(arguments, "figures", verdicts, absent)


def _overhead(cost: Cost) -> dict[str, object]:
    return {"overhead_s": cost.overhead_s, "overhead_met": cost.overhead_met}


def _line(cost: Cost, phases: tuple[str, ...]) -> str:
    head = f"{cost.asked.name:<22}{cost.asked.engine:<12}"
    if cost.phases_s is None:
        return f"{head}not available here: {cost.unavailable}"
    row = "".join(f"{cost.phases_s[phase]:>9.2f}" for phase in phases)
    mark = "" if cost.met and cost.overhead_met else "   missed"
    whole = f"{cost.silence_s:>9.2f}{cost.wall_s:>8.2f}{cost.asked.goal_s:>8.1f}"
    return f"{head}{row}{whole}{cost.overhead_s:>10.2f}{cost.overhead_goal_s:>8.2f}{mark}"
