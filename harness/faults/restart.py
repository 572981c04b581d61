"""Which faults start a broker's process again at once? One restart, a loop of crashes, one node after the other.

Evidence of each life: a process that ran, ended, and is another one after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.clock import happens
from harness.errors import Refused
from harness.faults.node_ends import NodeEnds, at_once
from harness.faults.roles import CALLED, holder, refuse_client_roles
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Measure, System
from harness.system.topology import Node, NodeState

How = Literal["kill", "stop"]
WHOLE_WITHIN_S = 60.0
"""How long a rolling restart waits for the cluster to be whole before it goes on to the next node."""

_KILLS_MAX = 50
_LIVES_MS_MAX = 60_000


def _refuse_ways(fault: str, how: str) -> None:
    if how not in ("kill", "stop"):
        raise Refused(f"{fault}: how={how!r}", cure="use kill (SIGKILL) or stop (SIGTERM)")


@dataclass(frozen=True, slots=True)
class _Life:
    """A node's life that was ended, and the next one that was begun at once."""

    ends: NodeEnds
    facts: Mapping[str, object]
    doubts: tuple[str, ...]


def _again(system: System, node: Node, how: How) -> _Life:
    """End a node's process and start it again, at once."""
    ends = NodeEnds(system, [node])
    with ends:
        (node.kill if how == "kill" else node.stop)()
    node.start()
    started_ns = system.now_ns()
    before, now = ends.before[node.name], node.status()
    doubts = ends.doubts(in_order=how == "stop")
    if now.state is NodeState.EXITED or (now.pid, now.started) == (before.pid, before.started):
        doubts.append(f"{node.name} is {now}, with process {now.pid} after {before.pid}: it was not started again")
    facts = {
        "pid_before": before.pid,
        "started_before": before.started,
        "state_after": str(ends.after[node.name]),
        "pid_now": now.pid,
        "started_now": now.started,
        "down_ms": round((started_ns - ends.gone_ns()) / 1e6),
    }
    return _Life(ends, facts, tuple(doubts))


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart of the node that holds a role: killed, or stopped in order, and started again at once, never held down.

    `hold_s`: how long it is then watched before the fault counts as over.
    """

    role: Role = Role.LEADER
    how: How = "kill"
    hold_s: float = 0.5
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"kill", "start", "stop"}), fresh=True)
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_client_roles("restart", self.role)
        _refuse_ways("restart", self.how)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"restart_{CALLED[self.role]}" + ("" if self.how == "kill" else "_in_order")

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """End it and start it; evidence is its process, another one after than before."""
        node, told = holder(system, self.role, choice)
        try:
            life = _again(system, node, self.how)

            def measure() -> Evidence:
                bit_ns = None if life.doubts else life.ends.first_ns()
                facts = {**life.facts, "connections_ended": sorted(life.ends.connections()), **told}
                return Evidence((node.name,), bit_ns, facts, "; ".join(life.doubts) or None)

            yield measure
        finally:
            node.start()


@dataclass(frozen=True, slots=True)
class CrashLoop:
    """Several kills of the node that holds a role: each time it is started at once, and killed `lives_ms` later.

    After the last kill it is started for good. What takes longer than `lives_ms` to boot is killed while it boots.
    """

    role: Role = Role.LEADER
    kills: int = 3
    lives_ms: int = 300
    hold_s: float = 0.5
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"kill", "start"}), fresh=True)
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_client_roles("crash_loop", self.role)
        if not 2 <= self.kills <= _KILLS_MAX:
            raise Refused(f"crash_loop: kills={self.kills} (2 to {_KILLS_MAX})", cure="for one kill use Restart")
        if not 0 <= self.lives_ms <= _LIVES_MS_MAX:
            raise Refused(f"crash_loop: lives_ms={self.lives_ms} (0 to {_LIVES_MS_MAX})", cure="give it less time")

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"crash_loop_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Kill it again and again; evidence is that each kill ended a process of its own."""
        node, told = holder(system, self.role, choice)
        try:
            lives = [_again(system, node, "kill")]
            while len(lives) < self.kills:
                happens(lambda: node.status().state is NodeState.EXITED, within_s=self.lives_ms / 1000)
                lives.append(_again(system, node, "kill"))
            first = lives[0].ends

            def measure() -> Evidence:
                doubts = [doubt for life in lives for doubt in life.doubts]
                facts = {
                    **{name: [life.facts[name] for life in lives] for name in ("pid_before", "state_after", "down_ms")},
                    "pid_now": lives[-1].facts["pid_now"],
                    "killed_after_ms": [round((life.ends.gone_ns() - first.gone_ns()) / 1e6) for life in lives],
                    "connections_ended": sorted(first.connections()),
                    **told,
                }
                return Evidence((node.name,), None if doubts else first.first_ns(), facts, "; ".join(doubts) or None)

            yield measure
        finally:
            node.start()


@dataclass(frozen=True, slots=True)
class Rolling:
    """Restart of every node, one after the other: each when the cluster is whole again after the one before it.

    Stopped in order, as an upgrade does it, or with how="kill" killed. `hold_s`: how long it is watched after the last.
    """

    how: How = "stop"
    hold_s: float = 0.2
    needs: ClassVar[Needs] = Needs(
        verbs=frozenset({"kill", "start", "stop"}), capabilities=frozenset({"several"}), fresh=True
    )
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _refuse_ways("rolling", self.how)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"rolling_{self.how}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Restart them, the first one as the choice says; evidence is that of each, and that all was whole between."""
        nodes = list(system.topology.nodes.values())
        turned = nodes[choice % len(nodes) :] + nodes[: choice % len(nodes)]
        lives: dict[str, _Life] = {}
        whole_after_s: dict[str, float] = {}
        missing: str | None = None

        def whole() -> bool:
            nonlocal missing
            missing = system.broker.whole() or system.broker.ready()
            return missing is None

        try:
            for node in turned:
                lives[node.name] = life = _again(system, node, self.how)
                if not happens(whole, within_s=WHOLE_WITHIN_S):
                    break
                whole_after_s[node.name] = round((system.now_ns() - life.ends.gone_ns()) / 1e9, 3)

            def measure() -> Evidence:
                doubts = [doubt for life in lives.values() for doubt in life.doubts]
                if missing is not None:
                    doubts.append(f"after {list(lives)[-1]} all was not whole within {WHOLE_WITHIN_S:g} s: {missing}")
                names = ("pid_before", "started_before", "state_after", "pid_now", "down_ms")
                facts: dict[str, object] = {
                    name: {node: life.facts[name] for node, life in lives.items()} for name in names
                }
                facts["whole_again_after_s"] = whole_after_s
                bit_ns = None if doubts else next(iter(lives.values())).ends.first_ns()
                return Evidence(tuple(lives), bit_ns, facts, "; ".join(doubts) or None)

            yield measure
        finally:
            at_once(nodes, lambda node: node.start())
