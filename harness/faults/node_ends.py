"""When did nodes end, and whose connections with them? Watched from just before they are hit.

*NodeEnds*: the state of nodes before and after; the end of their processes as the kernel shows it, which an engine
tells later (containers: 30 to 60 ms); and *Losses*, the connections of clients that ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from harness import parallel
from harness.ledger import started_ticks
from harness.system.system import System
from harness.system.topology import Node, NodeState, NodeStatus

KILLED = (137, -9)
"""Exit codes of what SIGKILL ended, as containers and as local processes tell it."""

_LOOK_S = 0.001


def at_once(nodes: Sequence[Node], verb: Callable[[Node], None]) -> None:
    """Do it to all nodes in parallel, to the end; then raise the first failure."""
    parallel.at_once([partial(verb, node) for node in nodes])


class Losses:
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


class NodeEnds:
    """What becomes of these nodes, which are about to be hit. As a context: while it lasts the kernel is asked, every
    millisecond, whether their processes are still there."""

    def __init__(self, system: System, nodes: Sequence[Node]) -> None:
        self.before: dict[str, NodeStatus] = {node.name: node.status() for node in nodes}
        self.after: dict[str, NodeStatus] = {}
        self._nodes = nodes
        self._system = system
        self._losses = Losses(system)
        self._gone_ns: dict[str, int] = {}
        self._hit_ns = 0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="assay-ends", daemon=True)

    def __enter__(self) -> NodeEnds:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._hit_ns = self._system.now_ns()
        self._over.set()
        self._watcher.join()
        self.after = {node.name: node.status() for node in self._nodes}

    def _watch(self) -> None:
        waits = {
            name: (status.pid, status.ticks)
            for name, status in self.before.items()
            if status.pid is not None and status.ticks is not None
        }
        while waits:
            over = self._over.is_set()
            for name, (pid, ticks) in list(waits.items()):
                if started_ticks(pid) != ticks:
                    self._gone_ns[name] = self._system.now_ns()
                    del waits[name]
            if over:
                return
            self._over.wait(_LOOK_S)

    def connections(self) -> dict[str, int]:
        """Name of each client that lost its connection since, and when."""
        return self._losses.seen()

    def gone_ns(self) -> int:
        """When the first of them had ended; where the kernel was no help, when the engine said so of all."""
        return min(self._gone_ns.values(), default=self._hit_ns)

    def first_ns(self) -> int:
        """When it first showed: the end of a process, or of a connection."""
        return min([self.gone_ns(), *self.connections().values()])

    def doubts(self, *, in_order: bool = False) -> list[str]:
        """Why they were not ended, if so: each must have run before and have exited after; and where they shall end
        `in_order`, nobody must have had to kill them."""
        doubts = [
            f"{name} was {self.before[name]} before and is {status} after"
            for name, status in self.after.items()
            if self.before[name].state is not NodeState.RUNNING or status.state is not NodeState.EXITED
        ]
        if in_order:
            doubts += [
                f"{name} did not end in order: it was killed"
                for name, status in self.after.items()
                if status.exit_code in KILLED
            ]
        return doubts

    def back(self) -> list[str]:
        """Which of them, that had exited, are found otherwise now, and how: somebody else started them."""
        found = {node.name: node.status() for node in self._nodes}
        return [
            f"{name} exited and is {status} before it was to be started again: somebody else started it"
            for name, status in found.items()
            if self.after[name].state is NodeState.EXITED and status.state is not NodeState.EXITED
        ]

    def facts(self) -> dict[str, object]:
        """What was read, for evidence."""
        return {
            "pid_before": by_node(self.before, lambda status: status.pid),
            "started_before": by_node(self.before, lambda status: status.started),
            "state_after": by_node(self.after, str),
            "connections_ended": sorted(self.connections()),
        }


def by_node(statuses: dict[str, NodeStatus], what: Callable[[NodeStatus], object]) -> object:
    """One value of each node: itself where there is one node, by name where there are several."""
    values = {name: what(status) for name, status in statuses.items()}
    return next(iter(values.values())) if len(values) == 1 else values
