"""When is a fault injected, as a suite writes it? A schedule; drawn from a seed it becomes a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.errors import Refused
from harness.faults.fault import Fault


class Schedule(Protocol):
    """Data that says when which fault is injected."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every fault that it can inject."""
        ...

    @property
    def name(self) -> str:
        """A pytest id."""
        ...


@dataclass(frozen=True, slots=True)
class Repeat:
    """One fault, `times` trials one after the other, each with its own quiet and recovered phase."""

    fault: Fault
    times: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.times <= 10_000:
            raise Refused(f"schedule: times={self.times} (1 to 10000)", cure="repeat a fault at least once")

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The one fault."""
        return (self.fault,)

    @property
    def name(self) -> str:
        """The fault's name."""
        return self.fault.name
