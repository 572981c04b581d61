"""What does a queue do, and what would a broken one do? A pure state machine: no socket, no file, no clock.

Time comes in as raw monotonic ns. *Bugs*: what it shall do wrong, to order; without any it is a correct queue. Which
messages a bug hits is a function of their sequence and the seed. `take_log` gives what must be on file before an answer
leaves; `restored` makes the queue again from such a file, as after a SIGKILL.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import NamedTuple, Self

from harness.errors import Refused
from harness.operation import PAYLOAD_SIZE_MIN, PRODUCER_MAX, MessageId, Outcome, decode_payload, encode_payload

HELD_BACK_NS = 50_000_000
"""How long a queue that forgets holds a message back, so that a restart finds something to forget; also how long a
message that shall be overtaken waits for one that overtakes it."""

_SEQUENCES_RESERVED = 1_000_000
"""A restored queue goes on at the next multiple of this, so that no sequence stands for two messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bugs:
    """What a queue shall do wrong. `*_every=n`: to every n-th message; 0: never. Everything else stays right.

    `lose`: confirmed, not stored. `duplicate`: delivered twice, the second time flagged; `unflagged`: and not
    flagged. `store_twice`: kept as two messages. `return_settled`: delivered again after its acknowledgement.
    `reorder`: delivered after its successor. `corrupt`, `invent`, `foreign`: brings along a damaged copy, a message
    that nobody published, a message of another run. `swallow_duplicate`: confirmed as a duplicate, though it is the
    first. `deliver_refused`: refused for good, delivered all the same. `strand`: kept and never delivered. `skip`:
    stored, never answered, passed over. `number_twice`: called by its predecessor's number, to everybody.
    `backwards`: delivered after its successor, if that is another producer's. `confirm_too_early`: confirmed when it
    comes, on file only as it is delivered. `forget_on_restart`: nothing outlives a restart. `deny`: of the pulls for
    which there is a message, every n-th is answered as if there were none.
    """

    lose_every: int = 0
    duplicate_every: int = 0
    unflagged_every: int = 0
    store_twice_every: int = 0
    return_settled_every: int = 0
    reorder_every: int = 0
    corrupt_every: int = 0
    invent_every: int = 0
    foreign_every: int = 0
    swallow_duplicate_every: int = 0
    deliver_refused_every: int = 0
    strand_every: int = 0
    deny_every: int = 0
    skip_every: int = 0
    number_twice_every: int = 0
    backwards_every: int = 0
    confirm_too_early: bool = False
    forget_on_restart: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [f"{one.name}={getattr(self, one.name)}" for one in fields(self) if getattr(self, one.name) < 0]
        if wrong:
            raise Refused(f"bugs: {', '.join(wrong)}", cure="n hits every n-th message; 0 is never")

    def hits(self, every: int, sequence: int) -> bool:
        """Whether a bug that hits every `every`-th message (or pull) hits the one with this sequence (or number)."""
        return every > 0 and sequence % every == self.seed % every


class Answer(NamedTuple):
    """What a publisher is told; nothing, if the outcome is INFO."""

    outcome: Outcome
    sequence: int
    duplicate: bool
    error: str


class Sending(NamedTuple):
    """One delivery on its way to a consumer. `sequence`: what it is settled by; 0: it was never stored, so there is
    nothing to settle. `number`: what the consumer is told to be its sequence."""

    consumer: str
    sequence: int
    payload: bytes
    redelivered: bool
    times: int
    number: int = 0


class Logged(NamedTuple):
    """What a restart needs to know: a message that was stored, or (payload None) that it was settled."""

    sequence: int
    payload: bytes | None
    native_id: str


@dataclass(slots=True)
class _Entry:
    sequence: int
    payload: bytes
    due_ns: int
    native_id: str
    logged: bool = False
    count: int = 0


@dataclass(slots=True)
class _Consumer:
    credit: int
    automatic: bool
    takes: bool = True
    unsettled: OrderedDict[int, _Entry] = field(default_factory=OrderedDict)


class Queue:
    """One queue with its consumers. `deduplicate`: a native id that came before is answered as a duplicate."""

    def __init__(self, bugs: Bugs | None = None, *, deduplicate: bool = False) -> None:
        self.bugs = bugs or Bugs()
        self.counters = {"published": 0, "delivered": 0, "redelivered": 0, "acked": 0}
        self._deduplicate = deduplicate
        self._sequence = 0
        self._ids: dict[str, int] = {}
        self._ready: deque[_Entry] = deque()
        self._overtaken: _Entry | None = None
        self._stranded: list[_Entry] = []
        self._skipped: list[_Entry] = []
        self._consumers: dict[str, _Consumer] = {}
        self._log: list[Logged] = []
        self._pulls = 0

    @classmethod
    def restored(cls, log: Iterable[Logged], bugs: Bugs | None = None, *, deduplicate: bool = False) -> Self:
        """The queue as a restart finds it on file: what was not settled is ready, and flagged, as it may have been
        delivered before."""
        queue = cls(bugs, deduplicate=deduplicate)
        kept: dict[int, _Entry] = {}
        last = 0
        for sequence, payload, native_id in log:
            last = max(last, sequence)
            if payload is None:
                kept.pop(sequence, None)
                continue
            kept[sequence] = _Entry(sequence, payload, 0, native_id, logged=True, count=1)
            if native_id:
                queue._ids[native_id] = sequence
        queue._sequence = (last // _SEQUENCES_RESERVED + 1) * _SEQUENCES_RESERVED
        queue._log.append(Logged(queue._sequence, None, ""))
        if queue.bugs.forget_on_restart:
            queue._ids.clear()
            queue._log.extend(Logged(sequence, None, "") for sequence in kept)
            kept.clear()
        for sequence, entry in sorted(kept.items()):
            aside = queue._aside(sequence)
            (queue._ready if aside is None else aside).append(entry)
        return queue

    # ---- publishers ------------------------------------------------------------------------------------------------

    def publish(self, payload: bytes, native_id: str, now_ns: int) -> Answer:
        """Take one message ("" for no native id); answered when `take_log` is on file."""
        if self._deduplicate and native_id in self._ids:
            return Answer(Outcome.OK, self._number(self._ids[native_id]), True, "")
        bugs = self.bugs
        self._sequence += 1
        sequence = self._sequence
        if native_id:
            self._ids[native_id] = sequence
        if bugs.hits(bugs.swallow_duplicate_every, sequence):
            return Answer(Outcome.OK, self._number(sequence), True, "")
        refused = bugs.hits(bugs.deliver_refused_every, sequence)
        if not refused:
            self.counters["published"] += 1
        if not bugs.hits(bugs.lose_every, sequence):
            self._store(_Entry(sequence, payload, now_ns, native_id), now_ns)
        if bugs.hits(bugs.store_twice_every, sequence):
            self._sequence += 1
            self._store(_Entry(self._sequence, payload, now_ns, native_id), now_ns)
        if refused:
            return Answer(Outcome.FAIL, 0, False, "refused")
        if bugs.hits(bugs.skip_every, sequence):
            return Answer(Outcome.INFO, 0, False, "")
        return Answer(Outcome.OK, self._number(sequence), False, "")

    def _store(self, entry: _Entry, now_ns: int) -> None:
        bugs = self.bugs
        if bugs.confirm_too_early or bugs.forget_on_restart:
            entry.due_ns = now_ns + HELD_BACK_NS
        if not bugs.confirm_too_early:
            self._log_stored(entry)
        held = self._overtaken
        if (aside := self._aside(entry.sequence)) is not None:
            aside.append(entry)
        elif held is not None:
            self._overtaken = None
            overtakes = bugs.hits(bugs.reorder_every, held.sequence) or _producer(entry) != _producer(held)
            self._ready.extend((entry, held) if overtakes else (held, entry))
        elif bugs.hits(bugs.reorder_every, entry.sequence) or bugs.hits(bugs.backwards_every, entry.sequence):
            self._overtaken = entry
        else:
            self._ready.append(entry)

    def _aside(self, sequence: int) -> list[_Entry] | None:
        """Where a message is kept that is never delivered; None for any other."""
        if self.bugs.hits(self.bugs.strand_every, sequence):
            return self._stranded
        return self._skipped if self.bugs.hits(self.bugs.skip_every, sequence) else None

    def _number(self, sequence: int) -> int:
        """What everybody is told that a message's sequence is."""
        return sequence - self.bugs.hits(self.bugs.number_twice_every, sequence)

    def _log_stored(self, entry: _Entry) -> None:
        if not entry.logged:
            entry.logged = True
            self._log.append(Logged(entry.sequence, entry.payload, entry.native_id))

    # ---- consumers -------------------------------------------------------------------------------------------------

    def subscribe(self, consumer: str, prefetch: int, automatic: bool) -> None:
        """Deliver to a consumer from now on: at most `prefetch` unsettled; settled as they are sent if `automatic`."""
        self._consumers[consumer] = _Consumer(prefetch, automatic)

    def unsubscribe(self, consumer: str) -> None:
        """Deliver no more to it; what it holds can still be settled."""
        if consumer in self._consumers:
            self._consumers[consumer].takes = False

    def ended(self, consumer: str) -> None:
        """Its connection is gone: what it holds goes back to the front, in order."""
        gone = self._consumers.pop(consumer, None)
        if gone is not None:
            self._ready.extendleft(sorted(gone.unsettled.values(), key=lambda entry: entry.sequence, reverse=True))

    def settle(self, consumer: str, sequence: int) -> bool:
        """A consumer is done with a delivery. False if it does not hold it: a second time changes nothing."""
        holder = self._consumers.get(consumer)
        entry = holder.unsettled.pop(sequence, None) if holder is not None else None
        if entry is None:
            self.counters["acked"] += sequence == 0
            return sequence == 0
        if entry.count == 1 and self.bugs.hits(self.bugs.return_settled_every, sequence):
            self._ready.appendleft(entry)
        self.counters["acked"] += 1
        self._log.append(Logged(sequence, None, ""))
        return True

    def pull(self, consumer: str, automatic: bool, now_ns: int) -> list[Sending]:
        """Deliver one message to a consumer that asks for it, if one is ready."""
        self._release(now_ns)
        self._consumers.setdefault(consumer, _Consumer(0, automatic, takes=False))
        sendings: list[Sending] = []
        if self._ready and self._ready[0].due_ns <= now_ns:
            self._pulls += 1
            if not self.bugs.hits(self.bugs.deny_every, self._pulls):
                self._send(consumer, self._ready.popleft(), sendings)
        return sendings

    def _release(self, now_ns: int) -> None:
        """What shall be overtaken has waited long enough for it."""
        if self._overtaken is not None and now_ns >= self._overtaken.due_ns + HELD_BACK_NS:
            self._ready.append(self._overtaken)
            self._overtaken = None

    def due(self, now_ns: int) -> list[Sending]:
        """What goes out now."""
        self._release(now_ns)
        sendings: list[Sending] = []
        while self._ready and self._ready[0].due_ns <= now_ns:
            name = self._next_consumer()
            if name is None:
                break
            self._send(name, self._ready.popleft(), sendings)
        return sendings

    def wakes_ns(self) -> int | None:
        """When `due` may have more to give by the passing of time alone; None: not before something else happens."""
        times = []
        if self._ready and self._next_consumer() is not None:
            times.append(self._ready[0].due_ns)
        if self._overtaken is not None:
            times.append(self._overtaken.due_ns + HELD_BACK_NS)
        return min(times, default=None)

    def _next_consumer(self) -> str | None:
        """The one that has gone longest without a delivery, of those that can take one."""
        for name, consumer in self._consumers.items():
            if consumer.takes and (consumer.automatic or len(consumer.unsettled) < consumer.credit):
                return name
        return None

    def _send(self, name: str, entry: _Entry, sendings: list[Sending]) -> None:
        bugs, sequence, payload = self.bugs, entry.sequence, entry.payload
        consumer = self._consumers.pop(name)
        self._consumers[name] = consumer
        self._log_stored(entry)
        before = len(sendings)
        first = entry.count == 0
        if first:
            if bugs.hits(bugs.corrupt_every, sequence):
                sendings.append(Sending(name, 0, payload[:-1] + bytes([payload[-1] ^ 0xFF]), False, 1))
            if bugs.hits(bugs.invent_every, sequence):
                sendings.append(Sending(name, 0, _invented(payload, sequence), False, 1))
            if bugs.hits(bugs.foreign_every, sequence):
                sendings.append(Sending(name, 0, _foreign(payload), False, 1))
        entry.count += 1
        number = self._number(sequence)
        sendings.append(Sending(name, sequence, payload, entry.count > 1, entry.count, number))
        for every, flagged in ((bugs.duplicate_every, True), (bugs.unflagged_every, False)):
            if first and bugs.hits(every, sequence):
                entry.count += 1
                sendings.append(Sending(name, sequence, payload, flagged, entry.count, number))
        if consumer.automatic:
            self._log.append(Logged(sequence, None, ""))
        else:
            consumer.unsettled[sequence] = entry
        self.counters["delivered"] += len(sendings) - before
        self.counters["redelivered"] += sum(sending.redelivered for sending in sendings[before:])

    # ---- books -----------------------------------------------------------------------------------------------------

    def take_log(self) -> list[Logged]:
        """What has to be on file before the answers and deliveries since the last call may leave."""
        log, self._log = self._log, []
        return log

    def left(self) -> list[tuple[int, bytes]]:
        """(number, payload) of every message that is still owed to its consumers, in order."""
        entries = [*self._ready, *self._stranded, *([self._overtaken] if self._overtaken is not None else [])]
        for consumer in self._consumers.values():
            entries.extend(consumer.unsettled.values())
        return sorted((self._number(entry.sequence), entry.payload) for entry in entries)

    def kept(self) -> list[tuple[int, bytes]]:
        """(number, payload) of every message that is stored and owed to nobody: those that were passed over."""
        return [(self._number(entry.sequence), entry.payload) for entry in self._skipped]

    def unsettled(self) -> int:
        """Deliveries that await settlement."""
        return sum(len(consumer.unsettled) for consumer in self._consumers.values())


def _producer(entry: _Entry) -> int:
    return MessageId.unpack(decode_payload(entry.payload).message).producer


def _invented(payload: bytes, sequence: int) -> bytes:
    """A payload of the same run that nobody published: its producer does not exist."""
    run = decode_payload(payload).run
    return encode_payload(run, MessageId(PRODUCER_MAX, sequence).packed, 1, max(len(payload), PAYLOAD_SIZE_MIN))


def _foreign(payload: bytes) -> bytes:
    """The same message of another run."""
    decoded = decode_payload(payload)
    return encode_payload(decoded.run ^ 1, decoded.message, decoded.attempt, max(len(payload), PAYLOAD_SIZE_MIN))
