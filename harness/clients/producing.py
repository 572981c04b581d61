"""When does a producer publish what, and what does it do with what is not answered? Open loop, even intervals.

Message i falls due at start + i / rate, whatever the broker does. A due message that cannot be handed over (no
connection, a full window, a full buffer) is an attempt that is recorded as unsent: a definite failure, not tried again.
An attempt whose outcome stays open (no answer in time, the connection lost, an answer that says nothing) is published
again if the orders say so: at most `retry_limit` times, oldest first, as the window allows. A refusal is final.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from harness.clients.crash import BEFORE_PUBLISH, BETWEEN_PUBLISH_AND_CONFIRM
from harness.history.journal import PLACE, PUBLISH, UNSENT, WRITTEN
from harness.operation import MessageId, Outcome, Stage, encode_payload
from harness.system.service import Connection, Received

if TYPE_CHECKING:
    from harness.clients.body import Body

WAKE_S = 0.002
GO_S = 0.001
REST_S = 0.05
RETRY_PAUSE_NS = 100_000_000
_BATCH_MAX = 256
_FLUSH_TURNS = 3
_ATTEMPTED, _HANDED, _UNSENT = PLACE["attempted"], PLACE["handed"], PLACE["unsent"]
_PAUSE, _BUFFERED = PLACE["pause_publishing"], PLACE["buffered"]


class Attempt(NamedTuple):
    """One publish call that awaits its answer, or its turn."""

    sequence: int
    attempt: int
    intended_ns: int
    since_ns: int


class Producing:
    """The work of a producer."""

    def __init__(self, body: Body) -> None:
        spec = body.spec
        self._body = body
        self._journal = body.journal
        self._live = body.live
        self._trap = body.trap
        self._first = MessageId(spec.number, 0).packed
        self._route = self._journal.word(str(spec.orders.get("route", "")))
        self._timeout_ns = int(spec.confirm_timeout_s * 1e9)
        self._retries = spec.retry != "none"
        self._next = 0
        self._tag = 0
        self._written = 0
        self._open: dict[int, Attempt] = {}
        self._again: deque[Attempt] = deque()

    # ---- as the connection tells -----------------------------------------------------------------------------------

    async def opened(self, connection: Connection, epoch: int) -> None:
        """Tags begin again with each epoch."""
        self._tag = self._written = 0

    def lost(self, epoch: int) -> None:
        """What was unanswered stays open for ever; with retries it comes again, oldest first."""
        if self._retries:
            waiting = [*self._again, *self._open.values()]
            self._again.clear()
            for attempt in sorted(waiting, key=lambda one: one.sequence):
                self._once_more(attempt, 0)
        self._open.clear()

    def confirmed(self, epoch: int, first: int, last: int, outcome: Outcome, duplicate: bool) -> None:
        """These are answered."""
        if epoch != self._body.epoch:
            return
        for tag in range(first, last + 1):
            attempt = self._open.pop(tag, None)
            if attempt is not None and outcome is Outcome.INFO and self._retries:
                self._once_more(attempt, time.monotonic_ns() + RETRY_PAUSE_NS)

    def received(self, epoch: int, delivery: Received) -> None:
        """Producers receive nothing."""

    # ---- the load --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Wait for the word, publish until told to stop, then wait for what is unanswered."""
        body, spec = self._body, self._body.spec
        while spec.wait_for_go and self._live[_PAUSE] and not body.stopping.is_set():
            await asyncio.sleep(GO_S)
        start_ns = time.monotonic_ns()
        cap = spec.messages_max if spec.rate_hz > 0 else 0
        while not body.stopping.is_set():
            due = min(cap, int((time.monotonic_ns() - start_ns) * spec.rate_hz / 1e9) + 1)
            self._turn(start_ns, min(due, self._next + _BATCH_MAX))
            await self._flushed()
            if self._next >= cap:
                body.stop("message-cap")
            elif self._next < due:
                await asyncio.sleep(0)
            else:
                next_ns = start_ns + int(self._next * 1e9 / spec.rate_hz)
                await asyncio.sleep(min(max((next_ns - time.monotonic_ns()) / 1e9, WAKE_S), REST_S))
        await self._finish()

    def _turn(self, start_ns: int, until: int) -> None:
        """Give up what is overdue, publish again what may be, then what is due."""
        self._trap.look()
        self._give_up()
        self._publish_again()
        interval_ns = 1e9 / self._body.spec.rate_hz if self._body.spec.rate_hz > 0 else 0.0
        while self._next < until:
            sequence, self._next = self._next, self._next + 1
            intended_ns = start_ns + int(sequence * interval_ns)
            self._publish(self._body.spec.sequence_first + sequence, 1, intended_ns)

    async def _finish(self) -> None:
        """Outstanding answers are awaited, and open attempts tried again, within the time of one confirm."""
        limit_ns = time.monotonic_ns() + self._timeout_ns
        while time.monotonic_ns() < limit_ns:
            connection = self._body.connection
            unwritten = connection.unwritten() if connection is not None else 0
            if not (self._open or self._again or unwritten):
                return
            self._turn(0, 0)
            await self._flushed()
            await asyncio.sleep(WAKE_S)

    def _publish(self, sequence: int, attempt: int, intended_ns: int) -> None:
        body, journal, spec = self._body, self._journal, self._body.spec
        message = self._first | sequence
        native_id = None
        if self._retries:
            native_id = str(MessageId(spec.number, sequence))
            if spec.retry == "new-id":
                native_id = f"{native_id}:{attempt}"
        self._live[_ATTEMPTED] += 1
        connection = body.connection
        if connection is None or len(self._open) >= spec.window:
            why = "unsent:no-connection" if connection is None else "unsent:window-full"
            self._unsent(why, message, attempt, intended_ns, native_id)
            return
        tag = self._tag + 1
        payload = encode_payload(spec.run, message, attempt, spec.payload_size)
        now_ns = time.monotonic_ns()
        journal.write(
            PUBLISH, native_id is not None, body.epoch, attempt, self._route, message, intended_ns, now_ns, tag
        )
        trap = self._trap
        if trap.armed:
            trap.passes(BEFORE_PUBLISH, None, message)
        if not connection.publish(payload, tag, native_id):
            journal.take_back()
            self._unsent("unsent:buffer-full", message, attempt, intended_ns, native_id)
            return
        self._tag = tag
        self._live[_HANDED] += 1
        if spec.confirms:
            self._open[tag] = Attempt(sequence, attempt, intended_ns, now_ns)
        if trap.armed:
            # A library, or a loop, that writes at once has nothing left to write when it returns.
            stage = Stage.HANDED if connection.unwritten() else Stage.WRITTEN
            trap.passes(BETWEEN_PUBLISH_AND_CONFIRM, stage, message)

    def _unsent(self, why: str, message: int, attempt: int, intended_ns: int, native_id: str | None) -> None:
        journal = self._journal
        journal.write(
            UNSENT,
            native_id is not None,
            self._body.epoch if self._body.connection is not None else 0,
            attempt,
            journal.word(why),
            message,
            intended_ns,
            time.monotonic_ns(),
            0,
            self._route,
        )
        self._live[_UNSENT] += 1

    async def _flushed(self) -> None:
        """Record that everything handed over has left, once it has; a few turns of the loop are enough in health."""
        connection = self._body.connection
        if connection is None or self._written == self._tag:
            return
        epoch, tag = self._body.epoch, self._tag
        for _ in range(_FLUSH_TURNS):
            self._live[_BUFFERED] = unwritten = connection.unwritten()
            if not unwritten:
                break
            await asyncio.sleep(0)
        if unwritten or self._body.connection is not connection:
            return
        self._written = tag
        self._journal.write(WRITTEN, epoch=epoch, x0=tag, x1=time.monotonic_ns())
        if self._trap.armed == BETWEEN_PUBLISH_AND_CONFIRM and tag in self._open:
            message = self._first | self._open[tag].sequence
            self._trap.passes(BETWEEN_PUBLISH_AND_CONFIRM, Stage.WRITTEN, message)

    # ---- again -----------------------------------------------------------------------------------------------------

    def _give_up(self) -> None:
        """Attempts are kept in the order of their calls, so only the oldest need a look."""
        limit_ns = time.monotonic_ns() - self._timeout_ns
        while self._open:
            tag, attempt = next(iter(self._open.items()))
            if attempt.since_ns > limit_ns:
                return
            del self._open[tag]
            if self._retries:
                self._once_more(attempt, 0)

    def _once_more(self, attempt: Attempt, not_before_ns: int) -> None:
        if attempt.attempt <= self._body.spec.retry_limit:
            self._again.append(attempt._replace(since_ns=not_before_ns))

    def _publish_again(self) -> None:
        """Unlike a message that falls due, one that comes again waits for a connection and for room in the window."""
        now_ns = time.monotonic_ns()
        window = self._body.spec.window
        for _ in range(min(len(self._again), _BATCH_MAX)):
            if self._body.connection is None or len(self._open) >= window or self._again[0].since_ns > now_ns:
                return
            attempt = self._again.popleft()
            self._publish(attempt.sequence, attempt.attempt + 1, attempt.intended_ns)
