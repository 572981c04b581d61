"""Do faults that are composed hold side by side, come at their moments, and end together? Whole runs on the memory
broker, with real client processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from harness.brokers.memory.configuration import Memory
from harness.clients.spec import ClientSpec
from harness.errors import Trouble
from harness.faults.client import KillClient
from harness.faults.network import Latency, Stall
from harness.faults.node import Kill
from harness.guarantee import Status
from harness.history.terms import InjectionTerms
from harness.operation import Role
from harness.run import Run
from harness.scenario.moment import Acked, Holding
from harness.scenario.plan import Part, Plan, Step
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import At, InTurn, Overlap, Randomly, Schedule
from harness.scenario.workload import Steady
from harness.system.needs import Needs
from harness.system.system import Measure, System
from tests.runs import run_cell

LOAD = Steady(rate_hz=500, quiet_s=0.4, producers=2, consumers=2)


def carried_out(schedule: Schedule, directory: Path) -> tuple[Run, tuple[InjectionTerms, ...]]:
    run = run_cell(Scenario(configuration=Memory("composed"), schedule=schedule, workload=LOAD), directory)
    return run, run.history.terms.injections


def test_two_that_overlap_hold_side_by_side_and_are_one_trial(tmp_path: Path) -> None:
    schedule = Overlap((Latency(Role.PRODUCER, hold_s=1.0), KillClient(Role.CONSUMER)), apart_s=0.4)
    run, (delayed, killed) = carried_out(schedule, tmp_path / "run")
    assert delayed.why_not is None
    assert killed.why_not is None
    assert delayed.asked_ns < killed.asked_ns
    assert killed.mended_ns is not None
    assert delayed.mended_ns is not None
    assert killed.bit_ns is not None
    assert killed.bit_ns < delayed.mended_ns
    assert (delayed.number, killed.number) == (0, 1)
    (trial,) = run.judgement.trial.trials
    assert trial.faults == ("latency_producers", "kill_consumer")
    assert run.judgement.verdicts["at_least_once"].status is Status.HELD


def test_in_turn_each_has_its_own_trial(tmp_path: Path) -> None:
    run, injections = carried_out(InTurn((KillClient(Role.CONSUMER), KillClient(Role.PRODUCER))), tmp_path / "run")
    assert [(one.fault, one.trial) for one in injections] == [("kill_consumer", 0), ("kill_producer", 1)]
    assert len(run.judgement.trial.trials) == 2


def test_a_moment_is_waited_for(tmp_path: Path) -> None:
    run, (killed,) = carried_out(At(Acked(300), KillClient(Role.CONSUMER)), tmp_path / "run")
    phases = run.history.phases
    breaks = run.history.word_number("break")
    (begin_ns,) = phases.begin_ns[phases.phase == breaks]
    publications = run.history.publications
    acked = ((publications.completed_ns > begin_ns) & (publications.completed_ns <= killed.asked_ns)).sum()
    assert killed.why_not is None
    assert 300 <= acked < 400


def test_a_moment_that_does_not_come_is_no_bite_and_nothing_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.runner.nemesis.MOMENT_LIMIT_S", 0.3)
    run, (never,) = carried_out(At(Holding(60_000), Kill()), tmp_path / "run")
    assert never.bit_ns is None
    assert never.why_not is not None
    assert "its moment did not come: no consumer held more than" in never.why_not
    assert Status.HELD not in {verdict.status for verdict in run.judgement.verdicts.values()}


def test_a_part_waits_until_nobody_would_mend_it(tmp_path: Path) -> None:
    parts = tuple(
        Part(fault=fault, at_s=at_s, hold_s=0.8, choice=0)
        for fault, at_s in ((Latency(Role.PRODUCER), 0.0), (Stall(Role.PRODUCER), 0.3))
    )
    plan = Plan(seed=7, steps=(Step(trial=0, quiet_s=0.4, parts=parts),), quiet_after_s=0.4)
    scenario = Scenario(
        configuration=Memory("composed"), schedule=Randomly(tuple(part.fault for part in parts)), workload=LOAD
    )
    injections = run_cell(scenario, tmp_path / "run", plan=plan).history.terms.injections
    first, second = sorted(injections, key=lambda one: one.asked_ns)
    assert (first.why_not, second.why_not) == (None, None)
    assert first.mended_ns is not None
    assert second.asked_ns >= first.mended_ns


def test_two_clients_that_die_at_once_have_successors_of_different_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ClientSpec.write

    def slowly(self: ClientSpec, path: Path) -> None:
        time.sleep(0.05)
        write(self, path)

    monkeypatch.setattr(ClientSpec, "write", slowly)
    run, _ = carried_out(Overlap((KillClient(Role.PRODUCER), KillClient(Role.CONSUMER)), apart_s=0.0), tmp_path / "run")
    numbers = run.history.clients.client.tolist()
    assert len(numbers) == 6
    assert len(set(numbers)) == 6


@dataclass(frozen=True, slots=True)
class Fails:
    """A fault that cannot be injected."""

    hold_s: float = 0.1
    needs: ClassVar[Needs] = Needs()
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = False
    name: ClassVar[str] = "fails"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Never comes to its yield."""
        raise Trouble("it cannot be broken")
        yield


@pytest.mark.parametrize("first", [True, False], ids=["the_first_fails", "the_second_fails"])
def test_one_that_fails_ends_the_others_early_and_they_are_mended_and_recorded(first: bool, tmp_path: Path) -> None:
    long = Latency(Role.PRODUCER, hold_s=30.0)
    parts = (Fails(), long) if first else (long, Fails())
    began = time.monotonic()
    with pytest.raises(Trouble, match="it cannot be broken"):
        carried_out(Overlap(parts, apart_s=0.0 if first else 0.3), tmp_path / "run")
    assert time.monotonic() - began < 20
    run = Run(tmp_path / "run")
    told = {one.fault: one for one in run.history.terms.injections}
    assert set(told) == {"fails", "latency_producers"}
    assert told["fails"].why_not == "the injection itself failed"
    if not first:
        assert told["latency_producers"].mended_ns is not None
