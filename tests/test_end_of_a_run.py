"""Does a run end as what it has shown, where nobody is left to be tidied up?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.brokers.memory.broker import Broker
from harness.brokers.memory.configuration import Memory
from harness.errors import Trouble
from harness.faults.fault import Fault
from harness.faults.network import Disconnect
from harness.faults.node import Kill
from harness.guarantee import AT_LEAST_ONCE, Status
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from tests.runs import run_cell


def silent(_: Broker) -> None:
    raise Trouble("nobody answers")


def scenario(fault: Fault) -> Scenario:
    return Scenario(configuration=Memory("left"), schedule=Repeat(fault), workload=Steady(rate_hz=500, quiet_s=0.4))


def test_of_a_broker_that_is_thrown_away_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "discard", silent)
    run = run_cell(scenario(Kill()), tmp_path / "run")
    assert run.history.terms.interrupted == ""
    assert run.history.terms.injections[0].bit_ns is not None


def test_of_one_that_serves_the_next_cell_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "discard", silent)
    with pytest.raises(Trouble, match="nobody answers"):
        run_cell(scenario(Disconnect()), tmp_path / "run")


def test_who_asks_for_no_drain_gets_none_and_nothing_is_held(tmp_path: Path) -> None:
    run = run_cell(replace(scenario(Disconnect()), drain=False), tmp_path / "run")
    terms = run.history.terms
    assert terms.injections[0].recovered_ns is not None
    assert not terms.drained
    verdicts = run.judgement.verdicts.values()
    assert [verdict.sentence for verdict in verdicts if verdict.status is Status.HELD] == []
    asked_for = "the system was not drained: the scenario asks for no drain"
    assert asked_for in run.judgement.verdicts[AT_LEAST_ONCE.name].reasons
