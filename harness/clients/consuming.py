"""What does a consumer do with what it receives? Writes it down, then acknowledges it, or lets a mechanism process it.

A receipt is recorded before anything else happens to it. Deliveries are processed one by one, in the order of receipt.
A delivery whose connection is lost before its turn is left alone: the broker owes it to somebody. Under automatic
acknowledgement nobody owes it any more, so it is processed all the same. What is corrupt or of another run is
acknowledged and leaves no effect.

A consumer can be told, by words of its journal's head, to misbehave for a while: to work slowly, to settle nothing, to
settle the newest first, or everything twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from harness import catalogue
from harness.clients.crash import AFTER_RECEIVE, BETWEEN_ACK_AND_CONFIRM, Guarded, until_written
from harness.clients.pulling import Pulling
from harness.history.journal import ACK, CORRUPT, DELIVER, FOREIGN, HANDLED, PLACE, PULLED, REDELIVERED, SETTLED
from harness.operation import (
    OUT_OF_ORDER,
    TWICE,
    UNANSWERED_END,
    AckKind,
    Conduct,
    Outcome,
    Stage,
    decode_payload,
)
from harness.system.service import Connection, Received

if TYPE_CHECKING:
    from harness.clients.body import Body

_RECEIVED, _RECEIVED_NS, _SETTLED = PLACE["received"], PLACE["received_ns"], PLACE["settled"]
_CONDUCT, _SLOW_US = PLACE["conduct"], PLACE["slow_us"]
_HOLDING, _WORKED, _ODD = PLACE["holding"], PLACE["worked"], PLACE["odd"]
_COUNT_MAX = 65_535
_LOOK_S = 0.005
"""How often a consumer that waits looks whether it is still told to."""


class Delivery:
    """One delivery in our hands: what can be done with it, and how far it has come."""

    __slots__ = (
        "_consuming",
        "_handle",
        "_pending",
        "acknowledged",
        "answerable",
        "answered",
        "connection",
        "effected",
        "genuine",
        "message",
        "number",
        "received_ns",
    )

    def __init__(
        self,
        consuming: Consuming,
        connection: Connection,
        received: Received,
        number: int,
        message: int,
        genuine: bool,
    ) -> None:
        self._consuming = consuming
        self._handle = received.handle
        self.received_ns = received.received_ns
        self._pending: asyncio.Future[Outcome] | None = None
        self.connection = connection
        self.number = number
        self.message = message
        self.genuine = genuine
        automatic = consuming.ack is AckKind.AUTOMATIC
        self.acknowledged = automatic
        self.answered = automatic
        self.answerable = consuming.ack is AckKind.CONFIRMED
        self.effected = False

    @property
    def lost(self) -> bool:
        """Whether its connection is gone."""
        return self._consuming.body.connection is not self.connection

    def unwritten(self) -> int:
        """Bytes of its connection that have not left this process."""
        return 0 if self.lost else self.connection.unwritten()

    async def effect(self) -> None:
        """The effect in the sink."""
        self._consuming.store.effect(self.message, time.monotonic_ns())
        self._handled()

    async def effect_once(self) -> bool:
        """The effect in the sink, unless it is there."""
        done: bool = self._consuming.store.effect_once(self.message, time.monotonic_ns())
        self._handled()
        return done

    def _handled(self) -> None:
        self.effected = True
        self._consuming.journal.write(HANDLED, x0=self.number, x1=time.monotonic_ns())

    def hand_over(self) -> None:
        """Record the acknowledgement and hand it to the library. Raises ConnectionError: its own is gone."""
        if self.acknowledged:
            return
        if self.lost:
            raise ConnectionError("the connection that brought it is lost")
        consuming = self._consuming
        consuming.journal.write(ACK, a=consuming.ack, x0=self.number, x1=time.monotonic_ns())
        self.acknowledged = True
        consuming.live[_HOLDING] -= 1
        if self.number < consuming.newest:
            consuming.oddly(OUT_OF_ORDER, self.number)
        consuming.newest = max(consuming.newest, self.number)
        pending = self.connection.settle(self._handle)
        if consuming.live[_CONDUCT] == Conduct.TWICE:
            self.connection.settle(self._handle)
            consuming.oddly(TWICE, self.number)
        if pending is None:
            consuming.live[_SETTLED] += 1
            return
        self._pending = asyncio.ensure_future(pending)
        consuming.unanswered.add(self._pending)
        self._pending.add_done_callback(self._settled)

    def _settled(self, answer: asyncio.Future[Outcome]) -> None:
        consuming = self._consuming
        consuming.unanswered.discard(answer)
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, OSError | TimeoutError) or answer.cancelled():
            return
        if error is not None:
            consuming.body.fail(error)
        elif answer.result() is Outcome.OK:
            self.answered = True
            consuming.live[_SETTLED] += 1
            consuming.journal.write(SETTLED, a=Outcome.OK, x0=self.number, x1=time.monotonic_ns())

    async def answer(self) -> None:
        """Wait until the broker has seen the acknowledgement. Raises ConnectionError or TimeoutError: nobody knows."""
        if self.answered:
            return
        async with asyncio.timeout(self._consuming.body.spec.confirm_timeout_s):
            if self._pending is None:
                await self.connection.barrier()
            elif await self._pending is not Outcome.OK:
                raise ConnectionError("the acknowledgement was not answered")
        self.answered = True


class Consuming:
    """The work of a consumer."""

    def __init__(self, body: Body) -> None:
        spec = body.spec
        self.body = body
        self.journal = body.journal
        self.live = body.live
        self.ack = AckKind(spec.ack)
        self.unanswered: set[asyncio.Future[Outcome]] = set()
        self.store: Any = None
        self._trap = body.trap
        self._mechanism: Any = None
        self._number = 0
        self._turned = 0
        self._busy = False
        self.newest = 0
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._service_s = spec.service_ms / 1e3
        if spec.mechanism is not None and spec.sink is not None:
            self._mechanism = catalogue.named(spec.mechanism)
            self.store = catalogue.open_store(catalogue.named(spec.sink).name)(spec.sink_path)

    # ---- as the connection tells -----------------------------------------------------------------------------------

    async def opened(self, connection: Connection, epoch: int) -> None:
        """Consume, unless messages are pulled one by one."""
        if not self.body.spec.pull_one:
            await connection.consume()

    def lost(self, epoch: int) -> None:
        """Whoever holds a delivery of it finds out by itself."""
        self.live[_HOLDING] = 0

    def confirmed(self, epoch: int, first: int, last: int, outcome: Outcome, duplicate: bool) -> None:
        """Consumers publish nothing."""

    def received(self, epoch: int, delivery: Received) -> None:
        """Record the receipt; then acknowledge, or let it wait for its turn."""
        spec, live = self.body.spec, self.live
        decoded = decode_payload(delivery.payload)
        foreign = not decoded.corrupt and decoded.run != spec.run
        genuine = not (decoded.corrupt or foreign)
        pulled = delivery.fetch_invoked_ns > 0
        flags = (
            (REDELIVERED if delivery.redelivered else 0)
            | (CORRUPT if decoded.corrupt else 0)
            | (FOREIGN if foreign else 0)
            | (PULLED if pulled else 0)
        )
        message = 0 if decoded.corrupt else decoded.message
        self._number = number = self._number + 1
        self.journal.write(
            DELIVER,
            flags,
            epoch,
            0 if decoded.corrupt else decoded.attempt,
            min(delivery.delivery_count, _COUNT_MAX),
            message,
            delivery.broker_sequence,
            delivery.received_ns,
            delivery.fetch_invoked_ns if pulled else 0,
            number,
        )
        live[_RECEIVED_NS] = delivery.received_ns  # before the count, as of answers
        live[_RECEIVED] = number
        if self._trap.look():
            self._trap.passes(AFTER_RECEIVE, None, message)
        if self.ack is AckKind.AUTOMATIC:
            live[_SETTLED] += 1
        connection = self.body.connection
        if connection is None or epoch != self.body.epoch:
            return
        one = Delivery(self, connection, delivery, number, message, genuine)
        if self.ack is not AckKind.AUTOMATIC:
            live[_HOLDING] += 1
        told = live[_CONDUCT] or live[_SLOW_US] or self._waiting or self._busy
        if self._mechanism is not None or self._service_s or told:
            self._waiting.append(one)
            self._arrived.set()
            self._capped()
            return
        live[_WORKED] += 1
        if self.ack is not AckKind.AUTOMATIC:
            one.hand_over()
            if self._trap.armed == BETWEEN_ACK_AND_CONFIRM and one.answerable:
                self._trap.passes(BETWEEN_ACK_AND_CONFIRM, Stage.HANDED if one.unwritten() else Stage.WRITTEN, message)
                self.body.background(until_written(one, self._trap))
        self._capped()

    def oddly(self, what: str, number: int) -> None:
        """Note an acknowledgement that no right client sends."""
        self.live[_ODD] += 1
        self.journal.state(what, value=number, epoch=self.body.epoch)

    def _capped(self) -> None:
        if self._number >= self.body.spec.messages_max:
            self.body.stop("message-cap")

    # ---- processing ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Process until told to stop; then take no more, and finish what is here."""
        processing = self.body.background(self._process())
        pulling = self.body.background(Pulling(self.body).run()) if self.body.spec.pull_one else None
        await self.body.stopping.wait()
        connection = self.body.connection
        limit_s = self.body.spec.confirm_timeout_s
        if connection is not None:
            try:
                await asyncio.wait_for(pulling or connection.stop_consuming(), limit_s)
            except TimeoutError:
                self.journal.state(UNANSWERED_END, epoch=self.body.epoch)
            except OSError:
                pass  # the connection is lost, and has said so
        self._arrived.set()
        await processing
        if self.unanswered:
            await asyncio.wait(self.unanswered, timeout=limit_s)
        if self.store is not None:
            self.store.close()

    async def _process(self) -> None:
        while self._waiting or not self.body.stopping.is_set():
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if self.live[_CONDUCT] == Conduct.HOARDS and not self.body.stopping.is_set():
                await asyncio.sleep(_LOOK_S)
                continue
            delivery = self._next()
            if delivery.lost and self.ack is not AckKind.AUTOMATIC:
                self.live[_WORKED] += 1
                continue
            self._busy = True
            await self._slowly()
            self._trap.look()
            with contextlib.suppress(OSError, TimeoutError):  # the connection, or the answer, is lost: it comes again
                await self._one(delivery)
            self._busy = False
            self.live[_WORKED] += 1
            await asyncio.sleep(0)

    def _next(self) -> Delivery:
        """The oldest; of a consumer that reverses, the newest of what was there when the last batch was done."""
        waiting = self._waiting
        if self.live[_CONDUCT] == Conduct.REVERSES:
            if self._turned == 0:
                waiting.reverse()
                self._turned = len(waiting)
            self._turned -= 1
        elif self._turned:
            waiting.extendleft([waiting.popleft() for _ in range(self._turned)])
            self._turned = 0
        return waiting.popleft()

    async def _slowly(self) -> None:
        """Work as much longer as is told, for as long as it is told."""
        began_ns = time.monotonic_ns()
        while (left_s := self.live[_SLOW_US] / 1e6 - (time.monotonic_ns() - began_ns) / 1e9) > 0:
            await asyncio.sleep(min(left_s, _LOOK_S))

    async def _one(self, delivery: Delivery) -> None:
        steps = Guarded(delivery, self._trap)
        if self._mechanism is not None and delivery.genuine:
            # The work comes before the first step: between two steps it would give the loop time to flush what a
            # mechanism has handed over, and no crash point could show a mechanism that does not wait for that.
            await asyncio.sleep(self._service_s)
            self._trap.look()
            await self._mechanism.process(steps)
            return
        # Without a mechanism the work overlaps: each delivery is held for as long, and they are settled in order.
        due_s = delivery.received_ns / 1e9 + self._service_s - time.monotonic()
        if due_s > 0:
            await asyncio.sleep(due_s)
        await steps.acknowledge()
