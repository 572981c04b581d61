"""Does toxiproxy-server do what the strict layer promises, and does the layer notice when it does not?

Run against the real server, as a local process, with a plain TCP echo behind it.
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import toxiproxy.server

from harness.clock import until
from harness.engines.calls import Calls
from harness.engines.link import Door, ProxyLink
from harness.engines.ports import Ports
from harness.engines.process_node import LocalProcess, required
from harness.engines.proxy import Proxy, Server, disturbances, parse_traffic
from harness.engines.toxic import ATTRIBUTES, Toxic
from harness.errors import Refused, Trouble
from harness.ledger import Ledger
from harness.system.sockets import sockets
from harness.system.topology import Direction, Link

UP, DOWN = Direction.UP, Direction.DOWN


class Echo:
    """Sends back what it receives, and remembers how much that was."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.received = 0
        self.chunks: list[bytes] = []
        self.ends: list[float] = []
        self.sockets: list[socket.socket] = [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            while chunk := peer.recv(65_536):
                self.received += len(chunk)
                self.chunks.append(chunk)
                peer.sendall(chunk)
        except OSError:
            pass
        self.ends.append(time.monotonic())
        peer.close()

    def close(self) -> None:
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it; a close alone does not
            one.close()


def _server(directory: Path, ledger: Ledger) -> tuple[LocalProcess, Server]:
    port = Ports.open().take()
    argv = (required("toxiproxy"), "-host", "127.0.0.1", "-port", str(port), "-proxy-metrics")
    process = LocalProcess("test/toxiproxy", argv, {}, directory, directory / f"log-{port}", ledger)
    process.start()
    server = Server("127.0.0.1", port)
    until(lambda: server.alive() is None, within_s=5, what="toxiproxy-server")
    return process, server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("toxiproxy")
    process, server = _server(directory, Ledger.open(directory))
    yield server
    server.close()
    process.kill()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(server: Server, echo: Echo) -> Iterator[Proxy]:
    ports = Ports.open()
    port = ports.take()
    proxy = server.create(f"echo-{port}", listen=f"127.0.0.1:{port}", upstream=f"127.0.0.1:{echo.port}")
    yield proxy
    server.delete(proxy.name)
    ports.give(port)


@pytest.fixture
def dial(proxy: Proxy) -> Iterator[Callable[[], socket.socket]]:
    opened: list[socket.socket] = []

    def dial() -> socket.socket:
        host, port = proxy.state().listen.split(":")
        opened.append(socket.create_connection((host, int(port)), timeout=3))
        return opened[-1]

    yield dial
    for one in opened:
        one.close()


def _echoed(peer: socket.socket, text: bytes = b"ping") -> bytes:
    peer.sendall(text)
    return peer.recv(len(text))


def _unread(peer: socket.socket) -> int:
    """How much is left when what has come was read."""
    peer.settimeout(0.02)
    try:
        return len(peer.recv(65_536))
    except TimeoutError:
        return 0
    finally:
        peer.settimeout(3)


def _silent(peer: socket.socket, for_s: float = 0.15) -> bool:
    peer.settimeout(for_s)
    try:
        peer.recv(1)
    except TimeoutError:
        return True
    finally:
        peer.settimeout(3)
    return False


# ---- what each disturbance does --------------------------------------------------------------------------------------


def test_a_new_proxy_passes_bytes(dial: Callable[[], socket.socket]) -> None:
    assert _echoed(dial()) == b"ping"


def test_disable_sends_fin_and_refuses_and_enable_lets_in_again(
    proxy: Proxy, dial: Callable[[], socket.socket]
) -> None:
    peer = dial()
    _echoed(peer)
    proxy.disable()
    assert peer.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        dial()
    proxy.enable()
    assert _echoed(dial()) == b"ping"


def test_blackhole_down_lands_upstream_is_silent_and_closes_when_mended(
    proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]
) -> None:
    peer = dial()
    _echoed(peer)
    proxy.add(Toxic.blackhole(DOWN))
    peer.sendall(b"lands")
    until(lambda: echo.received == 9, within_s=2, what="the bytes to land")
    assert _silent(peer)
    proxy.heal()
    assert peer.recv(1) == b""
    assert _echoed(dial()) == b"ping"


def test_blackhole_up_lands_nowhere_and_closes_when_mended(
    proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]
) -> None:
    peer = dial()
    _echoed(peer)
    proxy.add(Toxic.blackhole(UP))
    peer.sendall(b"lost")
    assert _silent(peer)
    assert echo.received == 4
    proxy.heal()
    assert peer.recv(1) == b""


def test_latency_delays_and_its_removal_flushes_at_once(proxy: Proxy, dial: Callable[[], socket.socket]) -> None:
    peer = dial()
    _echoed(peer)
    proxy.add(Toxic.latency(100, DOWN))
    begun = time.monotonic()
    assert _echoed(peer) == b"ping"
    assert time.monotonic() - begun >= 0.1
    proxy.heal()
    proxy.add(Toxic.latency(60_000, DOWN))
    peer.sendall(b"held")
    assert _silent(peer)
    proxy.heal()
    begun = time.monotonic()
    assert peer.recv(4) == b"held"
    assert time.monotonic() - begun < 0.5


def test_what_is_delayed_for_a_client_that_died_does_not_hold_up_mending(
    proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]
) -> None:
    """Toxiproxy 2.12 takes 5 s for each piece that it cannot deliver as it takes a toxic away."""
    peer = dial()
    _echoed(peer)
    proxy.add(Toxic.latency(60_000, DOWN))
    before = echo.received
    for sent in range(1, 6):
        peer.sendall(b"held")
        until(lambda sent=sent: echo.received == before + 4 * sent, within_s=1, what="the echo")  # type: ignore[misc]
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    begun = time.monotonic()
    proxy.heal()
    assert time.monotonic() - begun < 1
    assert _echoed(dial()) == b"ping"


def test_a_change_is_read_back_and_needs_something_to_change(proxy: Proxy) -> None:
    with pytest.raises(Trouble, match="answered 404"):
        proxy.change(Toxic.latency(5, UP))
    proxy.add(Toxic.latency(5, UP))
    proxy.change(Toxic.latency(7, UP))
    assert proxy.state().toxics["latency_upstream"]["attributes"] == {"latency": 7, "jitter": 0}


def test_stall_holds_back_and_mends_without_loss_or_reconnect(
    proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]
) -> None:
    peer = dial()
    _echoed(peer)
    proxy.add(Toxic.stall(UP))
    peer.sendall(b"later")
    assert _silent(peer)
    assert echo.received == 4
    proxy.heal()
    assert peer.recv(5) == b"later"


def test_limit_data_cuts_at_the_exact_byte(proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]) -> None:
    proxy.add(Toxic.limit_data(10, UP))
    peer = dial()
    peer.sendall(b"0123456789abcdef")
    until(lambda: echo.ends, within_s=2, what="the connection to be cut")
    assert b"".join(echo.chunks) == b"0123456789"


def test_reset_peer_resets_new_connections_and_ends_live_ones(proxy: Proxy, dial: Callable[[], socket.socket]) -> None:
    live = dial()
    _echoed(live)
    proxy.add(Toxic.reset_peer(0, DOWN))
    live.sendall(b"more")
    assert live.recv(4) == b""
    fresh = dial()
    fresh.sendall(b"x")  # it resets at the first bytes of its direction, here the echo
    with pytest.raises(ConnectionResetError):
        fresh.recv(1)


def test_slicer_fragments_and_loses_nothing(proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]) -> None:
    proxy.add(Toxic.slicer(4, 2_000, UP))
    peer = dial()
    peer.sendall(b"0123456789abcdef")
    until(lambda: echo.received == 16, within_s=3, what="all slices to arrive")
    assert len(echo.chunks) > 1
    assert b"".join(echo.chunks) == b"0123456789abcdef"


def test_slow_close_holds_back_the_end(proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]) -> None:
    proxy.add(Toxic.slow_close(200, UP))
    peer = dial()
    _echoed(peer)
    closed = time.monotonic()
    peer.close()
    until(lambda: echo.ends, within_s=3, what="the end to arrive")
    assert echo.ends[0] - closed >= 0.2


def test_limit_data_counts_from_now_on_a_live_connection_and_from_its_beginning_on_a_later_one(
    server: Server, proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]
) -> None:
    live = dial()
    _echoed(live, b"before")
    proxy.add(Toxic.limit_data(10, UP))
    live.sendall(b"0123456789abcdef")
    until(lambda: echo.ends, within_s=2, what="the live connection to be cut")
    assert b"".join(echo.chunks) == b"before0123456789"
    until(lambda: proxy.name in server.traffic(), within_s=2, what="it to be counted")
    for _ in range(2):
        dial().sendall(b"0123456789abcdef")
    until(lambda: len(echo.ends) == 3, within_s=2, what="the later connections to be cut")
    until(lambda: server.traffic()[proxy.name].up_sent == 16 + 2 * 10, within_s=2, what="the exact count")


def test_reset_peer_both_ways_resets_whoever_speaks_first(proxy: Proxy, echo: Echo) -> None:
    for way in Direction:
        proxy.add(Toxic.reset_peer(0, way))
    host, port = proxy.state().listen.split(":")
    with socket.create_connection((host, int(port)), timeout=2) as client:
        client.sendall(b"me first")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert echo.received == 0


def test_reset_peer_resets_a_client_that_only_listens(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as greeter:
        ports = Ports.open()
        port = ports.take()
        proxy = server.create(
            f"greeter-{port}", listen=f"127.0.0.1:{port}", upstream=f"127.0.0.1:{greeter.getsockname()[1]}"
        )
        try:
            for way in Direction:
                proxy.add(Toxic.reset_peer(0, way))
            with socket.create_connection(("127.0.0.1", port), timeout=2) as client, greeter.accept()[0] as peer:
                peer.sendall(b"INFO")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
        finally:
            server.delete(proxy.name)
            ports.give(port)


def test_slicer_makes_segments_of_it_that_the_clients_kernel_counts(
    proxy: Proxy, dial: Callable[[], socket.socket]
) -> None:
    peer = dial()
    proxy.add(Toxic.slicer(16, 0, DOWN))
    for _ in range(5):
        _echoed(peer, b"x" * 160)
        until(lambda: _unread(peer) == 0, within_s=1, what="the rest to be read")
    door = SimpleNamespace(slot="a", node="b", address=peer.getpeername())
    (seen,) = sockets([cast(Link, door)]).values()
    assert seen.received == 5 * 160
    assert seen.received <= 16 * seen.segments


def test_a_close_that_is_held_back_is_let_go_when_mended(
    proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]
) -> None:
    proxy.add(Toxic.slow_close(60_000, UP))
    peer = dial()
    _echoed(peer)
    peer.close()
    time.sleep(0.1)
    assert not echo.ends
    proxy.heal()
    until(lambda: echo.ends, within_s=2, what="the end to arrive")


def test_a_limited_rate_lets_go_of_everything_when_mended(
    proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]
) -> None:
    proxy.add(Toxic.latency(1, UP))
    proxy.add(Toxic.bandwidth(1, UP))
    dial().sendall(b"x" * 100_000)
    time.sleep(0.2)
    assert echo.received <= 1_000
    proxy.heal([Toxic.latency(1, UP)])
    until(lambda: echo.received == 100_000, within_s=2, what="all of it to arrive")


def test_every_disturbance_of_a_link_is_read_back_and_undone(proxy: Proxy) -> None:
    host, port = proxy.state().listen.split(":")
    link = ProxyLink("producer-1", "m1", "client", proxy, Door(listen=f"{host}:{port}", port=int(port)))
    link.set_distance(3)
    link.limit(20, UP)
    link.limit(30, UP)
    link.cut_after(99, DOWN)
    link.fragment(16, DOWN)
    link.slow_close(500, UP)
    link.latency(5, UP)
    link.reset_new()
    told = {name: cast("dict[str, Any]", toxic)["attributes"] for name, toxic in link.disturbed().items()}
    assert told == {
        "bandwidth_upstream": {"rate": 30},
        "limit_data_downstream": {"bytes": 99},
        "slicer_downstream": {"average_size": 16, "size_variation": 0, "delay": 0},
        "slow_close_upstream": {"delay": 500},
        "latency_upstream": {"latency": 8, "jitter": 0},
        "reset_peer_upstream": {"timeout": 0},
        "reset_peer_downstream": {"timeout": 0},
    }
    link.heal()
    link.heal()
    assert link.disturbed() == {}
    link.stall(UP)
    assert set(link.disturbed()) == {"bandwidth_upstream"}
    link.heal()


def test_bandwidth_limits_the_rate(proxy: Proxy, dial: Callable[[], socket.socket]) -> None:
    proxy.add(Toxic.bandwidth(100, UP))
    peer = dial()
    begun = time.monotonic()
    peer.sendall(b"x" * 30_000)
    got = 0
    while got < 30_000:
        got += len(peer.recv(65_536))
    assert time.monotonic() - begun >= 0.25


def test_with_upstream_dead_a_client_is_let_in_and_ended_at_once(
    proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]
) -> None:
    echo.close()
    peer = dial()
    with contextlib.suppress(ConnectionResetError):
        assert peer.recv(1) == b""


# ---- what the library hides, and the layer does not ------------------------------------------------------------------


def test_heal_undoes_everything_and_is_idempotent(proxy: Proxy) -> None:
    proxy.add(Toxic.latency(5, UP))
    proxy.add(Toxic.blackhole(DOWN))
    proxy.disable()
    assert set(disturbances(proxy.state())) == {"latency_upstream", "timeout_downstream", "enabled"}
    proxy.heal()
    proxy.heal()
    assert disturbances(proxy.state()) == {}


@pytest.mark.parametrize(
    ("type_", "attributes"),
    [
        ("latency", {"latencyy": 100, "jitter": 0}),  # the server would store 0: no fault at all
        ("latency", {"latency": 100}),
        ("latency", {"latency": 100, "jitter": 10}),  # random
        ("latency", {"latency": -1, "jitter": 0}),
        ("latency", {"latency": 0.5, "jitter": 0}),
        ("slicer", {"average_size": 10, "size_variation": 5, "delay": 0}),  # random
        ("packet_loss", {"probability": 1}),  # corruption
        ("timeouts", {"timeout": 0}),
    ],
)
def test_a_toxic_that_means_nothing_is_refused_before_it_is_sent(type_: str, attributes: dict[str, int]) -> None:
    with pytest.raises(Refused):
        Toxic(type_, UP, attributes)


def test_a_toxic_that_reads_back_otherwise_is_trouble(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toxic, "__post_init__", lambda self: None)  # let a mistyped attribute through
    with pytest.raises(Trouble, match="reads back"):
        proxy.add(Toxic("latency", UP, {"latencyy": 100, "jitter": 0}))


def test_toxicity_is_always_one(proxy: Proxy) -> None:
    proxy.add(Toxic.latency(5, UP))
    assert proxy.state().toxics["latency_upstream"]["toxicity"] == 1


def test_the_same_toxic_twice_is_trouble(proxy: Proxy) -> None:
    proxy.add(Toxic.latency(5, UP))
    with pytest.raises(Trouble, match="409"):
        proxy.add(Toxic.latency(7, UP))
    assert proxy.state().toxics["latency_upstream"]["attributes"] == {"latency": 5, "jitter": 0}


def test_create_on_a_taken_port_is_one_clear_error(server: Server, proxy: Proxy) -> None:
    with pytest.raises(Trouble, match=r"500 to POST /proxies: .*address already in use"):
        server.create("another", listen=proxy.state().listen, upstream="127.0.0.1:1")
    assert "another" not in server.proxies()


def test_create_of_a_taken_name_is_one_clear_error_and_recreates_nothing(
    server: Server, proxy: Proxy, dial: Callable[[], socket.socket]
) -> None:
    peer = dial()
    _echoed(peer)
    with pytest.raises(Trouble, match="already has a proxy"):
        server.create(proxy.name, listen="127.0.0.1:0", upstream="127.0.0.1:1")
    assert _echoed(peer) == b"ping"


def test_enable_that_fails_in_the_server_is_trouble(server: Server, proxy: Proxy) -> None:
    host, port = proxy.state().listen.split(":")
    proxy.disable()
    with socket.create_server((host, int(port))), pytest.raises(Trouble, match="500"):
        proxy.enable()
    assert not proxy.state().enabled


def test_what_is_not_there_is_trouble(server: Server, proxy: Proxy) -> None:
    with pytest.raises(Trouble, match="404"):
        server.proxy("nobody")
    with pytest.raises(Trouble, match="404"):
        proxy.remove("latency_upstream")


def test_a_name_that_would_change_the_request_is_refused(server: Server) -> None:
    with pytest.raises(Refused):
        server.create("a/../b", listen="127.0.0.1:0", upstream="127.0.0.1:1")


def test_a_server_that_does_not_answer_is_trouble_within_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        slow = Server("127.0.0.1", deaf.getsockname()[1], limit_s=0.1)
        begun = time.monotonic()
        with pytest.raises(Trouble, match="did not answer"):
            slow.version()
        assert time.monotonic() - begun < 2
        slow.close()


def test_a_change_that_the_server_ignores_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    class Liar(http.server.BaseHTTPRequestHandler):
        """Says yes to everything and does nothing."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = b'{"name":"a","listen":"127.0.0.1:1","upstream":"127.0.0.1:2","enabled":true,"toxics":[]}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Liar) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            liar = Server("127.0.0.1", httpd.server_address[1], limit_s=2)
            with pytest.raises(Trouble, match="contrary"):
                Proxy(liar, "a").disable()
            with pytest.raises(Trouble, match="reads back None"):
                Proxy(liar, "a").add(Toxic.blackhole(UP))
            liar.close()
        finally:
            httpd.shutdown()
            thread.join()


def test_a_connection_that_the_server_ended_while_it_was_idle_is_not_used_again() -> None:
    class Brief(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            self.close_connection = True  # and does not say so

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Brief) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        calls = Calls("brief", "127.0.0.1", httpd.server_address[1], 2.0)
        try:
            for _ in range(3):
                assert calls.request("GET", "/").json() == {}
                time.sleep(0.05)
        finally:
            calls.close()
            httpd.shutdown()
            thread.join()


def test_two_servers_and_many_threads_never_mix(server: Server, echo: Echo, tmp_path: Path) -> None:
    process, other = _server(tmp_path, Ledger.open(tmp_path))
    ports = Ports.open()
    try:
        failures: list[Exception] = []

        def work(mine: Server, number: int) -> None:
            try:
                port = ports.take()
                name = f"mix-{number}"
                proxy = mine.create(name, listen=f"127.0.0.1:{port}", upstream=f"127.0.0.1:{echo.port}")
                for _ in range(10):
                    proxy.add(Toxic.latency(number, UP))
                    proxy.heal()
                proxy.disable()
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=((server, other)[n % 2], n)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert {name for name in server.proxies() if name.startswith("mix-")} == {f"mix-{n}" for n in (0, 2, 4, 6)}
        assert set(other.proxies()) == {f"mix-{n}" for n in (1, 3, 5, 7)}
        for name in ("mix-0", "mix-2", "mix-4", "mix-6"):
            server.delete(name)
    finally:
        other.close()
        process.kill()


def test_the_library_asked_outside_the_layer_reaches_nobody() -> None:
    with pytest.raises(LookupError):
        toxiproxy.server.Toxiproxy().proxies()


def test_mending_latency_before_a_reader_that_does_not_read_hangs_the_server_and_is_trouble(tmp_path: Path) -> None:
    """Toxiproxy 2.12 waits for the bytes to leave, holding its locks: no call is answered until they do."""
    process, victim = _server(tmp_path, Ledger.open(tmp_path))
    impatient = Server("127.0.0.1", int(process.argv[4]), limit_s=0.3)
    port = Ports.open().take()
    try:
        with socket.create_server(("127.0.0.1", 0)) as reader:
            upstream = f"127.0.0.1:{reader.getsockname()[1]}"
            proxy = impatient.create("stuck", listen=f"127.0.0.1:{port}", upstream=upstream)
            with socket.create_connection(("127.0.0.1", port)) as peer, reader.accept()[0]:
                proxy.add(Toxic.latency(1, UP))
                peer.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    peer.sendall(bytes(1 << 28))
                with pytest.raises(Trouble, match="did not answer POST"):
                    proxy.heal()
                assert impatient.alive(within_s=0.3) is None  # its version needs no lock; its proxies do
                with pytest.raises(Trouble, match="did not answer GET"):
                    proxy.state()
    finally:
        impatient.close()
        victim.close()
        process.kill()


def test_removing_a_stall_before_a_peer_that_has_gone_hangs_the_server_and_is_trouble(tmp_path: Path) -> None:
    """Toxiproxy 2.12 lets go of each chunk that waited within 5 s, whether anybody takes it or not, holding its locks:
    so a stall must not outlast the patience of a broker with its clients."""
    process, victim = _server(tmp_path, Ledger.open(tmp_path))
    impatient = Server("127.0.0.1", int(process.argv[4]), limit_s=0.5)
    port = Ports.open().take()
    try:
        with socket.create_server(("127.0.0.1", 0)) as reader:
            upstream = f"127.0.0.1:{reader.getsockname()[1]}"
            proxy = impatient.create("stuck", listen=f"127.0.0.1:{port}", upstream=upstream)
            proxy.add(Toxic.latency(1, UP))
            with socket.create_connection(("127.0.0.1", port)) as peer:
                gone = reader.accept()[0]
                proxy.add(Toxic.stall(UP))
                for _ in range(5):
                    peer.sendall(b"waits")
                    time.sleep(0.02)
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                gone.close()
                time.sleep(0.1)
                with pytest.raises(Trouble, match="did not answer DELETE"):
                    proxy.heal([Toxic.latency(1, UP)])
    finally:
        impatient.close()
        victim.close()
        process.kill()


# ---- what is counted -------------------------------------------------------------------------------------------------


def test_traffic_counts_a_connection_when_it_ends_and_says_what_a_blackhole_swallowed(
    server: Server, proxy: Proxy, echo: Echo, dial: Callable[[], socket.socket]
) -> None:
    peer = dial()
    _echoed(peer)
    proxy.add(Toxic.blackhole(DOWN))
    peer.sendall(b"swallowed")
    until(lambda: echo.received == 13, within_s=2, what="the bytes to land")
    assert _silent(peer, 0.05)
    before = server.traffic().get(proxy.name)
    assert before is None or before.down_received == 0  # it lives: nothing is counted
    proxy.disable()

    def counted() -> bool:
        seen = server.traffic().get(proxy.name)
        return seen is not None and (seen.down_received, seen.down_sent) == (13, 4)

    until(counted, within_s=2, what="the connection to be counted", last_seen=lambda: str(server.traffic()))
    assert server.traffic()[proxy.name].withheld(DOWN) == 9


def test_traffic_of_all_proxies_is_read_in_milliseconds(server: Server, proxy: Proxy) -> None:
    server.traffic()
    begun = time.monotonic()
    for _ in range(10):
        server.traffic()
    assert (time.monotonic() - begun) / 10 < 0.05


def test_metrics_are_parsed_by_proxy_and_direction() -> None:
    page = """# TYPE toxiproxy_proxy_received_bytes_total counter
toxiproxy_proxy_received_bytes_total{direction="downstream",listener="127.0.0.1:5",proxy="a.b",upstream="n:1"} 1.5e+06
toxiproxy_proxy_received_bytes_total{direction="upstream",listener="127.0.0.1:5",proxy="a.b",upstream="n:1"} 86
toxiproxy_proxy_sent_bytes_total{direction="downstream",listener="127.0.0.1:5",proxy="a.b",upstream="n:1"} 190
"""
    traffic = parse_traffic(page)["a.b"]
    assert (traffic.up_received, traffic.up_sent, traffic.down_received, traffic.down_sent) == (86, 0, 1_500_000, 190)


def test_packet_loss_is_not_offered() -> None:
    assert "packet_loss" not in ATTRIBUTES
