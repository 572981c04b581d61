"""What is a fault? A frozen value that says what to break, how its bite is measured, and how it is mended.

*Fault*: what; a *schedule* says when. Its printable name is a pytest id; its JSON form reads back to the same value.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from harness.system.needs import Needs
from harness.system.system import Measure, System


class Fault(Protocol):
    """One way to break a system.

    A frozen, slotted dataclass of plain values. `inject` yields how to measure its evidence; leaving the context mends:
    idempotent, also right after half an injection, and it must not decide anything from what was measured.
    """

    @property
    def name(self) -> str:
        """Stable and printable, a pytest id: letters, digits, underscores."""
        ...

    @property
    def needs(self) -> Needs:
        """What it needs of an engine, compared with the engine's offers before anything starts."""
        ...

    @property
    def touches(self) -> str:
        """Whose operations it can endanger: "producer", "consumer", "both" or "none" (a delay endangers nothing)."""
        ...

    @property
    def hides_ends(self) -> bool:
        """Whether a client's end may go unseen by the broker, so that a drain needs silence beyond the horizon."""
        ...

    @property
    def hold_s(self) -> float:
        """How long it holds, in seconds."""
        ...

    def inject(self, system: System, choice: int) -> AbstractContextManager[Measure]:
        """Break it. `choice` is a number drawn into the plan, for picking one of several targets."""
        ...
