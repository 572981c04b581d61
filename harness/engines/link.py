"""How does a client slot reach a node, and what has been done to that way?

*ProxyLink*: one client slot's way to one service of one node: a proxy of its own. *Links*: those of one topology.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.clock import until
from harness.engines.proxy import Proxy, ProxyState, Server, disturbances
from harness.engines.toxic import CHANGEABLE, Toxic
from harness.errors import Trouble
from harness.system.topology import Direction, Traffic

HARNESS = "harness"
"""The slot of our own connections, which no fault touches."""

_STILL_COUNT = 8
_NO_TRAFFIC = Traffic(0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A port for one proxy: where its server listens, and where a client on this machine dials it."""

    listen: str
    port: int


class Doors(Protocol):
    """Where the doors come from: a pool of published ports, or this machine's free ones."""

    def take(self) -> Door:
        """A door that nobody uses. Raises Trouble when there is none left."""
        ...

    def give(self, door: Door) -> None:
        """Take it back."""
        ...


@dataclass(slots=True)
class ProxyLink:
    """One client slot's way to one service of one node. Changes of one link are made one after another."""

    slot: str
    node: str
    service: str
    proxy: Proxy
    door: Door
    _distance: tuple[Toxic, ...] = ()
    _placed: set[str] = field(default_factory=set)
    """Names of the toxics that may be there: asking the server before each change would cost as much as the change."""
    _changing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> tuple[str, int]:
        """What the client dials."""
        return "127.0.0.1", self.door.port

    def set_distance(self, latency_ms: int) -> None:
        """One-way latency that belongs to this link, and stays when it is healed."""
        with self._changing:
            self._distance = tuple(Toxic.latency(latency_ms, way) for way in Direction) if latency_ms else ()
            self._heal()

    def disconnect(self) -> None:
        """End every connection and refuse new ones."""
        with self._changing:
            self.proxy.disable()

    def latency(self, latency_ms: int, direction: Direction) -> None:
        """Delay every byte of that direction, on top of the distance; a second call changes the delay."""
        distance_ms = self._distance[0].attributes["latency"] if self._distance else 0
        self._disturb(Toxic.latency(latency_ms + distance_ms, direction))

    def blackhole(self, direction: Direction) -> None:
        """Drop every byte of that direction and keep the connection open; mending closes it."""
        self._disturb(Toxic.blackhole(direction))

    def stall(self, direction: Direction) -> None:
        """Let no byte of that direction through and lose none."""
        self._disturb(Toxic.stall(direction))

    def limit(self, rate_kb_per_s: int, direction: Direction) -> None:
        """Let at most that many thousand bytes a second of that direction through, on each connection."""
        self._disturb(Toxic.bandwidth(rate_kb_per_s, direction))

    def cut_after(self, size_bytes: int, direction: Direction) -> None:
        """End each connection once that many bytes of that direction have passed from now on, or since it began."""
        self._disturb(Toxic.limit_data(size_bytes, direction))

    def fragment(self, size_bytes: int, direction: Direction) -> None:
        """Pass the bytes of that direction on in pieces of at most that size."""
        self._disturb(Toxic.slicer(size_bytes, 0, direction))

    def slow_close(self, delay_ms: int, direction: Direction) -> None:
        """Hold back the end of a connection, that its sender in that direction closed, for that long."""
        self._disturb(Toxic.slow_close(delay_ms, direction))

    def reset_new(self) -> None:
        """End every connection, and reset every new one at its first bytes, whoever sends them."""
        for direction in Direction:
            self._disturb(Toxic.reset_peer(0, direction))
        with self._changing:  # where nothing is said, nothing would have ended
            self.proxy.disable()
            self.proxy.enable()

    def cut(self) -> Traffic:
        """End every connection, and count them. The server counts each as its two ends close, moments after it has
        answered: the count is taken once it stands still."""
        self.disconnect()
        seen = [self.traffic()]

        def still() -> bool:
            seen.append(self.traffic())
            return len(seen) > _STILL_COUNT and len(set(seen[-_STILL_COUNT:])) == 1

        until(still, within_s=5.0, what=f"the count of {self.proxy.name} to stand still", poll_s=0.003)
        return seen[-1]

    def heal(self) -> None:
        """Undo all of it. Idempotent."""
        with self._changing:
            self._heal()

    def traffic(self) -> Traffic:
        """Bytes in and out of connections that have ended since the link was made."""
        return self.proxy.server.traffic().get(self.proxy.name, _NO_TRAFFIC)

    def disturbed(self) -> Mapping[str, object]:
        """What the proxy's server says is wrong with this link now."""
        return self.disturbances(self.proxy.state())

    def disturbances(self, state: ProxyState) -> Mapping[str, object]:
        """What is wrong with this link in a state that was read."""
        return disturbances(state, self._distance)

    def _disturb(self, toxic: Toxic) -> None:
        with self._changing:
            if toxic.name in self._placed and toxic.name in self.proxy.state().toxics:
                if toxic.type in CHANGEABLE:
                    self.proxy.change(toxic)
                    return
                self.proxy.remove(toxic.name)
            self._placed.add(toxic.name)
            self.proxy.add(toxic)

    def _heal(self) -> None:
        self.proxy.heal(self._distance)
        self._placed = {toxic.name for toxic in self._distance}


@dataclass(slots=True)
class Links:
    """The links of one topology, through one server. `upstream` says where a node's service is, as the server dials it.

    Names of proxies are never used twice: the server's counters outlive a proxy.
    """

    server: Server
    doors: Doors
    upstream: Callable[[str, str], str]
    _links: dict[tuple[str, str, str], ProxyLink] = field(default_factory=dict)
    _made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def link(self, slot: str, node: str, service: str) -> ProxyLink:
        """That link: made at the first call, the same one after that."""
        with self._lock:
            key = (slot, node, service)
            if key not in self._links:
                self._links[key] = self._make(*key)
            return self._links[key]

    def _make(self, slot: str, node: str, service: str) -> ProxyLink:
        upstream = self.upstream(node, service)
        refusals = []
        for _ in range(3):  # somebody else's program may take a port between our look and the server's
            door = self.doors.take()
            self._made += 1
            try:
                name = f"{slot}.{node}.{service}.{self._made}"
                proxy = self.server.create(name, listen=door.listen, upstream=upstream)
            except Trouble as trouble:
                self.doors.give(door)
                if "address already in use" not in trouble.message:
                    raise
                refusals.append(trouble.message)
            else:
                return ProxyLink(slot, node, service, proxy, door)
        raise Trouble(f"no port could be had for the link {slot} -> {node}:{service}: {refusals[-1]}")

    def all(self) -> Sequence[ProxyLink]:
        """Every link made so far and not taken away, oldest first."""
        with self._lock:
            return tuple(self._links.values())

    def traffic(self) -> Mapping[tuple[str, str, str], Traffic]:
        """Traffic of every link, in one request."""
        counted = self.server.traffic()
        return {(link.slot, link.node, link.service): counted.get(link.proxy.name, _NO_TRAFFIC) for link in self.all()}

    def disturbed(self) -> Mapping[str, Mapping[str, object]]:
        """What is wrong with any link, by the proxy's name, in one request: `{}` if all are healed."""
        seen = self.server.proxies()
        wrong: dict[str, Mapping[str, object]] = {}
        for link in self.all():
            name = link.proxy.name
            if disturbance := link.disturbances(seen[name]) if name in seen else {"gone": True}:
                wrong[name] = disturbance
        return wrong

    def take_away(self, *, keep: frozenset[str] = frozenset({HARNESS})) -> None:
        """Delete the links of all slots but those to `keep`: the next lease makes its own."""
        with self._lock:
            for key, link in list(self._links.items()):
                if link.slot not in keep:
                    link.proxy.delete()
                    self.doors.give(link.door)
                    del self._links[key]

    def close(self) -> None:
        """Give every door back; the proxies go away with their server. Idempotent."""
        with self._lock:
            for link in self._links.values():
                self.doors.give(link.door)
            self._links.clear()
