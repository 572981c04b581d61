"""Which faults hit a client's process? Its death, at any time or at a named point between two steps of its work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.operation import CrashPoint, Evidence, Role
from harness.system.system import Client, Measure, System
from harness.system.topology import Needs

CRASH_WATCH_S = 3.0
"""How long an armed client may take to come to its crash point."""

_DISTANCE_MAX = 24
"""An armed client passes its point up to this many times before it crashes there, as the plan's choice says."""


@dataclass(frozen=True, slots=True)
class KillClient:
    """SIGKILL of a producer or consumer: at once, or by itself at a crash point `at`; a successor takes its slot."""

    role: Role = Role.CONSUMER
    at: CrashPoint | None = None
    hold_s: float = 0.2
    needs: ClassVar[Needs] = Needs()
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.role not in (Role.PRODUCER, Role.CONSUMER):
            raise Refused(f"kill_client: role={self.role!s}", cure="clients are producer or consumer; nodes have Kill")

    @property
    def touches(self) -> str:
        """The role that it kills."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"kill_{self.role}" if self.at is None else f"crash_{self.role}_{self.at.replace('-', '_')}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Kill or arm it; evidence is its end and, for a crash point, that its journal's last record is there."""
        client = system.client(self.role, choice)
        try:
            if self.at is None:
                client.kill()
            else:
                client.arm(self.at, choice % _DISTANCE_MAX)
            bit_ns = system.watch(lambda: self._bite(system, client), within_s=CRASH_WATCH_S)

            def measure() -> Evidence:
                point, stage = client.crashed() or ("", "")
                facts = {"pid": client.pid, "alive": client.alive(), "crash_point": str(point), "stage": stage}
                why_not = None
                if bit_ns is None:
                    why_not = (
                        f"{client.name} outlived its SIGKILL"
                        if self.at is None
                        else f"{client.name} did not come to {self.at} within {CRASH_WATCH_S:g} s"
                    )
                elif self.at is not None and point != self.at:
                    why_not = f"the last record of {client.name} is {f'at {point}' if point else 'of no crash point'}"
                return Evidence((client.name,), bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            if client.alive():
                client.kill()
            system.crew.replace(client)

    def _bite(self, system: System, client: Client) -> int | None:
        died_ns = client.died_ns()
        if died_ns is None:
            return None
        crash_ns = client.counters().crash_ns
        if self.at is not None and crash_ns == 0:
            return None
        return system.raw_to_run_ns(crash_ns or died_ns)
