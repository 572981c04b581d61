"""What if a delivery is acknowledged after its effect? What a crash interrupts is done again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.processing.mechanism import Steps


@dataclass(frozen=True, slots=True)
class AckAfterEffect:
    """Does the effect, then acknowledges: at least once."""

    name: ClassVar[str] = "ack_after_effect"
    promises: ClassVar[str] = "at_least_once"
    parts: ClassVar[int] = 0

    async def process(self, steps: Steps) -> None:
        """The effect, then the acknowledgement."""
        await steps.effect()
        await steps.acknowledge()
