"""What is our end of RabbitMQ? Queues are made, asked and read here; nothing is ever published.

Each cell has a queue of its own in the default virtual host, and publishes to it through the default exchange. Who
leads, and whether replicas are there, is asked of the live states; figures are used for nothing but the audit's books.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from harness.brokers.rabbitmq.audit import Auditor
from harness.brokers.rabbitmq.configuration import AMQP, MANAGEMENT, METRICS, Classic, Quorum, RabbitMQ
from harness.brokers.rabbitmq.management import (
    NOT_FOUND,
    Management,
    Replica,
    leader_of,
    queue_path,
    read_members,
    read_replicas,
    replicas_path,
)
from harness.brokers.rabbitmq.membership import Membership
from harness.brokers.rabbitmq.metrics import read_counters
from harness.brokers.rabbitmq.peers import connections_of
from harness.brokers.rabbitmq.views import ask_views
from harness.clock import happens, until
from harness.errors import Refused, Trouble
from harness.system.service import Census, Peer, View
from harness.system.storage import Storage
from harness.system.topology import NodeState, Topology

SLOT = "harness"
OWED = "owed"
VHOST = "/"
USER = PASSWORD = "guest"  # what a broker that was never set up has; it is reached by nobody but us
PREPARE_S = 30.0
LEADER_S = 5.0
LAG_MAX = 1000
"""Log entries that a replica in sync may be behind its leader: under load it is always behind by some."""

BLOCKED_S = 30
_WHOLE_ASK_S = 1.0
_FRESH_S = 1.0

_LOG_LINES = 400
"""How far back a node's log is read for the end of a connection."""

_LOG_STAMP = len("2026-01-31 23:59:59.999999")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Broker:
    """Our end of one configuration on one topology, for one cell."""

    def __init__(self, configuration: RabbitMQ, topology: Topology, cell: str) -> None:
        self._configuration = configuration
        self._topology = topology
        self._names = tuple(topology.nodes)
        self._cell = cell
        self._queue = f"assay.{cell}"
        self._management = Management(self._links(MANAGEMENT), user=USER, password=PASSWORD)
        self._auditor = Auditor(
            self._links(AMQP), {"vhost": VHOST, "user": USER, "password": PASSWORD}, f"harness.{cell}"
        )
        self._by_erlang_node: dict[str, str] = {}
        self._answered_s: dict[str, float] = {}
        self._version = ""
        self._metrics = self._links(METRICS)
        self._membership = Membership(
            self._management,
            topology.nodes,
            VHOST,
            self._queue,
            replicas=self._replicas,
            erlang_names=self._erlang_names,
        )
        self._lives: Mapping[str, object] = {}
        self._counted_before: Mapping[str, int] = {}

    def _links(self, service: str) -> Mapping[str, tuple[str, int]]:
        return {name: self._topology.link(SLOT, name, service).address for name in self._names}

    # ---- is it there? ----------------------------------------------------------------------------------------------

    def whole(self) -> str | None:
        """None when every node lists all members as running and without an alarm, and takes an AMQP connection."""
        missing = next((missing for name in self._names if (missing := self._missing_of(name))), None)
        if missing is not None:
            return missing
        for name in self._names:
            # One connection a second is proof enough; more would be load on what is measured.
            if time.monotonic() - self._answered_s.get(name, 0.0) < _FRESH_S:
                continue
            if not self._auditor.answers(name):
                return f"{name} does not answer over AMQP"
            self._answered_s[name] = time.monotonic()
        return None

    def _missing_of(self, name: str) -> str | None:
        """What the management of one node misses. A node that cannot be asked must answer anew over AMQP, too."""
        path = "/api/nodes?columns=name,running,mem_alarm,disk_free_alarm"
        answer = self._management.ask(name, "GET", path, within_s=_WHOLE_ASK_S)
        if answer is None or answer.status != 200 or not isinstance(answer.body, list):
            self._answered_s.pop(name, None)
            return f"management of {name} does not answer"
        running = [member for member in answer.body if member.get("running")]
        if len(running) < len(self._names):
            return f"{name} sees {len(running)} of {len(self._names)} members"
        alarms = [
            f"{what} of {member['name']}"
            for member in running
            for what, key in (("memory", "mem_alarm"), ("disk", "disk_free_alarm"))
            if member.get(key)
        ]
        return f"{name} sees an alarm: {', '.join(alarms)}" if alarms else None

    def ready(self) -> str | None:
        """None when the queue has a leader and all its replicas, in sync."""
        try:
            return self._not_ready()
        except Trouble as trouble:
            return trouble.message

    def _not_ready(self) -> str | None:
        queue = f"queue {self._queue!r}"
        if isinstance(self._configuration.queue, Classic):
            # A queue whose node is down is known all the same, and has another state.
            answer = self._management.ask_any("GET", f"{queue_path(VHOST, self._queue)}?columns=state,node")
            if answer.status == NOT_FOUND:
                return f"{queue} does not exist"
            state = str(_field(answer.body, "state"))
            return None if state == "running" else f"{queue} is {state} on {_field(answer.body, 'node')}"
        replicas = self._replicas()
        leader = leader_of(replicas)
        if leader is None:
            return f"{queue} has no leader: {_states(replicas) or 'it does not exist'}"
        away = [replica for replica in replicas if replica.state not in ("leader", "follower")]
        if away or len(replicas) < len(self._names):
            return f"{queue} has {len(replicas) - len(away)} of {len(self._names)} replicas: {_states(replicas)}"
        behind = [replica.node for replica in replicas if leader.committed - replica.written > LAG_MAX]
        return f"{queue} waits for {', '.join(behind)}, more than {LAG_MAX} entries behind" if behind else None

    def leader(self) -> str:
        """Name of the node that leads the queue, by the live states of its replicas. Raises Trouble after LEADER_S."""
        if len(self._names) == 1:
            return self._names[0]
        seen = "nothing"

        def led() -> str | None:
            nonlocal seen
            if isinstance(self._configuration.queue, Classic):
                body = self._management.ask_any("GET", f"{queue_path(VHOST, self._queue)}?columns=state,node").body
                seen = str(body)
                return str(_field(body, "node")) if _field(body, "state") == "running" else None
            replicas = self._replicas()
            seen = _states(replicas)
            leader = leader_of(replicas)
            return None if leader is None else leader.node

        erlang_node = until(led, within_s=LEADER_S, what=f"a leader of {self._queue!r}", last_seen=lambda: seen)
        return self._name_of(erlang_node)

    def _replicas(self) -> Sequence[Replica]:
        answer = self._management.ask_any("GET", replicas_path(VHOST, self._queue))
        if answer.status < 400:
            return read_replicas(answer.body)
        # Versions before 4.0 have no such path, and the queue's description says less.
        path = f"{queue_path(VHOST, self._queue)}?disable_stats=true&enable_queue_totals=true"
        return read_members(self._management.ask_any("GET", path).body)

    def views(self) -> Mapping[str, View | None]:
        """What each member's management says of the others, and of the queue's leader."""
        replicated = isinstance(self._configuration.queue, Quorum)
        return ask_views(self._management, self._names, VHOST, self._queue, replicated=replicated)

    def version(self) -> str:
        """The version that the broker declares."""
        if not self._version:
            body = self._management.ask_any("GET", "/api/overview?columns=rabbitmq_version").body
            self._version = str(_field(body, "rabbitmq_version"))
        return self._version

    def peers(self) -> Sequence[Peer]:
        """This cell's client connections, as the broker lists them."""
        listed = connections_of(self._management, self._names, USER, ended=self._ended)
        prefix = f"{self._cell}/"
        return [
            Peer(
                client=str(each["user_provided_name"]).removeprefix(prefix),
                host=str(each.get("peer_host", "")).removeprefix("::ffff:"),
                port=int(each.get("peer_port", 0)),
                node=self._name_of(str(each["node"])),
            )
            for each in listed
            if str(each.get("user_provided_name", "")).startswith(prefix)
        ]

    def last_end(self, client: str) -> str:
        """What stands in a node's log about its last closed connection: "missed heartbeats from client", ..."""
        name = f"{self._cell}/{client}"
        last = ("", "")
        for node in self._topology.nodes.values():
            lines = _COLOUR.sub("", node.logs(_LOG_LINES)).splitlines()
            for place, line in enumerate(lines):
                if "closing AMQP connection" not in line or not re.search(rf"{re.escape(name)}\b", line):
                    continue
                # "closing ... (... - NAME, ...):" and the reason below it, or all in one line where all was in order.
                told = lines[place + 1] if line.endswith(":") and place + 1 < len(lines) else "closed in order"
                last = max(last, (line[:_LOG_STAMP], told.rpartition("> ")[2].strip()))
        return last[1]

    def _ended(self, name: str) -> bool:
        return self._topology.nodes[name].status().state is NodeState.EXITED

    def _name_of(self, erlang_node: str) -> str:
        """The topology's name of a node that calls itself "rabbit-1@host"."""
        if erlang_node not in self._by_erlang_node:
            self._meet()
        if erlang_node not in self._by_erlang_node:
            raise Trouble(f"no node of {', '.join(self._names)} says that it is {erlang_node}")
        return self._by_erlang_node[erlang_node]

    def _meet(self) -> None:
        """Ask each node what it calls itself; that stays so over its lives."""
        for name in self._names:
            answer = self._management.ask(name, "GET", "/api/overview?columns=node")
            if answer is not None and answer.status == 200:
                self._by_erlang_node[str(_field(answer.body, "node"))] = name

    def _erlang_names(self) -> Mapping[str, str]:
        if len(self._by_erlang_node) < len(self._names):
            self._meet()
        return {name: erlang_node for erlang_node, name in self._by_erlang_node.items()}

    def clock_offset_s(self, node: str) -> float:
        """By the date of its management's answers, which is renewed every second."""
        told_s = self._management.date_s(node)
        if told_s is None:
            raise Trouble(f"management of {node} tells no time")
        return told_s - time.time()

    def membership(self) -> Membership:
        """Who holds the queue's replicas, and how that changes."""
        if isinstance(self._configuration.queue, Classic) or len(self._names) == 1:
            raise Refused(f"queue {self._queue!r} has one replica", cure="use Quorum and several members")
        return self._membership

    def storage(self) -> Storage:
        """It has no limit of what it stores: alarms of memory and of free disk space stand for one."""
        raise Refused("RabbitMQ has no limit of what it stores", cure="use NATS with JetStream")

    # ---- one cell --------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create the queue, empty; returns when its replicas are in sync. Raises Trouble."""
        self.discard()
        path = queue_path(VHOST, self._queue)
        answer = self._management.ask_any("PUT", path, {**self._declared(), "auto_delete": False})
        if answer.status >= 400:
            raise Trouble(f"queue {self._queue!r} could not be made: {answer.status} {answer.body}")
        seen = ""

        def in_sync() -> bool:
            nonlocal seen
            seen = self.ready() or ""
            return not seen

        until(in_sync, within_s=PREPARE_S, what=f"queue {self._queue!r} in sync", last_seen=lambda: seen)
        self._meet()  # while all are there
        self._lives = self._lives_now()
        self._counted_before = read_counters(self._metrics)

    def _declared(self) -> dict[str, Any]:
        """Durability and arguments of the queue."""
        queue = self._configuration.queue
        arguments: dict[str, object] = {"x-queue-type": type(queue).__name__.lower()}
        if isinstance(queue, Quorum):
            if queue.delivery_limit is not None:
                arguments["x-delivery-limit"] = queue.delivery_limit
            if queue.consumer_disconnected_timeout_s is not None and self._configuration.knows_disconnected_timeout:
                arguments["x-consumer-disconnected-timeout"] = round(queue.consumer_disconnected_timeout_s * 1000)
        if queue.length_max is not None:
            arguments |= {"x-max-length": queue.length_max, "x-overflow": queue.overflow}
        return {"durable": queue.durable, "arguments": arguments}

    def orders(self) -> Mapping[str, object]:
        """What a client's Connection needs."""
        configuration = self._configuration
        queue = configuration.queue
        return {
            "cell": self._cell,
            "vhost": VHOST,
            "user": USER,
            "password": PASSWORD,
            "queue": self._queue,
            "declare": None if queue.durable else self._declared(),
            "confirms": configuration.confirms,
            "acknowledge": configuration.acknowledge,
            "persistent": configuration.persistent,
            "mandatory": configuration.returns,
            "refuses": queue.overflow == "reject-publish" and configuration.members == 1,
            "heartbeat_s": configuration.heartbeat_s,
            "blocked_timeout_s": BLOCKED_S,
        }

    def services(self) -> tuple[str, ...]:
        """What clients dial."""
        return (AMQP,)

    def drained(self) -> str | None:
        """None when a passive declare says twice that nothing is ready. What is delivered and not settled is in no
        such count: it is back once consumers are closed. Raises Trouble where nobody answers."""
        for _ in range(2):
            standing = self._auditor.standing(self._queue)
            if standing is not None and standing.ready:
                return f"queue {self._queue!r} has {standing.ready} ready"
        return None

    def census(self, run: int) -> Census:
        """Read what is left, after the broker's counters; a queue that is gone is read to its end."""
        counters, _ = self._counted()  # before the auditor's own reading is counted
        why_not = self._held_by_the_dead()
        try:
            reading = self._auditor.read(self._queue, run)
        except Trouble as trouble:
            return Census(found=(), places=(), exhaustive=False, counters=counters, why_not=trouble.message)
        found = tuple(reading.found) if reading is not None else ()
        return Census(
            found=found,
            places=(OWED,) * len(found),
            sequences=(0,) * len(found),
            exhaustive=why_not is None,
            counters=counters,
            comparable=frozenset(counters),
            why_not=why_not,
            corrupt=reading.corrupt if reading is not None else 0,
            foreign=reading.foreign if reading is not None else 0,
        )

    def _held_by_the_dead(self) -> str | None:
        """None when the queue has no consumer any more; else who still keeps deliveries from the auditor."""
        consumers = 0

        def none_left() -> bool:
            nonlocal consumers
            standing = self._auditor.standing(self._queue)
            consumers = 0 if standing is None else standing.consumers
            return not consumers

        try:
            gone = happens(none_left, within_s=self._configuration.redelivery_horizon_s)
        except Trouble as trouble:
            return trouble.message
        return None if gone else f"queue {self._queue!r} still has {consumers} consumer(s) that ended long ago"

    def _counted(self) -> tuple[Mapping[str, int], str | None]:
        """What the broker counted in this cell, and why that cannot be compared."""
        if self._lives_now() != self._lives or self._membership.interrupted:
            return {}, "a node was restarted, and began to count anew"
        try:
            now = read_counters(self._metrics)
        except Trouble as trouble:
            return {}, trouble.message
        return {name: value - self._counted_before.get(name, 0) for name, value in now.items()}, None

    def _lives_now(self) -> Mapping[str, object]:
        """Which life of each node this is: counters of one life can be compared."""
        return {name: node.status().started for name, node in self._topology.nodes.items()}

    def discard(self) -> None:
        """Delete the queue; none is as good."""
        self._management.ask_any("DELETE", queue_path(VHOST, self._queue))

    def close(self) -> None:
        """Close our own connections."""
        self._auditor.close()
        self._management.close()


def _field(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, dict) else None


def _states(replicas: Sequence[Replica]) -> str:
    return ", ".join(f"{replica.node} {replica.state or 'silent'}" for replica in replicas)
