"""Which nodes can be kept from hearing which? Cuts between the nodes of a cluster, each in one direction.

Clients reach every node all the while. Evidence: every cut has dropped packets, as the kernel counts them, and what
the members said of each other before and while it held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.errors import Refused
from harness.operation import Evidence, Role
from harness.system.system import Measure, System
from harness.system.topology import Cut, Needs

_NEEDS = Needs(verbs=frozenset({"sever"}), capabilities=frozenset({"several"}), fresh=True)
_CALLED = {Role.LEADER: "leader", Role.FOLLOWER: "follower", Role.ANY_NODE: "node"}


@contextmanager
def _severed(system: System, cuts: Sequence[Cut]) -> Iterator[Measure]:
    """Sever these directions; each must have dropped something, and no other may have."""
    before = system.broker.whole()
    try:
        system.topology.sever(cuts)
        bit_ns = system.now_ns()

        def measure() -> Evidence:
            during = system.broker.whole()
            counted = system.topology.dropped()
            facts = {
                "packets_dropped": {str(cut): counted.get(cut, 0) for cut in sorted(cuts)},
                "members_before": before or "whole",
                "members_while_it_held": during or "whole",
            }
            idle = [str(cut) for cut in cuts if not counted.get(cut, 0)]
            strange = [str(cut) for cut in counted if cut not in cuts]
            why_not = None
            if idle:
                why_not = f"nothing was dropped on {', '.join(idle)}"
            elif strange:
                why_not = f"rules that nobody asked for: {', '.join(strange)}"
            targets = tuple(str(cut) for cut in sorted(cuts))
            return Evidence(targets, bit_ns if why_not is None else None, facts, why_not)

        yield measure
    finally:
        system.topology.rejoin()


@dataclass(frozen=True, slots=True)
class Isolate:
    """Keeps the node that holds a role from all other nodes: both ways, or only what it sends or what it is sent."""

    role: Role = Role.LEADER
    way: Literal["both", "outbound", "inbound"] = "both"
    hold_s: float = 3.0
    needs: ClassVar[Needs] = _NEEDS
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.role not in _CALLED:
            raise Refused(f"isolate: role={self.role!s}", cure="nodes are leader, follower or any_node")
        if self.way not in ("both", "outbound", "inbound"):
            raise Refused(f"isolate: way={self.way!r}", cure="use both, outbound or inbound")

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"isolate_{_CALLED[self.role]}" + ("" if self.way == "both" else f"_{self.way}")

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Cut it off from every other node."""
        alone = system.find(self.role, choice).name
        others = [name for name in system.topology.nodes if name != alone]
        cuts = [Cut(alone, other) for other in others if self.way != "inbound"]
        cuts += [Cut(other, alone) for other in others if self.way != "outbound"]
        with _severed(system, cuts) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class Bridge:
    """Keeps two nodes from each other while both hear all others: not everybody agrees on who is there."""

    hold_s: float = 3.0
    needs: ClassVar[Needs] = _NEEDS
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "bridge"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Cut the leader and another node off from each other."""
        leader, other = system.find(Role.LEADER).name, system.find(Role.FOLLOWER, choice).name
        with _severed(system, [Cut(leader, other), Cut(other, leader)]) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class Ring:
    """Cuts every link of three nodes in one direction: each is heard by one neighbour and deaf to the other."""

    hold_s: float = 3.0
    needs: ClassVar[Needs] = _NEEDS
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "ring"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Cut each node from the next one, in an order that the choice turns round."""
        names = list(system.topology.nodes)
        turned = names if choice % 2 else names[::-1]
        cuts = [Cut(name, turned[(place + 1) % len(turned)]) for place, name in enumerate(turned)]
        with _severed(system, cuts) as measure:
            yield measure
