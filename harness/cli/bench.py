"""Measure what Assay itself costs, on this machine, in this run: whole cells phase by phase, or what deciding takes."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys

from harness.cli.ending import HELD, VIOLATED, Ending

NAME = "bench"
SUMMARY = "what Assay costs here: a cell by phase, or deciding linearizability"
EXAMPLE = "assay bench cells --goals"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure, and how to say it."""
    parser.add_argument(
        "subject",
        choices=["cells", "lin"],
        help="cells: the wall time of whole cells, phase by phase; lin: how fast a queue is found linearizable or not, "
        "beside np.sort and Porcupine",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")
    parser.add_argument("--goals", action="store_true", help="exit 1 if a goal is missed")


def run(arguments: argparse.Namespace) -> Ending:
    """Measure, print, and compare with the goals if asked."""
    return {"cells": _cells, "lin": _lin}[arguments.subject](arguments)


def _tell(what: str) -> None:
    print(f"  measuring {what}", file=sys.stderr, flush=True)


def _ending(arguments: argparse.Namespace, what: str, verdicts: dict[str, bool | None], absent: int) -> Ending:
    """The end: `verdicts` say by name whether a goal was met, None where there is none or nothing was measured."""
    missed = [name for name, met in verdicts.items() if met is False]
    met = sum(met is True for met in verdicts.values())
    reason = f"missed: {', '.join(missed)}" if missed else f"{met} {what} within their goals"
    if absent:
        reason += f", {absent} not available here"
    return Ending(code=VIOLATED if arguments.goals and missed else HELD, reason=reason, aside=arguments.json)


# ---- cells -----------------------------------------------------------------------------------------------------------


def _cells(arguments: argparse.Namespace) -> Ending:
    from harness.bench.cells import PHASES, Cost, measure

    costs: list[Cost] = []
    if not arguments.json:
        print(f"{platform.platform()}, Python {platform.python_version()}")
        print(f"{'cell':<22}{'engine':<12}" + "".join(f"{phase:>9}" for phase in PHASES), end="")
        print(f"{'silence':>9}{'wall':>8}{'goal':>8}   seconds; the goal is for wall without silence")
    for cost in measure(tell=_tell):
        costs.append(cost)
        if not arguments.json:
            _print_cost(cost, PHASES)
    if arguments.json:
        print(json.dumps([{**dataclasses.asdict(cost), "met": cost.met} for cost in costs], indent=2))
    verdicts = {f"{cost.asked.name} on {cost.asked.engine}": cost.met for cost in costs}
    return _ending(arguments, "cells", verdicts, sum(cost.met is None for cost in costs))


def _print_cost(cost: object, phases: tuple[str, ...]) -> None:
    from harness.bench.cells import Cost

    assert isinstance(cost, Cost)
    head = f"{cost.asked.name:<22}{cost.asked.engine:<12}"
    if cost.phases_s is None:
        print(f"{head}not available here: {cost.unavailable}")
        return
    row = "".join(f"{cost.phases_s[phase]:>9.2f}" for phase in phases)
    mark = "" if cost.met else "   missed"
    print(f"{head}{row}{cost.silence_s:>9.2f}{cost.wall_s:>8.2f}{cost.asked.goal_s:>8.1f}{mark}")


# ---- linearizability -------------------------------------------------------------------------------------------------


def _lin(arguments: argparse.Namespace) -> Ending:
    import numpy as np

    from harness.bench.lin import Figure, measure

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
        print(f"{'what':<78}{'measured':>10}  {'':<16}{'goal':>10}   CPU time, one core; verdicts were compared first")
    for figure in measure(tell=_tell):
        figures.append(figure)
        if not arguments.json:
            _print_figure(figure)
    if arguments.json:
        told = [{**dataclasses.asdict(figure), "met": figure.met} for figure in figures]
        print(json.dumps({"machine": machine, "figures": told}, indent=2))
    verdicts = {figure.name: figure.met for figure in figures}
    return _ending(arguments, "figures", verdicts, sum(bool(figure.unavailable) for figure in figures))


def _print_figure(figure: object) -> None:
    from harness.bench.lin import Figure

    assert isinstance(figure, Figure)
    if figure.value is None:
        print(f"{figure.name:<78}not available here: {figure.unavailable}")
        return
    goal = "" if figure.goal is None else f"{'<=' if figure.at_most else '>='} {figure.goal:g}"
    mark = "   missed" if figure.met is False else ""
    print(f"{figure.name:<78}{figure.value:>10.2f}  {figure.unit:<16}{goal:>10}   {figure.detail}{mark}")
