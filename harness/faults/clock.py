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

RATE_MIN, RATE_MAX = 1.5, 10.0
RENEWED_S = 1.25
"""How old what a broker tells of its time may be, with the asking; a clock that goes thrice as fast is 3.75 s further
by then."""

SEEN_S = 5.0
_CALLED = {Role.LEADER: "leader", Role.FOLLOWER: "follower", Role.ANY_NODE: "node"}
_NEEDS = Needs(verbs=frozenset({"set_clock", "execute"}), fresh=True, equipment=Equipment(clock=True))


@dataclass(frozen=True, slots=True)
class ClockStep:
    """Sets the clock of the node that holds a role `step_s` seconds forwards (or backwards), and right again."""

    role: Role = Role.LEADER
    step_s: float = 60.0
    hold_s: float = 2.0
    needs: ClassVar[Needs] = _NEEDS
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _refuse_other_roles("clock_step", self.role)
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
                    why_not = f"{node.name} tells {_told(held_s)}, and was to be {self.step_s:+g} s apart"
                return Evidence((node.name,), bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            once_running(node, lambda: node.set_clock(0.0))  # of one that does not run nothing would be set

    def _apart(self, offset_s: float | None) -> bool:
        return offset_s is not None and abs(offset_s - self.step_s) <= TOLD_WITHIN_S


@dataclass(frozen=True, slots=True)
class ClockDrift:
    """Lets the clock of the node that holds a role go `rate` times as fast as ours, from the right time on, and sets it
    right again. It must hold so long that what it gains is twice as much as what the node may tell too little of it."""

    role: Role = Role.LEADER
    rate: float = 3.0
    hold_s: float = 6.0
    needs: ClassVar[Needs] = _NEEDS
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _refuse_other_roles("clock_drift", self.role)
        if not RATE_MIN <= self.rate <= RATE_MAX:
            raise Refused(
                f"clock_drift: rate={self.rate!r}",
                cure=f"use {RATE_MIN:g} to {RATE_MAX:g}; a clock that goes slowly would slow the node's timers, too",
            )
        if (self.rate - 1) * self.hold_s < 2 * self.within_s:
            raise Refused(
                f"clock_drift: hold_s={self.hold_s!r}, in which rate={self.rate!r} gains too little to be seen",
                cure=f"hold it for at least {2 * self.within_s / (self.rate - 1):.1f} s",
            )

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"clock_fast_{_CALLED[self.role]}"

    @property
    def within_s(self) -> float:
        """How far what the node tells may be from what its clock says, in s: it tells its time to the second, and
        what it tells may be RENEWED_S old."""
        return max(TOLD_WITHIN_S, 1 + self.rate * RENEWED_S)

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Let it go; evidence is by how much the time that the node tells has moved away from ours since."""
        node = system.find(self.role, choice)
        before_s = system.broker.clock_offset_s(node.name)
        try:
            node.set_clock(0.0, self.rate)
            set_ns = system.now_ns()

            def gained() -> tuple[float | None, float]:
                told_s = _offset(system, node.name)
                return told_s, (self.rate - 1) * (system.now_ns() - set_ns) / 1e9

            begun_s, begun_due_s = gained()

            def measure() -> Evidence:
                held_s, due_s = gained()
                facts = {
                    "rate_asked": self.rate,
                    "offset_before_s": before_s,
                    "offset_at_once_s": begun_s,
                    "offset_held_s": held_s,
                    "offset_due_s": round(due_s, 3),
                    "told_within_s": self.within_s,
                }
                why_not = None
                if abs(before_s) > TOLD_WITHIN_S:
                    why_not = f"the clock of {node.name} was {before_s:+.1f} s apart from ours before"
                elif begun_s is None or abs(begun_s - begun_due_s) > self.within_s:
                    why_not = f"{node.name} told {_told(begun_s)} as it began, and was to be right then"
                elif held_s is None or abs(held_s - due_s) > self.within_s:
                    why_not = f"{node.name} tells {_told(held_s)}, and was to be {due_s:+.1f} s apart by now"
                return Evidence((node.name,), set_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            once_running(node, lambda: node.set_clock(0.0))  # of one that does not run nothing would be set


def _refuse_other_roles(fault: str, role: Role) -> None:
    if role not in _CALLED:
        raise Refused(f"{fault}: role={role!s}", cure="nodes are leader, follower or any_node")


def _told(offset_s: float | None) -> str:
    return "no time" if offset_s is None else f"a time {offset_s:+.1f} s apart from ours"


def _offset(system: System, node: str) -> float | None:
    try:
        return system.broker.clock_offset_s(node)
    except Trouble:
        return None
