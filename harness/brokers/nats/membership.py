"""How do replicas of a JetStream stream come and go? By JetStream's own API, over our own connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.brokers.nats.gateway import Gateway, Reply, error_code, error_of
from harness.brokers.nats.monitor import Monitor
from harness.errors import Refused, Trouble

ASK_S = 1.0
TELL_S = 5.0


class Membership:
    """Of one stream on a cluster of these nodes."""

    def __init__(
        self,
        gateway: Gateway,
        monitor: Monitor,
        nodes: Sequence[str],
        stream: str,
        *,
        follows: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        self._gateway = gateway
        self._monitor = monitor
        self._nodes = tuple(nodes)
        self._stream = stream
        self._follows = follows

    def replicas(self) -> Mapping[str, str]:
        """As the stream's leader says, the only one who answers."""
        cluster = self._info().get("cluster") or {}
        states = {str(each["name"]): "follower" if self._follows(each) else "behind" for each in cluster["replicas"]}
        return {str(cluster["leader"]): "leader", **states}

    def members(self) -> Mapping[str, frozenset[str]]:
        """As each server lists its routes, itself included."""
        told = {}
        for node in self._nodes:
            listed = self._monitor.get(node, "/routez")
            if listed is not None:
                told[node] = frozenset({node, *(str(route.get("remote_name")) for route in listed.get("routes") or ())})
        return told

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
        """Not to be had."""
        raise Refused("a NATS server leaves its cluster only by a request of the system account, which is not set up")

    join = leave

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
