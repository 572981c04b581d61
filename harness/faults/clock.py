"""What does a node do whose clock jumps, or goes too fast? Its time of day is set apart from everybody else's.

Only the time of day: what counts elapsed time, as timers do, goes on as before, as it does where an administrator or a
time service sets a real clock. Evidence: the time that the node itself tells, against ours, before and while it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused, Trouble
from harness.faults.mending import once_running
from harness.operation import Evidence, Role
from harness.system.needs import Equipment, Needs
from harness.system.system import Measure, System

STEP_MIN_S, STEP_MAX_S = 5.0, 86_400.0
TOLD_WITHIN_S = 2.0
"""A broker tells its time to the second, and may renew what it tells once a second."""

SEEN_S = 5.0
_CALLED = {Role.LEADER: "leader", Role.FOLLOWER: "follower", Role.ANY_NODE: "node"}


@dataclass(frozen=True, slots=True)
class ClockStep:
    """Sets the clock of the node that holds a role `step_s` seconds forwards (or backwards), and right again."""

    role: Role = Role.LEADER
    step_s: float = 60.0
    hold_s: float = 2.0
    needs: ClassVar[Needs] = Needs(
        verbs=frozenset({"set_clock", "execute"}), fresh=True, equipment=Equipment(clock=True)
    )
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.role not in _CALLED:
            raise Refused(f"clock_step: role={self.role!s}", cure="nodes are leader, follower or any_node")
        if not STEP_MIN_S <= abs(self.step_s) <= STEP_MAX_S:
            raise Refused(
                f"clock_step: step_s={self.step_s!r}",
                cure=f"use {STEP_MIN_S:g} to {STEP_MAX_S:g} seconds, or as many less than none",
            )

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"clock_{'forwards' if self.step_s > 0 else 'backwards'}_{_CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Set it; evidence is by how much the time that the node tells differs from ours."""
        node = system.find(self.role, choice)
        before_s = system.broker.clock_offset_s(node.name)
        try:
            node.set_clock(self.step_s)
            set_ns = system.now_ns()

            def told() -> int | None:
                return set_ns if self._apart(_offset(system, node.name)) else None

            bit_ns = system.watch(told, within_s=SEEN_S, poll_s=0.05)

            def measure() -> Evidence:
                held_s = _offset(system, node.name)
                facts = {"asked_s": self.step_s, "offset_before_s": before_s, "offset_held_s": held_s}
                why_not = None
                if abs(before_s) > TOLD_WITHIN_S:
                    why_not = f"the clock of {node.name} was {before_s:+.1f} s apart from ours before"
                elif bit_ns is None or not self._apart(held_s):
                    told_s = "no time" if held_s is None else f"a time {held_s:+.1f} s apart from ours"
                    why_not = f"{node.name} tells {told_s}, and was to be {self.step_s:+g} s apart"
                return Evidence((node.name,), bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            once_running(node, lambda: node.set_clock(0.0))  # of one that does not run nothing would be set

    def _apart(self, offset_s: float | None) -> bool:
        return offset_s is not None and abs(offset_s - self.step_s) <= TOLD_WITHIN_S


def _offset(system: System, node: str) -> float | None:
    try:
        return system.broker.clock_offset_s(node)
    except Trouble:
        return None
