"""Which faults can Toxiproxy inject on the links of clients? Delays, cuts, and silence, by role and direction.

Their evidence is measured, never only read back. Of a blackhole it is the silence that clients see while more is
published, and the bytes withheld: Toxiproxy counts a connection's bytes when it ends, so they are counted by cutting
its connections just before it is mended (which would end them anyway). It is dated by the first message that a producer
handed over after the toxic was read back. A delay is a silence, longer than is usual, until answers come again; a cut
is the connections that ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.faults.silence import Heard, Silence
from harness.operation import Evidence, Role
from harness.system.system import Measure, System
from harness.system.topology import Direction, Link, Needs

BITE_WATCH_S = 0.5
"""How long an injection watches for its first bite; a later one is dated by when it was measured."""

_SILENCE_PART = 0.7
"""The part of an injected delay that must be seen as silence: what was under way before it still arrives."""

_SILENT_PART = 0.5
"""The part of the time that a blackhole held in which nothing may have been heard: what was under way comes first."""

_KEEPALIVE_BYTES = 64
"""What heartbeats and pings alone may leave in a swallowed direction of one link."""


def _side(role: Role) -> str:
    return {Role.PRODUCER: "producers", Role.CONSUMER: "consumers", Role.BOTH: "clients"}[role]


def _refuse_node_roles(fault: str, role: Role) -> None:
    if role not in (Role.PRODUCER, Role.CONSUMER, Role.BOTH):
        raise Refused(f"{fault}: role={role!s}", cure="links belong to clients: producer, consumer or both")


def _links(system: System, role: Role) -> list[Link]:
    links = system.client_links(role)
    if not links:
        raise Refused(f"no link of any {role} to break", cure="run a workload with such clients")
    return links


@contextmanager
def _mended(links: Sequence[Link]) -> Iterator[None]:
    """Heal every link on the way out, also when breaking one of them failed halfway; then raise the first failure."""
    try:
        yield
    finally:
        failures: list[Exception] = []
        for link in links:
            try:
                link.heal()
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]


def _names(links: Sequence[Link]) -> tuple[str, ...]:
    return tuple(f"{link.slot}->{link.node}" for link in links)


def _read_back(links: Sequence[Link]) -> dict[str, object]:
    return {name: dict(link.disturbed()) for name, link in zip(_names(links), links, strict=True)}


def _handed(system: System) -> int:
    return sum(client.counters().handed for client in system.crew.living(Role.PRODUCER))


def _first_handed(system: System, before: int) -> int | None:
    """When a message was first seen to be handed over, beyond `before`: it, its answer or its delivery is then hit."""

    def seen() -> int | None:
        return system.now_ns() if _handed(system) > before else None

    return system.watch(seen, within_s=BITE_WATCH_S)


@contextmanager
def _blackholed(system: System, role: Role, directions: tuple[Direction, ...]) -> Iterator[Measure]:
    """Blackhole these directions of every link of a role. The evidence is that nothing was heard any more, while more
    was published, and the bytes that were swallowed."""
    links = _links(system, role)
    before = [link.traffic() for link in links]
    heard = Heard.of(system, role, directions)
    with _mended(links):
        for link in links:
            for direction in directions:
                link.blackhole(direction)
        placed_ns, handed = system.now_ns(), _handed(system)
        bit_ns = _first_handed(system, handed)

        def measure() -> Evidence:
            now_ns, last_ns = system.now_ns(), max(heard.last_ns(), placed_ns)
            published = _handed(system) - handed
            read_back = _read_back(links)
            swallowed = {
                f"{name} {direction}": count
                for name, link, prior in zip(_names(links), links, before, strict=True)
                for after in (link.cut(),)
                for direction in directions
                if (count := after.withheld(direction) - prior.withheld(direction)) > 0
            }
            facts = {
                "silence_ms": round((now_ns - last_ns) / 1e6, 1) if heard else None,
                "held_ms": round((now_ns - placed_ns) / 1e6, 1),
                "published_meanwhile": published,
                "bytes_withheld": swallowed,
                "read_back": read_back,
            }
            why_not = None
            if sum(swallowed.values()) <= _KEEPALIVE_BYTES * len(links):
                why_not = f"no more than keep-alives was withheld on any of {len(links)} links"
            elif heard and published == 0 and role is not Role.CONSUMER:
                why_not = "nothing was published while it held, so nothing could be swallowed"
            elif heard and now_ns - last_ns < _SILENT_PART * (now_ns - placed_ns):
                why_not = (
                    f"clients still heard from the broker {(last_ns - placed_ns) / 1e6:.0f} ms after the links were "
                    "blackholed"
                )
            when = bit_ns if bit_ns is not None else now_ns
            return Evidence(_names(links), when if why_not is None else None, facts, why_not)

        yield measure


@dataclass(frozen=True, slots=True)
class Latency:
    """Delays every byte of these clients' links, both ways; nothing is lost."""

    role: Role = Role.BOTH
    latency_ms: int = 100
    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"latency"}))
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _refuse_node_roles("latency", self.role)
        if not 0 < self.latency_ms <= 60_000:
            raise Refused(f"latency: latency_ms={self.latency_ms} (1 to 60000)", cure="choose a delay in that range")

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"latency_{_side(self.role)}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Delay both directions of every link of the role; watch for the silence that this makes."""
        links = _links(system, self.role)
        heard = Heard.of(system, self.role)
        delay_ns = self.latency_ms * 1_000_000
        silence = Silence(heard)
        with _mended(links):
            for link in links:
                for direction in Direction:
                    link.latency(self.latency_ms, direction)
                    silence.look()
            bit_ns = _first_handed(system, _handed(system))
            silence.watch(2 * delay_ns)

            def measure() -> Evidence:
                usual = Silence(heard)  # once what is delayed flows, pauses are as they would be without the delay
                usual.watch(delay_ns)
                facts = {
                    "silence_ms": round(silence.longest_ns / 1e6, 1),
                    "usual_silence_ms": round(usual.longest_ns / 1e6, 1),
                    "asked_ms": self.latency_ms,
                    "read_back": _read_back(links),
                }
                needed_ns = max(_SILENCE_PART * delay_ns, usual.longest_ns + 0.5 * delay_ns)
                if silence.longest_ns >= needed_ns:
                    return Evidence(_names(links), bit_ns, facts)
                why_not = (
                    f"clients heard nothing for {facts['silence_ms']} ms at most, of {self.latency_ms} ms asked; "
                    f"{facts['usual_silence_ms']} ms are usual"
                )
                return Evidence(_names(links), None, facts, why_not)

            yield measure


@dataclass(frozen=True, slots=True)
class Blackhole:
    """Drops every byte of these clients' links in one or both directions; connections stay open until it is mended."""

    role: Role = Role.BOTH
    direction: Direction | None = None
    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"blackhole"}))

    def __post_init__(self) -> None:
        _refuse_node_roles("blackhole", self.role)

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def hides_ends(self) -> bool:
        """A consumer behind it may end unseen; to a producer the broker owes nothing."""
        return self.role is not Role.PRODUCER

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        way = {None: "", Direction.UP: "_up", Direction.DOWN: "_down"}[self.direction]
        return f"blackhole{way}_{_side(self.role)}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Swallow the direction's bytes on every link of the role."""
        with _blackholed(system, self.role, tuple(Direction) if self.direction is None else (self.direction,)) as bite:
            yield bite


@dataclass(frozen=True, slots=True)
class AcknowledgementLoss:
    """Loses the broker's answers to producers: publishes land, and nobody is told."""

    hold_s: float = 0.8
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"blackhole"}), capabilities=frozenset({"confirms"}))
    touches: ClassVar[str] = "producer"
    hides_ends: ClassVar[bool] = False  # of producers alone, to whom the broker owes nothing

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "acknowledgement_loss"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Swallow what flows from broker to producers."""
        with _blackholed(system, Role.PRODUCER, (Direction.DOWN,)) as bite:
            yield bite


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Ends every connection of these clients at once and refuses new ones until it is mended.

    With `backlog_ms` their links are slow for that long first, so that bytes are under way when they are cut: what is
    inside the network is lost, as it is when a loaded link breaks.
    """

    role: Role = Role.BOTH
    backlog_ms: int = 0
    hold_s: float = 0.5
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"disconnect", "latency"}))
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _refuse_node_roles("disconnect", self.role)
        if not 0 <= self.backlog_ms <= 10_000:
            raise Refused(f"disconnect: backlog_ms={self.backlog_ms} (0 to 10000)", cure="choose it in that range")

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"disconnect_{_side(self.role)}" + ("_under_backlog" if self.backlog_ms else "")

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Let a backlog build up inside the links, then cut them."""
        links = _links(system, self.role)
        clients = system.crew.living(self.role)
        lost_before: dict[int, int] = {}
        before = [link.traffic() for link in links]

        def first_lost() -> int | None:
            seen = ((client, client.counters()) for client in clients)
            times = [counters.lost_ns for client, counters in seen if counters.lost > lost_before[client.number]]
            return system.raw_to_run_ns(min(times)) if times else None

        with _mended(links):
            if self.backlog_ms:
                self._build_backlog(system, links)
            lost_before.update({client.number: client.counters().lost for client in clients})
            for link in links:
                link.disconnect()
            bit_ns = system.watch(first_lost, within_s=BITE_WATCH_S)

            def measure() -> Evidence:
                when = bit_ns if bit_ns is not None else first_lost()
                inside = {
                    f"{name} {direction}": count
                    for name, link, prior in zip(_names(links), links, before, strict=True)
                    for after in (link.traffic(),)
                    for direction in Direction
                    if (count := after.withheld(direction) - prior.withheld(direction)) > 0
                }
                facts = {
                    "connections_ended": [c.name for c in clients if c.counters().lost > lost_before[c.number]],
                    "bytes_inside_at_most": inside,
                    "read_back": {
                        name: dict(link.disturbed()) for name, link in zip(_names(links), links, strict=True)
                    },
                }
                why_not = None if when is not None else f"no connection of {len(clients)} clients ended"
                return Evidence(_names(links), when, facts, why_not)

            yield measure

    def _build_backlog(self, system: System, links: Sequence[Link]) -> None:
        for link in links:
            for direction in Direction:
                link.latency(self.backlog_ms, direction)
        # The delay is first a silence, and only then a pipe that is full and flows: cut it half a delay after that.
        until_ns = system.now_ns() + self.backlog_ms * 1_500_000
        system.watch(lambda: until_ns if system.now_ns() >= until_ns else None, within_s=2 * self.backlog_ms / 1e3 + 1)
