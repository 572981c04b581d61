"""Does a node whose clock was set tell another time, and does the fault say so when nobody set it?"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.brokers.nats.configuration import Nats
from harness.brokers.rabbitmq.configuration import RabbitMQ
from harness.engines.containers.engine import Containers
from harness.engines.containers.images import clockless
from harness.engines.containers.node import ContainerNode
from harness.engines.processes import Processes
from harness.errors import Refused
from harness.faults.clock import ClockDrift, ClockStep
from harness.guarantee import Status
from harness.operation import Role
from harness.plain import from_plain, to_plain
from harness.scenario.matrix import dirties, inapplicable
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from tests.runs import needs, run_cell

FORWARDS, BACKWARDS = ClockStep(), ClockStep(Role.FOLLOWER, step_s=-60.0)
FAST = ClockDrift()
SINGLE = RabbitMQ("single", version="4.0")


def test_a_role_or_a_step_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="clock_step: role=producer"):
        ClockStep(Role.PRODUCER)
    with pytest.raises(Refused, match=r"clock_step: step_s=1\.0"):
        ClockStep(step_s=1.0)


def test_a_drift_that_cannot_be_or_not_be_seen_is_refused() -> None:
    with pytest.raises(Refused, match="clock_drift: role=client_node"):
        ClockDrift(Role.CLIENT_NODE)
    with pytest.raises(Refused, match=r"clock_drift: rate=0\.5"):
        ClockDrift(rate=0.5)
    with pytest.raises(Refused, match=r"(?s)hold_s=2\.0.* at least 4\.8 s"):
        ClockDrift(hold_s=2.0)


@pytest.mark.parametrize("fault", [FORWARDS, BACKWARDS, FAST], ids=lambda fault: fault.name)
def test_its_json_reads_back_to_the_same_fault(fault: ClockStep | ClockDrift) -> None:
    assert from_plain(type(fault), to_plain(fault)) == fault
    assert dirties(fault)


@pytest.mark.parametrize("fault", [FORWARDS, FAST], ids=lambda fault: fault.name)
def test_it_is_known_beforehand_where_no_clock_can_be_set(fault: ClockStep | ClockDrift) -> None:
    assert "static Go program" in str(inapplicable(Nats("one"), fault, processed=False))
    assert "static Go program" in str(clockless("nats", "nats:2.15.1"))
    assert fault.needs.equipment.kinds() <= Containers().offers().capabilities
    assert not fault.needs.equipment.kinds() & Processes().offers().capabilities


@pytest.mark.engine
@pytest.mark.parametrize("fault", [FORWARDS, ClockStep(step_s=-60.0)], ids=lambda fault: fault.name)
@pytest.mark.parametrize("armed", [True, False], ids=["armed", "disarmed"])
def test_a_step_is_told_by_the_node_or_nothing_is_held(
    armed: bool, fault: ClockStep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = Scenario(configuration=SINGLE, schedule=Repeat(fault), workload=Steady(rate_hz=300, quiet_s=0.5))
    needs(Containers().unavailable(scenario.nodes()))
    if not armed:
        monkeypatch.setattr("harness.faults.clock.SEEN_S", 1.0)
        monkeypatch.setattr(ContainerNode, "set_clock", lambda *_: None)
    run = run_cell(scenario, tmp_path / "run", engine=Containers())
    (injection,) = run.history.terms.injections
    assert (injection.bit_ns is not None) is armed, injection
    if armed:
        assert injection.recovered_ns is not None
    else:
        assert "to be" in str(injection.why_not)
        assert Status.HELD not in {verdict.status for verdict in run.judgement.verdicts.values()}


@pytest.mark.engine
@pytest.mark.parametrize("armed", [True, False], ids=["armed", "disarmed"])
def test_a_drift_grows_as_the_node_tells_or_nothing_is_held(
    armed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = Scenario(configuration=SINGLE, schedule=Repeat(FAST), workload=Steady(rate_hz=300, quiet_s=0.5))
    needs(Containers().unavailable(scenario.nodes()))
    if not armed:
        as_it_is = ContainerNode.set_clock
        monkeypatch.setattr(ContainerNode, "set_clock", lambda node, offset_s, rate=1.0: as_it_is(node, offset_s))
    run = run_cell(scenario, tmp_path / "run", engine=Containers())
    (injection,) = run.history.terms.injections
    assert (injection.bit_ns is not None) is armed, (injection.why_not, dict(injection.facts))
    if armed:
        assert injection.recovered_ns is not None
    else:
        assert "apart by now" in str(injection.why_not)
        assert Status.HELD not in {verdict.status for verdict in run.judgement.verdicts.values()}
