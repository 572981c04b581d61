"""Which faults hit a broker's process? Killing, ending or freezing it, one or all, with its data left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.faults.node_ends import NodeEnds, at_once
from harness.faults.roles import CALLED, holder, refuse_client_roles
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Measure, System
from harness.system.topology import Node, NodeState


@contextmanager
def _ended(
    system: System,
    nodes: Sequence[Node],
    verb: Callable[[Node], None],
    told: Mapping[str, object],
    *,
    in_order: bool = False,
) -> Iterator[Measure]:
    """End the processes of nodes at once, and start them again. Evidence: running before, exited after, and still so
    just before they are started; and where they shall end `in_order`, that nobody had to kill them. `told`: facts that
    are known already."""
    ends = NodeEnds(system, nodes)
    try:
        with ends:
            at_once(nodes, verb)

        def measure() -> Evidence:
            doubts = ends.doubts(in_order=in_order) + ends.back()
            bit_ns = None if doubts else ends.first_ns()
            return Evidence(tuple(ends.before), bit_ns, {**ends.facts(), **told}, "; ".join(doubts) or None)

        yield measure
    finally:
        at_once(nodes, lambda node: node.start())


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL of the node that holds a role, down for `hold_s`, then started again (in a cluster others take over)."""

    role: Role = Role.LEADER
    hold_s: float = 0.5
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"kill", "start"}), fresh=True)
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_client_roles("kill", self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"kill_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Kill it; evidence is its process id, gone, and the connections that ended with it."""
        node, told = holder(system, self.role, choice)
        with _ended(system, [node], lambda node: node.kill(), told) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class KillAll:
    """SIGKILL of every node at once, down for `hold_s`, then all are started again: nobody is left to take over."""

    hold_s: float = 0.5
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"kill", "start"}), capabilities=frozenset({"several"}), fresh=True)
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "kill_all_nodes"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Kill them; evidence is that of each."""
        with _ended(system, list(system.topology.nodes.values()), lambda node: node.kill(), {}) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGTERM of the node that holds a role, which ends in order; down for `hold_s`, then started again."""

    role: Role = Role.LEADER
    hold_s: float = 0.5
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"stop", "start"}), fresh=True)
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_client_roles("stop", self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"stop_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Stop it; evidence is its process id, gone, and the connections that ended with it."""
        node, told = holder(system, self.role, choice)
        with _ended(system, [node], lambda node: node.stop(), told, in_order=True) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class Pause:
    """Freezes the node that holds a role for `hold_s`: its peers see silence, it sees time jump."""

    role: Role = Role.LEADER
    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"pause", "resume"}), fresh=True)
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_client_roles("pause", self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"pause_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Freeze it; evidence is that the same process is frozen from then until it is measured."""
        node, told = holder(system, self.role, choice)
        before = node.status()
        try:
            node.pause()
            frozen_ns = system.now_ns()

            def measure() -> Evidence:
                held = node.status()
                facts = {"pid_before": before.pid, "started_before": before.started, "state_held": str(held)} | told
                same = (held.pid, held.started) == (before.pid, before.started)
                frozen = before.state is NodeState.RUNNING and held.state is NodeState.PAUSED and same
                why_not = None if frozen else f"{node.name} was {before} before and is {held} while it should be frozen"
                return Evidence((node.name,), frozen_ns if frozen else None, facts, why_not)

            yield measure
        finally:
            node.resume()
