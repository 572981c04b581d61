"""Do local processes behave as nodes: killed, frozen, started again with data and ports kept, and gone afterwards?"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats_nodes import FILE, asked, greeted, http_get, info, nats_nodes

from harness.clock import until
from harness.engines import processes as engine_module
from harness.engines.ports import Ports
from harness.engines.processes import LocalTopology, Processes
from harness.errors import Refused, Trouble
from harness.ledger import started_ticks
from harness.system.topology import Direction, NodeSpec, NodeState


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path))
    return tmp_path


@pytest.fixture
def one() -> Iterator[LocalTopology]:
    topology = Processes().create(nats_nodes(1), run="test")
    yield topology
    topology.remove()


def test_kill_start_pause_resume_stop(one: LocalTopology) -> None:
    node, link = one.nodes["nats-1"], one.link("producer-1", "nats-1", "client")
    first = greeted(link)
    before = node.status()
    assert before.state is NodeState.RUNNING
    assert not one.dirty

    node.kill()
    assert (node.status().state, node.status().exit_code) == (NodeState.EXITED, -9)
    assert one.dirty
    assert info(link) == b""
    node.kill()
    node.resume()
    with pytest.raises(Trouble, match="does not run"):
        node.pause()

    address = link.address
    node.start()
    node.start()
    assert greeted(link) != first  # another life, by its server id
    assert link.address == address
    assert node.status().started != before.started

    node.pause()
    assert node.status().state is NodeState.PAUSED
    with socket.create_connection(link.address, timeout=0.2) as peer, pytest.raises(TimeoutError):
        peer.recv(1)
    node.resume()
    node.resume()
    assert node.status().state is NodeState.RUNNING
    assert info(link).startswith(b"INFO")

    node.pause()
    node.stop()
    assert (node.status().state, node.status().exit_code) == (NodeState.EXITED, 0)
    assert "Server Exiting" in node.logs(50)


def test_a_blackhole_withholds_bytes_and_the_cut_counts_them(one: LocalTopology) -> None:
    link = one.link("producer-1", "nats-1", "client")
    greeted(link)
    before = link.traffic()
    with socket.create_connection(link.address, timeout=0.2) as peer:
        peer.recv(4096)
        link.blackhole(Direction.DOWN)
        assert set(link.disturbed()) == {"timeout_downstream"}
        peer.sendall(b'CONNECT {"verbose":true}\r\nPING\r\n')
        with pytest.raises(TimeoutError):
            peer.recv(1)
        counted = link.cut()
        peer.settimeout(2)
        assert peer.recv(1) == b""
    withheld = counted.withheld(Direction.DOWN) - before.withheld(Direction.DOWN)
    assert withheld == len(b"+OK\r\nPONG\r\n")
    assert counted.up_sent - before.up_sent == 32
    link.heal()
    link.heal()
    assert link.disturbed() == {}
    assert info(link).startswith(b"INFO")
    assert one.traffic()["producer-1", "nats-1", "client"].down_received >= counted.down_received


def test_disconnect_refuses_and_heals(one: LocalTopology) -> None:
    link = one.link("producer-1", "nats-1", "client")
    greeted(link)
    link.disconnect()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(link.address, timeout=1)
    link.latency(5, Direction.UP)
    link.latency(7, Direction.UP)
    assert set(link.disturbed()) == {"enabled", "latency_upstream"}
    link.heal()
    assert info(link).startswith(b"INFO")


def test_a_link_is_made_once_and_client_links_anew_for_the_next_lease(one: LocalTopology) -> None:
    mine = one.link("producer-1", "nats-1", "client")
    own = one.link("harness", "nats-1", "client")
    assert one.link("producer-1", "nats-1", "client") is mine
    assert [link.slot for link in one.links()] == ["producer-1", "harness"]
    one.renew_links()
    assert one.links() == (own,)
    assert one.link("producer-1", "nats-1", "client") is not mine
    with pytest.raises(Refused):
        one.link("producer-1", "nats-1", "no-such-service")


def test_a_topology_leaves_nothing(state: Path) -> None:
    topology = Processes().create(nats_nodes(1), run="test")
    pids = [topology.nodes["nats-1"].status().pid, topology.proxy and topology.proxy.status().pid]
    directory = topology.directory
    assert all(pid and started_ticks(pid) for pid in pids)
    assert directory.exists()
    assert list((state / "ledger").iterdir())
    topology.remove()
    topology.remove()
    assert [started_ticks(pid) for pid in pids if pid] == [None, None]
    assert not directory.exists()
    assert not list((state / "ledger").iterdir())
    assert topology.proxy_alive() is not None


def test_three_nodes_find_each_other() -> None:
    topology = Processes().create(nats_nodes(3), run="test")
    try:
        monitor = topology.link("harness", "nats-2", "monitor")
        until(lambda: '"num_routes": 8' in http_get(monitor, "/routez"), within_s=10, what="routes to both others")
        described = topology.describe()["nodes"]
        assert isinstance(described, dict)
        assert described["nats-3"]["files"]["nats-server.conf"].count("nats://127.0.0.1:") == 3
    finally:
        topology.remove()


def test_data_outlives_a_kill_and_no_renewal(one: LocalTopology) -> None:
    node, link = one.nodes["nats-1"], one.link("harness", "nats-1", "client")
    greeted(link)
    stream = b'{"name":"S","subjects":["s"],"storage":"file"}'
    assert b'"did_create":true' in asked(link, "$JS.API.STREAM.CREATE.S", stream)
    node.kill()
    node.start()
    greeted(link)
    assert b'"name":"S"' in asked(link, "$JS.API.STREAM.INFO.S")
    for _ in range(2):
        node.renew()
        greeted(link)
        assert b"stream not found" in asked(link, "$JS.API.STREAM.INFO.S")


def test_a_node_that_exits_at_its_start_is_trouble_with_its_log_and_nothing_is_left(state: Path) -> None:
    spec = nats_nodes(1)[0]
    broken = NodeSpec(
        name=spec.name,
        program="nats",
        services=spec.services,
        files={FILE: "port: nonsense"},
        arguments=spec.arguments,
    )
    with pytest.raises(Trouble, match=r"nats-1 exited 1 at its start; last log:.*nats-server"):
        Processes().create([broken], run="test")
    assert not list((state / "ledger").iterdir())


@pytest.mark.parametrize("listens", [True, False], ids=["by_one_that_listens", "by_one_that_only_has_it"])
def test_a_port_that_is_taken_meanwhile_is_tried_anew(listens: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is bound and does not listen is seen by nobody's look, and stops the server all the same."""
    ports = Ports.open()
    thieves: list[socket.socket] = []
    take = Ports.take

    def stolen(self: Ports) -> int:
        port = take(self)
        if not thieves:
            thief = socket.socket()
            try:
                thief.bind(("127.0.0.1", port))
            except OSError:  # a connection of an earlier test lingers there: the next port, then
                thief.close()
                return port
            thieves.append(thief)
            if listens:
                thief.listen()
        return port

    monkeypatch.setattr(Ports, "take", stolen)
    topology = Processes().create(nats_nodes(1), run="test")
    try:
        assert greeted(topology.link("harness", "nats-1", "client"))
        assert thieves[0].getsockname()[1] not in topology.sites["nats-1"].ports.values()
    finally:
        topology.remove()
        thieves[0].close()
    assert ports is Ports.open()


def test_what_cannot_be_run_is_refused_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = nats_nodes(1)[0]
    kafka = NodeSpec(name="kafka-1", program="kafka", services={"client": 9092})
    with pytest.raises(Refused, match="cannot run 'kafka'"):
        Processes().create([kafka], run="test")
    assert Processes().unavailable([spec]) is None
    other = NodeSpec(name="nats-1", program="nats", services={}, version="2.0.0")
    assert "cannot choose" in (Processes().unavailable([other]) or "")
    twice = NodeSpec(name="nats-1", program="nats", services={}, files={"/a/x.conf": "", "/b/x.conf": ""})
    with pytest.raises(Refused, match="same base name"):
        Processes().create([twice], run="test")
    monkeypatch.setattr(engine_module, "required", lambda program: (_ for _ in ()).throw(Refused("no toxiproxy")))
    assert Processes().unavailable([spec]) == "no toxiproxy"


def test_two_harnesses_never_share_ports() -> None:
    code = "from harness.engines.ports import Ports; p = Ports.open(); print(p.first, p.take()); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        first, port = map(int, other.stdout.readline().split())
        mine = Ports.open()
        assert first != mine.first
        assert not mine.first <= port < mine.first + 256
        other.communicate("\n")


def test_execute_runs_beside_the_node(one: LocalTopology) -> None:
    node = one.nodes["nats-1"]
    assert node.execute("ls", "data").split() == ["jetstream"]
    with pytest.raises(Trouble, match="exited 2"):
        node.execute("ls", "/no/such/place")
    begun = time.monotonic()
    with pytest.raises(Trouble, match="timed out"):
        node.execute("sleep", "10", within_s=0.1)
    assert time.monotonic() - begun < 2


def test_a_dead_proxy_is_noticed(one: LocalTopology) -> None:
    assert one.proxy_alive() is None
    assert one.proxy is not None
    one.proxy.send(signal.SIGKILL)
    until(lambda: one.proxy_alive(), within_s=2, what="the proxy's death to be noticed")
    assert "toxiproxy" in (one.proxy_alive() or "")


def test_the_engine_module_loads_nothing_heavy() -> None:
    code = (
        "import sys, harness.engines.processes, harness.engines.pool, harness.engines.sweep, "
        "harness.engines.containers.engine as c; c.Containers(); "
        "print(sorted({'requests', 'docker', 'testcontainers', 'toxiproxy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
