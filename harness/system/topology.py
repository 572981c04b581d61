"""The nodes and links that an engine makes, as data that asks for them and protocols that stand for them.

*NodeSpec*: what a node shall be; written by a broker's configuration, read by an engine, so neither knows the other.
*Node*: one broker process, made to be broken. *Link*: the only way of one client slot to one node, through Toxiproxy.

**Placeholders.** Host names, ports and paths differ between containers and local processes, so every text in a
NodeSpec (files, arguments, environment) may hold placeholders that the engine fills in:

    <<listen:SERVICE>>        host:port this node shall listen on for that service       0.0.0.0:4222
    <<listen_host>>           the host part of it                                        0.0.0.0
    <<port:SERVICE>>          the port this node shall listen on                         4222
    <<address:NODE:SERVICE>>  host:port where the other nodes reach that node            nats-2:6222
    <<host:NODE>>             the host part of it                                        nats-2
    <<port:NODE:SERVICE>>     the port part of it                                        6222
    <<data>>                  directory of this node's data (survives a restart)         /data
    <<file:NAME>>             path of the node's file NAME (a key of `files`)            /etc/nats/nats-server.conf
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from harness.system.disk import Disk
from harness.system.needs import NO_EQUIPMENT, Equipment, Needs


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node of a topology.

    `name`: host name and label, unique in its topology, at least two characters. `program`: which image or executable
    ("rabbitmq", "nats", "memory"; never "toxiproxy": links are the engine's business). `version`: of the image, None
    for the pinned one. `services`: service name -> the port it has in a container of its own. `files`: absolute path
    in a container -> text (local processes put them into a directory of their own, by base name). `data_path`: where
    the program keeps its data in a container. `arguments` follow the program's own entry point. `equipment`: what the
    faults of the cell need of it besides.
    """

    name: str
    program: str
    services: Mapping[str, int]
    version: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    data_path: str = "/data"
    equipment: Equipment = NO_EQUIPMENT

    def key(self) -> tuple[object, ...]:
        """What makes two specs the same node: hashable, so that a pool can share a topology."""
        return (
            self.name,
            self.program,
            self.version,
            tuple(sorted(self.services.items())),
            tuple(sorted(self.files.items())),
            tuple(sorted(self.environment.items())),
            self.arguments,
            self.data_path,
            self.equipment,
        )


class NodeState(StrEnum):
    """What a node's process is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """State of a node as its engine sees it. `pid`: of the broker's first process, with `started` (ns of the boot's
    monotonic clock or ticks: any value that differs for another process); `exit_code` when it exited. `ticks`: when
    this machine's kernel says that `pid` started, in clock ticks since boot; None where it does not run that process,
    as with an engine elsewhere."""

    state: NodeState
    pid: int | None
    started: int | None
    exit_code: int | None = None
    ticks: int | None = None

    def __str__(self) -> str:
        return f"exited {self.exit_code}" if self.state is NodeState.EXITED else str(self.state)


class Node(Protocol):
    """One broker process. Verbs return when they are done, are idempotent, and raise Trouble when they fail; after any
    of `stop`, `kill`, `pause`, `replace`, `renew`, `set_clock` the topology is dirty and serves no other cell."""

    name: str
    spec: NodeSpec

    def start(self) -> None:
        """Start the process (again), with its data as it was left. Ready is the broker's to say, not ours."""
        ...

    def stop(self) -> None:
        """SIGTERM, and wait until it has exited."""
        ...

    def kill(self) -> None:
        """SIGKILL of the broker (every process of the node), and wait until it is gone."""
        ...

    def pause(self) -> None:
        """Freeze every process of the node."""
        ...

    def resume(self) -> None:
        """Let it go on."""
        ...

    def exhaust_memory(self) -> int | None:
        """Take all that is left of its memory, until it has ended or within a limit; returns how many processes the
        kernel killed for it, where it can be told. `start` gives it back. Refused where it has no limit of its own:
        see Equipment."""
        ...

    def replace(self, version: str | None) -> None:
        """End it in order and start one of another version (None: the pinned one) in its place, with its name, address,
        files and data. Ready is the broker's to say."""
        ...

    def renew(self) -> None:
        """End it in order and start it without any data, with its name, address and files: as a new machine would come.
        Refused where its data lies on a disk of its own: see Equipment."""
        ...

    def set_clock(self, offset_s: float, rate: float = 1.0) -> None:
        """Set its time of day so many seconds apart from ours, and let it go `rate` times as fast from then on, of a
        node that has the equipment `clock`. What counts elapsed time goes on as before. Raises Trouble unless it
        runs."""
        ...

    def status(self) -> NodeStatus:
        """What it does now, asked of the engine or the kernel, never remembered."""
        ...

    def logs(self, lines: int = 20) -> str:
        """Its last log lines."""
        ...

    def execute(self, *argv: str, within_s: float = 30.0) -> str:
        """Run a command beside the broker (in its container, or as a local process with its environment) and return
        what it printed. Raises Trouble with that output when it fails."""
        ...


class Direction(StrEnum):
    """Of bytes: up is from client to broker, down is from broker to client."""

    UP = "upstream"
    DOWN = "downstream"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that a link's proxy has read and written, by direction of flow, on connections that have ended since the
    link was made: Toxiproxy counts a connection at its end (2.12), so a living one shows zero.

    What was read and not written was withheld: exact for a direction that was blackholed when its connections ended.
    In other directions it is an upper bound: a connection cut while its bytes were being written counts none as sent.
    """

    up_received: int
    up_sent: int
    down_received: int
    down_sent: int

    def withheld(self, direction: Direction) -> int:
        """Bytes of that direction that went into the proxy and did not come out."""
        if direction is Direction.UP:
            return self.up_received - self.up_sent
        return self.down_received - self.down_sent


class Link(Protocol):
    """The way of one client slot to one service of one node, through a proxy that survives the node's restart.

    Every change is read back from the proxy's server; a change that cannot be confirmed raises Trouble. `heal` removes
    every toxic and enables the proxy, whatever was done before.
    """

    slot: str
    node: str
    service: str

    @property
    def address(self) -> tuple[str, int]:
        """What the client dials: always 127.0.0.1."""
        ...

    def set_distance(self, latency_ms: int) -> None:
        """One-way latency that belongs to this link: part of its healthy state, kept when it is healed."""
        ...

    def disconnect(self) -> None:
        """End every connection (the client sees FIN at once) and refuse new ones. Bytes inside the proxy are lost."""
        ...

    def latency(self, latency_ms: int, direction: Direction) -> None:
        """Delay every byte of that direction, on top of the distance."""
        ...

    def blackhole(self, direction: Direction) -> None:
        """Drop every byte of that direction and keep the connection open; mending closes it."""
        ...

    def stall(self, direction: Direction) -> None:
        """Let no byte of that direction through and lose none: back-pressure. Mending lets go of all that waits."""
        ...

    def limit(self, rate_kb_per_s: int, direction: Direction) -> None:
        """Let at most that many thousand bytes a second of that direction through, on each connection."""
        ...

    def cut_after(self, size_bytes: int, direction: Direction) -> None:
        """End each connection at an exact byte of that direction: counted from now, or from its beginning if later."""
        ...

    def fragment(self, size_bytes: int, direction: Direction) -> None:
        """Pass the bytes of that direction on in pieces of at most that size, and lose none."""
        ...

    def slow_close(self, delay_ms: int, direction: Direction) -> None:
        """Pass the end of that direction's bytes on only after so long; the bytes before it at once."""
        ...

    def reset_new(self) -> None:
        """End every connection, and reset each new one at its first bytes."""
        ...

    def cut(self) -> Traffic:
        """End every connection, as `disconnect` does, and count them: how a blackhole's evidence is read. Mending a
        blackhole would end them anyway. `heal` lets the link go on."""
        ...

    def heal(self) -> None:
        """Undo all of it. Idempotent."""
        ...

    def traffic(self) -> Traffic:
        """Bytes in and out of ended connections, by the proxy's own metrics."""
        ...

    def disturbed(self) -> Mapping[str, object]:
        """What the proxy's server says is wrong with this link now: `{}` if enabled and without toxics."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class Cut:
    """One direction between two nodes: what `source` sends to `target` does not arrive.

    >>> str(Cut("rabbit-1", "rabbit-2"))
    'rabbit-1->rabbit-2'
    """

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}->{self.target}"


class Topology(Protocol):
    """Nodes and links of one lease. Everything it made is gone after `remove`."""

    @property
    def nodes(self) -> Mapping[str, Node]:
        """By name, in the order of the specs."""
        ...

    def link(self, slot: str, node: str, service: str) -> Link:
        """The link of a client slot ("producer-1", "harness") to a node's service: made at the first call, the same
        one after that. Raises Trouble when the proxy has no port left."""
        ...

    def links(self) -> Sequence[Link]:
        """Every link made so far in this lease."""
        ...

    def traffic(self) -> Mapping[tuple[str, str, str], Traffic]:
        """Traffic of every link, by (slot, node, service), in one request."""
        ...

    def proxy_peers(self) -> frozenset[str]:
        """IP addresses from which a node sees connections that came through the proxy."""
        ...

    def proxy_alive(self) -> str | None:
        """None while the proxy answers; else what is wrong with it."""
        ...

    def prepare(self, verbs: frozenset[str]) -> None:
        """Start beforehand what these verbs will need, so that they take effect at once. Idempotent."""
        ...

    def disk(self, node: str) -> Disk:
        """The disk of a node. Raises Refused where it has none of its own: see Equipment."""
        ...

    def settle(self) -> None:
        """Write to the nodes' own disks what the kernel still holds for them, as if it had been there for long."""
        ...

    @property
    def counts(self) -> str:
        """What `dropped` counts: "packets_dropped" or "bytes_dropped"."""
        ...

    def sever(self, cuts: Sequence[Cut]) -> None:
        """Drop everything that is sent in these directions between nodes; links of clients are not touched."""
        ...

    def dropped(self) -> Mapping[Cut, int]:
        """How much was dropped in each severed direction so far: packets as the kernel counts them, or bytes as the
        proxies between nodes do, which may have to end their connections to know it. Called once, before `rejoin`."""
        ...

    def delay(self, cuts: Sequence[Cut], delay_ms: int) -> None:
        """Hold back everything that is sent in these directions between nodes for so long, and lose none of it; links
        of clients are not touched. Raises Refused where nothing stands between nodes that could."""
        ...

    def delayed(self) -> Mapping[Cut, int]:
        """By how many ms each direction that is held back is, read back from whoever does it."""
        ...

    def rejoin(self) -> None:
        """Undo every cut and every delay. Idempotent."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Engine, image references and digests or executables, rendered files: for the report."""
        ...

    @property
    def dirty(self) -> bool:
        """Whether a verb was used on a node, so that it must not serve another cell."""
        ...

    def remove(self) -> None:
        """Take everything away. Idempotent, and right after half a creation."""
        ...


class Engine(Protocol):
    """Makes topologies. `offers`: the verbs and capabilities it has."""

    name: str

    def offers(self) -> Needs:
        """What it can do here."""
        ...

    def unavailable(self, specs: Sequence[NodeSpec], verbs: frozenset[str] = frozenset()) -> str | None:
        """Why these nodes cannot be made here, or these verbs not be served, with the cure, or None. Asks nothing that
        takes longer than a second."""
        ...

    def create(self, specs: Sequence[NodeSpec], *, run: str) -> Topology:
        """Make and start the nodes and the proxy. Everything is labelled with `run` and in the ledger before it is
        made. Raises Trouble, after removing what it had made."""
        ...
