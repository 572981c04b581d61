"""Does every published message have a place of its own, in the order of ids, and nobody else's message one?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkers.places import NOWHERE, Places, runs
from harness.operation import PRODUCER_MAX, SEQUENCE_MAX, MessageId

ids = st.one_of(
    st.builds(MessageId, st.integers(0, 3), st.integers(0, 9)),
    st.builds(MessageId, st.sampled_from([0, 1, 5_000, PRODUCER_MAX]), st.integers(0, SEQUENCE_MAX)),
).map(lambda one: one.packed)


def array(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


@settings(max_examples=400, deadline=None)
@given(published=st.lists(ids, max_size=12), others=st.lists(ids, max_size=6))
def test_places_are_those_of_the_ids(published: list[int], others: list[int]) -> None:
    places = Places(array(published))
    of = dict(zip(published, places.of(array(published)).tolist(), strict=True))
    assert sorted(of, key=lambda one: of[one]) == sorted(of), "in the order of ids"
    assert len(set(of.values())) == len(of)
    assert all(0 <= place < places.count for place in of.values())
    assert places.ids(np.array(list(of.values()), np.int64)).tolist() == list(of)
    assert places.near(array(published)).tolist() == [of[one] for one in published]
    for one, place in zip(others, places.of(array(others)).tolist(), strict=True):
        if one in of:
            assert place == of[one]
        else:  # a hole between published ids may have a place, but nobody else's
            assert place == NOWHERE or (place < places.count and place not in of.values())


@pytest.mark.parametrize("rows", [1, 10, 5_000])
def test_a_number_that_only_a_few_producers_have_costs_no_place_each(rows: int) -> None:
    sparse = array([MessageId(PRODUCER_MAX, number << 20).packed for number in range(rows)])
    assert Places(sparse).count == rows
    dense = array([MessageId(3, 7 + number).packed for number in range(rows)])
    assert Places(dense).count == rows


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 9)), max_size=12))
def test_runs_bring_equals_together(rows: list[tuple[int, int, int]]) -> None:
    one, other, within = (np.array([row[place] for row in rows], np.int64) for place in range(3))
    order, starts = runs((one, other), within=(within,))
    assert order.tolist() == sorted(range(len(rows)), key=lambda row: rows[row])
    keys = [rows[row][:2] for row in order]
    assert starts.tolist() == [n for n, key in enumerate(keys) if n == 0 or key != keys[n - 1]]
