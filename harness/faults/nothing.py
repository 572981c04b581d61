"""What does the system do when nothing is broken? The control of every experiment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.operation import Evidence
from harness.system.needs import Needs
from harness.system.system import Measure, System


@dataclass(frozen=True, slots=True)
class Nothing:
    """No fault at all: load, for as long as a fault would have held."""

    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs()
    touches: ClassVar[str] = "none"
    hides_ends: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "nothing"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Do nothing; there is no bite to be measured."""
        yield lambda: Evidence(targets=(), bit_ns=None, why_not="nothing was broken, as planned")
