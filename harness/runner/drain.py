"""When has everything been read? A drain ends when the broker says that nothing is left, and it has been silent.

Nobody's silence counts while a member or a leader is missing, and "no answer" is not "something is left".
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from harness.clock import happens
from harness.errors import Trouble
from harness.operation import Role
from harness.runner.crew import Crew
from harness.system.service import Broker, Promise

DRAIN_LIMIT_S = 30.0
PRODUCER_GRACE_S = 5.0
CONSUMER_GRACE_S = 10.0
QUIET_S = 0.25
STRANDED_S = 4.0
"""Consumers that were idle for this long beyond the redelivery horizon will not be given what is left."""
LOOK_S = 0.25
"""How often it is asked whether the whole system is there while it is silent."""

_ROUNDS_MAX = 3


@dataclass(frozen=True, slots=True)
class Drained:
    """How a drain ended: `why_not` is empty if nothing was left. `silence_s`: time without any delivery at its end."""

    drained: bool
    why_not: str
    silence_s: float
    silence_needed: bool


def drain(broker: Broker, crew: Crew, promise: Promise, *, hides_ends: bool, confirm_timeout_s: float) -> Drained:
    """End producers, let consumers read everything, end them, and ask the broker again.

    Where a client's end may have gone unseen by the broker (`hides_ends`), and where the broker keeps no books (drain
    "silence"), a silence longer than the redelivery horizon is needed too.
    """
    crew.finish(Role.PRODUCER, within_s=confirm_timeout_s + PRODUCER_GRACE_S)
    silence_needed = hides_ends or promise.drain == "silence"
    needed_s = promise.redelivery_horizon_s + 0.1 if silence_needed else QUIET_S
    silence = _Silence(broker, crew)
    left = "never asked"

    def quiet_and_empty() -> bool:
        nonlocal left
        if silence.seconds() < needed_s or silence.missing:
            return False
        answer = silence.left()
        if answer is None:
            return False
        left = answer
        return not left or silence.seconds() > promise.redelivery_horizon_s + STRANDED_S

    for _ in range(_ROUNDS_MAX):
        finished = happens(quiet_and_empty, within_s=DRAIN_LIMIT_S + needed_s)
        silence_s = 0.0 if silence.trouble else silence.seconds()
        consumers = list(crew.living(Role.CONSUMER))
        crew.finish(Role.CONSUMER, within_s=CONSUMER_GRACE_S)
        if not finished or left:
            why_not = silence.trouble or left or "deliveries went on to the limit"
            return Drained(False, why_not, silence_s, silence_needed)
        # What a consumer held unsettled came back to the queue when it closed: ask again, now that nobody holds any.
        if not happens(lambda: silence.left() == "", within_s=1.0):
            left = silence.left() or ""
            if silence.trouble or (left and not consumers):
                return Drained(False, silence.trouble or left, silence_s, silence_needed)
            if left:
                for consumer in consumers:
                    crew.replace(consumer).head.set("pause_publishing", 0)
                silence.begin()
                continue
        return Drained(True, "", silence_s, silence_needed)
    return Drained(False, left, silence_s, silence_needed)


def leave_the_rest(crew: Crew, *, confirm_timeout_s: float) -> Drained:
    """End producers and consumers, whatever is left to read: nobody asked for it."""
    crew.finish(Role.PRODUCER, within_s=confirm_timeout_s + PRODUCER_GRACE_S)
    crew.finish(Role.CONSUMER, within_s=CONSUMER_GRACE_S)
    return Drained(False, "the scenario asks for no drain", silence_s=0.0, silence_needed=False)


class _Silence:
    """How long nothing was delivered although the whole system was there: while it was not, nobody was idle."""

    def __init__(self, broker: Broker, crew: Crew) -> None:
        self._broker = broker
        self._crew = crew
        self.missing = self._unanswered = ""
        self.begin()

    @property
    def trouble(self) -> str:
        """Why it is not known now what is left; "" where it is."""
        return self.missing or self._unanswered

    def begin(self) -> None:
        """It begins now."""
        self._received = _received(self._crew)
        self._since = self._looked = time.monotonic()

    def seconds(self) -> float:
        """How long it has lasted. A member or a leader that is missing is silent for a reason of its own."""
        received, now = _received(self._crew), time.monotonic()
        if received != self._received:
            self._received, self._since = received, now
        elif now - self._looked >= LOOK_S:
            self._look()
            self._looked = time.monotonic()
        return now - self._since

    def left(self) -> str | None:
        """What the broker says is left, "" for nothing; None where nobody answers, and the silence begins again."""
        try:
            left = self._broker.drained() or ""
        except Trouble as trouble:
            self._unanswered = trouble.message
            self._since = time.monotonic()
            return None
        self._unanswered = ""
        return left

    def _look(self) -> None:
        self.missing = self._broker.whole() or self._broker.ready() or ""
        if self.missing:
            self._since = time.monotonic()


def _received(crew: Crew) -> int:
    return sum(client.counters().received for client in crew.all())
