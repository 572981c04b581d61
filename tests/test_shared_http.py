"""May threads share the harness's HTTP clients? Each must get the answer to its own question, and to no other's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.brokers.nats.broker import Broker
from harness.brokers.nats.configuration import MONITOR, JetStream, Nats
from harness.brokers.nats.monitor import Monitor
from harness.brokers.rabbitmq.management import Management
from harness.brokers.rabbitmq.peers import connections_of
from harness.errors import Trouble
from harness.system.topology import NodeState, NodeStatus

THREADS, ASKED = 8, 40
Address = tuple[str, int]
R3 = Nats("three", members=3, jetstream=JetStream(replicas=3), acknowledge="confirmed")


class _Echo(BaseHTTPRequestHandler):
    """Answers with what `answers` says of a path, else with the path itself; keeps connections."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one segment
    answers: Callable[[str], object]

    def do_GET(self) -> None:
        told = type(self).answers(self.path)
        body = b"" if isinstance(told, HTTPStatus) else json.dumps(told).encode()
        self.send_response(told if isinstance(told, HTTPStatus) else HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def serving(answers: Callable[[str], object] = lambda path: {"path": path}) -> Iterator[Address]:
    handler = type("Handler", (_Echo,), {"answers": staticmethod(answers)})
    with _Server(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield "127.0.0.1", server.server_address[1]
        finally:
            server.shutdown()


def silent() -> Address:
    """An address at which nobody listens."""
    with serving() as address:
        return address


def each_thread(ask: Callable[[str], object]) -> list[tuple[str, object]]:
    """What each of many questions of several threads, at once, was answered."""

    def some(thread: int) -> list[tuple[str, object]]:
        return [(path, ask(path)) for path in (f"/{thread}/{number}" for number in range(ASKED))]

    with ThreadPoolExecutor(THREADS) as workers:
        return [answer for answers in workers.map(some, range(THREADS)) for answer in answers]


def test_each_thread_gets_the_answer_of_management_to_its_own_question() -> None:
    with serving() as one, serving() as two:
        management = Management({"one": one, "two": two}, user="guest", password="guest")

        def ask(path: str) -> object:
            answer = management.ask("one", "GET", path)
            return None if answer is None else answer.body

        told = each_thread(ask)
        told_by_any = each_thread(lambda path: management.ask_any("GET", path).body)
        management.close()
    assert [answer for path, answer in told + told_by_any if answer != {"path": path}] == []


def test_each_thread_gets_the_answer_of_monitoring_to_its_own_question() -> None:
    with serving() as address:
        monitor = Monitor({"one": address})
        told = each_thread(lambda path: monitor.get("one", path))
        monitor.close()
    assert [answer for path, answer in told if answer != {"path": path}] == []


# ---- whom does the broker list? --------------------------------------------------------------------------------------


def connection(name: str) -> dict[str, object]:
    return {"name": name, "user_provided_name": f"cell/{name}", "peer_host": "h", "peer_port": 1, "node": "rabbit@one"}


def rabbitmq(tracked: object, listed: object) -> Callable[[str], object]:
    """A management that tells these lists."""
    return lambda path: tracked if "/username/" in path else listed if path.startswith("/api/connections") else {}


def asked(answers: Callable[[str], object], *, down: bool = False, ended: bool = False) -> list[str]:
    """Names that are listed by two nodes, of which one may be down."""
    with serving(answers) as one, serving(answers) as two:
        where = {"one": one, "two": silent() if down else two}
        management = Management(where, user="guest", password="guest")
        try:
            found = connections_of(management, list(where), "guest", ended=lambda name: ended and name == "two")
        finally:
            management.close()
        return [str(each["name"]) for each in found]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.brokers.rabbitmq.peers.LISTED_S", 0.1)


def test_rabbitmq_lists_whom_it_tracks_also_while_a_member_is_dead(impatient: None) -> None:
    whole = rabbitmq([connection("a")], [connection("a"), connection("b")])
    assert asked(whole) == ["a", "b"]
    assert asked(whole, down=True, ended=True) == ["a", "b"]
    assert asked(rabbitmq([], [])) == []


@pytest.mark.parametrize("status", [HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED])
def test_an_early_rabbitmq_that_has_one_list_alone_is_believed(status: HTTPStatus, impatient: None) -> None:
    assert asked(rabbitmq(status, [connection("a")])) == ["a"]


def test_a_list_of_rabbitmq_that_is_not_whole_is_none(impatient: None) -> None:
    with pytest.raises(Trouble, match="management of two does not answer"):
        asked(rabbitmq([], []), down=True)
    with pytest.raises(Trouble, match=r"incomplete .* does not list b yet"):
        asked(rabbitmq([connection("a"), connection("b")], [connection("a")]))
    with pytest.raises(Trouble, match="management lists no connections"):
        asked(rabbitmq([], {"error": "not_found"}))


def test_who_ends_while_the_list_lags_is_not_waited_for() -> None:
    times = iter([[connection("a"), connection("b")], [connection("a")]])
    answers = rabbitmq([], [connection("a")])
    assert asked(lambda path: next(times) if "/username/" in path else answers(path)) == ["a"]


@pytest.mark.parametrize("state", NodeState)
def test_nats_lists_all_clients_only_where_every_living_server_answers(state: NodeState) -> None:
    listed = {"connections": [{"name": "cell/consumer-1", "ip": "h", "port": 1}, {"name": "other/x"}]}
    with serving(lambda _: listed) as address:
        where = {"nats-1": address, "nats-2": silent()}
        nodes = {name: SimpleNamespace(status=lambda: NodeStatus(state, None, None)) for name in where}
        topology = SimpleNamespace(
            nodes=nodes,
            link=lambda _slot, node, service: SimpleNamespace(address=where[node] if service == MONITOR else silent()),
        )
        broker = Broker(R3, cast(Any, topology), "cell")
        try:
            if state is NodeState.EXITED:
                assert [peer.client for peer in broker.peers()] == ["consumer-1"]
            else:
                with pytest.raises(Trouble, match="monitoring of nats-2 does not answer"):
                    broker.peers()
        finally:
            broker.close()
