"""Which faults take a client from its broker, and leave its process? It stands still, or drops its connection.

*Given up*: the broker lists no connection of that client any more. How the last one ended, the broker says in its own
words, which stand beside the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused, Trouble
from harness.faults.client import refuse_others
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Client, Measure, System

_WATCH_S = 0.5
_STOPPED = "T"
_BACK_WITHIN_S = 2.0
"""How long a client that has cut its connection may take to have another one, once it is measured."""


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
        """Stop it; evidence is its process's state, then and when measured, and that the broker, which had a connection
        of it, lists it no more."""
        client = system.client(self.role, choice)
        pid, before = client.pid, client.state()
        try:
            connected = client.counters().connected
            client.pause()
            bit_ns = system.watch(lambda: system.now_ns() if client.state() == _STOPPED else None, within_s=_WATCH_S)

            def measure() -> Evidence:
                held, now_ns = client.state(), system.now_ns()
                listed, silent = _listed(system, client)
                facts = {
                    "pid_before": pid,
                    "client_state_before": before,
                    "client_state_held": held,
                    "broker_gave_it_up": None if listed is None else not listed,
                    "broker_said": system.broker.last_end(client.name) if listed is False else "",
                }
                why_not = None
                if bit_ns is None or held != _STOPPED or client.pid != pid:
                    why_not = f"{client.name} was {before!r} before and is {held!r} while it should stand still ('T')"
                elif self.given_up and not connected:
                    why_not = f"{client.name} had no connection before it stopped, so there was none to give up"
                elif self.given_up and listed is None:
                    why_not = f"nobody says whom the broker lists: {silent}"
                elif self.given_up and listed:
                    why_not = f"the broker still lists {client.name}, {(now_ns - bit_ns) / 1e9:.1f} s after it stopped"
                return Evidence((client.name,), bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            client.resume()


def _listed(system: System, client: Client) -> tuple[bool | None, str]:
    """Whether the broker lists a connection of it; None where nobody says so, with why."""
    try:
        return client.name in {peer.client for peer in system.broker.peers()}, ""
    except Trouble as trouble:
        return None, trouble.message


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
        """Tell it; evidence is that it did so itself, that its connection ended then, while its process lives, and that
        another one began."""
        client = system.client(self.role, choice)
        before, asked_ns = client.counters(), system.now_ns()
        client.cut()
        bit_ns = system.watch(lambda: self._lost(system, client, before.lost, asked_ns), within_s=_WATCH_S)

        def measure() -> Evidence:
            system.watch(lambda: self._back(system, client, before.connections), within_s=_BACK_WITHIN_S)
            after = client.counters()
            facts = {
                "pid": client.pid,
                "alive": client.alive(),
                "cut_by_itself": after.cuts_done - before.cuts_done,
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
            elif after.cuts_done <= before.cuts_done:
                why_not = f"the connection of {client.name} ended, and it was not {client.name} that cut it"
            elif after.connections <= before.connections:
                why_not = f"{client.name} had no other connection within {_BACK_WITHIN_S:g} s"
            return Evidence((client.name,), bit_ns if why_not is None else None, facts, why_not)

        yield measure

    def _back(self, system: System, client: Client, before: int) -> int | None:
        return system.now_ns() if client.counters().connections > before or not client.alive() else None

    def _lost(self, system: System, client: Client, before: int, asked_ns: int) -> int | None:
        counters = client.counters()
        lost_ns = system.raw_to_run_ns(counters.lost_ns)
        return lost_ns if counters.lost > before and lost_ns >= asked_ns else None
