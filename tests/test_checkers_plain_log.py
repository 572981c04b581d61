"""Is a log called plainly kept only where number by number nothing can be found? And is a healthy large one?"""

from __future__ import annotations

import random
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from harness.bench.synthetic import held, synthetic
from harness.checkers import streams
from harness.checkers.facts import gather
from harness.checkers.judge import judge
from harness.checkers.plain_log import plainly_kept
from harness.guarantee import Status
from harness.history.history import History, Table
from tests import random_histories
from tests.histories import Event, deliver, fair_history, history, left, publish, terms
from tests.test_checkers_reference import any_events, any_terms, chunk_rows, in_chunks_of
from tests.test_checkers_streams import CASES, STORED, read

WHY_NOT: dict[str, tuple[list[Event], dict[str, Any], str]] = {
    "several groups": ([*STORED, read(1)], {"groups": ("group", "other")}, "several groups"),
    "no flags": ([*STORED, read(1)], {"ordered": False}, "do not tell which are redeliveries"),
    "a stranger": ([*STORED, read(1), deliver(9).as_sequence(9)], {}, "nobody published"),
    "a stranger that the auditor read": ([*STORED, read(1), read(2), read(3), left(9, "stored", 9)], {}, "nobody"),
    "a retry": ([*STORED, publish(3).retry(2).acked(4), read(1), read(2), read(3)], {}, "more than once"),
    "a redelivery": ([*STORED, read(1), read(2), read(3), read(3).again()], {}, "delivered more than once"),
    "two numbers": ([*STORED, read(1), read(2), read(3, 4)], {}, "two numbers"),
    "two numbers, as the auditor read": ([*STORED, read(1), read(2), read(3), left(3, "owed", 4)], {}, "two numbers"),
    "two messages": ([publish(1).acked(1), publish(2).acked(1), read(1), read(2, 1).over(2)], {}, "two messages"),
    "no number": ([publish(1).acked(1), publish(2).acked(), read(1), read(2)], {}, "given no number"),
    "backwards": ([*STORED, read(1).at(10), read(3).at(11), read(2).at(12)], {}, "backwards"),
    "unseen": ([*STORED, read(1), read(2)], {}, "nobody saw"),
    "far apart": ([publish(1).acked(1), publish(2).acked(1 << 30), read(1), read(2, 1 << 30)], {}, "too far apart"),
    "another attempt": (
        [*STORED, read(1), read(2), deliver(3).of_attempt(2).as_sequence(3).acknowledged()],
        {},
        "attempts",
    ),
    "nothing but duplicates": (
        [publish(1).acked(1, duplicate=True), deliver(1).acknowledged()],
        {},
        "nothing was numbered",
    ),
    "nothing": ([publish(1), deliver(1).acknowledged()], {}, "nothing was numbered"),
}


@pytest.mark.parametrize("case", WHY_NOT)
def test_why_a_log_is_not_plainly_kept(case: str) -> None:
    events, changes, why_not = WHY_NOT[case]
    past = history(*events, terms=terms(**changes))
    assert why_not in str(plainly_kept(gather(past, compiled=False)))
    if find_spec("numba") is not None:
        assert why_not in str(plainly_kept(gather(past, compiled=True)))


def test_the_routes_are_one() -> None:
    past = history(*STORED, read(1), read(2), read(3))
    assert plainly_kept(gather(past)) == 3
    columns = {**past.tables["publications"], "route": np.array([1, 1, 2], np.uint16)}
    past = History({**past.tables, "publications": Table("publications", columns)}, past.terms, past.words)
    assert plainly_kept(gather(past)) == "messages were published over several routes"


def agrees(past: History) -> bool:
    """Whether it is plainly kept; then nothing else may be said number by number."""
    facts = gather(past)
    if not isinstance(kept := plainly_kept(facts), int):
        return False
    found = streams.check(facts)
    assert {name: anomaly.count for name, anomaly in found.anomalies.items()} == dict.fromkeys(streams.NAMES, 0)
    assert (found.numbers, found.untold) == (kept, ())
    return True


@pytest.mark.parametrize("case", CASES)
def test_what_is_plainly_kept_has_nothing_that_could_be_found(case: str) -> None:
    events, changes, broken = CASES[case]
    assert not (agrees(history(*events, terms=terms(**changes))) and broken)


@settings(max_examples=300, deadline=None)
@given(events=any_events, changes=any_terms, rows=chunk_rows)
def test_of_any_events(events: list[Event], changes: dict[str, Any], rows: int) -> None:
    with in_chunks_of(rows):
        agrees(history(*events, terms=terms(**changes)))


def test_of_random_runs() -> None:
    kept = [agrees(random_histories.in_order(random.Random(number))) for number in range(200)]
    assert sum(kept) > 10
    for number in range(200):
        agrees(random_histories.drawn(random.Random(number)))


@pytest.mark.parametrize("rows_at_once", [300, 100_000])
def test_a_healthy_large_log_is_held(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    past = synthetic(4000, chunk_rows=rows_at_once).history
    numbers = streams.check(gather(held(past))).numbers
    monkeypatch.setattr(streams, "ROWS_MAX", 100)
    verdict = judge(past).verdicts["log_consistent"]
    assert (verdict.status, verdict.exposure) == (Status.HELD, numbers)


def test_of_a_large_log_that_is_not_plainly_kept_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ROWS_MAX", 100)
    assert judge(fair_history()).verdicts["log_consistent"].status is Status.HELD
    verdict = judge(fair_history(read(101), read(101).again())).verdicts["log_consistent"]
    assert verdict.status is Status.UNKNOWN
    assert "too many to compare number by number" in verdict.sentence
