"""Which faults are a consumer's own doing? It works too slowly, keeps what it is sent, or settles it the wrong way.

The consumer is told by a word of its journal's head, and its live counters are the evidence: what it holds, what it is
done with, what it acknowledged out of turn. *Backlog*: published and not worked on yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.faults.links import published
from harness.operation import Conduct, Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Client, Measure, System

_ACKNOWLEDGES = Needs(capabilities=frozenset({"acknowledgements"}))
_WATCH_S = 1.0
_USUAL_S = 0.15
_SLOWER = 2.0
"""Consumers are slow that work off less than the load by this factor."""

_PACE_SLACK = 1.5
"""How much faster than the asked pace a slow consumer may be: what it had begun before, and a clock's grain."""


@contextmanager
def _behaving(client: Client, conduct: Conduct) -> Iterator[None]:
    try:
        client.behave(conduct)
        yield
    finally:
        client.behave(Conduct.USUAL)


@dataclass(frozen=True, slots=True)
class SlowConsumer:
    """All consumers work `slow_ms` longer on each delivery, one after another: a backlog grows behind them."""

    slow_ms: float = 50.0
    hold_s: float = 1.5
    needs: ClassVar[Needs] = Needs()
    touches: ClassVar[str] = "consumer"
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.slow_ms <= 60_000:
            raise Refused(f"slow_consumer: slow_ms={self.slow_ms} (above 0, to 60000)", cure="choose it in that range")
        if self.hold_s * 1e3 < 4 * self.slow_ms:
            raise Refused(
                f"slow_consumer: hold_s={self.hold_s} for slow_ms={self.slow_ms}",
                cure="hold it for four deliveries at least, else no pace can be seen",
            )

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "slow_consumer"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Slow them down; evidence is how much was worked off while it held, beside what was published and what was
        usual just before."""
        clients = tuple(system.crew.living(Role.CONSUMER))
        usual_hz = self._usual_hz(system, clients)
        pace_hz = len(clients) * 1e3 / self.slow_ms
        worked, sent, asked_ns = _worked(clients), published(system), system.now_ns()
        try:
            for client in clients:
                client.slow_down(self.slow_ms)
            bit_ns = system.watch(lambda: _grown(system, clients, sent, worked), within_s=_WATCH_S)

            def measure() -> Evidence:
                held_s = (system.now_ns() - asked_ns) / 1e9
                done, came = _worked(clients) - worked, published(system) - sent
                facts = {
                    "asked_pace_hz": round(pace_hz, 1),
                    "usual_hz": round(usual_hz, 1),
                    "worked_hz": round(done / held_s, 1),
                    "published_hz": round(came / held_s, 1),
                    "backlog_grew_by": came - done,
                }
                why_not = None
                if (other := _others(system, clients)) is not None:
                    why_not = f"{other}: what was worked off was not these consumers' pace"
                elif usual_hz < _SLOWER * pace_hz:
                    why_not = f"consumers worked off {usual_hz:.0f}/s before, which is not far from {pace_hz:.0f}/s"
                elif done > _PACE_SLACK * pace_hz * held_s + len(clients):
                    why_not = f"consumers worked off {done / held_s:.0f}/s, and were told to do {pace_hz:.0f}/s"
                elif came < _SLOWER * done or bit_ns is None:
                    why_not = f"{came} were published and {done} worked off, so no backlog grew"
                names = tuple(client.name for client in clients)
                return Evidence(names, bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            for client in clients:
                client.slow_down(0)

    def _usual_hz(self, system: System, clients: Sequence[Client]) -> float:
        """How fast they work just before."""
        worked, began_ns = _worked(clients), system.now_ns()
        until_ns = began_ns + int(_USUAL_S * 1e9)
        system.watch(lambda: until_ns if system.now_ns() >= until_ns else None, within_s=2 * _USUAL_S)
        return (_worked(clients) - worked) / ((system.now_ns() - began_ns) / 1e9)


def _others(system: System, clients: Sequence[Client]) -> str | None:
    """Who of these consumers is gone, or has come besides; None where the same ones live."""
    names, living = ([client.name for client in some] for some in (clients, system.crew.living(Role.CONSUMER)))
    gone = [f"{name} is gone" for name in names if name not in living]
    return ", ".join(gone + [f"{name} has come" for name in living if name not in names]) or None


def _worked(clients: Sequence[Client]) -> int:
    return sum(client.counters().worked for client in clients)


def _grown(system: System, clients: Sequence[Client], sent: int, worked: int) -> int | None:
    """When more had been published than worked off, by a message for each consumer at least."""
    grown = published(system) - sent - (_worked(clients) - worked)
    return system.now_ns() if grown > len(clients) else None


@dataclass(frozen=True, slots=True)
class Hoard:
    """A consumer receives as much as it may hold and settles none of it."""

    hold_s: float = 1.0
    needs: ClassVar[Needs] = _ACKNOWLEDGES
    touches: ClassVar[str] = "consumer"
    hides_ends: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "hoard"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Tell one consumer; evidence is that it came to hold its prefetch and holds it still, and settled nothing."""
        client = system.client(Role.CONSUMER, choice)
        clients = tuple(system.crew.living(Role.CONSUMER))
        limit = client.prefetch
        with _behaving(client, Conduct.HOARDS):
            bit_ns = system.watch(
                lambda: system.now_ns() if client.counters().holding >= limit else None, within_s=_WATCH_S
            )
            settled = client.counters().settled

            def measure() -> Evidence:
                after = client.counters()
                facts = {"held_unsettled": after.holding, "prefetch": limit, "settled": after.settled - settled}
                why_not = None
                if not client.alive():
                    why_not = f"{client.name} is gone, and its deliveries are the broker's again"
                elif (other := _others(system, clients)) is not None:
                    why_not = f"{other}: the deliveries of others were not left as they were"
                elif bit_ns is None or after.holding < limit:
                    why_not = f"{client.name} holds {after.holding} unsettled deliveries, and may hold {limit}"
                elif after.settled > settled:
                    why_not = f"{client.name} settled {after.settled - settled} deliveries while it should keep them"
                return Evidence((client.name,), bit_ns if why_not is None else None, facts, why_not)

            yield measure


@contextmanager
def _odd(system: System, choice: int, conduct: Conduct, what: str) -> Iterator[Measure]:
    """Let one consumer settle in that way; evidence is how often it did, and what became of its connection."""
    client = system.client(Role.CONSUMER, choice)
    before = client.counters()
    with _behaving(client, conduct):
        bit_ns = system.watch(
            lambda: system.now_ns() if client.counters().odd > before.odd else None, within_s=_WATCH_S
        )

        def measure() -> Evidence:
            after = client.counters()
            facts = {what: after.odd - before.odd, "times_connection_lost": after.lost - before.lost}
            why_not = None if bit_ns is not None else f"{client.name} did so not once within {_WATCH_S:g} s"
            return Evidence((client.name,), bit_ns, facts, why_not)

        yield measure


@dataclass(frozen=True, slots=True)
class WrongOrder:
    """A consumer acknowledges the newest of what it holds first."""

    hold_s: float = 1.0
    needs: ClassVar[Needs] = _ACKNOWLEDGES
    touches: ClassVar[str] = "consumer"
    hides_ends: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "wrong_order"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Tell one consumer; evidence is the acknowledgements that it sent after one of a later delivery."""
        with _odd(system, choice, Conduct.REVERSES, "acknowledged_out_of_order") as measure:
            yield measure


@dataclass(frozen=True, slots=True)
class DoubleAcknowledgement:
    """A consumer acknowledges every delivery twice; what the broker does about it is recorded.

    RabbitMQ ends the channel, so that the client connects anew; NATS takes no notice.
    """

    hold_s: float = 1.0
    needs: ClassVar[Needs] = _ACKNOWLEDGES
    touches: ClassVar[str] = "consumer"
    hides_ends: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "double_acknowledgement"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Tell one consumer; evidence is the acknowledgements that it sent a second time."""
        with _odd(system, choice, Conduct.TWICE, "acknowledged_twice") as measure:
            yield measure
