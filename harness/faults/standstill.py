"""Which faults take a client from its broker, and leave its process? It stands still, or drops its connection.

*Given up*: the broker lists no connection of that client any more. How the last one ended, the broker says in its own
words, which stand beside the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.faults.client import refuse_others
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Client, Measure, System

_WATCH_S = 0.5
_STOPPED = "T"


@dataclass(frozen=True, slots=True)
class PauseClient:
    """SIGSTOP of a producer or consumer until the broker gives it up, then SIGCONT: it goes on as if nothing were.

    With `given_up=False` it may go on before the broker has noticed anything.
    """

    role: Role = Role.CONSUMER
    given_up: bool = True
    hold_s: float = 7.0
    needs: ClassVar[Needs] = Needs()
    hides_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_others("pause_client", self.role)

    @property
    def touches(self) -> str:
        """The role that it stops."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"pause_{self.role}" + ("" if self.given_up else "_unnoticed")

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Stop it; evidence is its process's state, then and when measured, and that the broker lists it no more."""
        client = system.client(self.role, choice)
        pid, before = client.pid, client.state()
        try:
            client.pause()
            bit_ns = system.watch(lambda: system.now_ns() if client.state() == _STOPPED else None, within_s=_WATCH_S)

            def measure() -> Evidence:
                held, now_ns = client.state(), system.now_ns()
                listed = client.name in {peer.client for peer in system.broker.peers()}
                facts = {
                    "pid_before": pid,
                    "client_state_before": before,
                    "client_state_held": held,
                    "broker_gave_it_up": not listed,
                    "broker_said": "" if listed else system.broker.last_end(client.name),
                }
                why_not = None
                if bit_ns is None or held != _STOPPED or client.pid != pid:
                    why_not = f"{client.name} was {before!r} before and is {held!r} while it should stand still ('T')"
                elif self.given_up and listed:
                    why_not = f"the broker still lists {client.name}, {(now_ns - bit_ns) / 1e9:.1f} s after it stopped"
                return Evidence((client.name,), bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            client.resume()


@dataclass(frozen=True, slots=True)
class AbruptClose:
    """A producer or consumer closes its socket without a goodbye, with work under way, and connects anew."""

    role: Role = Role.CONSUMER
    hold_s: float = 0.5
    needs: ClassVar[Needs] = Needs()
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_others("abrupt_close", self.role)
        if self.hold_s <= 0:
            raise Refused(f"abrupt_close: hold_s={self.hold_s}", cure="give it time to connect anew")

    @property
    def touches(self) -> str:
        """The role whose connection ends."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"abrupt_close_{self.role}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Tell it; evidence is that its connection ended then, while its process lives, and that another one began."""
        client = system.client(self.role, choice)
        before, asked_ns = client.counters(), system.now_ns()
        client.cut()
        bit_ns = system.watch(lambda: self._lost(system, client, before.lost, asked_ns), within_s=_WATCH_S)

        def measure() -> Evidence:
            after = client.counters()
            facts = {
                "pid": client.pid,
                "alive": client.alive(),
                "connections_before": before.connections,
                "connections_after": after.connections,
                "held_unsettled": before.holding,
                "unanswered": max(before.handed - before.answered, 0) if before.answered else 0,
                "broker_said": system.broker.last_end(client.name),
            }
            why_not = None
            if bit_ns is None:
                why_not = f"no connection of {client.name} ended within {_WATCH_S:g} s"
            elif not client.alive():
                why_not = f"{client.name} is gone, and not its connection alone"
            return Evidence((client.name,), bit_ns if why_not is None else None, facts, why_not)

        yield measure

    def _lost(self, system: System, client: Client, before: int, asked_ns: int) -> int | None:
        counters = client.counters()
        lost_ns = system.raw_to_run_ns(counters.lost_ns)
        return lost_ns if counters.lost > before and lost_ns >= asked_ns else None
