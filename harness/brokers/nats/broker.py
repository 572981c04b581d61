"""What is our end of NATS? Streams are made, asked and read here; nothing is ever published but a fault's ballast.

Each cell has a subject, a stream and a durable consumer of its own. The leader is the *stream's*: it answers publishes
(the consumer's leader may be another node).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from harness.brokers.nats.audit import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, take_census
from harness.brokers.nats.configuration import CLIENT, MONITOR, JetStream, Nats
from harness.brokers.nats.gateway import Gateway, Reply, error_code, error_of, is_unavailable
from harness.brokers.nats.membership import Membership
from harness.brokers.nats.meta import Meta
from harness.brokers.nats.monitor import Monitor
from harness.brokers.nats.storage import Storage
from harness.brokers.nats.views import ask_views
from harness.clock import until
from harness.errors import Refused, Trouble
from harness.system.service import Census, Peer, View
from harness.system.topology import NodeState, Topology

SLOT = "harness"
GROUP = "group"
PREPARE_S = 30.0
LEADER_S = 2.0
ASK_S = 1.0
POLL_ASK_S = 0.3
SILENT_S = 2.5
"""Replicas answer their leader's heartbeat, one a second."""

NO_PEERS = 10005
"""Too few servers to place replicas on: a leader says so too that has not heard all members of a young cluster yet."""

IN_FLIGHT_MAX = 64


class Broker:
    """Our end of one configuration on one topology, for one cell."""

    def __init__(self, configuration: Nats, topology: Topology, cell: str) -> None:
        self._configuration = configuration
        self._topology = topology
        self._nodes = tuple(topology.nodes)
        self._cell = cell
        self._stream = f"stream-{cell}"
        addresses = {node: topology.link(SLOT, node, CLIENT).address for node in self._nodes}
        self._gateway = Gateway(addresses, cell)
        self._monitor = Monitor({node: topology.link(SLOT, node, MONITOR).address for node in self._nodes})
        self._meta = Meta(addresses, self._monitor, cell, follows=_follows)
        self._membership = Membership(
            self._gateway, self._monitor, self._meta, topology.nodes, self._stream, follows=_follows
        )
        self._version = ""
        self._began: Mapping[str, object] = {}

    # ---- is it there? ------------------------------------------------------------------------------------------------

    def whole(self) -> str | None:
        """None when every node answers and, in a cluster, sees all others and knows who leads JetStream."""
        silent = [node for node, answers in self._gateway.echo(within_s=POLL_ASK_S).items() if not answers]
        if silent:
            return f"no answer from {', '.join(silent)}"
        if len(self._nodes) == 1:
            reply = self._gateway.ask("$JS.API.INFO", {}, within_s=POLL_ASK_S)
            return "JetStream does not answer" if error_code(reply) or reply is None else None
        for node in self._nodes:
            missing = self._missing_routes(node)
            if missing is not None:
                return missing
        leaders = {self._meta.leader(node) for node in self._nodes}
        if len(leaders) != 1 or None in leaders:
            return f"the nodes do not agree who leads JetStream: {', '.join(sorted(str(name) for name in leaders))}"
        leader = str(leaders.pop())
        return self._meta.lag(leader, [node for node in self._nodes if node != leader])

    def ready(self) -> str | None:
        """None when stream and consumer have a leader and all their replicas, current."""
        if self._configuration.jetstream is None:
            return None
        for what, subject in (
            (f"stream {self._stream!r}", f"$JS.API.STREAM.INFO.{self._stream}"),
            (f"consumer {GROUP!r}", f"$JS.API.CONSUMER.INFO.{self._stream}.{GROUP}"),
        ):
            missing = self._missing_replicas(what, self._gateway.ask(subject, {}, within_s=POLL_ASK_S))
            if missing is not None:
                return missing
        if len(self._nodes) > 1:
            # A leader calls a replica current that it has not heard of for a while; the replica itself knows better.
            for node in self._nodes:
                ill = self._monitor.ill(node)
                if ill is not None:
                    return f"{node}: {ill}"
        return None

    def leader(self) -> str:
        """Name of the node that leads the stream, as it says itself: a node that is dead cannot. Raises Trouble when no
        leader answers within LEADER_S (JetStream elects a new one 4 to 9 s after its leader died)."""
        if len(self._nodes) == 1:
            return self._nodes[0]
        if self._configuration.jetstream is None:
            raise Trouble("core NATS has no leader", cure="let the fault hit any_node")
        return until(self._claimed_leader, within_s=LEADER_S, what=f"a leader of stream {self._stream!r}")

    def views(self) -> Mapping[str, View | None]:
        """What each server's monitoring says of its routes and of the stream's leader."""
        return ask_views(self._monitor, self._nodes, self._stream)

    def version(self) -> str:
        """The version that the servers declare."""
        if not self._version:
            self._gateway.echo(within_s=ASK_S)
            versions = sorted(set(self._gateway.versions().values()))
            if not versions:
                raise Trouble("no NATS server answers, so none says its version")
            self._version = " and ".join(versions)
        return self._version

    def clock_offset_s(self, node: str) -> float:
        """By its monitoring."""
        told = (self._monitor.get(node, "/varz") or {}).get("now")
        if told is None:
            raise Trouble(f"monitoring of {node} tells no time")
        return datetime.fromisoformat(str(told)[:19] + "+00:00").timestamp() - time.time()

    def membership(self) -> Membership:
        """Who holds the stream's replicas, and how that changes."""
        js = self._configuration.jetstream
        if js is None or js.replicas == 1:
            raise Refused(f"{self._configuration.name} keeps one copy", cure="use JetStream(replicas=3)")
        return self._membership

    def storage(self) -> Storage:
        """What the servers store, and may."""
        if self._configuration.jetstream is None:
            raise Refused(f"{self._configuration.name} stores nothing", cure="use JetStream")
        return Storage(self._gateway, self._monitor, self._nodes, self._cell, self._stream)

    def peers(self) -> Sequence[Peer]:
        """This cell's client connections, as every server lists them; one whose process is gone has none. Raises
        Trouble where another one does not answer."""
        prefix = f"{self._cell}/"
        found: list[Peer] = []
        for node in self._nodes:
            listed = self._monitor.get(node, "/connz?limit=1024")
            if listed is None:
                if self._topology.nodes[node].status().state is NodeState.EXITED:
                    continue
                raise Trouble(f"monitoring of {node} does not answer, so nobody knows all connections")
            for connection in listed.get("connections") or ():
                name = str(connection.get("name", ""))
                if name.startswith(prefix):
                    found.append(
                        Peer(
                            client=name.removeprefix(prefix),
                            host=str(connection["ip"]),
                            port=int(connection["port"]),
                            node=node,
                        )
                    )
        return found

    def last_end(self, client: str) -> str:
        """The reason that a server gives for its last closed connection: "Stale Connection" of one that was silent."""
        name = f"{self._cell}/{client}"
        ends = [("", "")]
        for node in self._nodes:
            closed = (self._monitor.get(node, "/connz?state=closed&limit=1024") or {}).get("connections") or ()
            ends += [(str(one.get("stop")), str(one.get("reason"))) for one in closed if one.get("name") == name]
        return max(ends)[1]

    # ---- one cell ----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create stream and consumer; returns when all their replicas are current. Raises Trouble."""
        js = self._configuration.jetstream
        if js is not None:
            self._create(f"$JS.API.STREAM.CREATE.{self._stream}", self._stream_config(js))
            self._create(f"$JS.API.CONSUMER.DURABLE.CREATE.{self._stream}.{GROUP}", self._consumer_config(js))
            seen = ""

            def in_sync() -> bool:
                nonlocal seen
                seen = self.ready() or ""
                return not seen

            until(in_sync, within_s=PREPARE_S, what=f"stream {self._stream!r} in sync", last_seen=lambda: seen)
        self._began = self._lives()

    def orders(self) -> Mapping[str, object]:
        """What a client's Connection needs."""
        stores = self._configuration.jetstream is not None
        return {
            "cell": self._cell,
            "subject": f"cell.{self._cell}",
            "route": f"cell.{self._cell}",
            "group": GROUP,
            "stream": self._stream if stores else "",
            "consumer": GROUP if stores else "",
            "confirms": self._configuration.confirms,
            "acknowledge": self._configuration.acknowledge,
        }

    def services(self) -> tuple[str, ...]:
        """What clients dial."""
        return (CLIENT,)

    def drained(self) -> str | None:
        """None when the consumer has nothing to deliver and nothing unsettled, asked twice. Raises Trouble where nobody
        answers."""
        if self._configuration.jetstream is None:
            return None
        for _ in range(2):
            reply = self._gateway.ask(f"$JS.API.CONSUMER.INFO.{self._stream}.{GROUP}", {}, within_s=ASK_S)
            if error_code(reply) in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND):
                continue  # gone with all it had: nothing is left to deliver
            if reply is None or error_code(reply):
                raise Trouble(f"consumer {GROUP!r} does not answer: {error_of(reply)}")
            pending, unsettled = int(reply["num_pending"]), int(reply["num_ack_pending"])
            if pending or unsettled:
                return f"consumer {GROUP!r} has {pending} to deliver and {unsettled} unsettled"
        return None

    def census(self, run: int) -> Census:
        """Read the whole stream by sequence: "owed" to the group, or "stored" and owed to nobody any more."""
        if self._configuration.jetstream is None:
            return Census(found=(), places=(), exhaustive=True)
        undisturbed = bool(self._began) and self._lives() == self._began
        return take_census(self._gateway, self._stream, GROUP, run, undisturbed=undisturbed)

    def discard(self) -> None:
        """Delete the stream, and with it its consumer."""
        if self._configuration.jetstream is not None:
            self._gateway.tell(f"$JS.API.STREAM.DELETE.{self._stream}", {}, within_s=5.0)

    def close(self) -> None:
        """Close our own connections."""
        self._gateway.close()
        self._meta.close()
        self._monitor.close()

    # ---- what is asked ----------------------------------------------------------------------------------------------

    def _missing_routes(self, node: str) -> str | None:
        listed = self._monitor.get(node, "/routez")
        if listed is None:
            return f"monitoring of {node} does not answer"
        seen = {route.get("remote_name") for route in listed.get("routes") or ()}
        unseen = [other for other in self._nodes if other != node and other not in seen]
        return f"{node} does not see {', '.join(unseen)}" if unseen else None

    def _missing_replicas(self, what: str, reply: Reply | None) -> str | None:
        if reply is None or error_code(reply):
            return f"{what} does not answer: {error_of(reply)}"
        cluster = reply.get("cluster")
        if cluster is None:
            return None if len(self._nodes) == 1 else f"{what} names no cluster"
        if not cluster.get("leader"):
            return f"{what} has no leader"
        replicas = cluster.get("replicas") or ()
        behind = [str(each["name"]) for each in replicas if not _follows(each)]
        if behind:
            return f"{what}, led by {cluster['leader']}, waits for {', '.join(sorted(behind))}"
        js = self._configuration.jetstream
        wanted = js.replicas if js is not None else 1
        if len(replicas) + 1 < wanted:
            return f"{what} has {len(replicas) + 1} of {wanted} replicas"
        return None

    def _claimed_leader(self) -> str | None:
        """Only a stream's leader answers for it. A deposed one that does not know it yet may claim it too, on the side
        where the others are not: so each node's own connection asks, and most votes win."""
        replies = self._gateway.ask_each(f"$JS.API.STREAM.INFO.{self._stream}", {}, within_s=POLL_ASK_S)
        named = [
            str(reply["cluster"]["leader"]) for reply in replies.values() if (reply.get("cluster") or {}).get("leader")
        ]
        return max(named, key=named.count) if named else None

    def _lives(self) -> Mapping[str, object]:
        """Which life of each server this is, and who leads: counters of one life and one leader can be compared."""
        lives: dict[str, object] = {}
        for node in self._nodes:
            lives[node] = (self._monitor.get(node, "/varz") or {}).get("start")
        info = self._gateway.ask(f"$JS.API.STREAM.INFO.{self._stream}", {}, within_s=ASK_S) or {}
        lives["leader"] = (info.get("cluster") or {}).get("leader")
        return lives

    # ---- what is made ------------------------------------------------------------------------------------------------

    def _create(self, subject: str, body: Mapping[str, object]) -> None:
        reply: Reply | None = None

        def done() -> bool:
            nonlocal reply
            reply = self._gateway.tell(subject, body, within_s=5.0)
            if error_code(reply) not in (0, NO_PEERS) and reply is not None and not is_unavailable(reply):
                raise Trouble(f"{subject}: {error_of(reply)}")
            return reply is not None and not error_code(reply)

        until(done, within_s=PREPARE_S, what=subject, last_seen=lambda: error_of(reply))

    def _stream_config(self, js: JetStream) -> Mapping[str, object]:
        return {
            "name": self._stream,
            "subjects": [str(self.orders()["subject"])],
            "retention": js.retention,
            "storage": js.storage,
            "num_replicas": js.replicas,
            "max_msgs": js.messages_max,
            "max_bytes": -1,
            "max_age": 0,
            "max_consumers": -1,
            "discard": js.discard,
            "duplicate_window": _nanoseconds(js.duplicate_window_s),
        }

    def _consumer_config(self, js: JetStream) -> Mapping[str, object]:
        config: dict[str, Any] = {
            "durable_name": GROUP,
            "deliver_policy": "all",
            "ack_policy": "none" if self._configuration.acknowledge == "none" else "explicit",
            "replay_policy": "instant",
        }
        if self._configuration.acknowledge != "none":
            config |= {
                "ack_wait": _nanoseconds(js.ack_wait_s),
                "max_ack_pending": js.max_ack_pending,
                "max_deliver": js.max_deliver,
            }
        return {"stream_name": self._stream, "config": config}


def _follows(replica: Mapping[str, Any]) -> bool:
    """Whether a leader's view of a replica is that of one that keeps up. Under load one that is a few messages behind
    is called not current (lag 1 to 11 was seen at 2,000 messages a second), and that is no reason to wait for it."""
    if replica.get("offline") or int(replica.get("active", 0)) > _nanoseconds(SILENT_S):
        return False
    return bool(replica.get("current")) or 0 < int(replica.get("lag", 0)) <= IN_FLIGHT_MAX


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
