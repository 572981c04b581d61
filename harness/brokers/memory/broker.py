"""What does the harness ask of the memory broker? Our end: one question, one answer, over a connection of our own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from harness.brokers.memory import wire
from harness.brokers.memory.configuration import SERVICE, Memory
from harness.errors import Refused, Trouble
from harness.operation import decode_payload
from harness.system.membership import Membership
from harness.system.service import Census, Peer, View
from harness.system.storage import Storage
from harness.system.topology import Topology

ANSWER_S = 5.0
WHOLE_S = 0.25


class Broker:
    """Our end of one memory broker, for one cell."""

    def __init__(self, configuration: Memory, topology: Topology, cell: str) -> None:
        self._configuration = configuration
        self._topology = topology
        self._queue = cell
        (self._node,) = topology.nodes
        self._socket: socket.socket | None = None
        self._boots: set[str] = set()
        self._asking = threading.RLock()  # a connection carries one question and its answer at a time

    def whole(self) -> str | None:
        """Whether the node answers."""
        try:
            self._ask("whole", within_s=WHOLE_S)
        except Trouble as trouble:
            return trouble.message
        return None

    def prepare(self) -> None:
        """Create the queue."""
        self._ask("create", deduplicate=self._configuration.deduplicate)

    def ready(self) -> str | None:
        """Whether the queue is there."""
        try:
            answer = self._ask("state", within_s=WHOLE_S)
        except Trouble as trouble:
            return trouble.message
        return None if answer["exists"] else f"{self._node} has no queue {self._queue!r}"

    def leader(self) -> str:
        """The one node."""
        return self._node

    def views(self) -> Mapping[str, View | None]:
        """There is one node, and it leads."""
        return {self._node: None if self.whole() else View((), self._node)}

    def version(self) -> str:
        """The version that the server declares."""
        return str(self._ask("whole")["version"])

    def peers(self) -> Sequence[Peer]:
        """Connections of clients on the cell's queue."""
        answer = self._ask("peers")
        return [Peer(name, host, port, self._node) for name, host, port in answer.get("peers", ())]

    def last_end(self, client: str) -> str:
        """How the server saw it end."""
        return str(self._ask("peers").get("ends", {}).get(client, ""))

    def services(self) -> tuple[str, ...]:
        """One."""
        return (SERVICE,)

    def orders(self) -> Mapping[str, object]:
        """What a client's connection needs."""
        return {
            "queue": self._queue,
            "route": self._queue,
            "ack": self._configuration.acknowledge,
            "confirms": self._configuration.confirms,
        }

    def drained(self) -> str | None:
        """Whether nothing is owed; these counters are exact. Raises Trouble where the node does not answer."""
        answer = self._ask("state")
        if not answer["exists"] or not answer["owed"]:
            return None
        return f"queue {self._queue!r} owes {answer['owed']} messages, {answer['unsettled']} of them unsettled"

    def census(self, run: int) -> Census:
        """Every message that is there, by identity, and the counters."""
        answer = self._ask("left")
        found, places, sequences, corrupt, foreign = [], [], [], 0, 0
        for place, sequence, payload in answer.get("left", ()):
            decoded = decode_payload(bytes.fromhex(payload))
            if decoded.corrupt:
                corrupt += 1
            elif decoded.run != run:
                foreign += 1
            else:
                found.append(decoded.message)
                places.append(place)
                sequences.append(int(sequence))
        counters = answer.get("counters", {})
        return Census(
            found=tuple(found),
            places=tuple(places),
            exhaustive=True,
            sequences=tuple(sequences),
            counters=counters,
            comparable=frozenset(counters) if len(self._boots) == 1 else frozenset(),
            corrupt=corrupt,
            foreign=foreign,
        )

    def clock_offset_s(self, node: str) -> float:
        """It tells no time."""
        raise Refused("the memory broker tells no time", cure="use a real broker")

    def membership(self) -> Membership:
        """There is none."""
        raise Refused("the memory broker keeps one copy", cure="use a broker with replicas")

    def storage(self) -> Storage:
        """It has no limit."""
        raise Refused("the memory broker stores without a limit", cure="use NATS with JetStream")

    def discard(self) -> None:
        """Delete the queue."""
        self._ask("delete")

    def close(self) -> None:
        """Close our connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, what: str, *, within_s: float = ANSWER_S, **more: object) -> dict[str, Any]:
        """Ask once; a connection that has ended since the last question is made anew, once."""
        question = wire.spoken(wire.ASK, {"ask": what, "queue": self._queue, **more})
        with self._asking:
            return self._answer(question, within_s)

    def _answer(self, question: bytes, within_s: float) -> dict[str, Any]:
        fresh = self._socket is None
        try:
            return self._exchange(question, within_s)
        except OSError as first:
            self.close()
            if fresh:
                raise Trouble(f"{self._node} does not answer: {first}") from first
        try:
            return self._exchange(question, within_s)
        except OSError as again:
            self.close()
            raise Trouble(f"{self._node} does not answer: {again}") from again

    def _exchange(self, question: bytes, within_s: float) -> dict[str, Any]:
        if self._socket is None:
            address = self._topology.link("harness", self._node, SERVICE).address
            self._socket = socket.create_connection(address, timeout=within_s)
        self._socket.settimeout(within_s)
        self._socket.sendall(question)
        frames = wire.Frames()
        while True:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the connection ended")
            for operation, body in frames.feed(data):
                if operation == wire.TOLD:
                    answer: dict[str, Any] = wire.heard(body)
                    self._boots.add(answer["boot"])
                    return answer
