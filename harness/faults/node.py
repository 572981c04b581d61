"""Which faults hit a broker's process? Killing, ending or freezing it, one or all, with its data left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.operation import Evidence, Role
from harness.system.system import Measure, System
from harness.system.topology import Needs, Node, NodeState, NodeStatus

_KILLED = (137, -9)
"""Exit codes of what SIGKILL ended, as containers and as local processes tell it."""

CALLED = {Role.LEADER: "leader", Role.FOLLOWER: "follower", Role.ANY_NODE: "node"}
"""The node that holds a role, as the name of a fault calls it."""


def refuse_client_roles(fault: str, role: Role) -> None:
    """Raise Refused for a role that no node has."""
    if role not in CALLED:
        raise Refused(f"{fault}: role={role!s}", cure="nodes are leader, follower or any_node; clients have KillClient")


def at_once(nodes: Sequence[Node], verb: Callable[[Node], None]) -> None:
    """Do it to all nodes in parallel, to the end; then raise the first failure."""
    with ThreadPoolExecutor(max_workers=len(nodes)) as workers:
        done = [workers.submit(verb, node) for node in nodes]
    failures = [error for future in done if (error := future.exception()) is not None]
    if failures:
        raise failures[0]


class Ends:
    """Connections of living clients that end from now on: they date a node's end better than its engine's answer."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._clients = system.crew.living()
        self._before = {client.number: client.counters().lost for client in self._clients}
        self._began_ns = system.now_ns()

    def seen(self) -> dict[str, int]:
        """Name of each client that lost its connection, and when."""
        losses = {}
        for client in self._clients:
            counters = client.counters()
            lost_ns = self._system.raw_to_run_ns(counters.lost_ns)
            if counters.lost > self._before[client.number] and lost_ns >= self._began_ns:
                losses[client.name] = lost_ns
        return losses


@contextmanager
def _ended(
    system: System, nodes: Sequence[Node], verb: Callable[[Node], None], *, in_order: bool = False
) -> Iterator[Measure]:
    """End the processes of nodes at once, and start them again. Evidence: running before and exited after; and where
    they shall end `in_order`, that nobody had to kill them."""
    before = {node.name: node.status() for node in nodes}
    ends = Ends(system)
    try:
        at_once(nodes, verb)
        gone_ns = system.now_ns()
        after = {node.name: node.status() for node in nodes}

        def measure() -> Evidence:
            losses = ends.seen()
            lived = [
                f"{name} was {before[name]} before and is {after[name]} after"
                for name in before
                if before[name].state is not NodeState.RUNNING or after[name].state is not NodeState.EXITED
            ]
            if in_order:
                lived += [
                    f"{name} did not end in order: it was killed"
                    for name, status in after.items()
                    if status.exit_code in _KILLED
                ]
            facts = {
                "pid_before": by_node(before, lambda status: status.pid),
                "started_before": by_node(before, lambda status: status.started),
                "state_after": by_node(after, str),
                "connections_ended": sorted(losses),
            }
            first_ns = min([gone_ns, *losses.values()])
            return Evidence(tuple(before), None if lived else first_ns, facts, "; ".join(lived) or None)

        yield measure
    finally:
        at_once(nodes, lambda node: node.start())


def by_node(statuses: dict[str, NodeStatus], what: Callable[[NodeStatus], object]) -> object:
    """One value of each node: itself where there is one node, by name where there are several."""
    values = {name: what(status) for name, status in statuses.items()}
    return next(iter(values.values())) if len(values) == 1 else values


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
        with _ended(system, [system.find(self.role, choice)], lambda node: node.kill()) as measure:
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
        with _ended(system, list(system.topology.nodes.values()), lambda node: node.kill()) as measure:
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
        with _ended(system, [system.find(self.role, choice)], lambda node: node.stop(), in_order=True) as measure:
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
        node = system.find(self.role, choice)
        before = node.status()
        try:
            node.pause()
            frozen_ns = system.now_ns()

            def measure() -> Evidence:
                held = node.status()
                facts = {"pid_before": before.pid, "started_before": before.started, "state_held": str(held)}
                same = (held.pid, held.started) == (before.pid, before.started)
                frozen = before.state is NodeState.RUNNING and held.state is NodeState.PAUSED and same
                why_not = None if frozen else f"{node.name} was {before} before and is {held} while it should be frozen"
                return Evidence((node.name,), frozen_ns if frozen else None, facts, why_not)

            yield measure
        finally:
            node.resume()
