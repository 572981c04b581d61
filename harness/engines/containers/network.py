"""Where do the nodes of a topology live, and what is the one way in?

*Bridge*: a network. *Gate*: the Toxiproxy in it, with a pool of doors published on 127.0.0.1 alone; a running container
can publish no more ports, so it starts with as many as a topology may need. *Anchor*: an idle container that holds the
name and address of one node, whose broker runs in the anchor's network namespace. *Yard*: all of these together.

Without anchors a dead broker takes its address along: whoever dials it, the gate first, waits seconds for a name server
or for ARP, and since Toxiproxy dials while it accepts, the clients that come after wait too, even once the broker is
back. With them a dead broker is refused at once, as on a machine whose process has died, and a restart is quicker.

A published port costs 50 ms when it goes away, so a yard can be used again by one topology after another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import docker.errors
from testcontainers.core.network import Network

from harness.clock import happens, until
from harness.engines.containers.api import LIMIT_S, asking, client, labels
from harness.engines.containers.box import Box
from harness.engines.link import Door
from harness.engines.proxy import Server
from harness.errors import Trouble
from harness.ledger import NETWORK, Ledger
from harness.parallel import at_once

GATE = "toxiproxy"
API_PORT = 8474
FIRST_PORT = 20_000
_READY_WITHIN_S = 20.0
_ENDPOINTS_WITHIN_S = 3.0


@dataclass(slots=True)
class Bridge:
    """One bridge network of ours, with its entry in the ledger."""

    name: str
    ledger: Ledger
    _entry: int | None = None
    _network: Network | None = None

    def make(self, run: str) -> Network:
        """Make it."""
        self._entry = self.ledger.add(NETWORK, name=self.name)
        with asking(f"make the network {self.name}"):
            asked = {"labels": labels(run), "check_duplicate": True, "enable_ipv6": False}  # cuts know IPv4 alone
            network = Network({"timeout": LIMIT_S}, asked)
            network.name = self.name
            self._network = network.create()
        return self._network

    def remove(self) -> None:
        """Remove it, after its containers. Idempotent, and right after half a creation."""
        if self._entry is not None:
            remove_network(self.name)
            self.ledger.strike(self._entry)
        self._entry = self._network = None


def remove_network(name: str) -> None:
    """Remove a network; none of that name is as good.

    Raises Trouble where the engine insists on endpoints that are not there: it counts some too many, rarely, when
    containers of one network come and go at once (moby #42119), and keeps the network until it is started again.
    """
    refused = ""

    def gone() -> bool:
        nonlocal refused
        try:
            client().api.remove_network(name)
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError as error:
            refused = str(error.explanation or error)
            if "active endpoints" not in refused:
                raise
            return False
        return True

    with asking(f"remove the network {name}"):
        if not happens(gone, within_s=_ENDPOINTS_WITHIN_S, poll_s=0.1):
            raise Trouble(
                f"the container engine keeps the network {name}: {refused}",
                cure="it is removed at the next start after the engine was started again; nothing runs in it",
            )


@dataclass(slots=True)
class Gate:
    """The Toxiproxy of one yard, and its doors: a port each, published on 127.0.0.1."""

    box: Box
    peers: frozenset[str] = frozenset()
    _server: Server | None = None
    _free: list[Door] = field(default_factory=list)
    doors_count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def make(self, image: str, *, run: str, network: Network, doors_count: int) -> None:
        """Make and start it; returns when its API answers."""
        inside = [FIRST_PORT + number for number in range(doors_count)]
        self.box.make(
            image,
            run=run,
            network=network,
            alias=GATE,
            arguments=("-host=0.0.0.0", "-proxy-metrics"),
            ports={f"{port}/tcp": ("127.0.0.1", None) for port in (API_PORT, *inside)},
        )
        settings = self.box.inspect()["NetworkSettings"]
        published = {int(key.partition("/")[0]): int(on[0]["HostPort"]) for key, on in settings["Ports"].items() if on}
        if gone := {API_PORT, *inside} - set(published):
            raise Trouble(f"the container engine did not publish the ports {sorted(gone)} of {self.box.name}")
        self.peers = self.box.addresses()
        self._free = [Door(listen=f"0.0.0.0:{port}", port=published[port]) for port in inside]
        self.doors_count = doors_count
        server = self._server = Server("127.0.0.1", published[API_PORT])
        until(
            lambda: server.alive() is None,
            within_s=_READY_WITHIN_S,
            what=f"toxiproxy in {self.box.name} to answer",
            last_seen=lambda: str(server.alive()),
        )

    def remove(self) -> None:
        """Remove it. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.box.remove()

    @property
    def server(self) -> Server:
        """Its API. Raises Trouble before it is made."""
        if self._server is None:
            raise Trouble(f"the proxy {self.box.name} is not there")
        return self._server

    def take(self) -> Door:
        """A door that nobody uses."""
        with self._lock:
            if not self._free:
                raise Trouble(
                    f"the proxy has no door left of {self.doors_count}: each client needs one for each node",
                    cure="use fewer clients",
                )
            return self._free.pop(0)

    def give(self, door: Door) -> None:
        """Take it back; it is handed out last."""
        with self._lock:
            self._free.append(door)


@dataclass(slots=True)
class Yard:
    """A network with its gate and the anchors of nodes; empty of brokers when it is made and when it is handed on."""

    stem: str
    ledger: Ledger
    bridge: Bridge = field(init=False)
    gate: Gate = field(init=False)
    anchors: dict[str, Box] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    _network: Network | None = None

    def __post_init__(self) -> None:
        self.bridge = Bridge(self.stem, self.ledger)
        self.gate = Gate(Box(f"{self.stem}-{GATE}", self.ledger))

    def make(self, image: str, names: Sequence[str], *, run: str, doors_count: int) -> None:
        """The network, then the gate and the anchors at once."""
        network = self._network = self.bridge.make(run)
        at_once(
            [
                lambda: self.gate.make(image, run=run, network=network, doors_count=doors_count),
                lambda: self.hold(image, names, run=run),
            ]
        )

    def hold(self, image: str, names: Sequence[str], *, run: str) -> None:
        """Anchor these names, those that are not yet."""
        network = self._network
        assert network is not None

        def anchor(name: str) -> None:
            box = self.anchors[name]
            # Any program that idles will do: the proxy's image is here anyway, and listens inside, on its loopback.
            box.make(image, run=run, network=network, alias=name, arguments=("-host=127.0.0.1",))
            (self.addresses[name],) = box.addresses()

        new = [name for name in names if name not in self.anchors]
        self.anchors.update({name: Box(f"{self.stem}-host-{name}", self.ledger) for name in new})
        at_once([lambda name=name: anchor(name) for name in new])  # type: ignore[misc]

    def clear(self) -> None:
        """Take every proxy away, so that another topology can use it."""
        for name in self.gate.server.proxies():
            self.gate.server.delete(name)

    def remove(self) -> None:
        """Remove all of it. Idempotent, and right after half a creation."""
        # One after another, or the engine may miscount what is in the network: see remove_network.
        one_by_one([self.gate.remove, *(box.remove for box in self.anchors.values()), self.bridge.remove])


def one_by_one(jobs: Sequence[Callable[[], None]]) -> None:
    """Run all jobs in order, whatever becomes of those before; then raise the interrupt that came meanwhile, else the
    first failure. Each takes something away, and may be done twice: one that was interrupted is."""
    failures: list[BaseException] = []
    interrupt: BaseException | None = None
    for job in jobs:
        try:
            try:
                job()
            except Exception:
                raise
            except BaseException as error:
                interrupt = interrupt or error
                job()
        except BaseException as error:  # the others must have their turn, too
            failures.append(error)
    if interrupt is not None:
        raise interrupt
    if failures:
        raise failures[0]
