"""Who belongs to JetStream's meta group, who leads it, and how does a server leave it and come in again?

*Meta group*: the servers of a cluster that decide together which of them holds which stream; each keeps a list of the
others. It is changed by requests of the system account alone, so it has a gateway of its own, made when it is needed.

A server that was removed is barred by its name for five minutes, in the memory of every server that saw it removed
(`peerRemoveTimeout` in raft.go, of 2.12.15 and 2.15.1 alike; it was still barred after 10 s). One that was restarted in
order since then remembers nothing: it wrote a snapshot at its end. If that one leads, the other is let in at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.brokers.nats.configuration import SYSTEM
from harness.brokers.nats.gateway import Gateway, Reply, error_code, error_of
from harness.brokers.nats.monitor import Monitor
from harness.clock import until

ASK_S = 1.0
CHANGE_S = 15.0
"""How long the group may take to do what it is asked: without a leader, it elects one in 4 to 9 s first."""

NOT_A_MEMBER = 10044


class Meta:
    """The meta group of these nodes. `addresses`: of the link to each, for requests of the system account."""

    def __init__(
        self,
        addresses: Mapping[str, tuple[str, int]],
        monitor: Monitor,
        name: str,
        *,
        follows: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        self._addresses = addresses
        self._monitor = monitor
        self._name = name
        self._follows = follows
        self._system: Gateway | None = None

    def peers(self) -> Mapping[str, frozenset[str]]:
        """Server that lists peers -> the servers that it lists, itself included: in 2.12 only the leader."""
        told = {}
        for node in self._addresses:
            group = self._group(node)
            if group.get("replicas") or group.get("leader") == node:
                told[node] = frozenset({node, *(str(each["name"]) for each in group.get("replicas") or ())})
        return told

    def leader(self, node: str) -> str | None:
        """Who leads, as that server says; None where it knows of none or does not answer."""
        return str(self._group(node).get("leader") or "") or None

    def lag(self, leader: str, others: Sequence[str]) -> str | None:
        """None when `leader` lists each of these as one that follows; else for whom it waits."""
        current = {each["name"] for each in self._group(leader).get("replicas") or () if self._follows(each)}
        behind = [node for node in others if node not in current]
        return f"JetStream's meta leader {leader} waits for {', '.join(behind)}" if behind else None

    def remove(self, node: str) -> None:
        """Have the group forget `node`, and every stream its replica there. Right for one that is no member. Raises
        Trouble where the group does not do it."""
        self._tell("$JS.API.SERVER.REMOVE", {"peer": node}, NOT_A_MEMBER)

    def lead(self, node: str) -> None:
        """Have `node` lead; returns when it says that it does. Raises Trouble where it never does."""
        if self.leader(node) != node:
            self._tell("$JS.API.META.LEADER.STEPDOWN", {"placement": {"preferred": node}})
        until(
            lambda: self.leader(node) == node,
            within_s=CHANGE_S,
            what=f"{node} to lead JetStream's meta group",
            last_seen=lambda: f"{self.leader(node) or 'nobody'} leads",
        )

    def close(self) -> None:
        """Close the system account's connections. Idempotent."""
        if self._system is not None:
            self._system.close()
            self._system = None

    def _group(self, node: str) -> Mapping[str, Any]:
        return (self._monitor.get(node, "/jsz") or {}).get("meta_cluster") or {}

    def _tell(self, subject: str, body: Mapping[str, object], *also_fine: int) -> None:
        """Ask until it is done: whoever does not lead keeps silent, and there may be no leader for a while."""
        gateway = self._system = self._system or Gateway(self._addresses, f"{self._name}/system", account=SYSTEM)
        reply: Reply | None = None

        def done() -> bool:
            nonlocal reply
            reply = gateway.tell(subject, body, within_s=ASK_S)
            return reply is not None and error_code(reply) in (0, *also_fine)

        until(done, within_s=CHANGE_S, what=f"{subject} {dict(body)}", last_seen=lambda: error_of(reply), poll_s=0.1)
