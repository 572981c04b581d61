"""In which chunks of deliveries is a message? So that a few messages are found without reading all of them.

*page*: messages whose places follow one another. Of each chunk it is known which pages it has any of: as messages are
delivered about when they are published, these are few.
"""

from __future__ import annotations

import numpy as np

from harness.checkers.messages import Messages
from harness.history.history import CHUNK_ROWS, Array

_PAGE_BITS = 10
_CELLS_MAX = 1 << 25


class ChunkIndex:
    """The index of a table's chunks, each of `chunk_rows` rows, by `count` places. `pages`: which pages each has, as
    far as noted; `bits`: a place's page is its number without so many of its lowest bits."""

    __slots__ = ("_chunk_rows", "bits", "pages")

    def __init__(self, count: int, chunks: int, chunk_rows: int) -> None:
        self.bits = _PAGE_BITS
        while count >> self.bits and ((count >> self.bits) + 1) * chunks > _CELLS_MAX:
            self.bits += 1
        self._chunk_rows = chunk_rows
        self.pages = np.zeros((chunks, (count >> self.bits) + 1), np.bool_)

    def of(self, row: int) -> Array:
        """The pages of the chunk that has this row, to be marked."""
        pages: Array = self.pages[row // self._chunk_rows]
        return pages

    def note(self, row: int, places: Array) -> None:
        """The chunk that has this row has messages at these places."""
        self.of(row)[places >> self.bits] = True

    def having(self, members: Messages | Array) -> list[int]:
        """The chunks that may have any of these messages, ascending; `members`: as a set, or true at their places."""
        wanted = np.zeros(self.pages.shape[1], np.bool_)
        for begin in range(0, len(members), CHUNK_ROWS):
            places = np.flatnonzero(members[begin : begin + CHUNK_ROWS]) + begin
            wanted[places >> self.bits] = True
        chosen = np.flatnonzero(wanted)
        return [number for number, pages in enumerate(self.pages) if pages[chosen].any()]
