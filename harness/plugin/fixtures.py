"""How does a test get its finished run? The fixture `run` executes the cell in its set-up and hands the run in.

Trouble of a broker or an engine is therefore an ERROR of the test, a broken claim its FAILURE, by pytest's own rules.
Topologies are kept warm for the session, and are gone at its end, however it ends.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import Refused, Trouble, Undecided
from harness.plugin.collect import cell_of
from harness.plugin.options import AUTO, SETTINGS, Settings, distributed, on_worker
from harness.plugin.progress import watching
from harness.plugin.termination import terminating

if TYPE_CHECKING:
    from harness.engines.pool import Pool
    from harness.plugin.demanded import DemandedRun
    from harness.scenario.scenario import Cell
    from harness.system.topology import Engine, NodeSpec, Topology

RUN: pytest.StashKey[DemandedRun] = pytest.StashKey()
LEFT: pytest.StashKey[list[str]] = pytest.StashKey()
"""What could not be removed at the end."""
DIRECTORY: pytest.StashKey[str] = pytest.StashKey()


@dataclass(slots=True)
class Engines:
    """The engines of a session, made when first asked for, and their one pool."""

    asked: str
    pool: Pool
    _made: dict[str, Engine] = field(default_factory=dict)

    def serving(self, cell: Cell) -> Engine:
        """The engine that can run this cell. Raises Undecided, with the cure, where none can: it was not judged."""
        from harness import catalogue

        nodes = cell.scenario.nodes()
        reasons = []
        for name in catalogue.ENGINES if self.asked == AUTO else (self.asked,):
            if name not in self._made:
                try:
                    self._made[name] = catalogue.engine(name)
                except Refused as refused:
                    reasons.append(f"{name}: {refused}")
                    continue
            engine = self._made[name]
            reason = unserved(engine, cell, nodes)
            if reason is None:
                return engine
            reasons.append(f"{name}: {reason}")
        raise Undecided(
            f"{cell.id} was not run: no engine can serve it\n  " + "\n  ".join(reasons),
            cure="assay doctor says what is missing, and how to get it",
        )


def unserved(engine: Engine, cell: Cell, nodes: Sequence[NodeSpec]) -> str | None:
    """Why this engine cannot run that cell, or None."""
    offers = engine.offers()
    faults = cell.scenario.schedule.faults
    for fault in faults:
        if missing := (fault.needs.verbs - offers.verbs) | (fault.needs.equipment.kinds() - offers.capabilities):
            reason = engine.unavailable(nodes, missing)  # what it knows of verbs that it lacks
            return reason or f"{fault.name} needs {', '.join(sorted(missing))}, which the engine does not offer"
    others = [replace(node, version=version) for fault in faults for version in fault.needs.versions for node in nodes]
    return engine.unavailable([*nodes, *others], frozenset().union(*(fault.needs.verbs for fault in faults)))


def pytest_sessionstart(session: pytest.Session) -> None:
    """A controller of pytest-xdist sweeps for its workers, before and after them, and ends in order, too."""
    config = session.config
    if not distributed(config):
        return
    from harness.engines.sweep import sweep

    orderly = ExitStack()
    config.add_cleanup(orderly.close)
    orderly.enter_context(terminating())
    sweep()
    orderly.callback(sweep)


@pytest.fixture(scope="session")
def assay_engines(request: pytest.FixtureRequest) -> Iterator[Engines]:
    """The session's engines and warm topologies; all are removed when it ends, also by SIGTERM and Ctrl-C."""
    from harness.engines.pool import Pool
    from harness.engines.sweep import sweep

    config = request.config
    with terminating():
        if not on_worker(config):
            sweep()
        with Pool() as pool:
            yield Engines(config.stash[SETTINGS].engine, pool)
        config.stash[LEFT] = pool.left


@pytest.fixture
def run(request: pytest.FixtureRequest) -> DemandedRun:
    """The cell of this test, executed: its run, to be judged."""
    cell = cell_of(request.node)
    if cell is None:
        raise Refused(
            "`run` is the run of a cell, and this test has no matrix", cure="put @matrix(...) above the test function"
        )
    from harness.claims.claims import claimed
    from harness.ledger import Ledger
    from harness.plugin.demanded import DemandedRun
    from harness.plugin.session import RUNS
    from harness.runner.execute import execute

    config = request.config
    settings = config.stash[SETTINGS]
    engines: Engines = request.getfixturevalue("assay_engines")
    engine = engines.serving(cell)
    directory = settings.directory / RUNS / cell.id
    request.node.stash[DIRECTORY] = f"{RUNS}/{cell.id}"
    with watching(config, cell.id) as watcher, room(directory):
        execute(
            cell,
            lease=lease(engines.pool, engine, cell.id, settings),
            directory=directory,
            ledger=Ledger.open(),
            watcher=watcher,
            claims=claimed,
        )
    finished = DemandedRun(directory, seed=settings.seed)
    request.node.stash[RUN] = finished
    return finished


@contextmanager
def room(directory: Path) -> Iterator[None]:
    """A full disk is trouble of the machine, said in words."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Trouble(
            f"no space left while {directory} was written: {error.filename or error.strerror}",
            cure="free some space, or choose another directory with --assay-reports",
        ) from error


def lease(
    pool: Pool, engine: Engine, run_name: str, settings: Settings
) -> Callable[..., AbstractContextManager[Topology]]:
    """What the runner asks for a topology."""

    def leased(
        specs: Sequence[NodeSpec], *, healthy: Callable[[Topology], str | None]
    ) -> AbstractContextManager[Topology]:
        return pool.lease(engine, specs, run=run_name, fresh=settings.fresh, healthy=healthy)

    return leased
