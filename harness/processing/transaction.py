"""What if effect and message id are written in one transaction? The second delivery finds the id and does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.processing.mechanism import Steps


@dataclass(frozen=True, slots=True)
class Transaction:
    """Writes effect and message id in one transaction of the sink, then acknowledges: exactly once.

    It needs a sink with transactions, and a table of ids in it that keeps every id as long as it may come again.
    """

    name: ClassVar[str] = "transaction"
    promises: ClassVar[str] = "exactly_once"
    parts: ClassVar[int] = 2

    async def process(self, steps: Steps) -> None:
        """Effect and id, unless the id is there already; acknowledged in either case."""
        await steps.effect_once()
        await steps.acknowledge()
