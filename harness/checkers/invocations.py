"""In which order were messages published over one connection? As their first attempts were invoked.

Most clients invoke one message after another, and each once: then their places are in that order, too, and no time is
kept. From the first publication on that is not so, all times are, of 8 bytes a message.
"""

from __future__ import annotations

import numpy as np

from harness.checkers.lanes import constant
from harness.checkers.places import Places, ascending
from harness.history.columns import NEVER
from harness.history.history import Array, Columns, Table


class Invocations:
    """What says the order of messages of one connection. `times_ns`: when the first attempt of each was invoked,
    anything where there is none; empty while the places say it."""

    __slots__ = ("_latest", "_places", "_publications", "times_ns")

    def __init__(self, publications: Table, places: Places) -> None:
        self.times_ns = np.empty(0, np.int64)
        self._publications = publications
        self._places = places
        self._latest: dict[int, tuple[int, int]] = {}

    def of(self, places: Array) -> Array:
        """Numbers that are in the order of publication, of messages of one connection. May be the array itself."""
        return self.times_ns[places] if len(self.times_ns) else places

    def note(self, chunk: Columns, connection: Array | int) -> None:
        """See whether these publications are in order, after all before them. `connection`: of each, or of all."""
        if len(self.times_ns) or self._in_order(chunk, connection):
            return
        self.times_ns = np.empty(self._places.count, np.int64)
        for whole in self._publications.chunks("message", "attempt", "invoked_ns"):
            first = whole.attempt == 1
            self.times_ns[self._places.of(whole.message[first])] = whole.invoked_ns[first]

    def _in_order(self, chunk: Columns, connection: Array | int) -> bool:
        if not isinstance(connection, int):
            if not constant(connection):
                return False
            connection = int(connection[0])
        first, last = (int(packed) for packed in chunk.message[[0, -1]])
        latest, latest_ns = self._latest.get(connection, (-1, NEVER))
        self._latest[connection] = last, int(chunk.invoked_ns[-1])
        return (
            first > latest
            and int(chunk.invoked_ns[0]) > latest_ns
            and (self._places.ascend(chunk.first, chunk.rows) or ascending(chunk.message))
            and ascending(chunk.invoked_ns)
            and constant(chunk.attempt)
            and int(chunk.attempt[0]) == 1
        )
