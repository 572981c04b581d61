"""What if a delivery is acknowledged before its effect? Nothing is done twice, and what a crash interrupts is not done.

That holds only if the acknowledgement has reached the broker before the effect begins: *answered*, not handed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.processing.mechanism import Steps


@dataclass(frozen=True, slots=True)
class AckBeforeEffect:
    """Acknowledges, waits for the broker's answer, then does the effect: at most once.

    Where acknowledgements are not answered by themselves, one round trip on their channel stands for the answer.
    """

    name: ClassVar[str] = "ack_before_effect"
    promises: ClassVar[str] = "at_most_once"
    parts: ClassVar[int] = 0

    async def process(self, steps: Steps) -> None:
        """Acknowledge, answered; then the effect. Without an answer there is no effect."""
        await steps.acknowledge_answered()
        await steps.effect()


@dataclass(frozen=True, slots=True)
class AckBeforeEffectUnflushed:
    """Hands the acknowledgement to the library and does the effect at once: promises nothing.

    The library writes when the event loop turns, so a process that dies in the same callback takes the
    acknowledgement with it: before the effect it leaves none, after it the message comes again and its effect is done
    twice. It is what "acknowledge first" looks like in most programs.
    """

    name: ClassVar[str] = "ack_before_effect_unflushed"
    promises: ClassVar[str] = "nothing"
    parts: ClassVar[int] = 0

    async def process(self, steps: Steps) -> None:
        """Acknowledge, unflushed; then the effect."""
        await steps.acknowledge()
        await steps.effect()
