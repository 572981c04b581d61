"""How many cells an hour? Short ones: 0.25 s of load before, under and after one fault, 500 messages a second.

*Warm*: cells one after another on a broker that stays, whose consumers are disconnected: nothing has to start. *Fresh*:
the leader is killed, so each cell has nodes of its own, and waits until they are whole again and the redelivery horizon
is over.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness import catalogue
from harness.bench.cells import SEED, leasing, vouched
from harness.bench.figure import Figure
from harness.engines.pool import Pool
from harness.errors import Trouble
from harness.ledger import Ledger
from harness.runner.execute import execute
from harness.scenario.plan import cell_seed
from harness.scenario.scenario import Cell, Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.topology import Engine

LOAD_S = 0.25
NOTE = f"{LOAD_S} s of load before, under and after one fault; the wait for the redelivery horizon counts"
WARM, FRESH = "disconnect_consumers", "kill_leader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """One kind of cell: catalogue names, how many are run by how many workers, and the goal in cells an hour of all.

    Each worker runs a cell before the first that counts, which starts what stays warm.
    """

    name: str
    engine: str
    configuration: str
    fault: str
    cells: int
    goal: float
    workers: int = 1


PACES = (
    Pace(
        name="NATS, one node, warm",
        engine="processes",
        configuration="nats-jetstream-r1",
        fault=WARM,
        cells=10,
        goal=2_000.0,
    ),
    Pace(
        name="NATS, one node, warm, two workers",
        engine="processes",
        configuration="nats-jetstream-r1",
        fault=WARM,
        cells=10,
        goal=3_500.0,
        workers=2,
    ),
    Pace(
        name="NATS, three replicas, warm",
        engine="processes",
        configuration="nats-jetstream-r3-exactly-once",
        fault=WARM,
        cells=6,
        goal=1_200.0,
    ),
    Pace(
        name="RabbitMQ, one node, warm",
        engine="containers",
        configuration="rabbitmq-classic-confirms",
        fault=WARM,
        cells=8,
        goal=1_200.0,
    ),
    Pace(
        name="RabbitMQ, one node, fresh",
        engine="containers",
        configuration="rabbitmq-classic-confirms",
        fault=FRESH,
        cells=3,
        goal=300.0,
    ),
    Pace(
        name="RabbitMQ, three nodes, fresh",
        engine="containers",
        configuration="rabbitmq-quorum-confirms",
        fault=FRESH,
        cells=2,
        goal=150.0,
    ),
)


def measure(tell: Callable[[str], None] = lambda _: None, paces: Sequence[Pace] = PACES) -> Iterator[Figure]:
    """Run cells of each kind, and yield how many an hour. `tell` hears what is being done.

    Raises Trouble, or what else `execute` raises, where a cell fails.
    """
    for pace in paces:
        figure = Figure(name=pace.name, unit="cells an hour", goal=pace.goal)
        reason = catalogue.engine(pace.engine).unavailable(_scenario(pace).nodes())
        if reason:
            yield dataclasses.replace(figure, unavailable=reason)
            continue
        tell(f"{pace.name}: {pace.workers} x {pace.cells} cells, and one before to warm up")
        if pace.workers == 1:
            times_s = [run_cells(pace)]
        else:
            # Workers are processes of their own, as pytest's are; they share nothing but the machine.
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(pace.workers, mp_context=spawn) as workers:
                times_s = list(workers.map(run_cells, [pace] * pace.workers))
        yield dataclasses.replace(
            figure,
            value=sum(3600 * pace.cells / time_s for time_s in times_s),
            detail=f"{', '.join(f'{time_s / pace.cells:.2f}' for time_s in times_s)} s a cell; {pace.fault}",
        )


def run_cells(pace: Pace) -> float:
    """Run the cells one after another, in this process; wall seconds of those that count."""
    engine = catalogue.engine(pace.engine)
    with Pool() as pool, tempfile.TemporaryDirectory(prefix="assay-bench-") as directory:
        _run(pace, engine, pool, Path(directory) / "first")
        began_s = time.monotonic()
        paths = [Path(directory) / f"cell-{number}" for number in range(pace.cells)]
        for path in paths:
            _run(pace, engine, pool, path)
        took_s = time.monotonic() - began_s
        for path in paths:
            vouched(path)
        return took_s


def _run(pace: Pace, engine: Engine, pool: Pool, directory: Path) -> None:
    scenario = _scenario(pace)
    cell = Cell(id=scenario.id, scenario=scenario, seed=cell_seed(SEED, directory.name))
    execute(cell, lease=leasing(pool, engine), directory=directory, ledger=Ledger.open(), claims=lambda *_: ())
    if pool.said and pace.fault == WARM:
        raise Trouble(f"the broker did not stay warm: {pool.said[-1]}")


def _scenario(pace: Pace) -> Scenario:
    return Scenario(
        configuration=catalogue.configurations()[pace.configuration],
        schedule=Repeat(dataclasses.replace(catalogue.faults()[pace.fault], hold_s=LOAD_S)),
        workload=Steady(quiet_s=LOAD_S),
    )
