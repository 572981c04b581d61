"""What does a broker do when memory gets short? RabbitMQ raises an alarm and blocks publishers; the kernel kills.

An alarm's evidence is that the broker reports it, and that producers hear nothing more; a kill's that the node's first
process is gone, killed, and that the kernel counted a kill in its cgroup.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.faults.mending import once_running
from harness.faults.node_ends import Losses
from harness.faults.roles import CALLED, refuse_client_roles
from harness.faults.silence import Heard, unheard
from harness.operation import Evidence, Role
from harness.system.needs import Equipment, Needs
from harness.system.system import Measure, System
from harness.system.topology import NodeState

MEMORY_MB = 384
_KILLED = 137
_ALARM_WATCH_S = 8.0
_MEND_WITHIN_S = 20.0
"""A node that was started meanwhile takes its limit only once RabbitMQ has booted on it."""

_SET = ("rabbitmqctl", "set_vm_memory_high_watermark")
_LOW, _USUAL = ("absolute", "1MB"), ("0.6",)
"""Far below what a node uses, and what RabbitMQ 4 has as shipped."""


@dataclass(frozen=True, slots=True)
class MemoryAlarm:
    """RabbitMQ's memory alarm, by a limit set below what the node of a role uses: no producer of the cluster may go on
    until the limit is set back."""

    role: Role = Role.LEADER
    hold_s: float = 2.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"execute"}), capabilities=frozenset({"memory_alarm"}), fresh=True)
    touches: ClassVar[str] = "producer"
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_client_roles("memory_alarm", self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"memory_alarm_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Set the limit; it bites when the broker reports the alarm."""
        node, heard = system.find(self.role, choice), Heard.of(system, Role.PRODUCER)

        def alarm() -> int | None:
            return system.now_ns() if "alarm: memory" in (system.broker.whole() or "") else None

        try:
            node.execute(*_SET, *_LOW)
            alarm_ns = system.watch(alarm, within_s=_ALARM_WATCH_S, poll_s=0.02)
            held_from_ns = alarm_ns or system.now_ns()

            def measure() -> Evidence:
                now_ns, said = system.now_ns(), system.broker.whole() or "whole"
                silence_ns, why_not = unheard(heard, held_from_ns, now_ns)
                if alarm_ns is None or "alarm: memory" not in said:
                    why_not = f"no node reports an alarm of memory: {said}"
                facts = {
                    "members_while_it_held": said,
                    "silence_of_producers_ms": round(silence_ns / 1e6, 1),
                    "held_ms": round((now_ns - held_from_ns) / 1e6, 1),
                }
                return Evidence((node.name,), alarm_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            once_running(node, lambda: node.execute(*_SET, *_USUAL), within_s=_MEND_WITHIN_S)


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """Takes the memory of the node that holds a role until the kernel kills it; down for `hold_s`, then started."""

    role: Role = Role.LEADER
    hold_s: float = 0.5
    needs: ClassVar[Needs] = Needs(
        verbs=frozenset({"exhaust_memory", "start"}), fresh=True, equipment=Equipment(memory_mb=MEMORY_MB)
    )
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_client_roles("out_of_memory", self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"out_of_memory_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Take it; it bites when clients lose their connections with the broker, or when it is seen to have ended."""
        node = system.find(self.role, choice)
        before, ends = node.status(), Losses(system)
        try:
            kills = node.exhaust_memory()
            gone_ns = system.now_ns()

            def measure() -> Evidence:
                after, losses = node.status(), ends.seen()
                facts = {
                    "pid_before": before.pid,
                    "started_before": before.started,
                    "state_after": str(after),
                    "kills_counted_by_the_kernel": "unknown here" if kills is None else kills,
                    "connections_ended": sorted(losses),
                }
                why_not = None
                if before.state is not NodeState.RUNNING or after.state is not NodeState.EXITED:
                    why_not = f"{node.name} was {before} before and is {after} after"
                elif after.exit_code != _KILLED:
                    why_not = f"{node.name} {after}: nobody killed it"
                elif not kills:
                    why_not = f"{node.name} was killed, and the kernel counted no kill for want of memory"
                bit_ns = min([gone_ns, *losses.values()])
                return Evidence((node.name,), bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            node.start()
