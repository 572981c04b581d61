"""Measure what Assay itself costs, on this machine, in this run: the time of whole cells, phase by phase."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys

from harness.cli.ending import HELD, VIOLATED, Ending

NAME = "bench"
SUMMARY = "what a cell costs here, by phase"
EXAMPLE = "assay bench cells --goals"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure, and how to say it."""
    parser.add_argument("subject", choices=["cells"], help="cells: the wall time of whole cells, phase by phase")
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")
    parser.add_argument("--goals", action="store_true", help="exit 1 if a cell takes longer than its goal")


def run(arguments: argparse.Namespace) -> Ending:
    """Measure, print, and compare with the goals if asked."""
    from harness.bench.cells import PHASES, Cost, measure

    costs: list[Cost] = []
    if not arguments.json:
        print(f"{platform.platform()}, Python {platform.python_version()}")
        print(f"{'cell':<22}{'engine':<12}" + "".join(f"{phase:>9}" for phase in PHASES), end="")
        print(f"{'silence':>9}{'wall':>8}{'goal':>8}   seconds; the goal is for wall without silence")
    for cost in measure(tell=lambda what: print(f"  measuring {what}", file=sys.stderr, flush=True)):
        costs.append(cost)
        if not arguments.json:
            _print(cost, PHASES)
    if arguments.json:
        print(json.dumps([{**dataclasses.asdict(cost), "met": cost.met} for cost in costs], indent=2))
    missed = [f"{cost.asked.name} on {cost.asked.engine}" for cost in costs if cost.met is False]
    absent = [cost for cost in costs if cost.met is None]
    reason = f"missed: {', '.join(missed)}" if missed else f"{len(costs) - len(absent)} cells within their goals"
    if absent:
        reason += f", {len(absent)} not available here"
    return Ending(code=VIOLATED if arguments.goals and missed else HELD, reason=reason, aside=arguments.json)


def _print(cost: object, phases: tuple[str, ...]) -> None:
    from harness.bench.cells import Cost

    assert isinstance(cost, Cost)
    head = f"{cost.asked.name:<22}{cost.asked.engine:<12}"
    if cost.phases_s is None:
        print(f"{head}not available here: {cost.unavailable}")
        return
    row = "".join(f"{cost.phases_s[phase]:>9.2f}" for phase in phases)
    mark = "" if cost.met else "   missed"
    print(f"{head}{row}{cost.silence_s:>9.2f}{cost.wall_s:>8.2f}{cost.asked.goal_s:>8.1f}{mark}")
