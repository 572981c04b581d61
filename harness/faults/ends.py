"""Which faults end connections otherwise than by one clean cut? At an exact byte, or by a reset of every new one.

Their evidence is the connections that clients lost, told from what might have ended them besides: a cut by the proxy's
count of bytes, which must be a multiple of the size asked for; a reset by connections of our own through the same
links.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.faults.links import (
    BITE_WATCH_S,
    each_way,
    links_of,
    mended,
    mended_meanwhile,
    names_of,
    on_each,
    refuse_node_roles,
    settings_of,
)
from harness.faults.links import side as side_of
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.sockets import sockets
from harness.system.system import Client, Measure, System
from harness.system.topology import Direction, Link

_PROBE_LIMIT_S = 1.0
_PROBE_WORD = b"\r\n"
"""What a probe says: some servers wait for the client's first word."""

_SIZE_MIN = 256
"""An end at a byte of another's choice is a multiple of the size once in so many times."""

_ON_ITS_WAY_BYTES = 4096
"""What a client may have written beyond the byte at which it is being cut."""


class Ends:
    """The connections of these clients that have ended since a moment: now, or the last `mark`."""

    def __init__(self, system: System, role: Role) -> None:
        self._system = system
        self.clients: tuple[Client, ...] = tuple(system.crew.living(role))
        self._connected: tuple[Client, ...] = ()
        self._before: dict[int, int] = {}
        self.mark()

    def mark(self) -> None:
        """Count from now on."""
        seen = {client.number: client.counters() for client in self.clients}
        self._first_ns: int | None = None
        self._before = {number: counters.lost for number, counters in seen.items()}
        self._connected = tuple(client for client in self.clients if seen[client.number].connected)

    def counts(self) -> Mapping[str, int]:
        """How many connections each client that was connected has lost since, by name."""
        return {client.name: client.counters().lost - self._before[client.number] for client in self._connected}

    def spared(self) -> list[str]:
        """Clients that live, were connected, and whose connection did not end."""
        return [
            client.name
            for client in self._connected
            if client.alive() and client.counters().lost == self._before[client.number]
        ]

    def lost(self, client: Client) -> bool:
        """Whether a connection of this client has ended since."""
        return client.counters().lost > self._before[client.number]

    def first_ns(self) -> int | None:
        """When the first of them ended, in ns of the run, as far as this is asked often; None while there is none.
        Clients tell the time of their last one only, so what was seen first is kept."""
        if self._first_ns is None:
            times = [client.counters().lost_ns for client in self._connected if self.lost(client)]
            self._first_ns = self._system.raw_to_run_ns(min(times)) if times else None
        return self._first_ns


@dataclass(frozen=True, slots=True)
class CutAfter:
    """Ends each connection of these clients at an exact byte of what they send, or are sent: a frame is torn in two.

    Those that live are cut so many bytes from now on; those that are opened later, that many after their beginning.
    """

    role: Role = Role.BOTH
    size_bytes: int = 2048
    direction: Direction = Direction.UP
    hold_s: float = 1.5
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_node_roles("cut_after", self.role)
        if not _SIZE_MIN <= self.size_bytes <= 1 << 30:
            raise Refused(
                f"cut_after: size_bytes={self.size_bytes} ({_SIZE_MIN} to 2^30)",
                cure="choose a size in that range: of a small one nearly every count of bytes is a multiple",
            )

    @property
    def needs(self) -> Needs:
        """Only what is said can be cut: producers alone hear but answers, consumers alone say but acknowledgements."""
        wanted = {
            (Role.PRODUCER, Direction.DOWN): frozenset({"confirms"}),
            (Role.CONSUMER, Direction.UP): frozenset({"acknowledgements"}),
        }
        capabilities = wanted.get((self.role, self.direction), frozenset[str]())
        return Needs(verbs=frozenset({"cut_after"}), capabilities=capabilities)

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"cut_after_{'up' if self.direction is Direction.UP else 'down'}_{side_of(self.role)}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Count down on every link of the role; what passed on the connections opened afterwards is exact."""
        links = links_of(system, self.role)
        with mended(links):
            ends = Ends(system, self.role)
            before = self._through(links)
            each_way(links, lambda link, direction: link.cut_after(self.size_bytes, direction), (self.direction,))
            # Of each slot whose living connection was cut: the bytes counted on its links by then.
            passed: dict[str, Mapping[str, int]] = {}

            def all_cut() -> int | None:
                first_ns = ends.first_ns()
                for client in ends.clients:
                    if client.slot not in passed and ends.lost(client):
                        passed[client.slot] = self._passed(system, client.slot)
                return first_ns if len(passed) == len(ends.clients) else None

            # Answers to producers are few bytes, and may come in bursts: 2 KiB of them take their time.
            system.watch(all_cut, within_s=max(BITE_WATCH_S, self.hold_s))
            bit_ns = ends.first_ns()

            def measure() -> Evidence:
                since = {
                    name: count - counted[name]
                    for slot, counted in passed.items()
                    for name, count in self._passed(system, slot).items()
                    if count > counted[name]
                }
                through = self._through(links)
                whole = [
                    client.name
                    for client in ends.clients
                    if client.name in ends.spared()
                    and through.get(client.slot, 0) - before.get(client.slot, 0)
                    > 2 * self.size_bytes + _ON_ITS_WAY_BYTES
                ]
                facts = {
                    "asked_bytes": self.size_bytes,
                    "connections_ended": ends.counts(),
                    "bytes_since_first_end": since,
                    "read_back": (settings := settings_of(links)),
                }
                inexact = {name: count for name, count in since.items() if count % self.size_bytes}
                why_not = mended_meanwhile(settings)
                if bit_ns is None:
                    why_not = f"no connection of {len(ends.clients)} clients ended"
                elif whole:
                    why_not = f"more than {self.size_bytes} bytes passed on the connection of {', '.join(whole)}"
                elif inexact:
                    told = ", ".join(f"{count} bytes on {name}" for name, count in inexact.items())
                    why_not = f"{told}: no multiple of {self.size_bytes}, so something else ended a connection"
                elif not since:
                    why_not = f"no connection that was opened while it held was cut at byte {self.size_bytes}"
                return Evidence(names_of(links), bit_ns if why_not is None else None, facts, why_not)

            yield measure

    def _passed(self, system: System, slot: str) -> Mapping[str, int]:
        """Bytes that the proxy has passed on, in our direction, on ended connections of a slot, by link."""
        return {
            f"{own}->{node}": traffic.up_sent if self.direction is Direction.UP else traffic.down_sent
            for (own, node, _), traffic in system.topology.traffic().items()
            if own == slot
        }

    def _through(self, links: Sequence[Link]) -> Mapping[str, int]:
        """Bytes on the living connection of each slot, in our direction."""
        up = self.direction is Direction.UP
        return {slot: seen.sent if up else seen.received for (slot, _), seen in sockets(links).items()}


@dataclass(frozen=True, slots=True)
class ResetNew:
    """Ends every connection of these clients, and resets each new one (RST) at the first byte that anybody says."""

    role: Role = Role.BOTH
    hold_s: float = 0.8
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"reset_new"}))
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_node_roles("reset_new", self.role)

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"reset_new_{side_of(self.role)}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Let every link of the role reset what is opened; open connections of our own to see that it does."""
        links = links_of(system, self.role)
        with mended(links):
            ends = Ends(system, self.role)
            on_each(links, lambda link: link.reset_new())
            # Whoever was cut off first may have come back by a link whose turn had not come yet, and was cut off again.
            opened = {client.number: client.counters().connections for client in ends.clients}
            bit_ns = system.watch(ends.first_ns, within_s=BITE_WATCH_S)

            def measure() -> Evidence:
                missing = system.broker.whole()
                probes: dict[str, str] = {}
                on_each(links, lambda link: probes.update({f"{link.slot}->{link.node}": probe(link)}))
                otherwise = {name: seen for name, seen in probes.items() if seen != "reset"}
                back = [one.name for one in ends.clients if one.counters().connections > opened[one.number]]
                facts = {
                    "connections_ended": ends.counts(),
                    "probes": dict(sorted(probes.items())),
                    "read_back": (settings := settings_of(links)),
                }
                why_not = mended_meanwhile(settings)
                if bit_ns is None:
                    why_not = f"no connection of {len(ends.clients)} clients ended"
                elif spared := ends.spared():
                    why_not = f"the connection of {', '.join(spared)} did not end"
                elif otherwise:
                    why_not = f"a connection through {', '.join(f'{one} was {how}' for one, how in otherwise.items())}"
                elif back:
                    why_not = f"{', '.join(back)} had a new connection while it held"
                elif missing:  # then connections would be reset for that
                    why_not = f"who resets is not known, for {missing}"
                return Evidence(names_of(links), bit_ns if why_not is None else None, facts, why_not)

            yield measure


def probe(link: Link) -> str:
    """What becomes of a connection through this link on which something is said: "reset", "refused", "ended" in order,
    "answered" and kept, or "silent"."""
    answered = False
    try:
        with socket.create_connection(link.address, timeout=_PROBE_LIMIT_S) as peer:
            peer.sendall(_PROBE_WORD)
            while peer.recv(4096):
                answered = True
                peer.settimeout(_PROBE_LIMIT_S / 4)
    except ConnectionRefusedError:
        return "refused"
    except (ConnectionResetError, BrokenPipeError):
        return "reset"
    except OSError:
        return "answered" if answered else "silent"
    return "ended"
