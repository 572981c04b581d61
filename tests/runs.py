"""Whole runs for tests: a cell on an engine, with real client processes, into a directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.engines.pool import Pool
from harness.engines.processes import Processes
from harness.ledger import Ledger
from harness.run import Run
from harness.runner.execute import execute
from harness.scenario.plan import Plan, cell_seed
from harness.scenario.scenario import Cell, Scenario
from harness.system.topology import Engine, NodeSpec, Topology


def needs(missing: str | None) -> None:
    """Skip the test that needs what is missing, with the cure; with ASSAY_REQUIRE_ENGINE=1 it fails, so that a
    continuous integration cannot pass by lacking it."""
    if missing and os.environ.get("ASSAY_REQUIRE_ENGINE") == "1":
        pytest.fail(f"ASSAY_REQUIRE_ENGINE=1, and {missing}", pytrace=False)
    if missing:
        pytest.skip(missing)


def run_cell(
    scenario: Scenario, directory: Path, *, seed: int = 7, engine: Engine | None = None, plan: Plan | None = None
) -> Run:
    """Run one cell with a pool of its own, and open what it left. `plan`: instead of the one that the seed draws."""
    cell = Cell(id=scenario.id, scenario=scenario, seed=cell_seed(seed, scenario.id), drawn=plan)
    chosen = engine or Processes()
    with Pool() as pool:

        def lease(
            specs: Sequence[NodeSpec], *, healthy: Callable[[Topology], str | None]
        ) -> AbstractContextManager[Topology]:
            return pool.lease(chosen, specs, run="test", healthy=healthy)

        execute(cell, lease=lease, directory=directory, ledger=Ledger.open(), claims=lambda *_: ())
    return Run(directory)
