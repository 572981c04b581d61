"""One experiment, written down before it runs: a scenario; with a seed it is a cell, the unit that is run."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.errors import Refused
from harness.processing.mechanism import Mechanism
from harness.scenario.plan import Plan, draw
from harness.scenario.schedule import Schedule
from harness.scenario.workload import Steady
from harness.system.needs import Equipment
from harness.system.service import Configuration, Sink
from harness.system.topology import NodeSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Configuration, schedule of faults, workload, processing, sink: frozen plain data.

    `processing` and `sink` come together: a mechanism needs somewhere to leave its effects. `sabotage` names what the
    clients do other than they were told ("" in honest experiments; see clients/sabotage.py): the verdict must show it.
    `recovery_limit_s`: how long the system is waited for after each trial; one that takes longer did not recover.
    `drain`: whether consumers read everything at the end. Who asks only how the system fared saves the redelivery
    horizon, and nothing is HELD.
    """

    configuration: Configuration
    schedule: Schedule
    workload: Steady = field(default_factory=Steady)
    processing: Mechanism | None = None
    sink: Sink | None = None
    sabotage: str = ""
    recovery_limit_s: float = 40.0
    drain: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.recovery_limit_s <= 3600:
            raise Refused(f"recovery_limit_s={self.recovery_limit_s!r}", cure="wait for recovery for 1 to 3600 s")
        if self.workload.pull_one and not self.configuration.promise().stores:
            raise Refused(
                f"{self.configuration.name} stores nothing, so there is nothing to pull", cure="leave pull_one out"
            )

    @property
    def id(self) -> str:
        """configuration-fault, with the mechanism between them where there is one: hyphens join, underscores inside."""
        parts = [self.configuration.name]
        if self.processing is not None:
            parts.append(self.processing.name)
        if self.sabotage:
            parts.append("sabotaged_" + self.sabotage.replace("-", "_"))
        return "-".join([*parts, self.schedule.name])

    def nodes(self) -> tuple[NodeSpec, ...]:
        """The configuration's nodes, each equipped for every fault of the schedule."""
        equipment = Equipment()
        for fault in self.schedule.faults:  # all that may come: a seed decides which do
            equipment = equipment.with_also(fault.needs.equipment)
        return self.configuration.nodes(equipment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A scenario with a seed. `id` is unique in its session and names its run directory. `drawn`: a plan to carry out
    instead of the one that the seed draws, as a replay has it."""

    id: str
    scenario: Scenario
    seed: int
    drawn: Plan | None = None

    def plan(self) -> Plan:
        """The plan that was given, or else that the seed draws from the schedule."""
        return self.drawn or draw(self.scenario.schedule, self.scenario.workload, self.seed)
