"""Is a plan the same for the same seed, and does what it plans happen when it plans it?"""

from __future__ import annotations

import filecmp
from pathlib import Path

from harness.brokers.nats.configuration import JETSTREAM_R1
from harness.faults.blackhole import AcknowledgementLoss
from harness.faults.network import Disconnect
from harness.operation import Role
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from tests.runs import run_cell

SCENARIO = Scenario(
    configuration=JETSTREAM_R1, schedule=Repeat(Disconnect(Role.PRODUCER), 3), workload=Steady(quiet_s=0.4)
)


def test_two_runs_of_one_cell_and_seed_have_one_plan_and_another_seed_has_another(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        run_cell(SCENARIO, tmp_path / name, seed=seed)
    plans = {name: tmp_path / name / "plan.json" for name in "abc"}
    assert filecmp.cmp(plans["a"], plans["b"], shallow=False)
    assert plans["a"].read_text() != plans["c"].read_text()


def test_injections_bite_within_a_quarter_of_a_second_of_their_planned_moment(tmp_path: Path) -> None:
    late, bites = [], 0
    for fault in (Disconnect(Role.CONSUMER, backlog_ms=80), AcknowledgementLoss()):
        scenario = Scenario(
            configuration=JETSTREAM_R1, schedule=Repeat(fault, 5), workload=Steady(quiet_s=0.4, confirm_timeout_s=1.0)
        )
        for injection in run_cell(scenario, tmp_path / fault.name).history.terms.injections:
            assert injection.bit_ns is not None, injection.why_not
            bites += 1
            after_ms = (injection.bit_ns - injection.planned_ns) / 1e6
            if after_ms > 250:
                late.append((injection.fault, after_ms))
    assert bites == 10
    assert len(late) <= bites * 0.1, late
