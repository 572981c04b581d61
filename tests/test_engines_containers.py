"""Do containers behave as nodes: killed, frozen, started again with data, name and links kept, and gone afterwards?"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats_nodes import asked, greeted, http_get, info, nats_nodes

import docker
from harness.clock import until
from harness.engines.containers import api
from harness.engines.containers.engine import Containers, ContainerTopology
from harness.engines.containers.network import remove_network
from harness.engines.containers.node import ContainerNode
from harness.engines.pool import Pool
from harness.errors import Refused, Trouble
from harness.system.topology import Direction, NodeSpec, NodeState

pytestmark = pytest.mark.engine
RUN = "test-engines-containers"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool
    assert _ours() == []


@pytest.fixture(scope="module")
def engine() -> Containers:
    return Containers()


@pytest.fixture
def one(pool: Pool, engine: Containers) -> Iterator[ContainerTopology]:
    with pool.lease(engine, nats_nodes(1), run=RUN) as topology:
        assert isinstance(topology, ContainerTopology)
        yield topology


def _ours() -> list[str]:
    """Names of all containers and networks that this file's run made and that are still there."""
    filters = {"label": f"{api.RUN_LABEL}={RUN}"}
    client = docker.from_env()
    try:
        found = client.containers.list(all=True, filters=filters) + client.networks.list(filters=filters)
        return sorted(str(one.name) for one in found)
    finally:
        client.close()


def _volumes(of: ContainerNode) -> set[str]:
    return {str(mount["Name"]) for mount in of.box.inspect()["Mounts"] if mount["Type"] == "volume"}


def test_kill_start_pause_resume_stop(one: ContainerTopology) -> None:
    node, link = one.nodes["nats-1"], one.link("producer-1", "nats-1", "client")
    first = greeted(link)
    before = node.status()
    assert before.state is NodeState.RUNNING
    assert not one.dirty

    node.kill()
    assert (node.status().state, node.status().exit_code) == (NodeState.EXITED, 137)
    assert one.dirty
    node.kill()
    node.resume()
    begun = time.monotonic()
    assert info(link) == b""
    assert time.monotonic() - begun < 0.5  # a dead broker is refused at once, not looked up for seconds
    with pytest.raises(Trouble, match="pause"):
        node.pause()

    address = link.address
    node.start()
    node.start()
    assert greeted(link) != first
    assert link.address == address
    assert node.status().started != before.started

    node.pause()
    assert node.status().state is NodeState.PAUSED
    with socket.create_connection(link.address, timeout=0.2) as peer, pytest.raises(TimeoutError):
        peer.recv(1)
    node.resume()
    node.resume()
    assert info(link).startswith(b"INFO")

    node.pause()
    node.kill()
    assert node.status().state is NodeState.EXITED
    node.start()
    greeted(link)
    node.stop()
    assert (node.status().state, node.status().exit_code) == (NodeState.EXITED, 0)
    assert "Server Exiting" in node.logs(50)


def test_a_blackhole_withholds_bytes_and_the_cut_counts_them(one: ContainerTopology) -> None:
    link = one.link("producer-1", "nats-1", "client")
    greeted(link)
    before = link.traffic()
    with socket.create_connection(link.address, timeout=0.2) as peer:
        peer.recv(4096)
        link.blackhole(Direction.DOWN)
        peer.sendall(b'CONNECT {"verbose":true}\r\nPING\r\n')
        with pytest.raises(TimeoutError):
            peer.recv(1)
        counted = link.cut()
    assert counted.withheld(Direction.DOWN) - before.withheld(Direction.DOWN) == len(b"+OK\r\nPONG\r\n")
    link.heal()
    assert link.disturbed() == {}
    assert info(link).startswith(b"INFO")


def test_a_node_sees_the_proxy_as_its_peer_and_no_port_beyond_this_host(one: ContainerTopology) -> None:
    link, monitor = one.link("producer-1", "nats-1", "client"), one.link("harness", "nats-1", "monitor")
    greeted(link)
    with socket.create_connection(link.address, timeout=3) as peer:
        peer.recv(4096)
        peer.sendall(b"CONNECT {}\r\nPING\r\n")
        peer.recv(4096)
        connections = http_get(monitor, "/connz")
    assert any(f'"ip": "{address}"' in connections for address in one.proxy_peers())
    published = one.yard.gate.box.inspect()["NetworkSettings"]["Ports"].values()
    assert {binding["HostIp"] for bindings in published if bindings for binding in bindings} == {"127.0.0.1"}
    assert not any(one.nodes["nats-1"].box.inspect()["NetworkSettings"]["Ports"] or {})


def test_a_topology_that_nobody_keeps_leaves_nothing(state: Path) -> None:
    before = _ours()
    topology = Containers().create(nats_nodes(1), run=RUN)
    assert len(_ours()) - len(before) == 4  # the network, the proxy, the node's anchor, the node
    assert list((state / "ledger").iterdir())
    topology.remove()
    topology.remove()
    assert _ours() == before
    assert not list((state / "ledger").iterdir())


def test_a_renewed_node_has_its_address_and_none_of_its_data_and_leaves_nothing(state: Path) -> None:
    before, volumes = _ours(), set[str]()
    topology = Containers().create(nats_nodes(1), run=RUN)
    try:
        node, link = topology.nodes["nats-1"], topology.link("harness", "nats-1", "client")
        greeted(link)
        stream = b'{"name":"S","subjects":["s"],"storage":"file"}'
        assert b'"did_create":true' in asked(link, "$JS.API.STREAM.CREATE.S", stream)
        for _ in range(2):
            volumes |= _volumes(node)
            node.renew()
            greeted(link)
            assert b"stream not found" in asked(link, "$JS.API.STREAM.INFO.S")
        volumes |= _volumes(node)
        assert len(volumes) == 3
        assert topology.dirty
    finally:
        topology.remove()
    assert _ours() == before
    client = docker.from_env()
    assert volumes.isdisjoint(str(one.name) for one in client.volumes.list())
    client.close()
    assert not list((state / "ledger").iterdir())


def test_three_nodes_find_each_other_and_again_after_a_restart(pool: Pool, engine: Containers) -> None:
    with pool.lease(engine, nats_nodes(3), run=RUN) as topology:
        monitor = topology.link("harness", "nats-2", "monitor")
        until(lambda: '"num_routes": 8' in _routes(monitor), within_s=15, what="routes to both others")
        topology.nodes["nats-1"].kill()
        until(lambda: '"num_routes": 4' in _routes(monitor), within_s=15, what="the routes to nats-1 to end")
        topology.nodes["nats-1"].start()
        until(lambda: '"num_routes": 8' in _routes(monitor), within_s=15, what="routes to both others again")


def _routes(monitor: object) -> str:
    try:
        return http_get(monitor, "/routez")  # type: ignore[arg-type]
    except OSError:
        return ""


def test_a_clean_topology_serves_again_with_fresh_client_links_and_a_used_one_does_not(
    pool: Pool, engine: Containers
) -> None:
    with pool.lease(engine, nats_nodes(1), run=RUN) as first:
        link = first.link("producer-1", "nats-1", "client")
        greeted(link)
    with pool.lease(engine, nats_nodes(1), run=RUN) as second:
        assert second is first
        assert {link.slot for link in second.links()} <= {"harness"}
        assert second.link("producer-1", "nats-1", "client") is not link
        second.nodes["nats-1"].pause()
    with pool.lease(engine, nats_nodes(1), run=RUN) as third:
        assert third is not first
        assert isinstance(first, ContainerTopology)
        assert isinstance(third, ContainerTopology)
        assert third.yard is first.yard
        assert greeted(third.link("producer-1", "nats-1", "client"))


def test_a_network_that_is_in_use_is_kept_and_said(one: ContainerTopology) -> None:
    with pytest.raises(Trouble, match=r"keeps the network .*active endpoints"):
        remove_network(one.yard.bridge.name)


def test_half_a_creation_leaves_nothing(state: Path) -> None:
    before = _ours()
    nowhere = NodeSpec(name="nats-1", program="nats", services={}, files={"/nats-server/below-a-file": ""})
    with pytest.raises(Trouble, match=r"could not start .*nats-1"):
        Containers().create([nowhere], run=RUN)
    assert _ours() == before
    assert not list((state / "ledger").iterdir())


def test_execute_runs_in_the_container(one: ContainerTopology) -> None:
    node = one.nodes["nats-1"]
    assert "nats-server: v2" in node.execute("/nats-server", "--version")
    with pytest.raises(Trouble, match="exited 1"):
        node.execute("/nats-server", "--config", "/no/such/file")


def test_what_is_not_here_is_refused_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    other = NodeSpec(name="nats-1", program="nats", services={}, version="0.0.1")
    with pytest.raises(Refused, match=r"has no image nats:0\.0\.1\n  cure: docker pull or docker load nats:0\.0\.1"):
        Containers().create([other], run=RUN)
    with pytest.raises(Refused, match="no image for 'memory'"):
        Containers().create([NodeSpec(name="m-1", program="memory", services={})], run=RUN)
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/socket")
    why_not = Containers().unavailable(nats_nodes(1))
    assert why_not is not None
    assert why_not.startswith("the container engine does not answer")


def test_an_engine_that_hangs_is_found_out_in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "deaf"
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
        deaf.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        begun = time.monotonic()
        assert Containers().unavailable(nats_nodes(1)) is not None
        assert time.monotonic() - begun < 3


def test_rabbitmq_is_killed_and_started_again_and_its_cookie_is_its_own(pool: Pool, engine: Containers) -> None:
    spec = NodeSpec(
        name="rabbit-1",
        program="rabbitmq",
        services={"amqp": 5672},
        files={
            "/var/lib/rabbitmq/.erlang.cookie": "assaycookie",
            "/etc/rabbitmq/rabbitmq.conf": "loopback_users = none\nlisteners.tcp.default = <<port:amqp>>\n",
        },
    )
    with pool.lease(engine, [spec], run=RUN) as topology:
        node, link = topology.nodes["rabbit-1"], topology.link("harness", "rabbit-1", "amqp")

        def speaks_amqp() -> bool:
            try:
                with socket.create_connection(link.address, timeout=3) as peer:
                    peer.sendall(b"AMQP\x00\x00\x09\x01")
                    return peer.recv(8)[:1] == b"\x01"
            except OSError:
                return False

        until(speaks_amqp, within_s=60, what="RabbitMQ to speak AMQP", last_seen=lambda: node.logs())
        shown = node.execute(
            "sh", "-c", "cat /var/lib/rabbitmq/.erlang.cookie; stat -c ' %a %U' /var/lib/rabbitmq/.erlang.cookie"
        )
        assert shown.split() == ["assaycookie", "400", "rabbitmq"]
        node.kill()
        node.start()
        until(speaks_amqp, within_s=60, what="RabbitMQ to speak AMQP again", last_seen=lambda: node.logs())
