"""Which changes of membership can hit a running queue or stream? Leadership handed over, a replica or a node taken out.

These are what operators do on purpose: nothing dies, and the broker has accepted each change. Evidence: the broker's
own list of who leads and who is there, before and while it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused, Trouble
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Measure, System

CHANGE_S = 10.0
"""How long a change that the broker has accepted may take to be seen."""

_REPLICATED = frozenset({"several", "replicated"})
_CALLED = {Role.LEADER: "leader", Role.FOLLOWER: "follower", Role.ANY_NODE: "node"}


def _refuse_client_roles(fault: str, role: Role) -> None:
    if role not in _CALLED:
        raise Refused(f"{fault}: role={role!s}", cure="replicas are on leader, follower or any_node")


def _asked(question: Callable[[], Mapping[str, object]]) -> Mapping[str, object]:
    """What the broker answers; nothing where nobody does."""
    try:
        return question()
    except Trouble:
        return {}


def _leader(replicas: Mapping[str, object]) -> str | None:
    return next((node for node, state in replicas.items() if state == "leader"), None)


@dataclass(frozen=True, slots=True)
class LeaderTransfer:
    """Hands the leadership of the queue or stream to another replica, in order: nobody dies, and it stays there."""

    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"execute"}), capabilities=_REPLICATED)
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "leader_transfer"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Hand it over; evidence is that the broker names another leader from then on. There is nothing to mend."""
        membership = system.broker.membership()
        before = membership.replicas()
        old = _leader(before)
        heirs = [node for node, state in before.items() if state == "follower"]
        if old is None or not heirs:
            raise Trouble(f"there is nobody to take over: {dict(before)}")
        heir = heirs[choice % len(heirs)]
        membership.transfer(heir)

        def led_by_another() -> int | None:
            now = _leader(_asked(membership.replicas))
            return system.now_ns() if now is not None and now != old else None

        bit_ns = system.watch(led_by_another, within_s=CHANGE_S)

        def measure() -> Evidence:
            held = _asked(membership.replicas)
            new = _leader(held)
            facts = {"asked_of": heir, "leader_before": old, "leader_held": new, "replicas_held": dict(held)}
            why_not = None
            if bit_ns is None or new is None or new == old:
                why_not = f"{old} led before, and {new or 'nobody'} leads after {heir} was to take over"
            return Evidence((old,), bit_ns if why_not is None else None, facts, why_not)

        yield measure


@dataclass(frozen=True, slots=True)
class ReplicaRemoved:
    """Takes the replica on the node that holds a role away, and adds one there again when mended; the node lives on."""

    role: Role = Role.FOLLOWER
    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"execute"}), capabilities=_REPLICATED)
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _refuse_client_roles("replica_removed", self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"replica_removed_{_CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Take it away; evidence is the broker's list of replicas. Which follower's goes, the broker may choose."""
        membership = system.broker.membership()
        node = system.find(self.role, choice).name
        before = membership.replicas()

        def lost() -> set[str]:
            held = _asked(membership.replicas)
            return set(before) - set(held) if held else set()

        def gone() -> int | None:
            return system.now_ns() if lost() else None

        try:
            membership.remove(node)
            bit_ns = system.watch(gone, within_s=CHANGE_S)

            def measure() -> Evidence:
                without = lost()
                held = _asked(membership.replicas)
                facts = {"asked_of": node, "replicas_before": dict(before), "replicas_held": dict(held)}
                why_not = None
                if bit_ns is None or not without:
                    why_not = f"the broker lists {dict(held) or 'no replica'} while {node} should have none"
                elif self.role is Role.LEADER and node not in without:
                    why_not = f"{', '.join(sorted(without))} lost a replica, and {node}, which led, did not"
                return Evidence(tuple(sorted(without)) or (node,), bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            for name in before:
                _add_again(system, name)


def _add_again(system: System, node: str) -> None:
    """Until the broker lists it: one that has just lost a replica may have nobody who leads, for a moment."""
    membership = system.broker.membership()
    refused: list[Trouble] = []

    def listed() -> int | None:
        try:
            membership.add(node)
            return system.now_ns() if node in membership.replicas() else None
        except Trouble as trouble:
            refused.append(trouble)
            return None

    if system.watch(listed, within_s=CHANGE_S, poll_s=0.1) is None:
        why = f": {refused[-1].message}" if refused else ""
        raise Trouble(f"{node} has no replica {CHANGE_S:g} s after it was to be added again{why}")


@dataclass(frozen=True, slots=True)
class NodeLeaves:
    """Takes the node that holds a role out of the cluster, its replica first; it joins again, empty, when mended."""

    role: Role = Role.FOLLOWER
    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs(
        verbs=frozenset({"execute", "stop", "start", "renew"}), capabilities=_REPLICATED | {"leaves"}, fresh=True
    )
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _refuse_client_roles("node_leaves", self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"{_CALLED[self.role]}_leaves"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Take it out; evidence is that no other node lists it as a member."""
        membership = system.broker.membership()
        node = system.find(self.role, choice).name
        before = membership.members()
        try:
            membership.leave(node)

            def forgotten() -> int | None:
                lists = _of_others(membership.members(), node)
                return system.now_ns() if lists and not any(node in listed for listed in lists.values()) else None

            bit_ns = system.watch(forgotten, within_s=CHANGE_S)

            def measure() -> Evidence:
                held = _of_others(membership.members(), node)
                facts = {"members_before": _told(before), "members_held": _told(held)}
                why_not = None
                if not before or not all(node in listed for listed in before.values()):
                    why_not = f"{node} was no member before: {_told(before)}"
                elif bit_ns is None or not held or any(node in listed for listed in held.values()):
                    why_not = f"others still list {node}: {_told(held)}"
                return Evidence((node,), bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            membership.join(node)


def _of_others(lists: Mapping[str, frozenset[str]], node: str) -> Mapping[str, frozenset[str]]:
    return {name: listed for name, listed in lists.items() if name != node}


def _told(lists: Mapping[str, frozenset[str]]) -> Mapping[str, object]:
    return {name: sorted(listed) for name, listed in lists.items()}
