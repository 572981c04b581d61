"""Our end and a client's end of NATS on real servers (local processes), the proxy between, and things going wrong."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing

import pytest
from bodies import left

from harness.brokers.nats.broker import Broker
from harness.brokers.nats.configuration import (
    CORE,
    JETSTREAM_R1,
    JETSTREAM_R1_NEW_ID,
    JETSTREAM_R1_WORKQUEUE,
    JETSTREAM_R3_EXACTLY_ONCE,
    JetStream,
    Nats,
)
from harness.brokers.nats.connection import Connection
from harness.clock import until
from harness.engines.processes import Processes
from harness.errors import Trouble
from harness.operation import MessageId, Outcome, Role, decode_payload, encode_payload
from harness.system.service import Received
from harness.system.topology import Direction, Node, NodeState, Topology

RUN = 77
CELLS = itertools.count(1)
CONFIRMED = Nats("confirmed", jetstream=JetStream(ack_wait_s=0.5), acknowledge="confirmed")


class Notes:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.answers: dict[int, tuple[Outcome, int, bool, str]] = {}
        self.deliveries: list[Received] = []
        self.lost_why: list[str] = []
        self.noted_: list[str] = []
        self.then: Callable[[Received], None] = lambda delivery: None

    def confirmed(self, first, last, outcome, at_ns, sequence, duplicate, error) -> None:
        self.answers[first] = (outcome, sequence, duplicate, error)

    def received(self, delivery: Received) -> None:
        self.deliveries.append(delivery)
        self.then(delivery)

    def lost(self, why: str) -> None:
        self.lost_why.append(why)

    def noted(self, what: str) -> None:
        self.noted_.append(what)

    @property
    def messages(self) -> list[int]:
        return [decode_payload(delivery.payload).message for delivery in self.deliveries]


def message(sequence: int) -> int:
    return MessageId(1, sequence).packed


def body(sequence: int, attempt: int = 1) -> bytes:
    return encode_payload(RUN, message(sequence), attempt, 128)


async def when(condition: Callable[[], object], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


async def beside(call: Callable[[], object]) -> None:
    """Let the harness act while the client's loop turns."""
    await asyncio.to_thread(call)


class Bench:
    """One cell on one topology, and connections to it."""

    def __init__(self, configuration: Nats, topology: Topology) -> None:
        self.configuration = configuration
        self.topology = topology
        self.broker = Broker(configuration, topology, f"cell-{next(CELLS)}")
        seen: list[str | None] = [None]

        def whole() -> bool:
            seen[0] = self.broker.whole()
            return seen[0] is None

        until(whole, within_s=20, what="a whole NATS", last_seen=lambda: str(seen[0]))
        self.broker.prepare()

    async def connect(self, role: Role, notes: Notes, *, node: str | None = None, prefetch: int = 100) -> Connection:
        link = self.topology.link(f"{role}-1", node or next(iter(self.topology.nodes)), "client")
        orders = {**self.broker.orders(), "address": list(link.address), "epoch": 1}
        connection = Connection(orders, notes, role, f"{role}-1", prefetch)
        await connection.open()
        return connection

    def close(self) -> None:
        self.broker.discard()
        self.broker.close()

    def link(self, role: Role):
        return self.topology.link(f"{role}-1", next(iter(self.topology.nodes)), "client")


@pytest.fixture(scope="module")
def server() -> Iterator[Topology]:
    """One server that no test breaks."""
    topology = Processes().create(CORE.nodes(), run="test-nats")
    yield topology
    topology.remove()


@pytest.fixture
def fragile() -> Iterator[Topology]:
    """A server of one test's own."""
    topology = Processes().create(CORE.nodes(), run="test-nats-fragile")
    yield topology
    topology.remove()


@pytest.fixture
def bench(request: pytest.FixtureRequest, server: Topology) -> Iterator[Bench]:
    """A cell of the configuration that the test names (or JETSTREAM_R1)."""
    with closing(Bench(getattr(request, "param", JETSTREAM_R1), server)) as made:
        yield made


def settling(connection: Connection, into: list[Awaitable[Outcome]]) -> Callable[[Received], None]:
    def then(delivery: Received) -> None:
        awaitable = connection.settle(delivery.handle)
        if awaitable is not None:
            into.append(awaitable)

    return then


# ---- a healthy server ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bench", [CORE, JETSTREAM_R1, JETSTREAM_R1_NEW_ID, JETSTREAM_R1_WORKQUEUE], ids=lambda c: c.name, indirect=True
)
def test_carries_2000_messages_in_order(bench: Bench):
    count, configuration = 2000, bench.configuration
    sent, got, settled = Notes(), Notes(), []

    async def scene() -> None:
        consumer = await bench.connect(Role.CONSUMER, got)
        got.then = settling(consumer, settled)
        await consumer.consume()
        producer = await bench.connect(Role.PRODUCER, sent)
        for sequence in range(1, count + 1):
            assert producer.publish(body(sequence), sequence, f"{sequence}" if configuration.retry != "none" else None)
            if sequence % 100 == 0:
                await asyncio.sleep(0)
        await when(lambda: len(got.deliveries) == count)
        await when(lambda: not configuration.confirms or len(sent.answers) == count)
        assert producer.unwritten() == 0
        assert {peer.client for peer in bench.broker.peers()} == {"producer-1", "consumer-1"}
        assert [await each for each in settled] == [Outcome.OK] * len(settled)
        await consumer.stop_consuming()
        await consumer.barrier()
        await consumer.close()
        await producer.close()

    asyncio.run(scene())
    assert got.messages == [message(sequence) for sequence in range(1, count + 1)]
    assert not any(delivery.redelivered for delivery in got.deliveries)
    assert all(outcome is Outcome.OK for outcome, *_ in sent.answers.values())
    assert len(settled) == (count if configuration.acknowledge == "confirmed" else 0)
    assert (sent.lost_why, got.lost_why, sent.noted_, got.noted_) == ([], [], [], [])
    until(lambda: bench.broker.drained() is None, within_s=5, what="a drained consumer")
    census = bench.broker.census(RUN)
    assert census.exhaustive
    if configuration in (CORE, JETSTREAM_R1_WORKQUEUE):
        assert census.found == ()
    else:
        assert census.found == tuple(message(sequence) for sequence in range(1, count + 1))
        assert set(census.places) == {"stored"}
    if configuration is not CORE:
        assert (census.counters["published"], census.counters["delivered"]) == (count, count)
        assert census.comparable == {"published", "delivered"}


def test_a_fetch_is_invoked_before_what_it_brings_and_a_delivery_knows_its_stream_sequence(bench: Bench):
    sent, got, settled = Notes(), Notes(), []

    async def scene() -> None:
        consumer = await bench.connect(Role.CONSUMER, got, prefetch=8)
        got.then = settling(consumer, settled)
        await consumer.consume()
        producer = await bench.connect(Role.PRODUCER, sent)
        for sequence in range(1, 101):
            producer.publish(body(sequence), sequence, None)
        await when(lambda: len(got.deliveries) == 100)
        await consumer.close()
        await producer.close()

    asyncio.run(scene())
    assert [delivery.broker_sequence for delivery in got.deliveries] == list(range(1, 101))
    assert [sequence for _, sequence, _, _ in sent.answers.values()] == list(range(1, 101))
    assert all(0 < delivery.fetch_invoked_ns < delivery.received_ns for delivery in got.deliveries)
    assert len({delivery.fetch_invoked_ns for delivery in got.deliveries}) >= 100 / 8, "a fetch brings 8 at most"


@pytest.mark.parametrize("bench", [CONFIRMED], ids=["confirmed"], indirect=True)
def test_the_unsettled_comes_again_with_its_count_and_the_confirmed_never(bench: Bench):
    sent, first, second, settled = Notes(), Notes(), Notes(), []

    async def scene() -> None:
        producer = await bench.connect(Role.PRODUCER, sent)
        for sequence in range(1, 11):
            producer.publish(body(sequence), sequence, None)
        await when(lambda: len(sent.answers) == 10)
        consumer = await bench.connect(Role.CONSUMER, first, prefetch=10)
        await consumer.consume()
        await when(lambda: len(first.deliveries) == 10)
        assert bench.broker.drained() is not None
        for delivery in first.deliveries[:5]:
            assert await consumer.settle(delivery.handle) is Outcome.OK
        census = bench.broker.census(RUN)
        assert census.places == ("stored",) * 5 + ("owed",) * 5
        await consumer.close()
        successor = await bench.connect(Role.CONSUMER, second, prefetch=10)
        second.then = settling(successor, settled)
        await successor.consume()
        await when(lambda: len(second.deliveries) == 5)
        assert [await each for each in settled] == [Outcome.OK] * 5
        await successor.close()
        await producer.close()

    asyncio.run(scene())
    assert second.messages == [message(sequence) for sequence in range(6, 11)]
    assert all(delivery.redelivered and delivery.delivery_count == 2 for delivery in second.deliveries)
    assert bench.broker.drained() is None


@pytest.mark.parametrize(
    ("bench", "native_id", "stored"),
    [
        (Nats("same-id", retry="same-id", retry_limit=3), lambda attempt: "1", 1),
        (JETSTREAM_R1_NEW_ID, lambda attempt: f"1:{attempt}", 2),
        (JETSTREAM_R1, lambda attempt: None, 2),
    ],
    ids=["same id", "new id", "no id"],
    indirect=["bench"],
)
def test_a_retry_after_a_lost_answer_is_recognised_by_its_id_alone(bench: Bench, native_id, stored: int):
    notes, again = Notes(), Notes()

    async def scene() -> None:
        producer = await bench.connect(Role.PRODUCER, notes)
        await beside(lambda: bench.link(Role.PRODUCER).blackhole(Direction.DOWN))
        assert producer.publish(body(1), 1, native_id(1))
        await when(lambda: bench.broker.census(RUN).counters["published"] == 1)
        await beside(bench.link(Role.PRODUCER).disconnect)
        await when(lambda: notes.lost_why)
        assert not producer.publish(body(2), 2, None), "a lost connection takes nothing"
        await beside(bench.link(Role.PRODUCER).heal)
        await producer.close()
        producer = await bench.connect(Role.PRODUCER, again)
        assert producer.publish(body(1, attempt=2), 1, native_id(2))
        await when(lambda: again.answers)
        await producer.close()

    asyncio.run(scene())
    assert notes.answers == {}, "its answer was lost, so nothing is known of it"
    assert again.answers == {1: (Outcome.OK, stored, stored == 1, "")}
    census = bench.broker.census(RUN)
    assert (census.found, census.sequences) == ((message(1),) * stored, tuple(range(1, stored + 1)))


@pytest.mark.parametrize(
    "bench", [Nats("full", jetstream=JetStream(messages_max=3, discard="new"))], ids=["full"], indirect=True
)
def test_a_refusal_is_a_failure_with_its_code_and_a_stream_that_is_gone_is_read_to_its_end(bench: Bench):
    notes = Notes()

    async def scene() -> None:
        producer = await bench.connect(Role.PRODUCER, notes)
        for sequence in range(1, 5):
            producer.publish(body(sequence), sequence, None)
        await when(lambda: len(notes.answers) == 4)
        assert len(bench.broker.census(RUN).found) == 3
        await beside(bench.broker.discard)
        producer.publish(body(5), 5, None)
        await when(lambda: len(notes.answers) == 5)
        await producer.close()

    asyncio.run(scene())
    assert notes.answers[4] == (Outcome.FAIL, 0, False, "10077")
    assert notes.answers[5] == (Outcome.FAIL, 0, False, "503")
    census = bench.broker.census(RUN)
    assert (census.exhaustive, census.found) == (True, ())
    assert "not found" in bench.broker.ready()


# ---- a server that breaks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("configuration", [JETSTREAM_R1, CONFIRMED], ids=lambda c: c.name)
def test_after_a_kill_every_acknowledged_message_is_still_there(fragile: Topology, configuration: Nats):
    with closing(Bench(configuration, fragile)) as bench:
        _kill_and_look(bench, fragile.nodes["nats-1"])


def _kill_and_look(bench: Bench, node: Node) -> None:
    sent, got, settled = Notes(), Notes(), []

    async def scene() -> None:
        consumer = await bench.connect(Role.CONSUMER, got)
        got.then = settling(consumer, settled)
        await consumer.consume()
        producer = await bench.connect(Role.PRODUCER, sent)
        handed = 0
        killing: asyncio.Task[None] | None = None
        while not (sent.lost_why and got.lost_why):
            if producer.publish(body(handed + 1), handed + 1, None):
                handed += 1
            if handed == 1000 and killing is None:
                killing = asyncio.create_task(beside(node.kill))
            await asyncio.sleep(0)
        await killing
        assert handed > len(sent.answers) >= 100, "some were under way, and are not answered"
        with pytest.raises(ConnectionError):
            await consumer.barrier()
        assert {await each for each in settled} <= {Outcome.OK, Outcome.INFO}
        with pytest.raises(ConnectionError):
            await bench.connect(Role.PRODUCER, Notes())
        await producer.close()
        await consumer.close()

    asyncio.run(scene())
    assert (len(sent.lost_why), len(got.lost_why)) == (1, 1)
    began = time.monotonic()
    assert bench.broker.whole() == "no answer from nats-1"
    assert bench.broker.ready() is not None
    assert "does not answer" in str(left(bench.broker))
    assert not bench.broker.census(RUN).exhaustive
    assert time.monotonic() - began < 3
    node.start()
    until(lambda: bench.broker.whole() is None and bench.broker.ready() is None, within_s=10, what="NATS back")
    acked = {message(tag) for tag, (outcome, *_) in sent.answers.items() if outcome is Outcome.OK}
    census = bench.broker.census(RUN)
    assert census.exhaustive
    assert acked <= set(census.found)
    assert census.comparable == frozenset(), "a restart makes counters incomparable"


def test_a_silent_server_is_noticed_by_pings_once_and_buffers_stay_bounded(fragile: Topology):
    with closing(Bench(CONFIRMED, fragile)) as bench:
        _pause_and_look(bench, fragile.nodes["nats-1"])


def _pause_and_look(bench: Bench, node: Node) -> None:
    sent, got = Notes(), Notes()

    async def scene() -> None:
        consumer = await bench.connect(Role.CONSUMER, got)
        await consumer.consume()
        producer = await bench.connect(Role.PRODUCER, sent)
        producer.publish(body(1), 1, None)
        await when(lambda: got.deliveries)
        await beside(node.pause)
        settlement = consumer.settle(got.deliveries[0].handle)
        large, refused, tag = encode_payload(RUN, message(2), 1, 60_000), False, 1
        while not sent.lost_why:
            if producer.publish(large, tag + 1, None):
                tag += 1
            elif not sent.lost_why:
                refused = True
                await asyncio.sleep(0.01)
            await asyncio.sleep(0)
        assert refused, "what a server does not read is refused at last, not kept"
        await when(lambda: got.lost_why)
        assert await settlement is Outcome.INFO
        await producer.close()
        await consumer.close()

    began = time.monotonic()
    asyncio.run(scene())
    assert 1.5 < time.monotonic() - began < 5
    assert (len(sent.lost_why), len(got.lost_why)) == (1, 1)
    assert "Stale" in sent.lost_why[0]
    assert node.status().state is NodeState.PAUSED
    assert bench.broker.whole() == "no answer from nats-1"
    node.resume()


@pytest.fixture
def cluster() -> Iterator[Topology]:
    """Three servers."""
    topology = Processes().create(JETSTREAM_R3_EXACTLY_ONCE.nodes(), run="test-nats-cluster")
    yield topology
    topology.remove()


def test_a_cluster_survives_its_leader(cluster: Topology):
    with closing(Bench(JETSTREAM_R3_EXACTLY_ONCE, cluster)) as bench:
        leader = bench.broker.leader()
        others = [node for node in cluster.nodes if node != leader]
        sent, got, settled = Notes(), Notes(), []
        named: list[str] = []

        async def scene() -> None:
            consumer = await bench.connect(Role.CONSUMER, got, node=others[0])
            got.then = settling(consumer, settled)
            await consumer.consume()
            producer = await bench.connect(Role.PRODUCER, sent, node=others[1])
            for sequence in range(1, 501):
                producer.publish(body(sequence), sequence, f"{sequence}")
            await when(lambda: len(got.deliveries) == 500)
            await beside(cluster.nodes[leader].kill)
            assert leader in bench.broker.whole()
            tag = 500
            async with asyncio.timeout(20):
                while not any(outcome is Outcome.OK for tag, (outcome, *_) in sent.answers.items() if tag > 500):
                    tag += 1
                    producer.publish(body(tag), tag, f"{tag}")
                    with contextlib.suppress(Trouble):
                        await beside(lambda: named.append(bench.broker.leader()))
            await when(lambda: len(sent.answers) == tag, 10)
            await when(lambda: left(bench.broker) is None, 10)
            await consumer.close()
            await producer.close()

        asyncio.run(scene())
        assert leader not in named, "whoever is dead does not say that it leads"
        assert bench.broker.leader() in others
        cluster.nodes[leader].start()
        until(lambda: bench.broker.whole() is None and bench.broker.ready() is None, within_s=20, what="three of three")
        acked = {message(tag) for tag, (outcome, *_) in sent.answers.items() if outcome is Outcome.OK}
        failed = {message(tag) for tag, (outcome, *_) in sent.answers.items() if outcome is Outcome.FAIL}
        census = bench.broker.census(RUN)
        assert acked <= set(census.found)
        assert not failed & set(census.found), "a definite failure is stored nowhere"
        assert len(set(census.found)) == len(census.found)
        assert acked <= set(got.messages)
        assert (sent.lost_why, got.lost_why) == ([], []), "their own nodes lived on"
