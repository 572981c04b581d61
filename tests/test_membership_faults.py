"""Do changes of membership bite, and say so when they did not? NATS as local processes, the rest in containers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.brokers.nats.broker import Broker
from harness.brokers.nats.configuration import JetStream, Nats
from harness.brokers.nats.membership import Membership
from harness.brokers.nats.meta import Meta
from harness.brokers.rabbitmq.configuration import Classic, Quorum, RabbitMQ
from harness.brokers.rabbitmq.membership import Membership as RabbitMembership
from harness.clock import until
from harness.engines.containers.engine import Containers
from harness.engines.containers.node import ContainerNode
from harness.engines.process_node import ProcessNode
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
from harness.system.needs import Equipment
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
    assert inapplicable(R3, NodeLeaves(Role.LEADER), processed=False) is None
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


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.LEADER], ids=str)
def test_a_server_that_leaves_is_a_peer_no_more_and_comes_again_empty(role: Role, tmp_path: Path) -> None:
    injection, run = injected(NodeLeaves(role), R3, tmp_path / "run", Processes())
    must_bite(injection, run)
    (gone,) = injection.targets
    before, held = injection.facts["members_before"], injection.facts["members_held"]
    assert all(gone in listed for listed in before.values())  # type: ignore[attr-defined]
    assert len(held) == 2  # type: ignore[arg-type]
    assert not any(gone in listed for listed in held.values())  # type: ignore[attr-defined]


def test_joining_is_idempotent_and_right_after_half_a_leave() -> None:
    topology = Processes().create(R3.nodes(), run="test")
    broker = Broker(R3, topology, "half")
    try:
        until(lambda: broker.whole() is None, within_s=20, what="the cluster", last_seen=lambda: str(broker.whole()))
        broker.prepare()
        membership = broker.membership()
        node = next(name for name, state in membership.replicas().items() if state != "leader")

        def back() -> bool:
            peers = membership.members()
            return (
                broker.whole() is None and broker.ready() is None and all(node in listed for listed in peers.values())
            )

        topology.nodes[node].stop()  # as far as a leave comes that nobody hears of
        membership.join(node)
        until(back, within_s=20, what="one that never left", last_seen=lambda: str(broker.whole() or broker.ready()))
        for name in topology.nodes:  # told nothing at all, whoever of them leads the meta group
            membership.join(name)
        assert broker.whole() is None
        membership.leave(node)
        until(lambda: node not in membership.replicas(), within_s=5, what="the stream to give its replica up")
        membership.leave(node)
        membership.join(node)
        membership.join(node)
        until(back, within_s=20, what="one that left", last_seen=lambda: str(broker.whole() or broker.ready()))
    finally:
        broker.close()
        topology.remove()


def test_a_server_with_a_disk_of_its_own_stays(tmp_path: Path) -> None:
    spec = replace(R3.nodes()[0], equipment=Equipment(disk_mb=64))
    node = ProcessNode(spec.name, spec, None)  # type: ignore[arg-type]
    membership = Membership(None, None, None, {spec.name: node}, "s", follows=bool)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="a disk of its own"):
        membership.leave(spec.name)
    assert not node.used


@pytest.mark.engine
def test_a_server_in_a_container_leaves_and_comes_again_empty(tmp_path: Path) -> None:
    injection, run = injected(NodeLeaves(), R3, tmp_path / "run", Containers())
    must_bite(injection, run)


def test_a_server_that_only_stopped_has_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.faults.membership.CHANGE_S", 1.0)
    without(Meta, "remove", monkeypatch)
    injection, run = injected(NodeLeaves(), R3, tmp_path / "run", Processes())
    must_not_have_bitten(injection, run)
    assert "others still list" in str(injection.why_not)
    assert injection.recovered_ns is not None


def test_a_server_that_was_told_nothing_has_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.faults.membership.CHANGE_S", 1.0)
    without(Membership, "leave", monkeypatch)
    injection, run = injected(NodeLeaves(), R3, tmp_path / "run", Processes())
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
