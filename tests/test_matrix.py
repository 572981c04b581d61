"""Which cells does a matrix make, which pairs does it leave out and why, and in which order?"""

from __future__ import annotations

from typing import Any

import pytest

from harness.brokers.memory.configuration import Memory
from harness.brokers.nats.configuration import CORE, JETSTREAM_R1, JETSTREAM_R3_EXACTLY_ONCE
from harness.errors import Refused
from harness.faults.blackhole import AcknowledgementLoss
from harness.faults.client import KillClient
from harness.faults.network import Latency
from harness.faults.node import Kill
from harness.faults.nothing import Nothing
from harness.operation import CrashPoint, Role
from harness.processing.ack_after import AckAfterEffect
from harness.scenario.matrix import ATTRIBUTE, Matrix, grouped, matrix, trials
from harness.sinks.sqlite import SQLite

ONE, TWO = Memory("one"), Memory("two", confirms=False)
CRASH = KillClient(Role.CONSUMER, at=CrashPoint.BETWEEN_EFFECT_AND_ACK)


def ids(made: Matrix, tier: str = "smoke") -> list[str]:
    return [scenario.id for scenario in made.scenarios(tier)]


def test_every_configuration_meets_every_fault_row_by_row() -> None:
    made = Matrix(configurations=(ONE, TWO), faults=(Nothing(), Latency()))
    assert ids(made) == [
        "memory-one-nothing",
        "memory-one-latency_clients",
        "memory-two-nothing",
        "memory-two-latency_clients",
    ]


def test_a_pair_that_means_nothing_is_listed_with_its_reason_and_not_run() -> None:
    made = Matrix(configurations=(ONE, TWO), faults=(AcknowledgementLoss(),))
    assert ids(made) == ["memory-one-acknowledgement_loss"]
    (left_out,) = made.not_applicable()
    assert (left_out.configuration, left_out.fault) == ("memory-two", "acknowledgement_loss")
    assert left_out.reason == "memory-two publishes without confirms: there is no acknowledgement to lose"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no_cells": ({"configurations": (), "faults": (Nothing(),)}, "without configurations"),
    "a_fault_for_nobody": ({"configurations": (TWO,), "faults": (AcknowledgementLoss(),)}, "applies to no"),
    "no_follower_anywhere": ({"configurations": (ONE,), "faults": (Kill(Role.FOLLOWER),)}, "no follower"),
    "processing_without_a_sink": (
        {"configurations": (ONE,), "faults": (Nothing(),), "processing": AckAfterEffect()},
        "processing without a sink",
    ),
    "a_crash_point_nobody_passes": ({"configurations": (ONE,), "faults": (CRASH,)}, "nobody passes"),
    "two_of_a_name": ({"configurations": (ONE, ONE), "faults": (Nothing(),)}, "memory-one twice"),
    "no_such_tier": ({"configurations": (ONE,), "faults": (Nothing(),), "tier": "smok"}, 'did you mean "smoke"'),
    "no_trials": ({"configurations": (ONE,), "faults": (Nothing(),), "times": 0}, "times=0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str) -> None:
    fields, said = REFUSED[case]
    with pytest.raises(Refused) as refused:
        Matrix(**fields).scenarios("smoke")
    assert said in str(refused.value)


def test_a_crash_between_effect_and_ack_is_possible_where_there_is_processing() -> None:
    made = Matrix(configurations=(ONE,), faults=(CRASH,), processing=AckAfterEffect(), sink=SQLite())
    assert ids(made) == ["memory-one-ack_after_effect-crash_consumer_between_effect_and_ack"]


def test_a_suite_can_leave_out_a_pair_for_a_reason_of_its_own() -> None:
    made = Matrix(
        configurations=(ONE, TWO),
        faults=(Nothing(),),
        unless=lambda configuration, fault: "seen often enough" if configuration is TWO else None,
    )
    assert ids(made) == ["memory-one-nothing"]
    assert [row.reason for row in made.not_applicable()] == ["seen often enough"]


@pytest.mark.parametrize(
    ("fault", "smoke", "standard"), [(Nothing(), 1, 1), (Latency(), 2, 5), (Kill(), 1, 4)], ids=lambda value: str(value)
)
def test_the_tier_decides_how_often_a_fault_is_injected(fault: object, smoke: int, standard: int) -> None:
    assert (trials(fault, "smoke"), trials(fault, "standard")) == (smoke, standard)  # type: ignore[arg-type]


def test_the_suites_own_number_of_trials_comes_first() -> None:
    (scenario,) = Matrix(configurations=(ONE,), faults=(Kill(),), times=7).scenarios("smoke")
    assert scenario.schedule.times == 7


def test_equal_nodes_stand_together_and_what_costs_them_comes_last() -> None:
    made = Matrix(configurations=(CORE, JETSTREAM_R3_EXACTLY_ONCE, JETSTREAM_R1), faults=(Kill(), Nothing()))
    assert [scenario.id for scenario in grouped(made.scenarios("smoke"), lambda scenario: scenario)] == [
        "nats-core-nothing",
        "nats-jetstream-r1-nothing",
        "nats-core-kill_leader",
        "nats-jetstream-r1-kill_leader",
        "nats-jetstream-r3-exactly-once-nothing",
        "nats-jetstream-r3-exactly-once-kill_leader",
    ]


def test_the_decorator_leaves_the_function_alone_and_stacks_top_first() -> None:
    @matrix([ONE], [Nothing()])
    @matrix([TWO], [Latency()])
    def function(run: object) -> str:
        return "as it was"

    assert function(None) == "as it was"
    assert [made.configurations[0].name for made in getattr(function, ATTRIBUTE)] == ["memory-one", "memory-two"]
