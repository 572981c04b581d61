"""What does a node still have after its power failed? Only what had reached its disk.

The node's processes are frozen, its disk is shut down without being written to, and then they are killed: nothing runs
between the loss and the end, so nobody can be told of what did not happen. Evidence, of each node: the kernel's answer,
that whoever writes afterwards gets an error, and that the file system, unmounted by then, needs recovery.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.clock import happens
from harness.errors import Refused
from harness.faults.node_ends import Losses, at_once, by_node
from harness.faults.roles import CALLED, refuse_client_roles
from harness.operation import Evidence, Role
from harness.system.needs import Equipment, Needs
from harness.system.system import Measure, System
from harness.system.topology import Node, NodeState

DISK_MB = 512
_AGAIN_WITHIN_S = 20.0
"""How long a cluster may take to be whole again before the next of its nodes loses its power all the same."""


def _needs(*capabilities: str) -> Needs:
    return Needs(
        verbs=frozenset({"lose_power", "pause", "kill", "start"}),
        capabilities=frozenset(capabilities),
        fresh=True,
        equipment=Equipment(disk_mb=DISK_MB),
    )


class _Loss:
    """The loss of power of some nodes at once, from before it until they have their power again."""

    def __init__(self, system: System, nodes: Sequence[Node]) -> None:
        self._system = system
        self._nodes = nodes
        self._disks = {node.name: system.topology.disk(node.name) for node in nodes}
        self._before = {node.name: node.status() for node in nodes}
        self._answers: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        self._recovery: dict[str, bool] = {}
        self._ends = Losses(system)
        self.lost_ns = 0

    def happen(self) -> None:
        """Freeze, shut down, kill, unmount: every node at the same step."""
        at_once(self._nodes, lambda node: node.pause())
        at_once(self._nodes, self._shut_down)
        self.lost_ns = self._system.now_ns()
        at_once(self._nodes, self._see_errors)
        at_once(self._nodes, lambda node: node.kill())
        at_once(self._nodes, self._let_go)

    def mend(self) -> None:
        """Power for all of them again. Idempotent, and right after half a loss."""
        at_once(self._nodes, lambda node: node.kill())
        at_once(self._nodes, lambda node: self._disks[node.name].release())
        at_once(self._nodes, lambda node: node.start())

    def evidence(self) -> tuple[dict[str, object], list[str]]:
        """What was measured of it, and what speaks against it."""
        after = {node.name: node.status() for node in self._nodes}
        facts: dict[str, object] = {
            "pid_before": by_node(self._before, lambda status: status.pid),
            "state_after": by_node(after, str),
            "shutdown_answered": dict(self._answers),
            "write_afterwards": dict(self._errors),
            "needs_recovery": dict(self._recovery),
            "connections_ended": sorted(self._ends.seen()),
        }
        doubts = [f"{name}: a file was written after the loss" for name, error in self._errors.items() if not error]
        doubts += [f"{name}: its disk was unmounted in order" for name, needed in self._recovery.items() if not needed]
        doubts += [
            f"{name} was {status} before its power failed"
            for name, status in self._before.items()
            if status.state is not NodeState.RUNNING
        ]
        return facts, doubts

    def _shut_down(self, node: Node) -> None:
        self._answers[node.name] = self._disks[node.name].lose_power()

    def _see_errors(self, node: Node) -> None:
        self._errors[node.name] = self._disks[node.name].probe()

    def _let_go(self, node: Node) -> None:
        self._disks[node.name].release()
        self._recovery[node.name] = self._disks[node.name].needs_recovery()


@contextmanager
def _powerless(system: System, nodes: Sequence[Node]) -> Iterator[Measure]:
    """These nodes lose their power at the same moment."""
    loss = _Loss(system, nodes)
    try:
        loss.happen()

        def measure() -> Evidence:
            facts, doubts = loss.evidence()
            names = tuple(node.name for node in nodes)
            return Evidence(names, None if doubts else loss.lost_ns, facts, "; ".join(doubts) or None)

        yield measure
    finally:
        loss.mend()


@dataclass(frozen=True, slots=True)
class PowerLoss:
    """Loss of power of the node that holds a role: it keeps what reached its disk; down for `hold_s`, then started."""

    role: Role = Role.LEADER
    hold_s: float = 0.5
    needs: ClassVar[Needs] = _needs()
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_client_roles("power_loss", self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"power_loss_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Take its power away."""
        with _powerless(system, [system.find(self.role, choice)]) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class PowerLossOfSeveral:
    """Loss of power of a majority of the nodes, or of all of them, at the same moment; then all are started again."""

    which: Literal["majority", "all"] = "all"
    hold_s: float = 0.5
    needs: ClassVar[Needs] = _needs("several")
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.which not in ("majority", "all"):
            raise Refused(f"power_loss: which={self.which!r}", cure="use majority or all; a single one is PowerLoss")

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "power_loss_majority" if self.which == "majority" else "power_loss_all_nodes"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Take their power away."""
        nodes = list(system.topology.nodes.values())
        if self.which == "majority":
            place = choice % len(nodes)
            nodes = [*nodes[place:], *nodes[:place]][: len(nodes) // 2 + 1]
        with _powerless(system, nodes) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class RollingPowerLoss:
    """Loss of power of every node, one after another: the next as soon as the one before is back and has caught up."""

    hold_s: float = 0.5
    needs: ClassVar[Needs] = _needs("several")
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "power_loss_one_after_another"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Take their power away in an order that the choice turns round; the last one is down while it holds."""
        nodes = list(system.topology.nodes.values())
        place = choice % len(nodes)
        *first, last = [*nodes[place:], *nodes[:place]]
        begun_ns, waited_s, told, doubts = 0, {}, {}, list[str]()
        for node in first:
            with _powerless(system, [node]) as measure:
                one = measure()
            begun_ns = begun_ns or one.bit_ns or 0
            told[node.name], doubts = dict(one.facts), [*doubts, *([one.why_not] if one.why_not else [])]
            mended_ns = system.now_ns()
            whole = happens(
                lambda: system.broker.whole() is None and system.broker.ready() is None, within_s=_AGAIN_WITHIN_S
            )
            waited_s[node.name] = round((system.now_ns() - mended_ns) / 1e9, 2) if whole else None
        with _powerless(system, [last]) as measure_last:

            def measure() -> Evidence:
                one = measure_last()
                facts = {**told, last.name: dict(one.facts), "whole_again_after_s": waited_s}
                why_not = "; ".join([*doubts, *([one.why_not] if one.why_not else [])]) or None
                names = tuple(node.name for node in (*first, last))
                return Evidence(names, begun_ns if why_not is None else None, facts, why_not)

            yield measure
