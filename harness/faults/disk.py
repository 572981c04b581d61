"""What does a broker do when its disk is full, nearly full, or slow? A file of ours takes the room, and goes when it is
mended; the kernel lets the node flush no more than so much.

Evidence of a full disk: how many bytes are free before and while it holds, as the file system says; what the broker
itself says of it (RabbitMQ an alarm, JetStream nothing or that it is off) stands beside it. Of a slow one: what the
kernel counted of it, near to what it let through, so that it was the limit that held the broker up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.faults.node_ends import KILLED
from harness.faults.roles import CALLED, refuse_client_roles
from harness.operation import Evidence, Role
from harness.system.needs import Equipment, Needs
from harness.system.system import Measure, System
from harness.system.topology import Node, NodeState, NodeStatus

DISK_MB = 256
_SLACK_BYTES = 1 << 20
"""What may be free beyond what was asked: brokers free some themselves, and file systems keep some back."""

_SLOWED_MIN, _SLOWED_MAX = 0.5, 1.5
"""Parts of what is allowed that must have been flushed: less was not held up by it, more was not held at all."""

_FLUSH_WATCH_S = 0.5
_NEEDS = Needs(verbs=frozenset({"fill", "start"}), fresh=True, equipment=Equipment(disk_mb=DISK_MB))


@contextmanager
def _filled(system: System, node: Node, leave_bytes: int, *, restart: bool, may_end: bool = False) -> Iterator[Measure]:
    """Leave no more than so much room on a node's disk. A node that runs then must run on, the same process; one that
    `may_end` may also have ended by itself since, for want of room."""
    disk, said_before = system.topology.disk(node.name), system.broker.whole()
    before, ran = disk.space(), node.status()
    try:
        disk.fill(leave_bytes)
        filled_ns = system.now_ns()

        def measure() -> Evidence:
            now, status = disk.space(), node.status()
            facts = {
                "bytes_in_all": before.total,
                "bytes_free_before": before.free,
                "bytes_free": now.free,
                "members_before": said_before or "whole",
                "members_while_it_held": system.broker.whole() or "whole",
                "state_before": str(ran),
                "state_held": str(status),
            }
            if may_end:
                facts["ended_by_itself"] = status.state is NodeState.EXITED and status.exit_code not in KILLED
            why_not = _not_in_want(node.name, ran, status, may_end=may_end)
            if not now.free <= leave_bytes + _SLACK_BYTES < before.free:
                why_not = f"{now.free} bytes were free on the disk of {node.name}, {before.free} before"
            return Evidence((node.name,), filled_ns if why_not is None else None, facts, why_not)

        yield measure
    finally:
        disk.empty()
        if restart and node.status().state is not NodeState.EXITED:
            node.kill()
        node.start()


def _not_in_want(name: str, before: NodeStatus, held: NodeStatus, *, may_end: bool) -> str | None:
    """Why it was not the want of room that this node had to live with; None where it was."""
    if before.state is not NodeState.RUNNING:
        return f"{name} was {before} before its disk was filled: nobody was there to want room"
    if held.state is NodeState.EXITED:
        if not may_end:
            return f"{name} {held} while it held, and was to go on with little room"
        return f"{name} {held} while it held: somebody killed it" if held.exit_code in KILLED else None
    if held.state is not NodeState.RUNNING:
        return f"{name} was {held} while it should want room"
    if (held.pid, held.started) != (before.pid, before.started):
        return f"{name} was started again while it held"
    return None


@dataclass(frozen=True, slots=True)
class DiskFull:
    """Leaves no room on the disk of the node that holds a role; mended, the room is back, and the node is started anew,
    unless `restart` is False."""

    role: Role = Role.LEADER
    restart: bool = True
    hold_s: float = 3.0
    needs: ClassVar[Needs] = Needs(verbs=_NEEDS.verbs | {"kill"}, fresh=True, equipment=_NEEDS.equipment)
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_client_roles("disk_full", self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"disk_full_{CALLED[self.role]}" + ("" if self.restart else "_left_running")

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Fill its disk."""
        node = system.find(self.role, choice)
        with _filled(system, node, 0, restart=self.restart, may_end=True) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class DiskNearlyFull:
    """Leaves `leave_mb` of room on the disk of the node that holds a role: less than RabbitMQ asks for (64 MB)."""

    role: Role = Role.LEADER
    leave_mb: int = 32
    hold_s: float = 3.0
    needs: ClassVar[Needs] = _NEEDS
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_client_roles("disk_nearly_full", self.role)
        if not 1 <= self.leave_mb <= DISK_MB // 2:
            raise Refused(f"disk_nearly_full: leave_mb={self.leave_mb}", cure=f"use 1 to {DISK_MB // 2}")

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"disk_nearly_full_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Fill its disk but for that."""
        with _filled(system, system.find(self.role, choice), self.leave_mb << 20, restart=False) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class SlowDisk:
    """Lets the node that holds a role flush no more than `kib_per_s` to its disk; who does not flush is not slowed."""

    role: Role = Role.LEADER
    kib_per_s: int = 64
    hold_s: float = 3.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"slow"}), fresh=True, equipment=Equipment(disk_mb=DISK_MB))
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_client_roles("slow_disk", self.role)
        if not 4 <= self.kib_per_s <= 1 << 20:
            raise Refused(f"slow_disk: kib_per_s={self.kib_per_s}", cure=f"use 4 to {1 << 20}")

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"slow_disk_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Slow its disk; it bites with the first bytes that were counted."""
        node = system.find(self.role, choice)
        disk, limit = system.topology.disk(node.name), self.kib_per_s << 10
        before = disk.throttled()
        try:
            disk.slow(limit)
            slowed_ns = system.now_ns()
            bit_ns = system.watch(
                lambda: system.now_ns() if disk.throttled() > before else None, within_s=_FLUSH_WATCH_S
            )

            def measure() -> Evidence:
                held_s = (system.now_ns() - slowed_ns) / 1e9
                per_s = (disk.throttled() - before) / held_s
                facts = {"bytes_per_s_allowed": limit, "bytes_per_s_flushed": round(per_s), "held_s": round(held_s, 2)}
                why_not = None
                if not _SLOWED_MIN * limit <= per_s <= _SLOWED_MAX * limit:
                    why_not = (
                        f"{node.name} flushed {per_s:.0f} bytes a second, of {limit} that it might: it was not slowed"
                    )
                return Evidence((node.name,), (bit_ns or slowed_ns) if why_not is None else None, facts, why_not)

            yield measure
        finally:
            disk.slow(0)
