"""Do changes of membership bite, and say so when they did not? NATS as local processes, the rest in containers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.brokers.nats.configuration import JetStream, Nats
from harness.brokers.nats.membership import Membership
from harness.brokers.rabbitmq.configuration import Classic, Quorum, RabbitMQ
from harness.brokers.rabbitmq.membership import Membership as RabbitMembership
from harness.engines.containers.engine import Containers
from harness.engines.containers.node import ContainerNode
from harness.engines.processes import Processes
from harness.errors import Refused
from harness.faults.fault import Fault
from harness.faults.membership import LeaderTransfer, NodeLeaves, ReplicaRemoved
from harness.faults.upgrade import RollingUpgrade
from harness.guarantee import Status
from harness.history.terms import InjectionTerms
from harness.operation import Role
from harness.plain import from_plain, to_plain
from harness.run import Run
from harness.scenario.matrix import dirties, inapplicable
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.topology import Engine
from tests.runs import needs, run_cell

R1 = Nats("one", jetstream=JetStream())
R3 = Nats("three", members=3, jetstream=JetStream(replicas=3), acknowledge="confirmed")
OLD_R3 = Nats("old", members=3, version="2.12", jetstream=JetStream(replicas=3), acknowledge="confirmed")
QUORUM = RabbitMQ("three", members=3, queue=Quorum())

EVERY = [LeaderTransfer(), ReplicaRemoved(Role.LEADER), NodeLeaves(), RollingUpgrade(), RollingUpgrade("4.3")]


@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.name)
def test_its_json_reads_back_to_the_same_fault(fault: Fault) -> None:
    assert from_plain(type(fault), to_plain(fault)) == fault


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ReplicaRemoved(Role.CONSUMER), "replica_removed: role=consumer"),
        (lambda: NodeLeaves(Role.BOTH), "node_leaves: role=both"),
        (lambda: RollingUpgrade("latest"), "rolling_upgrade: to='latest'"),
    ],
)
def test_nonsense_is_refused_at_birth(make: Callable[[], Fault], says: str) -> None:
    with pytest.raises(Refused, match=says):
        make()


@pytest.mark.parametrize(
    ("configuration", "fault", "reason"),
    [
        (R1, LeaderTransfer(), "keeps one copy"),
        (RabbitMQ("classic", members=3, queue=Classic()), ReplicaRemoved(), "keeps one copy"),
        (R3, ReplicaRemoved(Role.LEADER), "never its leader's"),
        (R3, NodeLeaves(), "system account"),
        (R3, RollingUpgrade(), "has that version from the start"),
        (OLD_R3, RollingUpgrade("2.12"), "has that version from the start"),
        (RabbitMQ("old", members=3, version="4.0"), RollingUpgrade(), "of 4.2 and later only"),
    ],
)
def test_a_pair_that_means_nothing_says_why(configuration: Nats | RabbitMQ, fault: Fault, reason: str) -> None:
    assert reason in str(inapplicable(configuration, fault, processed=False))


def test_what_applies_applies_and_an_upgrade_uses_its_cluster_up() -> None:
    assert inapplicable(R3, LeaderTransfer(), processed=False) is None
    assert inapplicable(QUORUM, NodeLeaves(), processed=False) is None
    assert inapplicable(OLD_R3, RollingUpgrade(), processed=False) is None
    assert dirties(RollingUpgrade())
    assert dirties(NodeLeaves())
    assert not dirties(LeaderTransfer())


def test_local_processes_cannot_become_another_version_and_it_is_known_beforehand() -> None:
    assert "replace" not in Processes().offers().verbs
    assert "replace" in Containers().offers().verbs


def injected(
    fault: Fault, configuration: Nats | RabbitMQ, directory: Path, engine: Engine
) -> tuple[InjectionTerms, Run]:
    scenario = Scenario(
        configuration=configuration,
        schedule=Repeat(fault),
        workload=Steady(rate_hz=300, quiet_s=0.5, producers=2),
    )
    run = run_cell(scenario, directory, engine=engine)
    (injection,) = run.history.terms.injections
    return injection, run


def must_bite(injection: InjectionTerms, run: Run) -> None:
    assert injection.why_not is None
    assert injection.bit_ns is not None
    assert injection.recovered_ns is not None, run.judgement.trial
    assert run.history.terms.whole


def must_not_have_bitten(injection: InjectionTerms, run: Run) -> None:
    assert injection.bit_ns is None, dict(injection.facts)
    assert injection.why_not
    assert Status.HELD not in {verdict.status for verdict in run.judgement.verdicts.values()}


def without(owner: type, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, verb, lambda *_: None)


@pytest.mark.parametrize("fault", [LeaderTransfer(), ReplicaRemoved()], ids=lambda fault: fault.name)
def test_a_change_of_a_streams_replicas_bites_and_is_mended(fault: Fault, tmp_path: Path) -> None:
    injection, run = injected(fault, R3, tmp_path / "run", Processes())
    must_bite(injection, run)


@pytest.mark.parametrize(
    ("fault", "verb"), [(LeaderTransfer(), "transfer"), (ReplicaRemoved(), "remove")], ids=["transfer", "remove"]
)
def test_a_change_that_the_broker_was_never_told_of_did_not_bite(
    fault: Fault, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.faults.membership.CHANGE_S", 1.0)
    without(Membership, verb, monkeypatch)
    injection, run = injected(fault, R3, tmp_path / "run", Processes())
    must_not_have_bitten(injection, run)


@pytest.mark.engine
@pytest.mark.parametrize("armed", [True, False], ids=["armed", "disarmed"])
def test_a_node_that_leaves_is_missed_by_the_others_or_nothing_is_held(
    armed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not armed:
        monkeypatch.setattr("harness.faults.membership.CHANGE_S", 1.0)
        without(RabbitMembership, "leave", monkeypatch)
    injection, run = injected(NodeLeaves(), QUORUM, tmp_path / "run", Containers())
    (must_bite if armed else must_not_have_bitten)(injection, run)


@pytest.mark.engine
@pytest.mark.parametrize("armed", [True, False], ids=["armed", "disarmed"])
def test_an_upgrade_keeps_the_data_or_did_not_happen(
    armed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(Containers().unavailable(OLD_R3.nodes()))
    if not armed:
        monkeypatch.setattr(ContainerNode, "replace", lambda self, version: self.start())
    injection, run = injected(RollingUpgrade(), OLD_R3, tmp_path / "run", Containers())
    (must_bite if armed else must_not_have_bitten)(injection, run)
    if armed:
        before, after = injection.facts["versions_before"], injection.facts["versions_after"]
        assert {str(version)[:5] for version in before.values()} == {"2.12."}  # type: ignore[attr-defined]
        assert set(before.values()).isdisjoint(after.values())  # type: ignore[attr-defined]
