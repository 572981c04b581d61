"""Is a client noticed that reaches its broker past the proxy, or of which nobody knows how it does?"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import harness.runner.peers as peers_module
from harness.errors import Trouble
from harness.history.proceedings import Proceedings
from harness.runner.peers import Peers
from harness.runner.sockets import remotes
from harness.system.service import Peer, View

PROXIED = Peer("producer-1.1", "172.20.0.2", 40_000, "node-1")


@contextmanager
def connected() -> Iterator[tuple[str, int]]:
    """A TCP connection of this very process to a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        taken, _ = server.accept()
        with taken:
            host, port = client.getpeername()
            yield str(host), int(port)


def every_remote() -> list[tuple[str, int]]:
    return sorted(remotes(os.getpid()))


def checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: Sequence[Peer] | Trouble, doors: Sequence[tuple[str, int]]
) -> dict[str, Any]:
    """What is written down of one client, this process, that dials `doors`."""
    client = SimpleNamespace(
        name="producer-1.1",
        pid=os.getpid(),
        counters=lambda: SimpleNamespace(connected=True),
        spec=SimpleNamespace(addresses=tuple(("node-1", host, port) for host, port in doors)),
    )

    def broker_peers() -> Sequence[Peer]:
        if isinstance(listed, Trouble):
            raise listed
        return listed

    monkeypatch.setattr(peers_module, "LISTED_WITHIN_S", 0.05)
    proceedings = Proceedings(tmp_path)
    Peers(
        cast(Any, SimpleNamespace(peers=broker_peers, views=lambda: {"node-1": View(("node-2",), "node-2")})),
        cast(Any, SimpleNamespace(proxy_peers=lambda: frozenset({"172.20.0.2"}))),
        cast(Any, SimpleNamespace(all=lambda: [client], living=lambda: [client])),
        proceedings,
    ).check()
    proceedings.close()
    (path,) = tmp_path.iterdir()
    found: dict[str, Any] = json.loads(path.read_text().splitlines()[-1])
    assert found["members"] == {"node-1": "sees node-2; leader node-2"}
    return found


def test_the_kernel_says_whom_a_process_is_connected_to() -> None:
    with connected() as far_end:
        assert far_end in remotes(os.getpid())
    assert far_end not in remotes(os.getpid())
    assert remotes(2**22 + 1) == set()


def test_a_client_that_is_listed_behind_the_proxy_is_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected():
        line = checked(tmp_path, monkeypatch, [PROXIED], every_remote())
    assert (line["ok"], line["strangers"], line["seen"]) == (True, [], ["producer-1.1"])


def test_a_client_that_comes_from_elsewhere_is_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = Peer("producer-1.1", "172.20.0.1", 40_000, "node-1")
    line = checked(tmp_path, monkeypatch, [direct], every_remote())
    assert line["ok"] is False
    assert line["strangers"] == ["producer-1.1 from 172.20.0.1:40000"]


def test_a_connection_past_the_doors_is_seen_also_where_addresses_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected() as (host, port):
        doors = [door for door in every_remote() if door != (host, port)]
        line = checked(tmp_path, monkeypatch, [PROXIED], doors)
    assert line["ok"] is False
    assert f"producer-1.1 from itself to {host}:{port}" in line["strangers"]


@pytest.mark.parametrize(
    ("listed", "why_not"),
    [([], "the broker does not list producer-1.1"), (Trouble("monitoring is dead"), "monitoring is dead")],
    ids=["it lists nobody", "it does not answer"],
)
def test_what_the_broker_does_not_list_is_not_proved(
    listed: Any, why_not: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = checked(tmp_path, monkeypatch, listed, every_remote())
    assert line["ok"] is None
    assert line["why_not"] == why_not
