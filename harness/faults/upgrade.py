"""Is anything lost while a cluster is brought to another version, node by node, under load?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused, Trouble
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Measure, System
from harness.system.topology import Node

NODE_S = 60.0
"""How long a node of another version may take until the cluster is whole and the queue or stream has all replicas."""

_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class RollingUpgrade:
    """Ends each node in order and starts one of another version with its data, one after another, the leader last."""

    to: str | None = None
    hold_s: float = 1.0
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.to is not None and not _VERSION.fullmatch(self.to):
            raise Refused(
                f"rolling_upgrade: to={self.to!r}", cure='use a version such as "4.3", or None: the pinned one'
            )

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "rolling_upgrade" + ("" if self.to is None else f"_to_{self.to.replace('.', '_')}")

    @property
    def needs(self) -> Needs:
        """Nodes that can be replaced, several of them, and the image of the other version."""
        return Needs(
            verbs=frozenset({"replace", "stop", "start", "execute"}),
            capabilities=frozenset({"several", "replicated", "upgrade"}),
            fresh=True,
            versions=(self.to,),
        )

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Replace them; evidence is each node's version as it declares it, before and after. It is not undone: mending
        starts what does not run. The choice turns the order of the followers round."""
        membership = system.broker.membership()
        membership.settle(self.to or "")
        leader = system.find(Role.LEADER)
        followers = [node for node in system.topology.nodes.values() if node is not leader]
        order = [*(followers if choice % 2 else followers[::-1]), leader]
        before = membership.versions()
        seconds: dict[str, float] = {}
        stuck: str | None = None
        bit_ns: int | None = None
        try:
            for node in order:
                began_ns = system.now_ns()
                node.stop()
                if bit_ns is None:
                    bit_ns = system.now_ns()
                stuck = self._replaced(system, node)
                seconds[node.name] = round((system.now_ns() - began_ns) / 1e9, 1)
                if stuck is not None:
                    break

            def measure() -> Evidence:
                after = membership.versions()
                facts = {"versions_before": dict(before), "versions_after": dict(after), "took_s": seconds}
                same = [name for name in system.topology.nodes if after.get(name) in (None, before.get(name))]
                other = sorted(set(after.values()))
                why_not = stuck
                if why_not is None and same:
                    told = ", ".join(f"{name} is {after.get(name, 'silent')}" for name in same)
                    why_not = f"not every node has another version than before: {told}"
                elif why_not is None and len(other) != 1:
                    why_not = f"the nodes have several versions: {dict(after)}"
                return Evidence(tuple(node.name for node in order), None if why_not else bit_ns, facts, why_not)

            yield measure
        finally:
            for node in order:
                node.start()

    def _replaced(self, system: System, node: Node) -> str | None:
        """Put a node of the other version in its place: None once the cluster is whole again, else what is missing."""
        node.replace(self.to)
        seen = "nothing"

        def back() -> int | None:
            nonlocal seen
            try:
                seen = system.broker.whole() or system.broker.ready() or ""
            except Trouble as trouble:
                seen = trouble.message
            return None if seen else system.now_ns()

        if system.watch(back, within_s=NODE_S, poll_s=0.05) is not None:
            return None
        return f"{node.name} of the other version is not back after {NODE_S:g} s: {seen}; its log: {node.logs(5)}"
