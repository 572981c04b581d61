"""Where may a client be made to crash, and how far had its sends got? At named points, which it passes as it works.

*Armed*: the harness has written a point, the stage that counts there (or any), and after how many further passes, into
the journal's head. The client that comes to it records the point, the stage and the message, and sends itself SIGKILL:
nothing is flushed, closed or told.

    point                        passed                                                         stage
    before-publish               recorded, the library not yet called                           -
    between-publish-and-confirm  as the library returns, and as the bytes have left, unanswered handed, written
    after-receive                recorded, nothing else done                                    -
    between-ack-and-effect       about to do the effect of what is acknowledged                 handed to answered
    between-effect-and-ack       the effect is done, its acknowledgement has not left           - (not handed), handed
    between-ack-and-confirm      an acknowledgement that the broker answers is on its way       handed, written

A call that returned is not a byte sent. "Acknowledge, then the effect" in one callback leaves the acknowledgement in
this process's buffer while the effect is committed: seen from the broker, the effect came first. So a client that dies
after its effect with the acknowledgement merely handed over dies *between effect and ack*, and its message is processed
twice; that is how the unflushed mechanism breaks at-most-once. At between-ack-and-effect it leaves no effect behind,
and the message, which comes again, is processed once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Protocol

from harness.history.journal import CRASH, PLACE, Journal
from harness.operation import CrashPoint, Stage
from harness.processing.mechanism import Steps

BEFORE_PUBLISH = CrashPoint.BEFORE_PUBLISH.number
BETWEEN_PUBLISH_AND_CONFIRM = CrashPoint.BETWEEN_PUBLISH_AND_CONFIRM.number
AFTER_RECEIVE = CrashPoint.AFTER_RECEIVE.number
BETWEEN_ACK_AND_EFFECT = CrashPoint.BETWEEN_ACK_AND_EFFECT.number
BETWEEN_EFFECT_AND_ACK = CrashPoint.BETWEEN_EFFECT_AND_ACK.number
BETWEEN_ACK_AND_CONFIRM = CrashPoint.BETWEEN_ACK_AND_CONFIRM.number

_POINT, _AFTER, _STAGE = PLACE["control_point"], PLACE["control_after"], PLACE["control_stage"]
_CRASH_NS = PLACE["crash_ns"]
_TURNS_MAX = 100


class Trap:
    """The point at which this client shall crash, if any. `armed`: its number, as of the last `look`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._live = journal.live
        self._left = 0
        self._stage = 0
        self.armed = 0

    def look(self) -> int:
        """Read the control words; the number of the armed point, 0 for none."""
        point = self._live[_POINT]
        if point != self.armed:
            self.armed = point
            self._left = self._live[_AFTER]
            self._stage = self._live[_STAGE]
        return self.armed

    def passes(self, point: int, stage: Stage | None = None, message: int = 0) -> None:
        """The client is at a point; if it is the armed one, at the stage asked for, and has been passed often enough,
        this does not return."""
        if point != self.armed or (self._stage and (stage is None or stage.number != self._stage)):
            return
        if self._left:
            self._left -= 1
            return
        self.spring(point, stage, message)

    def spring(self, point: int, stage: Stage | None, message: int) -> None:
        """Record, and die."""
        journal, now_ns = self._journal, time.monotonic_ns()
        journal.write(CRASH, a=point, code=journal.word(str(stage or "")), x0=now_ns, x1=message)
        self._live[_CRASH_NS] = now_ns
        os.kill(os.getpid(), signal.SIGKILL)


class Handling(Protocol):
    """One delivery in the hands of a consumer, as the guard sees it."""

    message: int
    acknowledged: bool
    answered: bool
    effected: bool
    answerable: bool

    async def effect(self) -> None:
        """Do the work."""
        ...

    async def effect_once(self) -> bool:
        """Do the work unless it is done."""
        ...

    def hand_over(self) -> None:
        """Hand the acknowledgement to the library."""
        ...

    async def answer(self) -> None:
        """Return when the broker has seen it."""
        ...

    def unwritten(self) -> int:
        """Bytes of the connection that have not left this process."""
        ...


class Guarded(Steps):
    """The steps of one delivery, with the crash points between them."""

    def __init__(self, handling: Handling, trap: Trap) -> None:
        self._on = handling
        self._trap = trap

    async def effect(self) -> None:
        """The effect, between two points."""
        self._before_effect()
        await self._on.effect()
        self._after_effect()

    async def effect_once(self) -> bool:
        """The same, with the message's id in the same transaction."""
        self._before_effect()
        done = await self._on.effect_once()
        self._after_effect()
        return done

    async def acknowledge(self) -> None:
        """Hand the acknowledgement over."""
        self._before_ack()
        self._on.hand_over()
        await self._after_ack()

    async def acknowledge_answered(self) -> None:
        """Hand it over and wait for the answer."""
        self._before_ack()
        self._on.hand_over()
        await self._after_ack()
        await self._on.answer()

    def _before_effect(self) -> None:
        on = self._on
        if on.acknowledged:
            self._trap.passes(BETWEEN_ACK_AND_EFFECT, _stage(on), on.message)

    def _after_effect(self) -> None:
        on = self._on
        if on.acknowledged and _stage(on) is Stage.HANDED:
            self._trap.passes(BETWEEN_EFFECT_AND_ACK, Stage.HANDED, on.message)

    def _before_ack(self) -> None:
        if self._on.effected and not self._on.acknowledged:
            self._trap.passes(BETWEEN_EFFECT_AND_ACK, None, self._on.message)

    async def _after_ack(self) -> None:
        if self._trap.armed == BETWEEN_ACK_AND_CONFIRM and self._on.answerable:
            self._trap.passes(BETWEEN_ACK_AND_CONFIRM, _stage(self._on), self._on.message)
            await until_written(self._on, self._trap)


async def until_written(on: Handling, trap: Trap) -> None:
    """Pass between-ack-and-confirm once more when the acknowledgement's bytes have left, if it is not answered by then.

    The first pass is the caller's, in the callback that handed it over: one turn of the loop later it is written.
    """
    for _ in range(_TURNS_MAX):
        if on.answered or not on.unwritten():
            break
        await asyncio.sleep(0)
    if not on.answered and not on.unwritten():
        trap.passes(BETWEEN_ACK_AND_CONFIRM, Stage.WRITTEN, on.message)


def _stage(on: Handling) -> Stage:
    if on.answered:
        return Stage.ANSWERED
    return Stage.HANDED if on.unwritten() else Stage.WRITTEN
