"""Does a run end as what it has shown, where nobody is left to be tidied up?"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.brokers.memory.broker import Broker
from harness.brokers.memory.configuration import Memory
from harness.errors import Trouble
from harness.faults.fault import Fault
from harness.faults.network import Disconnect
from harness.faults.node import Kill
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
