"""What becomes of a run whose proxy dies in its middle? Nothing is known, it is said why; what was recorded stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.brokers.memory.configuration import Memory
from harness.engines.processes import LocalTopology, Processes
from harness.errors import Undecided
from harness.faults.fault import Fault
from harness.faults.network import Latency
from harness.faults.nothing import Nothing
from harness.guarantee import Status
from harness.run import Run
from harness.runner.nemesis import Nemesis
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from tests.runs import run_cell


@pytest.mark.parametrize("fault", [Nothing(), Latency()], ids=lambda fault: fault.name)
def test_a_proxy_that_dies_makes_the_run_unknown_and_is_named(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[LocalTopology] = []
    create, quiet = Processes.create, Nemesis._quiet

    def creating(*args: object, **named: object) -> LocalTopology:
        made.append(create(*args, **named))  # type: ignore[arg-type]
        return made[-1]

    def killing_first(nemesis: Nemesis, quiet_s: float, trial: int) -> None:
        if made[-1].proxy is not None:
            made[-1].proxy.kill()
        quiet(nemesis, quiet_s, trial)

    monkeypatch.setattr(Processes, "create", creating)
    monkeypatch.setattr(Nemesis, "_quiet", killing_first)
    scenario = Scenario(
        configuration=Memory("orphaned"), schedule=Repeat(fault), workload=Steady(rate_hz=500, quiet_s=0.4)
    )
    with pytest.raises(Undecided, match="the proxy died in the middle of the run: toxiproxy-server is exited"):
        run_cell(scenario, tmp_path / "run")
    left = Run(tmp_path / "run")
    assert "the proxy died" in left.history.terms.interrupted
    assert {verdict.status for verdict in left.judgement.verdicts.values()} == {Status.UNKNOWN}
