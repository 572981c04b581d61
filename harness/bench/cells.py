"""What does a cell cost, phase by phase? The wall time of whole cells, and what of it is not load.

*Load*: quiet and break, which are wanted. *Silence*: the wait that the redelivery horizon demands of a drain, which is
stated apart because no harness can shorten it. *Restart*: what the broker needs to be back, and to start where nobody
has started it before. *Overhead*: everything else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness import catalogue
from harness.engines.pool import Pool
from harness.errors import AssayError, Trouble
from harness.history.history import History
from harness.ledger import Ledger
from harness.run import Run
from harness.runner.execute import Lease, execute
from harness.scenario.plan import cell_seed
from harness.scenario.scenario import Cell, Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.topology import Engine, NodeSpec, Topology

PHASES = ("deploy", "quiet", "break", "mend", "recover", "drain", "audit")
LOAD = ("quiet", "break")
RESTART = ("mend", "recover")
OVERHEAD_PART, OVERHEAD_S = 0.1, 0.1
"""Overhead may be so much of a cell's wall time, and so many seconds."""

SEED = 7
HELD_S = 1.0
"""A second of load while the fault holds, as there is before and after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One cell to be measured: catalogue names, and the goal for its wall time without silence, in seconds.

    `warm`: measured on a topology that has served a cell before.
    """

    name: str
    engine: str
    configuration: str
    fault: str
    goal_s: float
    warm: bool = False


CELLS = (
    Asked(name="NATS kill", engine="processes", configuration="nats-jetstream-r1", fault="kill_leader", goal_s=4.0),
    Asked(name="NATS kill", engine="containers", configuration="nats-jetstream-r1", fault="kill_leader", goal_s=6.0),
    Asked(
        name="RabbitMQ, no restart",
        engine="containers",
        configuration="rabbitmq-classic-confirms",
        fault="disconnect_consumers",
        goal_s=8.0,
        warm=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one cell cost, in seconds: `wall_s` of all, `phases_s` by phase, `silence_s` of the drain's wait, `load_s`.

    `unavailable`: why it could not be measured here ("" if it was).
    """

    asked: Asked
    wall_s: float = 0.0
    phases_s: Mapping[str, float] | None = None
    silence_s: float = 0.0
    unavailable: str = ""

    @property
    def load_s(self) -> float:
        """Time under load, which is wanted."""
        return sum((self.phases_s or {}).get(phase, 0.0) for phase in LOAD)

    @property
    def restart_s(self) -> float:
        """Time that is the broker's: mending and recovering, and deploying where the topology is not warm."""
        phases = RESTART if self.asked.warm else (*RESTART, "deploy")
        return sum((self.phases_s or {}).get(phase, 0.0) for phase in phases)

    @property
    def overhead_s(self) -> float:
        """Time that is ours."""
        return self.wall_s - self.load_s - self.silence_s - self.restart_s

    @property
    def overhead_goal_s(self) -> float:
        """What it should be at most."""
        return OVERHEAD_PART * self.wall_s + OVERHEAD_S

    @property
    def overhead_met(self) -> bool | None:
        """Whether overhead is within its goal; None where it was not measured."""
        return None if self.unavailable else self.overhead_s <= self.overhead_goal_s

    @property
    def met(self) -> bool | None:
        """Whether wall time without silence is within its goal; None where it was not measured."""
        return None if self.unavailable else self.wall_s - self.silence_s <= self.asked.goal_s


def measure(cells: Sequence[Asked] = CELLS, tell: Callable[[str], None] = lambda _: None) -> Iterator[Cost]:
    """Run the cells one after another, and yield what each cost. `tell` hears what is being done."""
    with Pool() as pool, tempfile.TemporaryDirectory(prefix="assay-bench-") as directory:
        for number, asked in enumerate(cells):
            try:
                engine = catalogue.engine(asked.engine)
                for run in range(2 if asked.warm else 1):
                    tell(f"{asked.name} on {asked.engine}{' (to warm up)' if asked.warm and run == 0 else ''}")
                    where = Path(directory) / f"{number}-{run}"
                    cost = _cost(asked, engine, pool, where)
            except AssayError as error:
                cost = Cost(asked=asked, unavailable=str(error))
            yield cost


def leasing(pool: Pool, engine: Engine) -> Lease:
    """Topologies out of a pool."""

    def lease(
        specs: Sequence[NodeSpec], *, healthy: Callable[[Topology], str | None]
    ) -> AbstractContextManager[Topology]:
        return pool.lease(engine, specs, run="bench", healthy=healthy)

    return lease


def _cost(asked: Asked, engine: Engine, pool: Pool, directory: Path) -> Cost:
    configuration = catalogue.configurations()[asked.configuration]
    fault = replace(catalogue.faults()[asked.fault], hold_s=HELD_S)
    scenario = Scenario(configuration=configuration, schedule=Repeat(fault), workload=Steady())
    cell = Cell(id=scenario.id, scenario=scenario, seed=cell_seed(SEED, scenario.id))
    if reason := engine.unavailable(configuration.nodes()):
        return Cost(asked=asked, unavailable=reason)
    execute(cell, lease=leasing(pool, engine), directory=directory, ledger=Ledger.open(), claims=lambda *_: ())
    history = vouched(directory)
    phases = history.phases
    lengths_s = (phases.end_ns - phases.begin_ns) / 1e9
    names = np.asarray([history.word(word) for word in phases.phase])
    by_phase = {phase: round(float(lengths_s[names == phase].sum()), 3) for phase in PHASES}
    silence_s = min(history.terms.silence_s, by_phase["drain"]) if history.terms.silence_needed else 0.0
    return Cost(asked=asked, wall_s=round(float(phases.end_ns.max()) / 1e9, 3), phases_s=by_phase, silence_s=silence_s)


def vouched(directory: Path) -> History:
    """The history of a cell of which the time is told. Raises Trouble if it proves nothing: its fault did not bite, or
    what was acked is gone."""
    run = Run(directory)
    if inert := [one.fault for one in run.history.terms.injections if one.bit_ns is None]:
        raise Trouble(f"{directory.name}: {inert[0]} did not bite, so its time means nothing")
    if lost := run.judgement.counts["lost"]:
        raise Trouble(f"{directory.name}: {lost} messages were lost, so its time means nothing")
    return run.history
