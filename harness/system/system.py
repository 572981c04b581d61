"""What may a fault touch? The topology, the broker on it, the clients. Roles are resolved here, at the moment asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.clock import RunClock
from harness.errors import Refused, Trouble
from harness.operation import Conduct, Crash, CrashPoint, Evidence, Role, Stage
from harness.system.service import Broker
from harness.system.topology import Link, Node, Topology

Measure = Callable[[], Evidence]
"""How to measure a fault's evidence: called once, just before mending, while the fault still holds."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a living client has done so far, read from the head of its journal while it works.

    Counts since it started; `lost_ns` is the raw monotonic time of its last lost connection (0: none), `answered_ns`
    of its last answered publish, `received_ns` of its last delivery. `holding`: deliveries of its present connection
    that it has not settled; `worked`: deliveries that it is done with; `odd`: acknowledgements out of order or sent
    twice; `cuts_done`: connections that it lost by cutting them itself, as it was told.
    """

    attempted: int
    handed: int
    answered: int
    acked: int
    received: int
    settled: int
    connections: int
    lost: int
    lost_ns: int
    answered_ns: int
    received_ns: int
    connected: bool
    crash_ns: int
    holding: int
    worked: int
    odd: int
    cuts_done: int


class Client(Protocol):
    """One living (or dead) client process, as a fault sees it."""

    @property
    def name(self) -> str:
        """As the broker lists it."""
        ...

    @property
    def slot(self) -> str:
        """Its links' slot."""
        ...

    @property
    def number(self) -> int:
        """Unique in the run."""
        ...

    @property
    def role(self) -> Role:
        """Producer or consumer."""
        ...

    @property
    def pid(self) -> int:
        """Process id."""
        ...

    @property
    def prefetch(self) -> int:
        """Deliveries that a consumer may hold."""
        ...

    def node(self) -> str | None:
        """Name of the node that it is connected to now, through its link; None while it is connected to none."""
        ...

    def counters(self) -> Counters:
        """What it has done so far."""
        ...

    def alive(self) -> bool:
        """Whether its process runs."""
        ...

    def kill(self) -> None:
        """SIGKILL, planned: the crew will start a successor in its slot when told to."""
        ...

    def pause(self) -> None:
        """SIGSTOP: it stands still, and its kernel goes on to take what it is sent. Idempotent."""
        ...

    def resume(self) -> None:
        """SIGCONT, and write down from when to when it stood still. Idempotent; right for one that is dead."""
        ...

    def state(self) -> str:
        """Its process's state as the kernel tells it: "T" is stopped, "R" and "S" are at work, "" is gone."""
        ...

    def behave(self, conduct: Conduct) -> None:
        """How it settles its deliveries from now on; USUAL mends."""
        ...

    def slow_down(self, slow_ms: float) -> None:
        """Work so much longer on each delivery from now on, one after another; 0 mends."""
        ...

    def cut(self) -> None:
        """Let it close its socket now, without a goodbye, and connect anew as after any lost connection."""
        ...

    def arm(self, point: CrashPoint, after: int = 0, stage: Stage | None = None) -> None:
        """Let it kill itself the next time (after `after` further passes) it comes to that point; where `stage` is
        given, only passes at that stage count."""
        ...

    def crashed(self) -> Crash | None:
        """What its journal's last record says of its crash; None if that is another record: it did not end itself."""
        ...

    def died_ns(self) -> int | None:
        """When its end was noticed, in raw monotonic ns (within 5 ms); None while alive."""
        ...


class Crew(Protocol):
    """The clients of a run, as a fault sees them."""

    def all(self) -> Sequence[Client]:
        """Every client there ever was, by number."""
        ...

    def living(self, role: Role = Role.BOTH) -> Sequence[Client]:
        """Clients of that role whose process runs now, by number."""
        ...

    def quickest_ns(self, role: Role, since_ns: int, until_ns: int, least: int = 1) -> Mapping[str, int]:
        """Of each producer its quickest publish, from call to answer, or of each consumer its quickest delivery, from
        the call that published it, in ns, by the client's name: of what was published and over between these moments,
        in ns of the run. A client that had less than `least` is left out."""
        ...

    def replace(self, client: Client) -> Client:
        """Start a successor, with a new number, in the slot of a client that died as planned."""
        ...


@dataclass(slots=True)
class System:
    """Handed to `Fault.inject`."""

    topology: Topology
    broker: Broker
    crew: Crew
    clock: RunClock
    services: Sequence[str] = field(default_factory=tuple)

    def now_ns(self) -> int:
        """Nanoseconds since the run began."""
        return self.clock.now_ns()

    def raw_to_run_ns(self, raw_ns: int) -> int:
        """A raw monotonic reading as ns of the run."""
        return raw_ns - self.clock.origin_ns

    def find(self, role: Role, choice: int = 0) -> Node:
        """The node that holds `role` now. `choice` picks one of several (modulo their number).

        Raises Trouble when nobody holds it, Refused when nobody can (a follower of a single node).
        """
        nodes = list(self.topology.nodes.values())
        if role is Role.ANY_NODE:
            return nodes[choice % len(nodes)]
        if role is Role.CLIENT_NODE:
            return self.seat(choice)[1]
        leader = nodes[0].name if len(nodes) == 1 else self.broker.leader()
        if role is Role.LEADER:
            return self.topology.nodes[leader]
        if role is Role.FOLLOWER:
            followers = [node for node in nodes if node.name != leader]
            if not followers:
                raise Refused("a single node has no follower", cure="use a configuration with three nodes")
            return followers[choice % len(followers)]
        raise Refused(f"{role} is not a role of nodes", cure="use leader, follower, any_node or client_node")

    def seat(self, choice: int = 0) -> tuple[Client, Node]:
        """A client that is connected, and the node that it is connected to. Raises Trouble when none is."""
        clients = [client for client in self.crew.living() if client.counters().connected]
        for place in range(len(clients)):  # asking the kernel costs some ms of each: only whom the choice picks
            client = clients[(choice + place) % len(clients)]
            if (node := client.node()) is not None:
                return client, self.topology.nodes[node]
        raise Trouble("no client is connected to any node")

    def client_links(self, role: Role) -> list[Link]:
        """Links of the client slots of that role (PRODUCER, CONSUMER or BOTH), to every node."""
        prefixes = ("producer", "consumer") if role is Role.BOTH else (str(role),)
        return [link for link in self.topology.links() if link.slot.startswith(prefixes)]

    def client(self, role: Role, choice: int = 0) -> Client:
        """One living client of that role. Raises Trouble when there is none."""
        living = self.crew.living(role)
        if not living:
            raise Trouble(f"no {role} is alive to be hit")
        return living[choice % len(living)]

    def watch(self, condition: Callable[[], int | None], within_s: float, poll_s: float = 0.002) -> int | None:
        """Poll until `condition` answers a time (ns of the run) and return it; None after `within_s`."""
        deadline = time.monotonic() + within_s
        while True:
            answer = condition()
            if answer is not None:
                return answer
            if time.monotonic() >= deadline:
                return None
            time.sleep(poll_s)

    def traffic_facts(self, links: Sequence[Link]) -> Mapping[str, object]:
        """Bytes through these links so far, for evidence."""
        return {f"{link.slot}->{link.node}": vars_of(link.traffic()) for link in links}


def vars_of(traffic: object) -> dict[str, int]:
    """The fields of a Traffic record by name."""
    return {name: getattr(traffic, name) for name in ("up_received", "up_sent", "down_received", "down_sent")}
