"""A run in one process and no time: clients over the memory broker's queue, with faults, drawn from a seed.

Time is a number that goes on a millisecond a step. Producers publish into a window and retry what is not answered;
consumers receive, work for a while and acknowledge; connections break (answers, deliveries and acknowledgements under
way are lost), clients die and are replaced, the broker is killed and comes back from its file. What they did is written
in the language of histories.py, and the auditor reads what the queue still holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from harness.brokers.memory.queue import Answer, Bugs, Logged, Queue, Sending
from harness.history.history import History
from harness.operation import AckKind, MessageId, Outcome, decode_payload, encode_payload
from tests.histories import MS, Deliver, Event, Publish, client, left, phase, terms
from tests.histories import history as written

RUN = 7
LOADED_MS, LIMIT_MS = 400, 30_000
GIVE_UP_MS = 30


@dataclass
class Call:
    """A publish that is under way."""

    event: Publish
    due_ms: float
    answer: Answer | None = None


@dataclass
class Holding:
    """A delivery that a consumer works on."""

    event: Deliver
    sequence: int
    done_ms: float


@dataclass
class Producer:
    number: int
    epoch: int = 1
    sequence: int = 0
    calls: list[Call] = field(default_factory=list)
    again: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Consumer:
    number: int
    epoch: int = 1
    key: str = ""
    holds: list[Holding] = field(default_factory=list)


class Simulation:
    """One run of one queue. `faults`: how many of each kind have happened."""

    def __init__(self, seed: int, bugs: Bugs | None = None) -> None:
        self.random = Random(seed)
        self.bugs = bugs
        self.confirmed = self.random.random() < 0.5
        self.automatic = not self.confirmed and self.random.random() < 0.2
        self.deduplicate = self.random.random() < 0.5
        self.retries = self.deduplicate and self.random.random() < 0.7
        self.queue = Queue(bugs, deduplicate=self.deduplicate)
        self.file: list[Logged] = []
        self.producers = [Producer(1 + slot) for slot in range(self.random.choice([1, 2, 3]))]
        self.consumers = [Consumer(1001 + slot) for slot in range(self.random.choice([1, 2, 3]))]
        self.numbers = 100  # of successors
        self.down_until_ms = 0
        self.events: list[Event] = []
        self.faults: dict[str, int] = {}
        for consumer in self.consumers:
            self.subscribe(consumer)

    def history(self) -> History:
        """Run it to its end, and write down what happened."""
        now_ms = -1
        while now_ms < LOADED_MS or self.busy():
            now_ms += 1
            assert now_ms < LIMIT_MS, "it is not drained"
            loaded = now_ms < LOADED_MS
            if loaded and self.random.random() < 0.02:
                self.fault(now_ms)
            if now_ms < self.down_until_ms:
                continue
            for producer in self.producers:
                self.produce(producer, now_ms, loaded)
            self.deliver(now_ms)
            for consumer in list(self.consumers):
                self.settle(consumer, now_ms)
        self.events.extend(
            left((message.producer, message.sequence), place, number)
            for place, messages in (("owed", self.queue.left()), ("stored", self.queue.kept()))
            for number, payload in messages
            for message in (MessageId.unpack(decode_payload(payload).message),)
        )
        return written(
            phase("quiet", 0, 0, LOADED_MS),
            phase("drain", -1, LOADED_MS, now_ms),
            *(client(one.number, "consumer") for one in self.consumers),
            *self.events,
            terms=terms(
                ack=AckKind.AUTOMATIC if self.automatic else AckKind.CONFIRMED if self.confirmed else AckKind.SENT,
                retry="same-id" if self.retries else "none",
                redelivered_promise=True,
            ),
        )

    def busy(self) -> bool:
        """Whether anything may still happen."""
        asked = any(producer.calls or producer.again for producer in self.producers)
        return asked or any(consumer.holds for consumer in self.consumers) or self.queue.wakes_ns() is not None

    # ---- clients ---------------------------------------------------------------------------------------------------

    def produce(self, producer: Producer, now_ms: int, loaded: bool) -> None:
        """Take the answers that have come, give up what waits too long, publish what is due."""
        for call in list(producer.calls):
            if call.answer is not None and call.due_ms <= now_ms:
                producer.calls.remove(call)
                self.events.append(answered(call.event, call.answer, now_ms + 0.2))
            elif call.due_ms + GIVE_UP_MS < now_ms:
                self.give_up(producer, call)
        if loaded and self.random.random() < 0.5:
            producer.sequence += 1
            self.publish(producer, producer.sequence, 1, now_ms)
        while producer.again:
            sequence, attempt = producer.again.pop()
            self.publish(producer, sequence, attempt, now_ms)

    def publish(self, producer: Producer, sequence: int, attempt: int, now_ms: int) -> None:
        message = (producer.number, sequence)
        at_ms = now_ms + 0.1 + len(producer.calls) / 1000
        event = Publish(message=message, attempt=attempt, epoch=producer.epoch, at_ms=at_ms)
        payload = encode_payload(RUN, MessageId(*message).packed, attempt, 64)
        native_id = f"{producer.number}:{sequence}" if self.deduplicate else ""
        answer = self.queue.publish(payload, native_id, now_ms * MS)
        self.file += self.queue.take_log()
        told = None if answer.outcome is Outcome.INFO else answer
        producer.calls.append(Call(event, now_ms + self.random.randrange(1, 8), told))

    def give_up(self, producer: Producer, call: Call) -> None:
        """It stays in doubt; with retries it is tried again, under its own id."""
        producer.calls.remove(call)
        self.events.append(call.event)
        if self.retries and call.event.attempt < 4 and isinstance(call.event.message, tuple):
            producer.again.append((call.event.message[1], call.event.attempt + 1))

    def subscribe(self, consumer: Consumer) -> None:
        consumer.key = f"{consumer.number}/{consumer.epoch}"
        self.queue.subscribe(consumer.key, self.random.choice([1, 5, 50]), self.automatic)

    def deliver(self, now_ms: int) -> None:
        by_key = {consumer.key: consumer for consumer in self.consumers}
        for place, sending in enumerate(self.queue.due(now_ms * MS)):
            consumer = by_key[sending.consumer]
            event = received(sending, consumer, now_ms + 0.3 + place / 10_000)
            if self.automatic:
                self.events.append(event.automatic())
            else:
                work_ms = self.random.randrange(0, 12)
                consumer.holds.append(Holding(event, sending.sequence, now_ms + work_ms))
        self.file += self.queue.take_log()

    def settle(self, consumer: Consumer, now_ms: int) -> None:
        """Acknowledge what is done. Now and then the acknowledgement, or its answer, does not arrive."""
        for holding in [one for one in consumer.holds if one.done_ms <= now_ms]:
            consumer.holds.remove(holding)
            at_ms = now_ms + 0.5
            if now_ms < LOADED_MS and self.random.random() < 0.01:
                self.events.append(settled(holding.event, at_ms, confirmed=False, answers=self.confirmed))
                self.count("acknowledgement lost")
                self.lose(consumer)
                return
            held = self.queue.settle(consumer.key, holding.sequence)
            self.file += self.queue.take_log()
            self.events.append(settled(holding.event, at_ms, confirmed=held, answers=self.confirmed))

    # ---- faults ----------------------------------------------------------------------------------------------------

    def fault(self, now_ms: int) -> None:
        """Break one thing."""
        kind = self.random.choice(["producer lost", "consumer lost", "producer died", "consumer died", "broker killed"])
        self.count(kind)
        if kind == "broker killed":
            self.kill(now_ms)
        elif kind.startswith("producer"):
            self.lose_producer(self.random.randrange(len(self.producers)), died=kind.endswith("died"))
        else:
            self.lose(self.random.choice(self.consumers), died=kind.endswith("died"))

    def count(self, fault: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1

    def lose_producer(self, place: int, *, died: bool) -> None:
        """What was under way is in doubt; a successor begins with a number and a sequence of its own."""
        producer = self.producers[place]
        for call in list(producer.calls):
            self.give_up(producer, call)
        producer.epoch += 1
        if died:
            self.numbers += 1
            self.producers[place] = Producer(self.numbers)

    def lose(self, consumer: Consumer, *, died: bool = False) -> None:
        """Its connection ends: what it holds was received, and is never acknowledged."""
        self.events.extend(holding.event for holding in consumer.holds)
        consumer.holds.clear()
        self.queue.ended(consumer.key)
        consumer.epoch += 1
        if died:
            self.numbers += 1
            successor = Consumer(1000 + self.numbers)
            self.consumers[self.consumers.index(consumer)] = successor
            consumer = successor
        self.subscribe(consumer)

    def kill(self, now_ms: int) -> None:
        """Everything but its file is gone; clients are back as soon as it is."""
        self.queue = Queue.restored(self.file, self.bugs, deduplicate=self.deduplicate)
        self.file += self.queue.take_log()
        self.down_until_ms = now_ms + self.random.randrange(1, 20)
        for place in range(len(self.producers)):
            self.lose_producer(place, died=False)
        for consumer in self.consumers:
            self.lose(consumer)


def answered(event: Publish, answer: Answer, at_ms: float) -> Publish:
    if answer.outcome is Outcome.FAIL:
        return event.refused(answer.error).until(at_ms)
    return event.acked(answer.sequence, duplicate=answer.duplicate).until(at_ms)


def received(sending: Sending, consumer: Consumer, at_ms: float) -> Deliver:
    decoded = decode_payload(sending.payload)
    message = MessageId.unpack(decoded.message)
    event = Deliver(
        message=(message.producer, message.sequence),
        attempt=decoded.attempt,
        client=consumer.number,
        epoch=consumer.epoch,
        sequence=sending.number,
        redelivered=sending.redelivered,
        at_ms=at_ms,
        corrupt=decoded.corrupt,
        foreign=not decoded.corrupt and decoded.run != RUN,
    )
    return event.damaged() if decoded.corrupt else event


def settled(event: Deliver, at_ms: float, *, confirmed: bool, answers: bool) -> Deliver:
    if not answers:
        return event.acknowledged(at_ms)
    return event.confirmed(at_ms + 0.1, asked_ms=at_ms) if confirmed else event.unconfirmed()
