"""Are local NATS servers kept from each other by the proxies between them, in the asked directions and no other?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.brokers.memory.configuration import Memory
from harness.brokers.nats.broker import Broker
from harness.brokers.nats.configuration import JetStream, Nats
from harness.brokers.rabbitmq.configuration import RabbitMQ
from harness.clock import until
from harness.engines.process_node import ProcessNode
from harness.engines.processes import LocalTopology, Processes
from harness.engines.routes import Routes
from harness.errors import Refused
from harness.faults.fault import Fault
from harness.faults.node import KillAll
from harness.faults.partition import Bridge, Halves, Isolate, RandomPartition, Ring
from harness.faults.restart import Rolling
from harness.guarantee import Status
from harness.operation import Role
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.topology import Cut
from tests.runs import run_cell

R3 = Nats("apart", members=3, jetstream=JetStream(replicas=3), acknowledge="confirmed")
SEVER = frozenset({"sever"})


def test_that_others_than_nats_cannot_be_kept_apart_is_known_beforehand() -> None:
    engine = Processes()
    assert "sever" in engine.offers().verbs
    assert engine.unavailable(R3.nodes(), SEVER) is None
    for others in (Memory("one"), RabbitMQ("three", members=3)):
        assert "containers" in (engine.unavailable(others.nodes(), SEVER) or "")


def test_two_servers_that_are_kept_apart_do_not_see_each_other_until_they_are_rejoined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path))
    topology: LocalTopology = Processes().create(R3.nodes(), run="test-routes")
    broker = Broker(R3, topology, "cell")
    try:
        until(lambda: broker.whole() is None, within_s=30, what="three servers", last_seen=lambda: str(broker.whole()))
        assert topology.dropped() == {}
        cuts = [Cut("nats-1", "nats-2"), Cut("nats-2", "nats-1")]
        topology.sever(cuts)
        assert topology.dirty

        def seen() -> dict[str, set[str]]:
            return {node: set() if view is None else set(view.sees) for node, view in broker.views().items()}

        apart = {"nats-1": {"nats-3"}, "nats-2": {"nats-3"}, "nats-3": {"nats-1", "nats-2"}}
        until(lambda: seen() == apart, within_s=15, what="two of three apart", last_seen=lambda: str(seen()))
        counted = topology.dropped()
        assert set(counted) == set(cuts)
        assert all(count > 0 for count in counted.values()), counted
        topology.rejoin()
        assert topology.dropped() == {}
        until(lambda: broker.whole() is None, within_s=30, what="three again", last_seen=lambda: str(broker.whole()))
        topology.rejoin()
    finally:
        broker.close()
        topology.remove()
    with pytest.raises(Refused, match="cannot be kept apart"):
        LocalTopology("x", tmp_path, topology.ledger, topology.ports).sever(cuts)


def no_toxic(patch: pytest.MonkeyPatch) -> None:
    """Nothing is set."""
    patch.setattr(Routes, "sever", lambda *_: None)


def other_way_round(patch: pytest.MonkeyPatch) -> None:
    """Every direction is the other one."""
    sever = Routes.sever
    patch.setattr(Routes, "sever", lambda self, cuts: sever(self, [Cut(cut.target, cut.source) for cut in cuts]))


def outlives(patch: pytest.MonkeyPatch) -> None:
    """SIGTERM goes nowhere for one of the nodes."""
    stop = ProcessNode.stop
    patch.setattr(ProcessNode, "stop", lambda self: None if self.name == "nats-2" else stop(self))


def outlives_sigkill(patch: pytest.MonkeyPatch) -> None:
    """SIGKILL goes nowhere for one of the nodes."""
    kill = ProcessNode.kill
    patch.setattr(ProcessNode, "kill", lambda self: None if self.name == "nats-2" else kill(self))


Disarm = Callable[[pytest.MonkeyPatch], None]
CASES: dict[str, tuple[Fault, Disarm | None]] = {
    "one way": (Isolate(Role.FOLLOWER, way="outbound", hold_s=2.0), None),
    "one way, with nothing set": (Isolate(Role.FOLLOWER, way="outbound", hold_s=2.0), no_toxic),
    "one way, and it is the other": (Isolate(Role.FOLLOWER, way="outbound", hold_s=2.0), other_way_round),
    "at random": (RandomPartition(hold_s=2.0), None),
    "at random, with nothing set": (RandomPartition(hold_s=2.0), no_toxic),
    "a bridge, with nothing set": (Bridge(hold_s=2.0), no_toxic),
    "a ring, with nothing set": (Ring(hold_s=2.0), no_toxic),
    "halves, with nothing set": (Halves(hold_s=2.0), no_toxic),
    "all nodes killed, and one lives on": (KillAll(), outlives_sigkill),
    "one node after the other": (Rolling(), None),
    "one node after the other, and one does not end": (Rolling(), outlives),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_of_three_local_servers_bites_or_says_that_it_did_not(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, disarm = CASES[case]
    if disarm is not None:
        disarm(monkeypatch)
    scenario = Scenario(configuration=R3, schedule=Repeat(fault), workload=Steady(rate_hz=300, quiet_s=0.5))
    run = run_cell(scenario, tmp_path / "run", engine=Processes())
    (injection,) = run.history.terms.injections
    views: dict[str, Sequence[str]] = dict(injection.facts)  # type: ignore[arg-type]
    if disarm is None:
        assert injection.bit_ns is not None, injection
        assert injection.why_not is None
        assert injection.recovered_ns is not None
        assert set(views["members_after_recovery"]) == {"nats-1", "nats-2", "nats-3"}
        assert all(count > 0 for count in dict(injection.facts.get("bytes_dropped", {})).values())  # type: ignore[call-overload]
    else:
        assert injection.bit_ns is None, injection
        assert injection.why_not
        assert Status.HELD not in {verdict.status for verdict in run.judgement.verdicts.values()}
