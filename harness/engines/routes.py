"""How are nodes that share one network kept from each other? Each reaches each other one through a proxy of its own.

*Routes*: the ways between the nodes of a cluster whose connections carry both directions, as NATS's do: both ends dial,
and which connections stay is theirs to decide. So what one node sends to another goes up the ways that it dialled, and
down those that the other dialled; a cut drops both, and a delay holds both back. Bytes are counted when connections
end, which mending a cut would do to them anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from harness.clock import until
from harness.engines.toxic import Toxic
from harness.parallel import at_once
from harness.system.topology import Cut, Direction

if TYPE_CHECKING:
    from harness.engines.proxy import Proxy, Server

T = TypeVar("T")

_AT_ONCE = 8
_STILL_COUNT = 8


@dataclass(slots=True)
class Routes:
    """The ways between nodes. `doors`: who dials whom -> the port of the proxy in between; `closed`: a port that nobody
    listens on, where nodes that tell each other of a third one say that it is."""

    doors: Mapping[Cut, int]
    closed: int
    _proxies: dict[Cut, Proxy] = field(default_factory=dict)
    _withheld_before: dict[Cut, int] = field(default_factory=dict)

    @classmethod
    def between(cls, names: Sequence[str], take: Callable[[], int]) -> Routes:
        """Ways between all of these; nothing listens yet. `take` gives a free port."""
        return cls({Cut(one, other): take() for one in names for other in names if one != other}, take())

    def to(self, name: str) -> Mapping[str, int]:
        """The port by which each node reaches that one."""
        return {way.source: port for way, port in self.doors.items() if way.target == name} | {name: self.closed}

    def make(self, server: Server, address: Callable[[str], str]) -> None:
        """Make the proxies; `address(name)` is where that node itself listens."""
        for way, port in self.doors.items():
            name = f"route.{way.source}.{way.target}"
            self._proxies[way] = server.create(name, listen=f"127.0.0.1:{port}", upstream=address(way.target))

    def sever(self, cuts: Sequence[Cut]) -> None:
        """Drop what is sent in these directions from now on."""
        self._withheld_before = self._withheld()
        both = [(way, toxic) for cut in cuts for way, toxic in _halves(cut)]
        _each(lambda half: self._proxies[half[0]].add(half[1]), both)

    def dropped(self) -> Mapping[Cut, int]:
        """Bytes dropped in each direction that is severed, as the proxies' server says it is; ends the connections of
        the nodes concerned."""
        states = {way: proxy.state() for way, proxy in self._proxies.items()}
        severed = [
            cut
            for cut in self.doors
            if all(toxic.is_seen_as(states[way].toxics.get(toxic.name)) for way, toxic in _halves(cut))
        ]
        concerned = {way for cut in severed for way, _ in _halves(cut)}
        _each(lambda way: self._proxies[way].disable(), concerned)
        seen = [self._withheld()]

        def still() -> bool:
            seen.append(self._withheld())
            return len(seen) > _STILL_COUNT and all(count == seen[-1] for count in seen[-_STILL_COUNT:])

        if severed:
            until(still, within_s=5.0, what="the counts of routes to stand still", poll_s=0.003)
        return {cut: seen[-1][cut] - self._withheld_before.get(cut, 0) for cut in severed}

    def delay(self, cuts: Sequence[Cut], delay_ms: int) -> None:
        """Hold back what is sent in these directions for so long, and lose none of it."""
        both = [(way, Toxic.latency(delay_ms, stream)) for cut in cuts for way, stream in _streams(cut)]
        _each(lambda half: self._proxies[half[0]].add(half[1]), both)

    def delayed(self) -> Mapping[Cut, int]:
        """By how many ms each direction that is held back is, as the proxies' server says it is."""
        states = {way: proxy.state() for way, proxy in self._proxies.items()}
        told: dict[Cut, int] = {}
        for cut in self.doors:
            seen = [states[way].toxics.get(f"latency_{stream}", {}) for way, stream in _streams(cut)]
            if delay_ms := min(_latency_ms(toxic) for toxic in seen):
                told[cut] = delay_ms
        return told

    def rejoin(self) -> None:
        """Undo every cut and every delay. Idempotent."""
        _each(lambda proxy: proxy.heal(), list(self._proxies.values()))

    def _withheld(self) -> dict[Cut, int]:
        """Bytes of each direction that went into its proxies and did not come out, on connections that have ended."""
        if not self._proxies:
            return {}
        traffic = next(iter(self._proxies.values())).server.traffic()
        counts = dict.fromkeys(self.doors, 0)
        for cut in counts:
            for way, toxic in _halves(cut):
                if (counted := traffic.get(self._proxies[way].name)) is not None:
                    counts[cut] += counted.withheld(toxic.stream)
        return counts


def _streams(cut: Cut) -> tuple[tuple[Cut, Direction], tuple[Cut, Direction]]:
    """The ways that a direction's bytes take: up those that its source dialled, and down those that its target did."""
    return (cut, Direction.UP), (Cut(cut.target, cut.source), Direction.DOWN)


def _halves(cut: Cut) -> tuple[tuple[Cut, Toxic], ...]:
    """The ways that a cut's bytes take, each with what drops them there."""
    return tuple((way, Toxic.blackhole(stream)) for way, stream in _streams(cut))


def _latency_ms(toxic: Mapping[str, object]) -> int:
    attributes = toxic.get("attributes")
    return int(attributes.get("latency", 0)) if isinstance(attributes, Mapping) else 0


def _each(verb: Callable[[T], None], things: Iterable[T]) -> None:
    """Do it to all of them, several at a time, to the end; then raise the first failure."""
    at_once([partial(verb, thing) for thing in things], most=_AT_ONCE)
