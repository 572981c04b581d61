"""What does the broker say of itself over HTTP? Its management API, one persistent connection to each node.

Two kinds of answers must not be mixed up. *Live*: members, alarms, a quorum queue's Raft states, arguments; asked as
the request is served. *Figures*: lengths, counters, `online`; collected every so often, so they lag.

Threads share it: a connection carries one question and its answer at a time.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from harness.errors import Trouble

WITHIN_S = 3.0
"""Longer than the 2 s that a node waits for another one, frozen, before it says what the rest of them know."""

NOT_FOUND = 404


class Answer(NamedTuple):
    """What a node answered: its name, the HTTP status, and the document (None where there is none)."""

    node: str
    status: int
    body: Any


class Management:
    """The management API of every node. `addresses`: of the link to each node's management port."""

    def __init__(self, addresses: Mapping[str, tuple[str, int]], *, user: str, password: str) -> None:
        self._addresses = addresses
        self._connections: dict[str, http.client.HTTPConnection] = {}
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        self._order = list(addresses)
        self._reorder = threading.Lock()
        self._dates: dict[str, str] = {}
        self._locks = {node: threading.RLock() for node in addresses}

    def ask(
        self, node: str, method: str, path: str, body: object = None, *, within_s: float = WITHIN_S
    ) -> Answer | None:
        """What that node answers, or None where it does not in time; never raises for a dead node.

        A connection that its node has closed meanwhile is made anew, once; so methods must bear being repeated.
        """
        content = None if body is None else json.dumps(body)
        with self._locks[node]:
            return self._ask(node, method, path, content, within_s)

    def _ask(self, node: str, method: str, path: str, content: str | None, within_s: float) -> Answer | None:
        for _ in range(2):
            fresh = node not in self._connections
            connection = self._connection(node, within_s)
            try:
                connection.request(method, path, body=content, headers=self._headers)
                answer = connection.getresponse()
                text = answer.read()
                self._dates[node] = answer.headers.get("Date", "")
                return Answer(node, answer.status, json.loads(text) if text else None)
            except TimeoutError:
                self._drop(node)
                return None
            except (OSError, http.client.HTTPException, ValueError):
                self._drop(node)
                if fresh:
                    return None
        return None

    def date_s(self, node: str) -> float | None:
        """The time that this node says it is, in seconds since 1970: the date of an answer; None without one."""
        with self._locks[node]:
            self._dates.pop(node, None)
            self.ask(node, "GET", "/api/overview?columns=node")
            told = self._dates.get(node)
        return None if not told else parsedate_to_datetime(told).timestamp()

    def ask_any(self, method: str, path: str, body: object = None) -> Answer:
        """What the first node that answers says, the one that answered last before the others. Raises Trouble."""
        with self._reorder:
            order = tuple(self._order)
        for node in order:
            answer = self.ask(node, method, path, body)
            if answer is not None and answer.status < 500:
                with self._reorder:
                    self._order.remove(node)
                    self._order.insert(0, node)
                return answer
        raise Trouble(f"no RabbitMQ node answers {method} {path}: {', '.join(self._addresses)}")

    def _connection(self, node: str, within_s: float) -> http.client.HTTPConnection:
        connection = self._connections.get(node)
        if connection is None:
            host, port = self._addresses[node]
            connection = self._connections[node] = http.client.HTTPConnection(host, port)
        connection.timeout = within_s
        if connection.sock is not None:
            connection.sock.settimeout(within_s)
        return connection

    def close(self) -> None:
        """Close all connections. Idempotent."""
        for node, lock in self._locks.items():
            with lock:
                self._drop(node)

    def _drop(self, node: str) -> None:
        connection = self._connections.pop(node, None)
        if connection is not None:
            connection.close()


class Replica(NamedTuple):
    """One member of a quorum queue: its Erlang node, its Raft state ("leader", "follower", "noconnection", ...), its
    term, and the last entries of its log that are written and committed (-1: unknown)."""

    node: str
    state: str
    term: int
    written: int
    committed: int


def queue_path(vhost: str, queue: str) -> str:
    """Where a queue is in the API."""
    return f"/api/queues/{quote(vhost, safe='')}/{quote(queue, safe='')}"


def replicas_path(vhost: str, queue: str) -> str:
    """Where the live states of a quorum queue's members are in the API."""
    return f"{quorum_path(vhost, queue)}/status"


def quorum_path(vhost: str, queue: str) -> str:
    """Where what only a quorum queue has is in the API, from 4.0 on."""
    return f"/api/queues/quorum/{quote(vhost, safe='')}/{quote(queue, safe='')}"


def read_replicas(body: Any) -> Sequence[Replica]:
    """Members of a quorum queue, as the API lists them; none where it lists none."""
    return tuple(
        Replica(
            node=str(member.get("Node Name", "")),
            state=str(member.get("Raft State", "")),
            term=_number(member.get("Term")),
            written=_number(member.get("Last Written", member.get("Last Log Index"))),
            committed=_number(member.get("Commit Index")),
        )
        for member in (body if isinstance(body, list) else ())
    )


def read_members(body: Any) -> Sequence[Replica]:
    """Members of a quorum queue, as the description of the queue lists them: all that versions before 4.0 tell.

    How far each has written is not among it; that its process lives, and which one leads, is live.
    """
    told = body if isinstance(body, dict) else {}
    online, leader = told.get("online") or (), told.get("leader")
    return tuple(
        Replica(
            node=str(member),
            state="leader" if member == leader else "follower" if member in online else "down",
            term=-1,
            written=-1,
            committed=-1,
        )
        for member in told.get("members") or ()
    )


def leader_of(replicas: Sequence[Replica]) -> Replica | None:
    """The member that leads: of several that say so, the one of the highest term, for the others do not know yet."""
    leaders = [replica for replica in replicas if replica.state == "leader"]
    return max(leaders, key=lambda replica: replica.term) if leaders else None


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1
