"""How do replicas of a JetStream stream and the servers that hold them come and go? By JetStream's own API.

A server that leaves is ended in order, so that it hands over what it leads, and then removed from the meta group, which
takes its replicas along. It keeps its data on its disk; whoever comes again under its name has to come empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.brokers.nats.gateway import Gateway, Reply, error_code, error_of
from harness.brokers.nats.meta import CHANGE_S, Meta
from harness.brokers.nats.monitor import Monitor
from harness.clock import until
from harness.errors import Refused, Trouble
from harness.system.topology import Node

ASK_S = 1.0
TELL_S = 5.0


class Membership:
    """Of one stream on a cluster of these nodes."""

    def __init__(
        self,
        gateway: Gateway,
        monitor: Monitor,
        meta: Meta,
        nodes: Mapping[str, Node],
        stream: str,
        *,
        follows: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        self._gateway = gateway
        self._monitor = monitor
        self._meta = meta
        self._nodes = nodes
        self._stream = stream
        self._follows = follows

    def replicas(self) -> Mapping[str, str]:
        """As the stream's leader says, the only one who answers."""
        cluster = self._info().get("cluster") or {}
        states = {str(each["name"]): "follower" if self._follows(each) else "behind" for each in cluster["replicas"]}
        return {str(cluster["leader"]): "leader", **states}

    def members(self) -> Mapping[str, frozenset[str]]:
        """As each server lists the peers of JetStream's meta group: also one that is down, until it is removed."""
        return self._meta.peers()

    def versions(self) -> Mapping[str, str]:
        """As each server's monitoring declares it."""
        told = {node: self._monitor.get(node, "/varz") for node in self._nodes}
        return {node: str(varz["version"]) for node, varz in told.items() if varz is not None}

    def transfer(self, node: str) -> None:
        """The leader steps down, and prefers that one."""
        self._tell(f"$JS.API.STREAM.LEADER.STEPDOWN.{self._stream}", {"placement": {"preferred": node}})

    def remove(self, node: str) -> None:
        """Ask for a replica fewer: JetStream gives up a follower's, of its own choice. (To take out a certain peer is
        refused where no other server could take its place: "peer remap failed".)"""
        self._resize(len(self.replicas()) - 1)

    def add(self, node: str) -> None:
        """Ask for a replica more, which goes to a server that has none, unless it has one."""
        have = self.replicas()
        if node not in have:
            self._resize(len(have) + 1)

    def _resize(self, count: int) -> None:
        self._tell(f"$JS.API.STREAM.UPDATE.{self._stream}", {**self._info()["config"], "num_replicas": count})

    def leave(self, node: str) -> None:
        """End it in order, and have the others forget it: the meta group, and with it the stream."""
        server = self._nodes[node]
        if server.spec.equipment.disk_mb is not None:
            raise Refused(
                f"{node} has a disk of its own, and could not come again without its data",
                cure="let servers leave in a cell that has no fault of disks",
            )
        server.stop()
        self._meta.remove(node)

    def join(self, node: str) -> None:
        """Start it empty, and have it let in by a server that does not remember that it was removed: see meta.py. The
        stream lacks a replica, and is given one there by whoever lets it in."""
        others = {name: server for name, server in self._nodes.items() if name != node}
        listed = until(
            lambda: self._listed(others),
            within_s=CHANGE_S,
            what=f"{', '.join(others)} to agree who leads JetStream",
        )
        if node in listed:  # it has not left
            self._nodes[node].start()
            return
        # The stream's leader stays: it has all that was acknowledged, and a stream of two waits for the other one.
        steady = until(lambda: self._leader_of(others), within_s=CHANGE_S, what=f"a leader of {self._stream!r}")
        oblivious = next(name for name in others if name != steady)
        self._meta.lead(steady)
        others[oblivious].stop()
        others[oblivious].start()
        until(
            lambda: self._meta.leader(oblivious) == steady and self._meta.lag(steady, [oblivious]) is None,
            within_s=CHANGE_S,
            what=f"{oblivious}, started again, to follow {steady}",
        )
        self._meta.lead(oblivious)
        self._nodes[node].renew()
        until(
            lambda: node in self.members().get(oblivious, ()),
            within_s=CHANGE_S,
            what=f"{node} to be let in",
            last_seen=lambda: str({name: sorted(listed) for name, listed in self.members().items()}),
        )

    def _listed(self, others: Mapping[str, Node]) -> frozenset[str] | None:
        """The meta group's peers as its leader lists them, if all of these name the same leader; it may be another."""
        named = {self._meta.leader(name) for name in others}
        return self.members().get(named.pop() or "") if len(named) == 1 else None

    def _leader_of(self, others: Mapping[str, Node]) -> str | None:
        """The stream's leader, if it is one of these and says so."""
        try:
            leader = self._info()["cluster"]["leader"]
        except Trouble:
            return None
        return str(leader) if leader in others else None

    def settle(self, versions: str) -> None:
        """Nothing is asked for."""

    def _info(self) -> Reply:
        reply = self._gateway.ask(f"$JS.API.STREAM.INFO.{self._stream}", {}, within_s=ASK_S)
        cluster = (reply or {}).get("cluster") or {}
        if reply is None or error_code(reply) or not cluster.get("leader"):
            raise Trouble(f"nobody leads stream {self._stream!r}: {error_of(reply)}")
        return {**reply, "cluster": {**cluster, "replicas": cluster.get("replicas") or ()}}

    def _tell(self, subject: str, body: Mapping[str, object]) -> None:
        reply = self._gateway.tell(subject, body, within_s=TELL_S)
        if reply is None or error_code(reply):
            raise Trouble(f"{subject}: {error_of(reply)}")
