"""How much do a broker's servers store, and how much may they? Asked, and used up, by the broker's own means.

*Kind*: where messages are kept, "file" or "memory". *Ballast*: messages of ours, apart from those of the cell, that use
the room up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a server stores of one kind, and what it may store at most, in bytes, as it says itself.

    >>> Room(used=33, limit=32).over
    True
    """

    used: int
    limit: int

    @property
    def over(self) -> bool:
        """Whether it stores more than it may, so that it takes no more."""
        return self.used > self.limit


class Storage(Protocol):
    """Of the servers of one cell. Nodes are called by their names in the topology; one that does not answer is not in
    the answer."""

    def room(self, kind: str) -> Mapping[str, Room]:
        """Node that answers -> what it stores of that kind, and its limit."""
        ...

    def stored(self) -> Mapping[str, int]:
        """Node that answers -> how many messages the cell's stream has ever stored there."""
        ...

    def fill(self, kind: str) -> str:
        """Store ballast on every server until it takes no more; what it said then, "" where it took all that should
        have been too much. Raises Trouble where nobody makes room for ballast, Refused where the limit is none of
        ours: it would take the machine's disk or memory."""
        ...

    def empty(self, kind: str) -> None:
        """Take the ballast away. Idempotent, and right after half a filling. Raises Trouble where it stays."""
        ...
