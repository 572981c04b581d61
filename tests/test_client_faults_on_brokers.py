"""What do real brokers do about clients that stand still, close without a goodbye, or acknowledge twice?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.brokers.nats.configuration import JetStream, Nats
from harness.brokers.rabbitmq.configuration import Classic, RabbitMQ
from harness.engines.containers.engine import Containers
from harness.engines.processes import Processes
from harness.faults.conduct import DoubleAcknowledgement, Hoard
from harness.faults.fault import Fault
from harness.faults.standstill import AbruptClose, PauseClient
from harness.history.terms import InjectionTerms
from harness.operation import Role
from harness.run import Run
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from tests.runs import run_cell

NATS = Nats("clients", jetstream=JetStream())
RABBITMQ = RabbitMQ("clients", queue=Classic())

BROKERS = [
    pytest.param(NATS, Processes, id="nats"),
    pytest.param(RABBITMQ, Containers, id="rabbitmq", marks=pytest.mark.engine),
]


def injected(fault: Fault, configuration: Any, engine: type, directory: Path) -> tuple[InjectionTerms, Run]:
    scenario = Scenario(
        configuration=configuration,
        schedule=Repeat(fault),
        workload=Steady(rate_hz=500, quiet_s=0.4, consumers=2),
    )
    run = run_cell(scenario, directory / "run", engine=engine())
    (injection,) = run.history.terms.injections
    assert injection.why_not is None
    assert injection.recovered_ns is not None
    assert (run.history.clients.planned == 1).all(), "no client ended by a mistake of its own"
    return injection, run


@pytest.mark.parametrize(("configuration", "engine"), BROKERS)
def test_a_client_that_stands_still_is_given_up_for_its_silence(
    configuration: Any, engine: type, tmp_path: Path
) -> None:
    says = {"nats": "Stale Connection", "rabbitmq": "missed heartbeats from client"}[configuration.family]
    hold_s = {"nats": 4.0, "rabbitmq": 7.0}[configuration.family]
    injection, _ = injected(PauseClient(Role.CONSUMER, hold_s=hold_s), configuration, engine, tmp_path)
    assert injection.facts["client_state_held"] == "T"
    assert injection.facts["broker_gave_it_up"] is True
    assert says in str(injection.facts["broker_said"])


@pytest.mark.parametrize(("configuration", "engine"), BROKERS)
@pytest.mark.parametrize("role", [Role.PRODUCER, Role.CONSUMER])
def test_a_client_that_closes_without_a_goodbye_connects_anew(
    role: Role, configuration: Any, engine: type, tmp_path: Path
) -> None:
    injection, run = injected(AbruptClose(role), configuration, engine, tmp_path)
    assert injection.facts["connections_before"] == 1
    assert injection.facts["connections_after"] == 2
    assert injection.at_risk > 0
    says = {  # a socket closed over bytes that it had not read answers with RST: then nats-server says "Read Error"
        "nats": ("Client Closed", "Read Error"),
        "rabbitmq": ("client unexpectedly closed TCP connection",),
    }[configuration.family]
    assert injection.facts["broker_said"] in says
    assert not [reason for reason in run.judgement.trial.reasons if "noted" in reason or "miscounts" in reason]


@pytest.mark.parametrize(("configuration", "engine"), BROKERS)
def test_a_second_acknowledgement_ends_a_channel_of_rabbitmq_and_nothing_of_nats(
    configuration: Any, engine: type, tmp_path: Path
) -> None:
    injection, run = injected(DoubleAcknowledgement(), configuration, engine, tmp_path)
    lost = injection.facts["times_connection_lost"]
    why = {word for word in run.history.words if word.startswith("lost:")}
    if configuration.family == "nats":
        assert lost == 0
        assert why == set()
    else:
        assert isinstance(lost, int)
        assert lost > 0
        assert {word[: len("lost:406 PRECONDITION_FAILED")] for word in why} == {"lost:406 PRECONDITION_FAILED"}
    assert not [reason for reason in run.judgement.trial.reasons if "noted" in reason or "miscounts" in reason]


@pytest.mark.parametrize(("configuration", "engine"), BROKERS)
def test_a_hoarder_is_sent_no_more_than_it_may_hold(configuration: Any, engine: type, tmp_path: Path) -> None:
    injection, run = injected(Hoard(), configuration, engine, tmp_path)
    assert injection.facts["held_unsettled"] == injection.facts["prefetch"] == 100
    assert not [reason for reason in run.judgement.trial.reasons if "noted" in reason or "miscounts" in reason]
