"""Which faults hit a broker's process? Here: killing it, and starting it again with its data as it was left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.operation import Evidence, Role
from harness.system.system import Measure, System
from harness.system.topology import Needs, NodeState


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL of the node that holds a role, down for `hold_s`, then started again (in a cluster others take over)."""

    role: Role = Role.LEADER
    hold_s: float = 0.5
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"kill", "start"}), fresh=True)
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.role not in (Role.LEADER, Role.FOLLOWER, Role.ANY_NODE):
            raise Refused(
                f"kill: role={self.role!s}", cure="nodes are leader, follower or any_node; clients have KillClient"
            )

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return {Role.LEADER: "kill_leader", Role.FOLLOWER: "kill_follower"}.get(self.role, "kill_node")

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Kill it; evidence is its process id, gone, and the connections that ended with it."""
        node = system.find(self.role, choice)
        before = node.status()
        clients = system.crew.living()
        lost_before = {client.number: client.counters().lost for client in clients}
        began_ns = system.now_ns()
        try:
            node.kill()
            gone_ns = system.now_ns()
            after = node.status()

            def measure() -> Evidence:
                losses = {
                    client.name: system.raw_to_run_ns(counters.lost_ns)
                    for client in clients
                    if (counters := client.counters()).lost > lost_before[client.number]
                    and began_ns <= system.raw_to_run_ns(counters.lost_ns)
                }
                dead = after.state is NodeState.EXITED and before.state is NodeState.RUNNING
                # The engine's answer comes late; the first connection that ended dates the kill better.
                first_ns = min([gone_ns, *losses.values()])
                facts = {
                    "pid_before": before.pid,
                    "started_before": before.started,
                    "state_after": str(after),
                    "connections_ended": sorted(losses),
                }
                why_not = None if dead else f"{node.name} was {before} before and is {after} after"
                return Evidence((node.name,), first_ns if dead else None, facts, why_not)

            yield measure
        finally:
            node.start()
