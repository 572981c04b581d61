"""Which faults disturb the way between clients and brokers? Delays, stalls and cuts of their links, by role.

Their evidence is measured, never only read back: of a delay that no publish and no delivery is as quick as before; of a
stall the silence, with every connection still there; of a cut the connections that ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.faults.links import (
    BITE_WATCH_S,
    each_way,
    first_published,
    links_of,
    mended,
    mended_meanwhile,
    names_of,
    on_each,
    published,
    refuse_node_roles,
    settings_of,
)
from harness.faults.links import side as side_of
from harness.faults.silence import Heard, unheard
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Client, Measure, System
from harness.system.topology import Direction, Link

_DELAYED_PART = 0.9
"""Of the injected delay, by which every passage must be longer than the quickest one before it. No passage is delayed
by less than all of it; yet the quickest before may have been held up by something else that is over."""

_PASSAGE_NS = 50_000_000
"""What a passage takes besides the delay, until there should be some."""

_BOTH = {f"latency_{way}" for way in Direction}

_BEFORE_NS, _LEAST = 3_000_000_000, 3
"""For how long before it is looked how quick passages were, and how many there must be while it holds: one alone, or
one of a time when no queue was waiting, would prove little. (Another delay may have ended just before this one.)"""


@dataclass(frozen=True, slots=True)
class Latency:
    """Delays every byte of these clients' links, both ways; nothing is lost."""

    role: Role = Role.BOTH
    latency_ms: int = 100
    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"latency"}))
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_node_roles("latency", self.role)
        if not 0 < self.latency_ms <= 60_000:
            raise Refused(f"latency: latency_ms={self.latency_ms} (1 to 60000)", cure="choose a delay in that range")

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"latency_{side_of(self.role)}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Delay both directions of every link of the role; see that no passage over them is quicker."""
        links = links_of(system, self.role)
        heard = Heard.of(system, self.role)
        delay_ns = self.latency_ms * 1_000_000
        placed_ns = system.now_ns()
        with mended(links):
            each_way(links, lambda link, direction: link.latency(self.latency_ms, direction))
            set_ns = system.now_ns()
            bit_ns = first_published(system, published(system))
            over_ns = system.now_ns() + 2 * delay_ns + _PASSAGE_NS
            system.watch(lambda: over_ns if system.now_ns() >= over_ns else None, within_s=2 * delay_ns / 1e9 + 0.5)

            def measure() -> Evidence:
                settings = settings_of(links)
                facts: dict[str, object] = {"asked_ms": self.latency_ms, "read_back": settings}
                why_not = mended_meanwhile(settings)
                if one_way := [name for name, seen in settings.items() if not seen.keys() >= _BOTH]:
                    why_not = why_not or f"the proxy delays {', '.join(one_way)} in one direction only"
                # An answer to a publish comes over the producer's link and back; a delivery over each link once.
                for clients, ways in ((heard.answered, 2), (heard.delivered, 2 if self.role is Role.BOTH else 1)):
                    told, doubt = self._delayed(system, clients, ways * delay_ns, (placed_ns, set_ns))
                    facts |= told
                    why_not = why_not or doubt
                if not heard:
                    why_not = why_not or "nothing is heard over these links in health either"
                if bit_ns is None:
                    why_not = why_not or f"nothing was published within {BITE_WATCH_S * 1e3:.0f} ms of it"
                return Evidence(names_of(links), None if why_not else bit_ns, facts, why_not)

            yield measure

    def _delayed(
        self, system: System, clients: Sequence[Client], delay_ns: int, moments_ns: tuple[int, int]
    ) -> tuple[dict[str, object], str | None]:
        """(how long the quickest passages to these clients were before and since, why they show no such delay)."""
        if not clients:
            return {}, None
        placed_ns, set_ns = moments_ns
        role = clients[0].role
        what = "publish" if role is Role.PRODUCER else "delivery"
        before = system.crew.quickest_ns(role, max(0, placed_ns - _BEFORE_NS), placed_ns)
        since = system.crew.quickest_ns(role, set_ns, system.now_ns(), _LEAST)
        usual_ns = min(before.values(), default=None)
        facts: dict[str, object] = {
            f"quickest_{what}_before_ms": None if usual_ns is None else round(usual_ns / 1e6, 1),
            f"quickest_{what}_ms": {name: round(passage_ns / 1e6, 1) for name, passage_ns in since.items()},
        }
        if usual_ns is None:
            return facts, f"no {what} was over just before, so nobody knows how long one takes without the delay"
        silent = [client.name for client in clients if client.name not in since and client.alive()]
        if silent or not since:
            whose = ", ".join(silent) or "anybody"
            return facts, f"less than {_LEAST} of what began since the delay was set is over, each a {what} of {whose}"
        quick = [name for name, passage_ns in since.items() if passage_ns < usual_ns + _DELAYED_PART * delay_ns]
        if quick:
            return facts, (
                f"the quickest {what} took {min(since.values()) / 1e6:.1f} ms ({', '.join(quick)}), "
                f"{usual_ns / 1e6:.1f} before, and {delay_ns / 1e6:.0f} ms more were asked"
            )
        return facts, None


@dataclass(frozen=True, slots=True)
class Stall:
    """Lets no byte of these clients' links through, both ways, and loses none: back-pressure, then all at once."""

    role: Role = Role.BOTH
    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"stall"}))
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_node_roles("stall", self.role)

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"stall_{side_of(self.role)}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Stall both directions of every link of the role; nothing may be heard while it holds."""
        links = links_of(system, self.role)
        heard = Heard.of(system, self.role)
        clients = system.crew.living(self.role)
        lost_before = {client.number: client.counters().lost for client in clients}
        with mended(links):
            each_way(links, lambda link, direction: link.stall(direction))
            placed_ns, published_before = system.now_ns(), published(system)
            bit_ns = first_published(system, published_before)

            def measure() -> Evidence:
                now_ns = system.now_ns()
                meanwhile = published(system) - published_before
                silence_ns, why_not = unheard(heard, placed_ns, now_ns)
                settings = settings_of(links)
                ended = [client.name for client in clients if client.counters().lost > lost_before[client.number]]
                facts = {
                    "silence_ms": round(silence_ns / 1e6, 1) if heard else None,
                    "held_ms": round((now_ns - placed_ns) / 1e6, 1),
                    "published_meanwhile": meanwhile,
                    "connections_ended": ended,
                    "read_back": settings,
                }
                if not heard:
                    why_not = "nothing is heard here in health either, so no silence can show it"
                elif meanwhile <= 0:
                    why_not = "nothing was published while it held, so nothing could be held up"
                elif ended:
                    why_not = f"it was no stall to {', '.join(ended)}, whose connection ended while it held"
                why_not = mended_meanwhile(settings) or why_not
                when = bit_ns if bit_ns is not None else now_ns
                return Evidence(names_of(links), when if why_not is None else None, facts, why_not)

            yield measure


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
        refuse_node_roles("disconnect", self.role)
        if not 0 <= self.backlog_ms <= 10_000:
            raise Refused(f"disconnect: backlog_ms={self.backlog_ms} (0 to 10000)", cure="choose it in that range")

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"disconnect_{side_of(self.role)}" + ("_under_backlog" if self.backlog_ms else "")

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Let a backlog build up inside the links, then cut them."""
        links = links_of(system, self.role)
        clients = system.crew.living(self.role)
        lost_before: dict[int, int] = {}
        connected: list[Client] = []
        before = [link.traffic() for link in links]

        def first_lost() -> int | None:
            seen = ((client, client.counters()) for client in clients)
            times = [counters.lost_ns for client, counters in seen if counters.lost > lost_before[client.number]]
            return system.raw_to_run_ns(min(times)) if times else None

        with mended(links):
            if self.backlog_ms:
                self._build_backlog(system, links)
            for client in clients:
                counters = client.counters()
                lost_before[client.number] = counters.lost
                if counters.connected:
                    connected.append(client)
            on_each(links, lambda link: link.disconnect())
            bit_ns = system.watch(first_lost, within_s=BITE_WATCH_S)

            def measure() -> Evidence:
                when = bit_ns if bit_ns is not None else first_lost()
                spared = [c.name for c in connected if c.alive() and c.counters().lost == lost_before[c.number]]
                inside = {
                    f"{name} {direction}": count
                    for name, link, prior in zip(names_of(links), links, before, strict=True)
                    for after in (link.traffic(),)
                    for direction in Direction
                    if (count := after.withheld(direction) - prior.withheld(direction)) > 0
                }
                settings = settings_of(links)
                facts = {
                    "connections_ended": [c.name for c in clients if c.counters().lost > lost_before[c.number]],
                    "bytes_inside_at_most": inside,
                    "read_back": settings,
                }
                why_not = mended_meanwhile(settings)
                if when is None:
                    why_not = f"no connection of {len(clients)} clients ended"
                elif spared:
                    why_not = f"the connection of {', '.join(spared)} did not end"
                return Evidence(names_of(links), when if why_not is None else None, facts, why_not)

            yield measure

    def _build_backlog(self, system: System, links: Sequence[Link]) -> None:
        each_way(links, lambda link, direction: link.latency(self.backlog_ms, direction))
        # The delay is first a silence, and only then a pipe that is full and flows: cut it half a delay after that.
        until_ns = system.now_ns() + self.backlog_ms * 1_500_000
        system.watch(lambda: until_ns if system.now_ns() >= until_ns else None, within_s=2 * self.backlog_ms / 1e3 + 1)
