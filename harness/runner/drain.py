"""When has everything been read? A drain ends when the broker says that nothing is left, and it has been silent."""

from __future__ import annotations

import time
from dataclasses import dataclass

from harness.clock import happens
from harness.operation import Role
from harness.runner.crew import Crew
from harness.system.service import Broker, Promise

DRAIN_LIMIT_S = 30.0
CONSUMER_GRACE_S = 10.0
QUIET_S = 0.25
STRANDED_S = 4.0
"""Consumers that were idle for this long beyond the redelivery horizon will not be given what is left."""

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
    crew.finish(Role.PRODUCER, within_s=confirm_timeout_s + 5.0)
    silence_needed = hides_ends or promise.drain == "silence"
    needed_s = promise.redelivery_horizon_s + 0.1 if silence_needed else QUIET_S
    began = time.monotonic()
    seen = _received(crew), began
    left = "never asked"

    def quiet_and_empty() -> bool:
        nonlocal seen, left
        received, now = _received(crew), time.monotonic()
        if received != seen[0]:
            seen = received, now
            return False
        if now - seen[1] < needed_s:
            return False
        left = broker.drained() or ""
        return not left or now - seen[1] > promise.redelivery_horizon_s + STRANDED_S

    for _ in range(_ROUNDS_MAX):
        finished = happens(quiet_and_empty, within_s=DRAIN_LIMIT_S + needed_s)
        silence_s = time.monotonic() - seen[1]
        consumers = list(crew.living(Role.CONSUMER))
        crew.finish(Role.CONSUMER, within_s=CONSUMER_GRACE_S)
        if not finished or left:
            return Drained(False, left or "deliveries went on to the limit", silence_s, silence_needed)
        # What a consumer held unsettled came back to the queue when it closed: ask again, now that nobody holds any.
        if not happens(lambda: not broker.drained(), within_s=1.0):
            left = broker.drained() or ""
            if left and not consumers:
                return Drained(False, left, silence_s, silence_needed)
            if left:
                for consumer in consumers:
                    crew.replace(consumer).head.set("pause_publishing", 0)
                seen = _received(crew), time.monotonic()
                continue
        return Drained(True, "", silence_s, silence_needed)
    return Drained(False, left, silence_s, silence_needed)


def _received(crew: Crew) -> int:
    return sum(client.counters().received for client in crew.all())
