"""Which faults leave every byte and every connection, and let them come as no healthy link would? Slowly, or in crumbs.

Their evidence is what the kernel counts on clients' own sockets, beside what clients count themselves. *carried*: bytes
that came through a link in the direction that has the load; *offered*: bytes that would have, had all passed that was
published. A slow link is told from an idle one by what was offered, and from a dead one by what was carried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.faults.links import (
    each_way,
    first_published,
    links_of,
    mended,
    mended_meanwhile,
    names_of,
    published,
    refuse_node_roles,
    settings_of,
)
from harness.faults.links import side as side_of
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.sockets import Socket, sockets
from harness.system.system import Client, Counters, Measure, System
from harness.system.topology import Direction, Link

_SETTLE_S = 0.15
"""After a limit was set, what was under way still comes at full speed for so long."""

_MOST, _LEAST, _MORE_OFFERED = 1.15, 0.6, 1.25
"""Parts of the limit that a link may, and the fastest must, have carried; and how much more must have been offered."""

_WHOLE, _TOGETHER, _PIECES_BYTES_MIN = 1.3, 1.25, 512
"""How much larger than pieces, at least, segments usually were; how much larger, at most, they may be while it holds,
for a kernel puts some pieces together; and bytes that must have come to tell."""

_USUAL_PART = 0.1
"""Of what segments usually are, the part that they may be at any rate: a busy machine's kernel puts more together, but
what came whole before comes in pieces, whatever their size."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What clients and the kernel have counted of each client, by number, up to one moment."""

    at_ns: int
    clients: Mapping[int, Client]
    counters: Mapping[int, Counters]
    sockets: Mapping[int, Socket]

    @classmethod
    def now(cls, system: System, links: Sequence[Link]) -> Reading:
        """Of all living clients; sockets of those that are connected through one of these links."""
        clients = {client.number: client for client in system.crew.living()}
        through = {slot: seen for (slot, _), seen in sockets(links).items()}
        return cls(
            at_ns=system.now_ns(),
            clients=clients,
            counters={number: client.counters() for number, client in clients.items()},
            sockets={number: through[client.slot] for number, client in clients.items() if client.slot in through},
        )

    def of(self, role: Role) -> list[int]:
        """The clients of a role, by number."""
        return [number for number, client in self.clients.items() if role in (Role.BOTH, client.role)]


def _unbroken(before: Reading, after: Reading, role: Role) -> list[int]:
    """The clients of a role that had one and the same connection all the time."""
    return [
        number
        for number in before.of(role)
        if number in before.sockets
        and number in after.sockets
        and before.sockets[number].port == after.sockets[number].port
    ]


@dataclass(frozen=True, slots=True)
class Flow:
    """Bytes a second of one client, in the direction that has the load: from a producer, to a consumer."""

    client: str
    offered: float
    carried: float


def flows(before: Reading, after: Reading, role: Role) -> list[Flow]:
    """What was offered to, and carried by, the link of each client of a role, whose connection was there all the time.

    What a producer has written tells nothing, for a proxy takes in far more than it passes on: what counts is what was
    answered, or, where nothing is answered, received.
    """
    seconds = (after.at_ns - before.at_ns) / 1e9

    def grown(number: int, name: str) -> int:
        return int(getattr(after.counters[number], name)) - int(getattr(before.counters[number], name))

    alive = [number for number in before.clients if number in after.clients]
    producers = [number for number in alive if before.clients[number].role is Role.PRODUCER]
    consumers = [number for number in alive if before.clients[number].role is Role.CONSUMER]
    attempted = sum(grown(number, "attempted") for number in producers)
    received = sum(grown(number, "received") for number in consumers)
    answered = any(after.counters[number].answered for number in producers)
    found = []
    for number in _unbroken(before, after, role):
        if number in producers:
            handed = grown(number, "handed")
            size = (after.sockets[number].sent - before.sockets[number].sent) / handed if handed else 0.0
            landed = grown(number, "answered") if answered else received / len(producers)
            offered, carried = grown(number, "attempted") * size, landed * size
        else:
            carried = after.sockets[number].received - before.sockets[number].received
            own = grown(number, "received")
            offered = attempted / len(consumers) * carried / own if own else 0.0
        found.append(Flow(before.clients[number].name, offered / seconds, carried / seconds))
    return found


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Lets at most so many thousand bytes a second through each of these clients' links, each way; nothing is lost."""

    role: Role = Role.BOTH
    rate_kb_per_s: int = 20
    hold_s: float = 1.5
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"limit"}))
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_node_roles("bandwidth", self.role)
        if not 0 < self.rate_kb_per_s <= 1_000_000:
            raise Refused(
                f"bandwidth: rate_kb_per_s={self.rate_kb_per_s} (1 to 1000000)",
                cure="choose a rate in that range, or Stall, which lets nothing through",
            )

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"bandwidth_{side_of(self.role)}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Limit both directions of every link of the role; compare what is carried with what is offered."""
        links = links_of(system, self.role)
        with mended(links):
            each_way(links, lambda link, direction: link.limit(self.rate_kb_per_s, direction))
            bit_ns = first_published(system, published(system))
            settled_ns = system.now_ns() + int(_SETTLE_S * 1e9)
            system.watch(lambda: settled_ns if system.now_ns() >= settled_ns else None, within_s=2 * _SETTLE_S)
            before = Reading.now(system, links)

            def measure() -> Evidence:
                after = Reading.now(system, links)
                seen = flows(before, after, self.role)
                facts = {
                    "asked_kb_per_s": self.rate_kb_per_s,
                    "carried_kb_per_s": {flow.client: round(flow.carried / 1e3, 1) for flow in seen},
                    "offered_kb_per_s": {flow.client: round(flow.offered / 1e3, 1) for flow in seen},
                    "read_back": (settings := settings_of(links)),
                }
                ended = sorted(set(before.of(self.role)) - set(_unbroken(before, after, self.role)))
                why_not = mended_meanwhile(settings) or self._why_not(
                    seen, [before.clients[number].name for number in ended]
                )
                when = bit_ns if bit_ns is not None else before.at_ns
                return Evidence(names_of(links), when if why_not is None else None, facts, why_not)

            yield measure

    def _why_not(self, seen: Sequence[Flow], ended: Sequence[str]) -> str | None:
        if ended or not seen:
            return f"the connection of {', '.join(ended) or 'every client'} was not there all the time"
        fastest = max(seen, key=lambda flow: flow.carried)
        limit = self.rate_kb_per_s * 1e3
        told = f"{fastest.client}'s link carried {fastest.carried / 1e3:.1f} KB/s of {self.rate_kb_per_s} allowed"
        if fastest.carried > _MOST * limit:
            return f"{told}: it was not held to that"
        if fastest.carried < _LEAST * limit:
            return f"{told}: something else held it up, or too little was offered"
        if fastest.offered < _MORE_OFFERED * fastest.carried:
            return f"{told}, and {fastest.offered / 1e3:.1f} KB/s were offered: there was nothing to hold up"
        return None


@dataclass(frozen=True, slots=True)
class Fragment:
    """Delivers everything to these clients in pieces of at most so many bytes, which end anywhere; nothing is lost.

    Only what clients receive: of what they send, nothing here could see in what pieces a broker got it.
    """

    role: Role = Role.BOTH
    size_bytes: int = 16
    hold_s: float = 1.0
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_node_roles("fragment", self.role)
        if not 1 <= self.size_bytes <= 1024:
            raise Refused(
                f"fragment: size_bytes={self.size_bytes} (1 to 1024)", cure="choose it well below a message's size"
            )

    @property
    def needs(self) -> Needs:
        """To producers alone nothing comes but answers."""
        answers = frozenset({"confirms"}) if self.role is Role.PRODUCER else frozenset[str]()
        return Needs(verbs=frozenset({"fragment"}), capabilities=answers)

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"fragment_{side_of(self.role)}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Slice what flows to every client of the role; count the segments that its kernel gets."""
        links = links_of(system, self.role)
        with mended(links):
            opened = Reading.now(system, links)
            each_way(links, lambda link, direction: link.fragment(self.size_bytes, direction), (Direction.DOWN,))
            bit_ns = first_published(system, published(system))
            before = Reading.now(system, links)

            def measure() -> Evidence:
                after = Reading.now(system, links)
                pieces = {
                    number: (
                        opened.sockets[number].received / max(opened.sockets[number].segments, 1),
                        after.sockets[number].received - before.sockets[number].received,
                        after.sockets[number].segments - before.sockets[number].segments,
                    )
                    for number in _unbroken(before, after, self.role)
                    if number in opened.sockets
                }
                names = {number: before.clients[number].name for number in pieces}
                facts = {
                    "asked_bytes": self.size_bytes,
                    "usual_bytes": {names[number]: round(usual, 1) for number, (usual, _, _) in pieces.items()},
                    "bytes": {names[number]: size for number, (_, size, _) in pieces.items()},
                    "segments": {names[number]: segments for number, (_, _, segments) in pieces.items()},
                    "read_back": (settings := settings_of(links)),
                }
                ended = [before.clients[one].name for one in before.of(self.role) if one not in pieces]
                why_not = mended_meanwhile(settings) or self._why_not(
                    {names[number]: seen for number, seen in pieces.items()}, ended
                )
                when = bit_ns if bit_ns is not None else before.at_ns
                return Evidence(names_of(links), when if why_not is None else None, facts, why_not)

            yield measure

    def _why_not(self, pieces: Mapping[str, tuple[float, int, int]], ended: Sequence[str]) -> str | None:
        """Clients that hear too little to tell are passed over, unless all of them do."""
        if ended:
            return f"the connection of {', '.join(ended)} was not there all the time"
        told = {client: seen for client, seen in pieces.items() if seen[1] >= _PIECES_BYTES_MIN}
        if not told:
            return f"no client received {_PIECES_BYTES_MIN} bytes while it held"
        for client, (usual, size, segments) in told.items():
            if usual < _WHOLE * self.size_bytes:
                return f"segments to {client} are of {usual:.0f} bytes in health: pieces of them could not be told"
            if size > max(_TOGETHER * self.size_bytes, _USUAL_PART * usual) * segments:
                return (
                    f"{size} bytes came to {client} in {segments} segments: {size / max(segments, 1):.0f} bytes each, "
                    f"not {self.size_bytes}"
                )
        return None
