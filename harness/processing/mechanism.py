"""What does a consumer do with a delivery, and in which order? A mechanism: receive, effect, acknowledge, as data.

*Steps* are what a mechanism may do with one delivery; the client hands them in. Between two steps the client may be
made to crash, but a mechanism knows nothing of that.
"""

from __future__ import annotations

from typing import Protocol


class Steps(Protocol):
    """One delivery, and what can be done with it."""

    async def effect(self) -> None:
        """Do the work: leave its effect in the sink, durably, before this returns."""
        ...

    async def effect_once(self) -> bool:
        """Leave the effect and the message's id in one transaction; False when the id was there already (no effect)."""
        ...

    async def acknowledge(self) -> None:
        """Hand the acknowledgement to the library; it may not have left this process when this returns."""
        ...

    async def acknowledge_answered(self) -> None:
        """Acknowledge, and return when the broker has answered it, or something sent after it on the same channel."""
        ...


class Mechanism(Protocol):
    """A frozen record with a name and the order of its steps."""

    @property
    def name(self) -> str:
        """Printable, part of a pytest id."""
        ...

    @property
    def promises(self) -> str:
        """What textbooks say of it: "at_most_once", "at_least_once", "exactly_once" or "nothing"."""
        ...

    @property
    def parts(self) -> int:
        """Number of parts it needs beyond broker and consumer (a table of ids, a transaction, ...)."""
        ...

    async def process(self, steps: Steps) -> None:
        """Carry out one delivery."""
        ...
