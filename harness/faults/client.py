"""Which faults end a client's process? Its death, at any time or at a named point between two steps of its work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.operation import CrashPoint, Evidence, MessageId, Role, Stage
from harness.system.needs import Needs
from harness.system.system import Client, Measure, System

CRASH_WATCH_S = 3.0
"""How long an armed client may take to come to its crash point."""

_DISTANCE_MAX = 24
"""An armed client passes its point up to this many times before it crashes there, as the plan's choice says."""

_POINTS: Mapping[CrashPoint, tuple[Role, tuple[Stage, ...], Stage | None]] = {
    CrashPoint.BEFORE_PUBLISH: (Role.PRODUCER, (), None),
    CrashPoint.BETWEEN_PUBLISH_AND_CONFIRM: (Role.PRODUCER, (Stage.HANDED, Stage.WRITTEN), Stage.WRITTEN),
    CrashPoint.AFTER_RECEIVE: (Role.CONSUMER, (), None),
    CrashPoint.BETWEEN_ACK_AND_EFFECT: (Role.CONSUMER, (Stage.HANDED, Stage.WRITTEN, Stage.ANSWERED), None),
    CrashPoint.BETWEEN_EFFECT_AND_ACK: (Role.CONSUMER, (), None),
    CrashPoint.BETWEEN_ACK_AND_CONFIRM: (Role.CONSUMER, (Stage.HANDED, Stage.WRITTEN), Stage.WRITTEN),
}
"""Of each crash point: who passes it, the stages that can be asked for there, and the one that counts unasked (None:
the one that the mechanism makes). A frame that dies in the client's buffer was never between anything and its answer,
so that stage must be asked for by its name."""


def refuse_others(fault: str, role: Role) -> None:
    """Raise Refused for a role that no client has."""
    if role not in (Role.PRODUCER, Role.CONSUMER):
        raise Refused(f"{fault}: role={role!s}", cure="clients are producer or consumer; of nodes there are others")


@dataclass(frozen=True, slots=True)
class KillClient:
    """SIGKILL of a producer or consumer: at once, or by itself at a crash point `at`; a successor takes its slot."""

    role: Role = Role.CONSUMER
    at: CrashPoint | None = None
    stage: Stage | None = None
    hold_s: float = 0.2
    needs: ClassVar[Needs] = Needs()
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_others("kill_client", self.role)
        if self.at is None:
            if self.stage is not None:
                raise Refused(f"kill_client: stage={self.stage!s} without a crash point", cure="say at which: at=...")
            return
        role, stages, _ = _POINTS[self.at]
        if self.role is not role:
            raise Refused(f"kill_client: no {self.role} passes {self.at}", cure=f"kill a {role} there")
        if self.stage is not None and self.stage not in stages:
            allowed = f"one of {', '.join(stages)}" if stages else "leave the stage out"
            raise Refused(f"kill_client: stage={self.stage!s} is none of {self.at}", cure=allowed)

    @property
    def touches(self) -> str:
        """The role that it kills."""
        return str(self.role)

    @property
    def counts(self) -> Stage | None:
        """The stage at which a pass of the crash point counts; None: any."""
        return self.stage if self.at is None or self.stage is not None else _POINTS[self.at][2]

    @property
    def name(self) -> str:
        """Printable, a pytest id. The stage that counts unasked is not named."""
        if self.at is None:
            return f"kill_{self.role}"
        stage = "" if self.stage in (None, _POINTS[self.at][2]) else f"_{self.stage}"
        return f"crash_{self.role}_{self.at.replace('-', '_')}{stage}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Kill or arm it; evidence is its end and, for a crash point, that its journal's last record is there."""
        client = system.client(self.role, choice)
        try:
            if self.at is None:
                client.kill()
            else:
                client.arm(self.at, choice % _DISTANCE_MAX, self.counts)
            bit_ns = system.watch(lambda: self._bite(system, client), within_s=CRASH_WATCH_S)

            def measure() -> Evidence:
                facts: dict[str, object] = {"pid": client.pid, "alive": client.alive(), "crash_point": "", "stage": ""}
                why_not = self._elsewhere(client, facts) if self.at is not None else None
                if bit_ns is None and self.at is None:
                    why_not = f"{client.name} outlived its SIGKILL"
                elif bit_ns is None:
                    why_not = f"{client.name} did not come to {self.at} within {CRASH_WATCH_S:g} s"
                return Evidence((client.name,), bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            if client.alive():
                client.kill()
            system.crew.replace(client)

    def _elsewhere(self, client: Client, facts: dict[str, object]) -> str | None:
        """None when its last record is of the point, at the stage that was asked for; else what it is."""
        crash = client.crashed()
        if crash is None:
            return f"the last record of {client.name} is of no crash point"
        facts["crash_point"] = str(crash.point)
        facts["stage"] = "" if crash.stage is None else str(crash.stage)
        facts["message"] = str(MessageId.unpack(crash.message))
        if crash.point is not self.at:
            return f"the last record of {client.name} is at {crash.point}"
        if self.counts not in (None, crash.stage):
            return f"{client.name} died at {self.at}, and its send was {crash.stage}, not {self.counts}"
        return None

    def _bite(self, system: System, client: Client) -> int | None:
        died_ns = client.died_ns()
        if died_ns is None:
            return None
        crash_ns = client.counters().crash_ns
        if self.at is not None and crash_ns == 0:
            return None
        return system.raw_to_run_ns(crash_ns or died_ns)
