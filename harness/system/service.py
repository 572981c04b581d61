"""What a broker and a sink are to the rest of Assay: the protocols that every broker's and sink's folder implements.

*Configuration*: a frozen record, no driver behind it. *Broker*: our end: prepares, asks who leads, reads what is left,
counts. *Connection*: a client's end, inside the client's own process, on its event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from harness.operation import AckKind, Outcome
from harness.system.membership import Membership
from harness.system.needs import NO_EQUIPMENT, Equipment
from harness.system.storage import Storage
from harness.system.topology import NodeSpec


@dataclass(frozen=True, slots=True)
class Promise:
    """What a configuration's clients may believe, and what judges must know of it: goes into the terms.

    `confirms`: whether the broker answers publishes. `ack`: how deliveries are settled. `retry`: none, "same-id" or
    "new-id" (the broker's deduplication id; the message's own id never changes). `drain`: how to know that everything
    was read: "declare" (RabbitMQ passive declare), "consumer-info" (JetStream), "counters" (exact ones: memory),
    "silence" (NATS core).
    `redelivery_horizon_s`: longest time after which the broker hands an unsettled delivery of a client whose end it
    did not see to another. `pulled`: consumption by fetch (a fetch has an invocation; a push has none).
    `redelivered_promise`: whether "not redelivered" promises that nobody has seen the message.
    `stores`: whether messages outlive their consumer's absence at all. `replicas`: copies of each message that
    the broker keeps, on as many nodes. `settings`: what the report shows, by name.
    """

    confirms: bool
    ack: AckKind
    drain: str
    redelivery_horizon_s: float
    retry: str = "none"
    pulled: bool = False
    redelivered_promise: bool = False
    ordered: bool = True
    stores: bool = True
    replicas: int = 1
    ack_wait_s: float | None = None
    retry_limit: int = 0
    policies: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


class Configuration(Protocol):
    """One way to set up a broker and its clients. Frozen, hashable, plain data; imports no driver.

    `name` starts with the family: "rabbitmq-quorum-confirms". `family` names the folder of harness/brokers/ whose
    `broker.Broker` and `connection.Connection` serve it.
    """

    @property
    def name(self) -> str:
        """Starts with the family."""
        ...

    @property
    def family(self) -> str:
        """The folder of harness/brokers/ that serves it."""
        ...

    def nodes(self, equipment: Equipment = NO_EQUIPMENT) -> tuple[NodeSpec, ...]:
        """The nodes that it runs on, each with that equipment; limits of what a server stores are written into its
        configuration here. Configurations with equal nodes can share a warm broker."""
        ...

    def promise(self) -> Promise:
        """What its clients may believe."""
        ...


@dataclass(frozen=True, slots=True)
class Census:
    """What the broker itself still holds or counts at the end of a run.

    `found`: packed ids of the messages that the auditor read, with where it read them (queue, stream or dead-letter
    queue), in the order read. `sequences`: broker sequence of each (0 where there is none). `exhaustive`: whether it
    read to the end (a queue that no longer exists is an exhaustive read of zero messages). `counters`: the broker's own
    (published, delivered, acked, redelivered, ... by name, those it has); `comparable`: the names among them that no
    restart has reset. `dropped`: message id -> policy that dropped it, where the broker says so.
    """

    found: tuple[int, ...]
    places: tuple[str, ...]
    exhaustive: bool
    sequences: tuple[int, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    comparable: frozenset[str] = frozenset()
    dropped: Mapping[int, str] = field(default_factory=dict)
    why_not: str | None = None
    corrupt: int = 0
    foreign: int = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """One client connection as the broker lists it: the client's name, its address as the broker sees it, the node."""

    client: str
    host: str
    port: int
    node: str


@dataclass(frozen=True, slots=True)
class View:
    """What one node says of its cluster: the members that it is connected to, by name, itself not among them; whom it
    takes for the leader of the cell's queue or stream ("" for nobody, or where it cannot say); for how long it has
    been up; how long its own pings to other members and back took last, in ms, on each connection to them, where it
    tells that."""

    sees: tuple[str, ...]
    leader: str
    up_s: float | None = None
    round_trips_ms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def told_views(views: Mapping[str, View | None]) -> dict[str, str]:
    """Each node's view in words, for evidence; that of a node that does not answer, too.

    >>> told_views({"nats-1": View(("nats-2",), "nats-2", 3.14), "nats-2": None})
    {'nats-1': 'sees nats-2; leader nats-2; up 3.1 s', 'nats-2': 'silent'}
    """
    return {
        node: "silent"
        if view is None
        else f"sees {', '.join(view.sees) or 'nobody'}; leader {view.leader or 'unknown'}"
        + ("" if view.up_s is None else f"; up {view.up_s:.1f} s")
        for node, view in views.items()
    }


class Broker(Protocol):
    """Our end of one configuration on one topology, for one cell after another.

    Made by `Broker(configuration, topology, cell)`, where `cell` is a short name (letters, digits, hyphens) that makes
    its queue, stream or vhost its own. Every wait is a condition with a limit. All its own connections go through the
    links of the slot "harness", which no fault touches. It never publishes.
    """

    def whole(self) -> str | None:
        """None when every node answers by its protocol and all members see each other; else what is missing. Fast
        (polled every 20 ms), never raises for a node that is down or booting."""
        ...

    def prepare(self) -> None:
        """Create this cell's queue, stream, vhost; returns when it is usable and its replicas are in sync."""
        ...

    def ready(self) -> str | None:
        """None when this cell's queue or stream has a leader and all its replicas; else what is missing."""
        ...

    def leader(self) -> str:
        """Name of the node that leads the cell's queue or stream (of a single node: that node). Asked now, of the
        broker, over a persistent connection. Raises Trouble when nobody leads."""
        ...

    def views(self) -> Mapping[str, View | None]:
        """What each node says of its cluster now, by node; None of one that does not say it within about a second. All
        are asked at once, each over a connection of its own; never raises for a node that is down."""
        ...

    def version(self) -> str:
        """The version that the broker itself declares."""
        ...

    def peers(self) -> Sequence[Peer]:
        """Client connections of this cell (never our own) as the broker sees them. Raises Trouble where a node that has
        not ended does not answer, or where the list stays incomplete: who is not on it is then not known to be gone."""
        ...

    def last_end(self, client: str) -> str:
        """How a connection of that client last ended, in the broker's own words; "" where it says nothing of any."""
        ...

    def services(self) -> tuple[str, ...]:
        """Names of the node services that clients dial ("amqp", "client")."""
        ...

    def orders(self) -> Mapping[str, object]:
        """Plain data that a client's Connection needs (queue, stream, subject, vhost): part of the client's spec."""
        ...

    def drained(self) -> str | None:
        """None when nothing is left to deliver and nothing awaits settlement, asked twice where counters lag; else what
        is left. For `drain == "silence"` always None: the runner waits for silence itself. Raises Trouble where nobody
        answers: that nothing is known is not that something is left."""
        ...

    def census(self, run: int) -> Census:
        """Read by identity whatever is left, and the broker's own counters. Called after all consumers have ended."""
        ...

    def clock_offset_s(self, node: str) -> float:
        """By how many seconds the time that this node tells differs from ours, to the second. Raises Trouble where it
        tells none."""
        ...

    def membership(self) -> Membership:
        """Who holds this cell's replicas, and how that changes. Raises Refused where the broker keeps one copy."""
        ...

    def storage(self) -> Storage:
        """What its servers store, and may. Raises Refused where they have no limit, or store nothing."""
        ...

    def discard(self) -> None:
        """Delete this cell's queue, stream, vhost, so that the warm topology can serve another cell."""
        ...

    def close(self) -> None:
        """Close our own connections. Idempotent."""
        ...


@dataclass(slots=True)
class Received:
    """One delivery as the connection hands it to the client's body. `handle` is the connection's own."""

    payload: bytes
    received_ns: int
    fetch_invoked_ns: int
    broker_sequence: int
    redelivered: bool
    delivery_count: int
    handle: object
    epoch: int


class NoMessage(NamedTuple):
    """An answer to a pull that brought no message. `outcome`: OK: nothing is there; FAIL: the pull was refused for
    certain, so it says nothing of what is there. `at_ns`: raw monotonic ns at which its bytes were parsed."""

    outcome: Outcome
    at_ns: int


class Listener(Protocol):
    """What a connection tells the client's body; all calls come on the event loop, all times are raw monotonic ns."""

    def confirmed(
        self, tag_first: int, tag_last: int, outcome: Outcome, at_ns: int, sequence: int, duplicate: bool, error: str
    ) -> None:
        """The broker answered the publishes tag_first..tag_last (closed range). `error` is "" for OK, else the code."""
        ...

    def received(self, delivery: Received) -> None:
        """A delivery arrived."""
        ...

    def lost(self, why: str) -> None:
        """The connection ended, unasked. Called once; nothing else follows for this epoch."""
        ...

    def noted(self, what: str) -> None:
        """Something unplanned that a judge must know: "basic.cancel", "connection.blocked", "slow-consumer", ..."""
        ...


class Connection(Protocol):
    """A client's end: one epoch of one client. Made by `Connection(orders, listener, role, name, prefetch)` where
    `orders` is the spec's plain data, with "address": [host, port] of the link to dial, and "epoch". It never retries
    and never reconnects; after `lost` a new object is made."""

    async def open(self) -> None:
        """Connect and set up channel or subscription. Raises ConnectionError or TimeoutError (limit 5 s)."""
        ...

    def publish(self, payload: bytes, tag: int, native_id: str | None) -> bool:
        """Hand one message to the library, at once, without waiting. `tag` counts 1, 2, 3... within the epoch; answers
        come to `listener.confirmed`. For configurations without confirms the listener is not called. True if handed
        over; False if the connection cannot take it now (a full buffer): the attempt is then unsent, and the next
        publish gets the same tag."""
        ...

    def unwritten(self) -> int:
        """Bytes handed over and not yet written to the socket."""
        ...

    async def consume(self) -> None:
        """Start consuming; deliveries come to `listener.received`. Not called where messages are pulled one by one."""
        ...

    async def pull(self, invoked_ns: int) -> NoMessage | None:
        """Ask for one message, and return when that is over. None: one went to `listener.received` (its
        `fetch_invoked_ns` is `invoked_ns`), or nobody answered in time; what still comes then, comes the same way. One
        pull at a time. Raises ConnectionError where the connection is not there, or ends first."""
        ...

    def settle(self, handle: object) -> Awaitable[Outcome] | None:
        """Acknowledge a delivery, in the configuration's way: None where it is not answered (sent, or automatic), else
        an awaitable that ends with OK when the broker confirmed, INFO when the answer was lost."""
        ...

    async def barrier(self) -> None:
        """Return after the broker has answered something sent later than every settle so far on the same channel:
        what was settled before has then been seen by the broker. Raises ConnectionError."""
        ...

    async def stop_consuming(self) -> None:
        """Take no new deliveries; those already handed over can still be settled. Raises TimeoutError where the broker
        does not answer, so that more may come."""
        ...

    def cut(self) -> None:
        """Close the socket at once, without a goodbye and with whatever is unwritten: to the listener the connection
        is lost. Does nothing where it is not open."""
        ...

    async def close(self) -> None:
        """Flush and close in order; never raises. Notes UNANSWERED_END where the broker does not answer in time."""
        ...


class Sink(Protocol):
    """Where processing leaves its effects: a frozen record (`name`, `nodes()`); `open` is found by its name."""

    @property
    def name(self) -> str:
        """As the catalogue knows it; its module in harness/sinks/."""
        ...

    def nodes(self) -> tuple[NodeSpec, ...]:
        """The nodes that it runs on; none for a file."""
        ...
