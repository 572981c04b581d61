"""Which nodes can be kept from hearing which? Cuts between the nodes of a cluster, each in one direction.

Clients reach every node all the while. Evidence: every cut has dropped something, as whoever drops it counts, and
nothing else was cut. What each member said of the others, before and while it held, stands beside it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.errors import Refused
from harness.faults.roles import CALLED, holder, refuse_client_roles
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.service import told_views
from harness.system.system import Measure, System
from harness.system.topology import Cut

_NEEDS = Needs(verbs=frozenset({"sever"}), capabilities=frozenset({"several"}), fresh=True)
_WAYS = ("both", "outbound", "inbound")


@contextmanager
def _severed(system: System, cuts: Sequence[Cut], told: Mapping[str, object]) -> Iterator[Measure]:
    """Sever these directions; each must have dropped something, and no other may have. `told`: facts known already."""
    before = told_views(system.broker.views())
    try:
        system.topology.sever(cuts)
        bit_ns = system.now_ns()

        def measure() -> Evidence:
            during = told_views(system.broker.views())
            counted = system.topology.dropped()
            facts = {
                system.topology.counts: {str(cut): counted.get(cut, 0) for cut in sorted(cuts)},
                "members_before": before,
                "members_while_it_held": during,
                **told,
            }
            idle = [str(cut) for cut in cuts if not counted.get(cut, 0)]
            strange = [str(cut) for cut in counted if cut not in cuts]
            why_not = None
            if idle:
                why_not = f"nothing was dropped on {', '.join(idle)}"
            elif strange:
                why_not = f"cuts that nobody asked for: {', '.join(strange)}"
            targets = tuple(str(cut) for cut in sorted(cuts))
            return Evidence(targets, bit_ns if why_not is None else None, facts, why_not)

        yield measure
    finally:
        system.topology.rejoin()


def between(some: Sequence[str], others: Sequence[str]) -> list[Cut]:
    """Cuts that keep two groups of nodes from each other, both ways.

    >>> [str(cut) for cut in between(["a"], ["b", "c"])]
    ['a->b', 'b->a', 'a->c', 'c->a']
    """
    return [cut for one in some for other in others for cut in (Cut(one, other), Cut(other, one))]


def _shuffled(names: Sequence[str], choice: int) -> list[str]:
    """These names in an order that the choice alone draws."""
    return random.Random(choice).sample(list(names), len(names))


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
        refuse_client_roles("isolate", self.role)
        if self.way not in _WAYS:
            raise Refused(f"isolate: way={self.way!r}", cure="use both, outbound or inbound")

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"isolate_{CALLED[self.role]}" + ("" if self.way == "both" else f"_{self.way}")

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Cut it off from every other node."""
        node, told = holder(system, self.role, choice)
        others = [name for name in system.topology.nodes if name != node.name]
        cuts = [Cut(node.name, other) for other in others if self.way != "inbound"]
        cuts += [Cut(other, node.name) for other in others if self.way != "outbound"]
        with _severed(system, cuts, {"isolated": node.name, **told}) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class Halves:
    """Splits the nodes into a majority and a minority that do not hear each other, the leader in one of the two."""

    leader_in: Literal["minority", "majority"] = "minority"
    hold_s: float = 3.0
    needs: ClassVar[Needs] = _NEEDS
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.leader_in not in ("minority", "majority"):
            raise Refused(f"halves: leader_in={self.leader_in!r}", cure="use minority or majority")

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"halves_leader_in_{self.leader_in}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Cut them off from each other; who is with the leader, the choice draws."""
        leader = system.find(Role.LEADER).name
        minority, majority = halves(list(system.topology.nodes), leader, self.leader_in, choice)
        told = {"leader": leader, "minority": sorted(minority), "majority": sorted(majority)}
        with _severed(system, between(minority, majority), told) as measure:
            yield measure


def halves(names: Sequence[str], leader: str, leader_in: str, choice: int) -> tuple[list[str], list[str]]:
    """A minority and a majority of these nodes, of which there is an odd number.

    >>> halves(["a", "b", "c"], "b", "minority", 1)[0]
    ['b']
    """
    others = _shuffled([name for name in names if name != leader], choice)
    half = len(others) // 2
    if leader_in == "minority":
        return [leader, *others[: half - 1]], others[half - 1 :]
    return others[half:], [leader, *others[:half]]


@dataclass(frozen=True, slots=True)
class RandomPartition:
    """Cuts a random set of directions between nodes, drawn from the plan: any but none of them and all of them."""

    hold_s: float = 3.0
    needs: ClassVar[Needs] = _NEEDS
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "random_partition"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Cut what the choice draws."""
        with _severed(system, random_cuts(list(system.topology.nodes), choice), {}) as measure:
            yield measure


def random_cuts(names: Sequence[str], choice: int) -> list[Cut]:
    """The directions that `choice` stands for: each set of them that is neither empty nor complete is as likely.

    >>> [str(cut) for cut in random_cuts(["a", "b"], 1)] == [str(cut) for cut in random_cuts(["a", "b"], 1)]
    True
    """
    every = [Cut(source, target) for source in names for target in names if source != target]
    drawn = random.Random(choice).randrange(1, (1 << len(every)) - 1)
    return [cut for place, cut in enumerate(every) if drawn >> place & 1]


@dataclass(frozen=True, slots=True)
class Bridge:
    """Keeps two groups of nodes from each other while both hear one node between them: not all agree on who is there.

    Of three nodes, that is the leader and one other; of five, two and two, the leader in one of them.
    """

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
        """Cut the two groups off from each other; who is the bridge, the choice draws."""
        leader = system.find(Role.LEADER).name
        led, bridge, rest = sides(list(system.topology.nodes), leader, choice)
        with _severed(system, between(led, rest), {"leader": leader, "bridge": bridge}) as measure:
            yield measure


def sides(names: Sequence[str], leader: str, choice: int) -> tuple[list[str], str, list[str]]:
    """The nodes on the leader's side, the one in between, and those on the other side, as many as on the first."""
    bridge, *others = _shuffled([name for name in names if name != leader], choice)
    return [leader, *others[: len(others) // 2]], bridge, others[len(others) // 2 :]


@dataclass(frozen=True, slots=True)
class Ring:
    """Lets no two nodes see the same cluster: three nodes each hear one of their neighbours and are deaf to the other.

    Five nodes each see themselves and two neighbours, both ways: a majority each, and each another one.
    """

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
        """Cut each node from the next but those beside it, in an order that the choice draws."""
        with _severed(system, ring_cuts(list(system.topology.nodes), choice), {}) as measure:
            yield measure


def ring_cuts(names: Sequence[str], choice: int) -> list[Cut]:
    """The directions to cut so that these nodes stand in a ring.

    >>> sorted(str(cut) for cut in ring_cuts(["a", "b", "c"], 1))
    ['a->b', 'b->c', 'c->a']
    """
    if len(names) <= 3:
        turned = list(names) if choice % 2 else list(names)[::-1]
        return [Cut(name, turned[(place + 1) % len(turned)]) for place, name in enumerate(turned)]
    ring = _shuffled(names, choice)
    beside = (0, 1, len(ring) - 1)
    pairs = [(one, other) for one in range(len(ring)) for other in range(len(ring))]
    return [Cut(ring[one], ring[other]) for one, other in pairs if (other - one) % len(ring) not in beside]
