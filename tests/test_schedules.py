"""What comes when, in a schedule as written, in the plan that a seed draws of it, and in a plan that was read back?"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import catalogue
from harness.brokers.memory.configuration import Memory
from harness.errors import Refused
from harness.faults.client import KillClient
from harness.faults.clock import ClockStep
from harness.faults.conduct import DoubleAcknowledgement, Hoard, WrongOrder
from harness.faults.disk import DiskFull, DiskNearlyFull
from harness.faults.fault import Fault
from harness.faults.files import Truncate
from harness.faults.network import Disconnect, Latency, Stall
from harness.faults.node import Kill, Pause
from harness.faults.partition import Isolate, Ring
from harness.faults.storage import StorageLimit
from harness.operation import Role
from harness.plain import from_plain, to_plain
from harness.scenario.matrix import Matrix
from harness.scenario.moment import Acked, Elected, Holding
from harness.scenario.plan import Plan, draw, read_plan
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import At, InTurn, Overlap, Randomly, Repeat, Schedule, quarrel
from harness.scenario.workload import Steady

LINKS = (Latency(), Disconnect(Role.CONSUMER), Stall(Role.PRODUCER))
STORM = Randomly((*LINKS, Kill(), Isolate()), during_s=30.0, density=1.5)

SCHEDULES: dict[str, tuple[Schedule, str, list[list[str]]]] = {
    # what: (schedule, its name, the faults of each trial)
    "a fault three times": (Repeat(Kill(), 3), "kill_leader", [["kill_leader"]] * 3),
    "one after the other": (
        InTurn((Kill(), Repeat(Pause(), 2))),
        "kill_leader_then_pause_leader",
        [["kill_leader"], ["pause_leader"], ["pause_leader"]],
    ),
    "two together": (
        Overlap((Kill(), Latency())),
        "kill_leader_with_latency_clients",
        [["kill_leader", "latency_clients"]],
    ),
    "two together, twice": (
        Repeat(Overlap((Kill(), Latency())), 2),
        "kill_leader_with_latency_clients",
        [["kill_leader", "latency_clients"]] * 2,
    ),
    "at a moment": (At(Acked(100), Kill()), "kill_leader_after_100_acked", [["kill_leader"]]),
    "again after an election": (
        Overlap((Isolate(), At(Elected(), Kill()))),
        "isolate_leader_with_kill_leader_after_election",
        [["isolate_leader", "kill_leader"]],
    ),
}


@pytest.mark.parametrize("what", SCHEDULES)
def test_each_schedule_says_what_is_due_in_each_trial(what: str) -> None:
    schedule, name, trials = SCHEDULES[what]
    assert schedule.name == name
    plan = draw(schedule, Steady(), seed=7)
    assert [[part.fault.name for part in step.parts] for step in plan.steps] == trials


@pytest.mark.parametrize("schedule", [*(one for one, *_ in SCHEDULES.values()), STORM], ids=lambda one: one.name)
def test_a_schedule_in_a_scenario_and_its_plan_read_back_to_the_same_values(schedule: Schedule) -> None:
    scenario = Scenario(configuration=Memory("plain"), schedule=schedule)
    assert from_plain(Scenario, json.loads(json.dumps(to_plain(scenario))), catalogue.lookup) == scenario
    plan = draw(schedule, Steady(), seed=7)
    assert from_plain(Plan, json.loads(json.dumps(to_plain(plan))), catalogue.lookup) == plan


def test_parts_that_overlap_come_one_after_the_other() -> None:
    (step,) = draw(Overlap((Kill(), Latency(), KillClient()), apart_s=0.3), Steady(), seed=7).steps
    assert [part.at_s for part in step.parts] == pytest.approx([0.0, 0.3, 0.6])


def held_together(plan: Plan) -> list[tuple[Fault, Fault]]:
    parts = plan.steps[0].parts
    return [
        (one.fault, other.fault)
        for place, one in enumerate(parts)
        for other in parts[place + 1 :]
        if other.at_s < one.at_s + one.hold_s
    ]


def test_what_comes_at_random_never_mends_another() -> None:
    for seed in range(200):
        plan = draw(STORM, Steady(), seed)
        assert not [pair for pair in held_together(plan) if quarrel(*pair)]


def test_what_comes_at_random_has_about_the_density_that_was_asked() -> None:
    held = [
        sum(
            part.hold_s
            for part in draw(Randomly((Kill(), KillClient()), during_s=100, density=density), Steady(), seed)
            .steps[0]
            .parts
        )
        for density in (0.1, 0.2)
        for seed in range(100)
    ]
    thin, thick = sum(held[:100]) / 100 / 100, sum(held[100:]) / 100 / 100
    assert 0.08 < thin < 0.12
    assert 0.16 < thick < 0.24


def test_every_trial_at_random_has_at_least_one_fault() -> None:
    rare = Randomly((Kill(),), during_s=0.1, density=0.001)
    assert all(draw(rare, Steady(), seed).steps[0].parts for seed in range(100))


def test_one_seed_draws_one_plan_and_another_another() -> None:
    assert draw(STORM, Steady(), 7) == draw(STORM, Steady(), 7) != draw(STORM, Steady(), 8)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "one_part": (lambda: Overlap((Kill(),)), "1 parts"),
    "none_in_turn": (lambda: InTurn(()), "0 parts"),
    "the_same_links": (lambda: Overlap((Latency(), Stall(Role.PRODUCER))), "disturb the same links"),
    "two_partitions": (lambda: Overlap((Isolate(), Ring())), "both between nodes"),
    "itself": (lambda: Overlap((Kill(), Kill())), "with itself"),
    "no_time": (lambda: Randomly((Kill(),), during_s=0), "during_s=0"),
    "no_density": (lambda: Randomly((Kill(),), density=0), "density=0"),
    "too_many": (lambda: Randomly((Kill(),), during_s=3600, density=10), "more than 1000"),
    "nothing_acked": (lambda: Acked(0), "count=0"),
    "nothing_held": (lambda: Holding(0), "count=0"),
    "a_role_that_nobody_holds": (
        lambda: Matrix(configurations=(Memory("one"),), faults=(Overlap((Latency(), Kill(Role.FOLLOWER))),)),
        "no follower",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_composition_that_cannot_be_is_refused_at_birth(what: str) -> None:
    make, message = REFUSED[what]
    with pytest.raises(Refused, match=message):
        make()


TOGETHER: dict[str, tuple[Fault, Fault, bool]] = {
    # what: (one, other, whether they may hold together)
    "links of different roles": (Latency(Role.PRODUCER), Stall(Role.CONSUMER), True),
    "links of one role": (Latency(Role.PRODUCER), Stall(Role.PRODUCER), False),
    "links of one role and of both": (Latency(Role.PRODUCER), Stall(Role.BOTH), False),
    "a link and a file": (Truncate(), Latency(), True),
    "two kills of nodes": (Kill(), Kill(Role.FOLLOWER), True),
    "a kill and a partition": (Kill(), Isolate(), True),
    "two partitions": (Isolate(), Ring(), False),
    "a kill and a full disk, which starts the node": (Kill(), DiskNearlyFull(), False),
    "a frozen node and its clock": (Pause(), ClockStep(), False),
    "servers at their limit and a kill": (StorageLimit(), Kill(), True),
    "servers at their limit and a hoard": (StorageLimit(), Hoard(), True),
    "servers at their limit, for short and for long": (StorageLimit(), StorageLimit(hold_s=5.0), False),
    "servers at both their limits": (StorageLimit("file"), StorageLimit("memory"), True),
    "a full disk and a nearly full one": (DiskFull(), DiskNearlyFull(), False),
    "a consumer that is told two things": (WrongOrder(), DoubleAcknowledgement(), False),
    "a hoard and a killed consumer": (Hoard(), KillClient(Role.CONSUMER), False),
    "a hoard and a killed producer": (Hoard(), KillClient(Role.PRODUCER), True),
}


@pytest.mark.parametrize("what", TOGETHER)
def test_what_may_hold_together(what: str) -> None:
    one, other, together = TOGETHER[what]
    assert (quarrel(one, other) is None) == together
    assert (quarrel(other, one) is None) == together


# ---- a plan's file ---------------------------------------------------------------------------------------------------


def written(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    data = to_plain(draw(Repeat(Kill(), 2), Steady(), seed=7))
    change(data)
    path.write_text(json.dumps(data, indent=2))
    return path


def part(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["steps"][1]["parts"][0]
    return found


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a_misspelt_fault": (
        lambda data: part(data)["fault"].update(type="Kil"),
        r'steps\[1\].parts\[0\].fault: "Kil".*"Kill"',
    ),
    "a_parameter_it_has_not": (
        lambda data: part(data)["fault"].update(hold=1),
        'unknown field "hold"; did you mean "hold_s"',
    ),
    "a_word_for_a_number": (lambda data: part(data).update(hold_s="long"), r"hold_s: expected a number, got 'long'"),
    "a_negative_time": (lambda data: part(data).update(at_s=-1), "kill_leader at -1"),
    "another_version": (lambda data: data.update(format=1), "format 1, and this Assay reads format 2"),
    "no_steps": (lambda data: data.update(steps=[]), "without steps"),
    "a_number_left_out": (lambda data: data["steps"].pop(0), "trial 1"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_plan_that_was_edited_wrongly_is_refused_with_file_and_place(what: str, tmp_path: Path) -> None:
    change, message = BROKEN[what]
    path = written(tmp_path / "plan.json", change)
    with pytest.raises(Refused, match=message) as refused:
        read_plan(path, catalogue.lookup)
    assert str(path) in refused.value.message
    assert refused.value.cure


def test_a_plan_that_is_no_json_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{\n  "format": 2,\n  "seed": }\n')
    with pytest.raises(Refused, match=r"plan\.json:3:11: no JSON"):
        read_plan(path, catalogue.lookup)


def test_a_plan_that_was_edited_well_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "plan.json", lambda data: part(data).update(hold_s=2.5))
    assert read_plan(path, catalogue.lookup).steps[1].parts[0].hold_s == 2.5


def test_all_randomness_comes_in_as_an_argument() -> None:
    state = random.getstate()
    draw(STORM, Steady(), seed=7)
    assert random.getstate() == state
