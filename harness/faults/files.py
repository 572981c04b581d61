"""What does a broker make of files that changed while it was down? One bit of a file of messages, or its end.

It may lose or repeat what the file holds, hand out what nobody published, or not start at all: on a single node there
may then be no recovery, which is an answer and not an error. Evidence: file, place, and the bytes before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused, Trouble
from harness.faults.roles import CALLED, refuse_client_roles
from harness.operation import Evidence, Role
from harness.system.disk import Altered, Disk, Found
from harness.system.needs import Equipment, Needs
from harness.system.system import Measure, System
from harness.system.topology import Node, NodeState

DISK_MB = 512
MESSAGES = ("*.blk", "*.qs", "*.qi", "*.rdq", "*.wal", "*.segment")
"""Files that hold messages: of JetStream (blk), of classic queues (qs, qi, rdq), of quorum queues (wal, segment)."""


def _needs(verb: str) -> Needs:
    return Needs(verbs=frozenset({verb, "kill", "start"}), fresh=True, equipment=Equipment(disk_mb=DISK_MB))


@contextmanager
def _changed(system: System, node: Node, choice: int, change: Callable[[Disk, Found], Altered]) -> Iterator[Measure]:
    """Kill a node, change one of its files, the largest ones first by the choice, and start it again."""
    disk = system.topology.disk(node.name)
    before = node.status()
    try:
        node.kill()
        after = node.status()
        files = sorted(disk.files(MESSAGES), key=lambda file: (-file.size, file.path))
        done = change(disk, files[choice % min(len(files), 3)]) if files else None
        changed_ns = system.now_ns()

        def measure() -> Evidence:
            facts: dict[str, object] = {"pid_before": before.pid, "state_after": str(after), "files": len(files)}
            why_not = None
            if done is None:
                why_not = f"there is no file of messages on the disk of {node.name}"
            else:
                facts |= {"file": done.path, "offset": done.offset, "was": done.before, "is": done.after}
                if done.before == done.after:
                    why_not = f"{done.path} is as it was"
            if after.state is not NodeState.EXITED:
                why_not = f"{node.name} was {after} while its file was changed"
            return Evidence((node.name,), changed_ns if why_not is None else None, facts, why_not)

        yield measure
    finally:
        with suppress(Trouble):  # a broker that will not start with what it finds is what was asked for
            node.start()


@dataclass(frozen=True, slots=True)
class FlipBits:
    """Kills the node that holds a role, turns one bit of a file of messages round, and starts it again."""

    role: Role = Role.LEADER
    hold_s: float = 0.3
    needs: ClassVar[Needs] = _needs("flip")
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_client_roles("flip_bits", self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"flip_bits_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Change one bit: file, byte and bit are the choice's."""

        def flip(disk: Disk, file: Found) -> Altered:
            return disk.flip(file.path, choice % file.size, choice % 8)

        with _changed(system, system.find(self.role, choice), choice, flip) as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class Truncate:
    """Kills the node that holds a role, cuts up to `bytes_max` from the end of a file of messages, starts it again."""

    role: Role = Role.LEADER
    bytes_max: int = 512
    hold_s: float = 0.3
    needs: ClassVar[Needs] = _needs("cut")
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_client_roles("truncate", self.role)
        if not 1 <= self.bytes_max <= 1 << 20:
            raise Refused(f"truncate: bytes_max={self.bytes_max}", cure=f"use 1 to {1 << 20}")

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"truncate_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Cut its tail: which file and how much are the choice's."""

        def cut(disk: Disk, file: Found) -> Altered:
            return disk.cut(file.path, 1 + choice % self.bytes_max)

        with _changed(system, system.find(self.role, choice), choice, cut) as measure:
            yield measure
