"""Are nodes in containers kept from each other in the asked directions and no other, and is nothing of it left?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from nats_nodes import nats_nodes

import docker
from harness.brokers.nats.configuration import JetStream, Nats
from harness.clock import until
from harness.engines.containers import api, sidecar
from harness.engines.containers.engine import Containers, ContainerTopology
from harness.engines.containers.sidecar import Fence, sixes
from harness.errors import Refused, Trouble
from harness.faults.partition import (
    Bridge,
    Halves,
    Isolate,
    RandomPartition,
    Ring,
    halves,
    random_cuts,
    ring_cuts,
    sides,
)
from harness.guarantee import Status
from harness.operation import Role
from harness.plain import from_plain, to_plain
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.topology import Cut
from tests.runs import run_cell

RUN = "test-partition"
ONE_WAY = Cut("nats-1", "nats-2")


def test_a_role_or_a_way_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="isolate: role=consumer"):
        Isolate(Role.CONSUMER)
    with pytest.raises(Refused, match="isolate: way='sideways'"):
        Isolate(way="sideways")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="halves: leader_in='both'"):
        Halves(leader_in="both")  # type: ignore[arg-type]


THREE, FIVE = ["a", "b", "c"], ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("choice", range(20))
def test_in_a_ring_of_five_each_hears_a_majority_both_ways_and_each_another_one(choice: int) -> None:
    cuts = set(ring_cuts(FIVE, choice))
    assert cuts == {Cut(cut.target, cut.source) for cut in cuts}
    hears = {name: frozenset(other for other in FIVE if Cut(other, name) not in cuts) for name in FIVE}
    assert {len(heard) for heard in hears.values()} == {3}
    assert len(set(hears.values())) == 5


@pytest.mark.parametrize("choice", range(2))
def test_in_a_ring_of_three_each_is_heard_by_one_neighbour_alone(choice: int) -> None:
    cuts = set(ring_cuts(THREE, choice))
    assert len(cuts) == 3
    assert {cut.source for cut in cuts} == {cut.target for cut in cuts} == set(THREE)
    assert not cuts & {Cut(cut.target, cut.source) for cut in cuts}


@pytest.mark.parametrize("names", [THREE, FIVE], ids=["three", "five"])
@pytest.mark.parametrize("choice", range(20))
def test_halves_are_a_minority_and_a_majority_with_the_leader_where_it_is_wanted(names: list[str], choice: int) -> None:
    for leader in names:
        minority, majority = halves(names, leader, "minority", choice)
        assert leader in minority
        assert sorted(minority + majority) == names
        assert len(minority) < len(majority)
        minority, majority = halves(names, leader, "majority", choice)
        assert leader in majority
        assert sorted(minority + majority) == names
        assert len(minority) < len(majority)


@pytest.mark.parametrize("names", [THREE, FIVE], ids=["three", "five"])
@pytest.mark.parametrize("choice", range(20))
def test_a_bridge_stands_between_two_sides_of_equal_size(names: list[str], choice: int) -> None:
    for leader in names:
        led, bridge, rest = sides(names, leader, choice)
        assert sorted([*led, bridge, *rest]) == names
        assert leader in led
        assert len(led) == len(rest)


def test_a_random_partition_is_the_same_for_the_same_choice_and_every_one_that_is_none_or_all_is_left_out() -> None:
    drawn = {frozenset(random_cuts(THREE, choice)) for choice in range(2_000)}
    assert drawn == {frozenset(random_cuts(THREE, choice)) for choice in range(2_000)}
    assert len(drawn) == 2**6 - 2  # every set of the six directions but the empty one and the whole
    assert frozenset() not in drawn


@pytest.mark.parametrize(
    "fault",
    [Isolate(way="inbound"), Isolate(Role.CLIENT_NODE), Bridge(hold_s=2.0), Ring(), RandomPartition(), Halves()],
    ids=lambda fault: fault.name,
)
def test_its_json_reads_back_to_the_same_fault(fault: Isolate | Bridge | Ring | RandomPartition | Halves) -> None:
    assert from_plain(type(fault), to_plain(fault)) == fault


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContainerTopology]:
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path))
    topology = Containers().create(nats_nodes(3), run=RUN)
    try:
        yield topology
    finally:
        topology.remove()
    client = docker.from_env()
    try:
        assert client.containers.list(all=True, filters={"label": f"{api.RUN_LABEL}={RUN}"}) == []
    finally:
        client.close()


@pytest.mark.engine
def test_one_direction_is_severed_counted_and_rejoined(three: ContainerTopology) -> None:
    three.prepare(frozenset({"sever"}))
    begun = time.monotonic()
    three.sever([ONE_WAY])
    took_s = time.monotonic() - begun
    assert took_s < 0.1  # measured 3 ms; the limit catches sidecars or shells that are started only now
    assert three.dirty
    until(lambda: three.dropped().get(ONE_WAY, 0) > 0, within_s=10, what="a packet to be dropped")
    assert set(three.dropped()) == {ONE_WAY}
    three.rejoin()
    assert three.dropped() == {}
    three.rejoin()


@pytest.mark.engine
def test_rules_go_also_when_the_shells_that_set_them_have_ended(three: ContainerTopology) -> None:
    three.sever([ONE_WAY])
    assert three.fence is not None
    for shell in three.fence._shells.values():
        shell.close()
    assert set(three.dropped()) == {ONE_WAY}
    three.rejoin()
    assert three.dropped() == {}


@pytest.mark.engine
def test_nodes_have_no_ipv6_and_one_that_has_it_is_refused(
    three: ContainerTopology, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.prepare(frozenset({"sever"}))
    assert three.fence is not None
    for name in three.made:
        assert sixes(three.fence._tell(name, "cat /proc/net/if_inet6 2>/dev/null || true")) == []
    client = docker.from_env()
    try:
        assert client.networks.get(three.yard.bridge.name).attrs["EnableIPv6"] is False
    finally:
        client.close()
    three.fence.remove()
    three.fence = None
    table = "fe800000000000000042acfffe110002 0a 40 20 80     eth0"
    monkeypatch.setattr(sidecar, "_SIXES", f"echo '{table}'")  # what the kernel says where a network has it
    with pytest.raises(Trouble, match="has IPv6 addresses, which rules would not cover"):
        three.prepare(frozenset({"sever"}))


@pytest.mark.engine
def test_sidecars_have_one_capability_and_no_more(three: ContainerTopology) -> None:
    three.prepare(frozenset({"sever"}))
    client = docker.from_env()
    try:
        ours = client.containers.list(filters={"label": f"{api.RUN_LABEL}={RUN}"})
        powers = {
            str(one.name).rpartition("-fence-")[2]: one.attrs["HostConfig"] for one in ours if "-fence-" in one.name
        }
        others = [one.attrs["HostConfig"]["CapAdd"] for one in ours if "-fence-" not in one.name]
    finally:
        client.close()
    assert set(powers) == {"nats-1", "nats-2", "nats-3"}
    assert {tuple(power["CapAdd"]) for power in powers.values()} == {("NET_ADMIN",)}
    assert not any(power["Privileged"] for power in powers.values())
    assert not any(others)


def no_rule(patch: pytest.MonkeyPatch) -> None:
    """No rule is set."""
    patch.setattr(Fence, "sever", lambda *_: None)


def other_way_round(patch: pytest.MonkeyPatch) -> None:
    """One rule is set at the wrong end, for the wrong address; all others as asked."""
    sever = Fence.sever

    def turned(self: Fence, cuts: Sequence[Cut]) -> None:
        one = next(cut for cut in cuts if Cut(cut.target, cut.source) not in cuts)
        sever(self, [*(cut for cut in cuts if cut != one), Cut(one.target, one.source)])

    patch.setattr(Fence, "sever", turned)


DISARMED = {
    "armed": (Isolate(Role.FOLLOWER, hold_s=2.0), 4, None),
    "armed, of the node of a client": (Isolate(Role.CLIENT_NODE, hold_s=2.0), 4, None),
    "no rule": (Isolate(Role.FOLLOWER, hold_s=2.0), 4, no_rule),
    "another rule": (Isolate(Role.FOLLOWER, way="outbound", hold_s=2.0), 2, other_way_round),
}


@pytest.mark.engine
@pytest.mark.parametrize("case", DISARMED)
def test_a_partition_bites_or_says_that_it_did_not(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, cuts_count, disarm = DISARMED[case]
    armed = disarm is None
    if disarm is not None:
        disarm(monkeypatch)
    scenario = Scenario(
        configuration=Nats("apart", members=3, jetstream=JetStream(replicas=3), acknowledge="confirmed"),
        schedule=Repeat(fault),
        workload=Steady(rate_hz=500, quiet_s=0.5),
    )
    run = run_cell(scenario, tmp_path / "run", engine=Containers())
    (injection,) = run.history.terms.injections
    assert (injection.bit_ns is not None) is armed, injection
    assert (injection.why_not is None) is armed
    if armed:
        assert len(injection.targets) == cuts_count
        for when in ("members_before", "members_while_it_held", "members_after_recovery"):
            assert set(injection.facts[when]) == {"nats-1", "nats-2", "nats-3"}  # type: ignore[call-overload]
        if fault.role is Role.CLIENT_NODE:
            assert str(injection.facts["client"]).startswith(("producer-", "consumer-"))
        assert all(packets > 0 for packets in injection.facts["packets_dropped"].values())  # type: ignore[attr-defined]
        assert injection.recovered_ns is not None
    else:
        assert Status.HELD not in {verdict.status for verdict in run.judgement.verdicts.values()}
