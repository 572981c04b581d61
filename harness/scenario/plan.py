"""When is a fault injected, drawn? A plan: flat steps without randomness, the same for the same cell and seed."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Refused
from harness.faults.fault import Fault
from harness.plain import Lookup, from_plain
from harness.scenario.moment import Moment
from harness.scenario.schedule import Schedule
from harness.scenario.workload import Steady

FORMAT = 2
"""Of a plan's file. 1 had one fault a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One injection of a trial: `at_s` after the trial begins (or at a `moment` after that) inject `fault` on the
    `choice`-th of its possible targets, for `hold_s`."""

    fault: Fault
    at_s: float
    hold_s: float
    choice: int
    moment: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One trial: after `quiet_s` of load its parts are injected; then the system is given time to recover."""

    trial: int
    quiet_s: float
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps of one cell, and how long the load goes on after the last recovery."""

    format: int = FORMAT
    seed: int
    steps: tuple[Step, ...]
    quiet_after_s: float

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise Refused(f"format {self.format}, and this Assay reads format {FORMAT}", cure="let it draw a plan anew")
        if not self.steps:
            raise Refused("a plan without steps", cure="a plan has at least one trial")
        for place, step in enumerate(self.steps):
            if step.trial != place or not step.parts:
                raise Refused(f"step {place}: trial {step.trial}, {len(step.parts)} parts", cure="number trials from 0")
            for part in step.parts:
                if part.at_s < 0 or part.hold_s < 0 or step.quiet_s <= 0:
                    raise Refused(f"step {place}: {part.fault.name} at {part.at_s} s", cure="no time is negative")

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every fault that it injects, in its order."""
        return tuple(part.fault for step in self.steps for part in step.parts)


def cell_seed(session_seed: int, cell_id: str) -> int:
    """The seed of a cell: the first 63 bits of SHA-256 of session seed and cell id (`hash(str)` differs by process).

    >>> cell_seed(7, "a") == cell_seed(7, "a") != cell_seed(8, "a")
    True
    """
    digest = hashlib.sha256(f"{session_seed}/{cell_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def draw(schedule: Schedule, workload: Steady, seed: int) -> Plan:
    """Draw the plan of a schedule: lengths of quiet phases, what comes at random, and choices of targets come from
    `seed` alone."""
    chance = random.Random(seed)
    steps = tuple(
        Step(
            trial=trial,
            quiet_s=round(workload.quiet_s * (1 + 0.25 * chance.random()), 3),
            parts=tuple(
                Part(
                    fault=one.fault,
                    at_s=one.at_s,
                    hold_s=round(one.fault.hold_s * (1 + 0.1 * chance.random()), 3),
                    choice=chance.randrange(1 << 16),
                    moment=one.moment,
                )
                for one in due
            ),
        )
        for trial, due in enumerate(schedule.trials(chance))
    )
    return Plan(seed=seed, steps=steps, quiet_after_s=workload.quiet_s)


def read_plan(path: Path, lookup: Lookup) -> Plan:
    """The plan that a file holds. Raises Refused, naming the file and the place in it, for one that is no plan."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"{path} cannot be read: {error}", cure="name a run directory: reports/SESSION/runs/CELL"
        ) from None
    except json.JSONDecodeError as error:
        raise Refused(
            f"{path}:{error.lineno}:{error.colno}: no JSON: {error.msg}", cure="mend it there, or let a plan be drawn"
        ) from None
    if isinstance(data, dict) and data.get("format") != FORMAT:
        raise Refused(
            f"{path}: a plan of format {data.get('format', 'unknown')}, and this Assay reads format {FORMAT}",
            cure="run the cell with its seed instead: assay verify --seed N",
        )
    try:
        return from_plain(Plan, data, lookup)
    except Refused as refused:
        raise Refused(
            "\n".join(f"{path}: {line}" for line in refused.message.splitlines()),
            cure=refused.cure or "mend it there; docs/faults.md lists faults and their parameters",
        ) from None
