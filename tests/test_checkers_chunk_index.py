"""Which chunks are read for a few messages, and which not?"""

from __future__ import annotations

import numpy as np
import pytest

from harness.checkers import chunk_index
from harness.checkers.chunk_index import ChunkIndex
from harness.history.history import Array


def members(count: int, *places: int) -> Array:
    of = np.zeros(count, np.bool_)
    of[list(places)] = True
    return of


@pytest.fixture
def index() -> ChunkIndex:
    """Three chunks of 100 rows: messages of pages 0 and 1, of page 1 alone, and of page 3; nobody got those of 2."""
    made = ChunkIndex(4096, 3, 100)
    made.note(0, np.array([5, 1023, 1024]))
    made.note(99, np.array([6]))
    made.note(100, np.array([2047]))
    made.note(299, np.array([3072, 4095]))
    return made


@pytest.mark.parametrize(
    ("places", "chunks"),
    [
        ([], []),
        ([0], [0]),
        ([1500], [0, 1]),
        ([2048, 3071], []),
        ([4095], [2]),
        ([7, 1024, 3072], [0, 1, 2]),
    ],
)
def test_only_chunks_that_may_have_a_message_are_read(index: ChunkIndex, places: list[int], chunks: list[int]) -> None:
    assert index.having(members(4096, *places)) == chunks


def test_messages_are_looked_for_beyond_the_first_chunk_of_places(
    index: ChunkIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_index, "CHUNK_ROWS", 1000)
    assert index.having(members(4096, 3100)) == [2]


def test_pages_grow_with_what_is_indexed() -> None:
    made = ChunkIndex(10**8, 5000, 1 << 18)
    assert made.pages.nbytes <= 1 << 25
    made.note(3 << 18, np.array([10**8 - 1]))
    assert made.having(members(10**8, 10**8 - 1)) == [3]


def test_more_chunks_than_cells_have_one_page_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_index, "_CELLS_MAX", 4)
    assert ChunkIndex(4096, 8, 1).pages.shape == (8, 1)
