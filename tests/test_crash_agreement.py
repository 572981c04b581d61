"""Does the comparison of crashes with the broker agree with what happened, and with nothing else?"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.brokers.memory.configuration import Memory
from harness.faults.client import KillClient
from harness.history.history import History
from harness.history.terms import Terms
from harness.operation import CrashPoint, Role, Stage
from harness.run import Run
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from suites.control.crashes import tries
from tests.runs import run_cell

PUBLISHED, RECEIVED = CrashPoint.BETWEEN_PUBLISH_AND_CONFIRM, CrashPoint.AFTER_RECEIVE
CONFIRMED = CrashPoint.BETWEEN_ACK_AND_CONFIRM
CRASHES = {
    "handed": (KillClient(Role.PRODUCER, at=PUBLISHED, stage=Stage.HANDED), PUBLISHED, "written"),
    "written": (KillClient(Role.PRODUCER, at=PUBLISHED), PUBLISHED, "handed"),
    "received": (KillClient(Role.CONSUMER, at=RECEIVED), CONFIRMED, "written"),
    "acknowledgement handed": (KillClient(Role.CONSUMER, at=CONFIRMED, stage=Stage.HANDED), CONFIRMED, "written"),
    "acknowledgement written": (KillClient(Role.CONSUMER, at=CONFIRMED), RECEIVED, ""),
}


def claiming(run: Run, point: CrashPoint, stage: str) -> Run:
    """The same run, whose journals say that clients crashed somewhere else."""
    known = {one.name: getattr(run.history.terms, one.name) for one in fields(Terms)}
    told = {"crash_point": str(point), "stage": stage}
    injections = tuple(replace(one, facts={**one.facts, **told}) for one in run.history.terms.injections)
    terms = Terms(**{**known, "injections": injections})
    return cast(Run, SimpleNamespace(history=History(run.history.tables, terms, run.history.words)))


@pytest.mark.parametrize("case", CRASHES)
def test_what_the_journal_says_agrees_with_the_broker_and_nothing_else_does(case: str, tmp_path: Path) -> None:
    fault, other_point, other_stage = CRASHES[case]
    scenario = Scenario(
        configuration=Memory("agreeing", acknowledge="confirmed"),
        schedule=Repeat(fault, 3),
        workload=Steady(rate_hz=200, quiet_s=0.2),
    )
    run = run_cell(scenario, tmp_path / "run")
    found = tries(run)
    assert (found.tried, found.landed, found.agreeing) == (3, 3, 3), str(found)
    assert tries(claiming(run, other_point, other_stage)).agreeing == 0
