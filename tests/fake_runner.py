"""A runner that runs nothing: for tests of what the plugin makes of a run's end. The cell's fault says how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from histories import fair_history

from harness.errors import Trouble, Undecided
from harness.history.history import History
from harness.history.store import write_history
from harness.plain import to_plain
from harness.scenario.scenario import Cell

SUITE = """
from harness import *

ONE = Memory("one")
TWO = Memory("two", confirms=False)

@matrix([ONE, TWO], [Nothing(), Latency(), AcknowledgementLoss(), Kill()])
def test_guarantee(run):
    if run.path.name.endswith("nothing"):
        run.kept.append("at_least_once")  # as must_keep notes it
    if run.path.name == "memory-one-latency_clients":
        raise Violated("at-least-once violated: 7 of 392 acked messages lost")
    if run.path.name == "memory-two-latency_clients":
        raise Undecided("at-least-once unknown: the load fell below its floor")
"""


HISTORY: list[History] = [fair_history()]
"""What a run that comes to its end has recorded: the last of them."""


def execute(cell: Cell, *, directory: Path, watcher: Callable[[str, str], None], **_: Any) -> None:
    """Leave a run; a killed leader does not come back, and a kill of "two" is a defect of ours."""
    directory.mkdir(parents=True)
    (directory / "scenario.json").write_text(json.dumps({"id": cell.id, "seed": cell.seed}))
    (directory / "plan.json").write_text(json.dumps(to_plain(cell.plan())))
    watcher(cell.id, "deploy")
    if cell.scenario.schedule.name == "kill_leader":
        if cell.scenario.configuration.name == "memory-two":
            raise ZeroDivisionError("a defect")
        raise Trouble("memory-1 did not come back", cure="look at its log")
    write_history(directory, HISTORY[-1])


def serving(_: object, cell: Cell) -> str:
    """An engine for everything but the fault that no engine has."""
    if cell.scenario.schedule.name == "kill_follower":
        raise Undecided("no engine can serve it", cure="assay doctor")
    return "an engine"


def install() -> None:
    """Put it in the place of the real one, for a process of its own."""
    import harness.plugin.fixtures as fixtures
    import harness.runner.execute as runner

    runner.execute = execute  # type: ignore[assignment]
    fixtures.Engines.serving = serving  # type: ignore[assignment,method-assign]
