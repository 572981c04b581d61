"""When is a fault injected, drawn? A plan: flat steps without randomness, the same for the same cell and seed."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from harness.faults.fault import Fault
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One trial: after `quiet_s` of load, inject `fault` on the `choice`-th of its possible targets for `hold_s`."""

    trial: int
    fault: Fault
    quiet_s: float
    hold_s: float
    choice: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps of one cell, and how long the load goes on after the last recovery."""

    seed: int
    steps: tuple[Step, ...]
    quiet_after_s: float


def cell_seed(session_seed: int, cell_id: str) -> int:
    """The seed of a cell: the first 63 bits of SHA-256 of session seed and cell id (`hash(str)` differs by process).

    >>> cell_seed(7, "a") == cell_seed(7, "a") != cell_seed(8, "a")
    True
    """
    digest = hashlib.sha256(f"{session_seed}/{cell_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def draw(schedule: Repeat, workload: Steady, seed: int) -> Plan:
    """Draw the plan of a schedule: lengths of quiet phases and choices of targets come from `seed` alone."""
    chance = random.Random(seed)
    steps = tuple(
        Step(
            trial=trial,
            fault=schedule.fault,
            quiet_s=round(workload.quiet_s * (1 + 0.25 * chance.random()), 3),
            hold_s=round(schedule.fault.hold_s * (1 + 0.1 * chance.random()), 3),
            choice=chance.randrange(1 << 16),
        )
        for trial in range(schedule.times)
    )
    return Plan(seed=seed, steps=steps, quiet_after_s=workload.quiet_s)
