"""Is a queue's history linearizable, first in first out? Small histories, then every order is tried."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkers import fifo
from harness.checkers.queue_operations import Dequeues, Enqueues
from harness.guarantee import Status
from harness.operation import MessageId
from tests import queue_histories
from tests.linearizations import Op, explained, linearizable
from tests.queue_histories import packed, tables

SEED = 7
HISTORIES_PER_KIND = 1_600
RETURNS = 3_000
NOBODYS = 9_999


def enq(value: int, start: int, end: int | None) -> Op:
    return Op("enq", start, end, value)


def deq(value: int, start: int, end: int) -> Op:
    return Op("deq", start, end, value)


def unanswered(start: int) -> Op:
    return Op("deq", start, None)


def empty(start: int, end: int) -> Op:
    return Op("empty", start, end)


def refused(value: int, start: int, end: int) -> Op:
    return Op("enq", start, end, value, failed=True)


def refused_dequeue(value: int, start: int, end: int) -> Op:
    return Op("deq", start, end, value, failed=True)


def found(history: list[Op]) -> dict[str, int]:
    """Every bad pattern that is found, and how often."""
    return {name: one.count for name, one in fifo.check(*tables(history)).anomalies.items() if one}


TWO = [enq(1, 1, 2), enq(2, 3, 4)]

# operations (enq and deq: value, invoked, completed; None: never answered), bad patterns that are found
CASES: dict[str, tuple[list[Op], dict[str, int]]] = {
    "no operations at all": ([], {}),
    "enqueues alone": (TWO, {}),
    "in the order of the enqueues": ([*TWO, deq(1, 5, 6), deq(2, 7, 8)], {}),
    "in the other order": ([*TWO, deq(2, 5, 6), deq(1, 7, 8)], {"overtaken": 1}),
    "in the other order, by dequeues that overlap": ([*TWO, deq(2, 5, 7), deq(1, 6, 8)], {}),
    "in the other order, by dequeues that touch": ([*TWO, deq(2, 5, 7), deq(1, 7, 8)], {}),
    "in either order after enqueues that overlap": ([enq(1, 1, 3), enq(2, 2, 4), deq(2, 5, 6), deq(1, 7, 8)], {}),
    "in either order after enqueues that touch": ([enq(1, 1, 2), enq(2, 2, 4), deq(2, 5, 6), deq(1, 7, 8)], {}),
    "two that were overtaken by one": (
        [*TWO, enq(3, 5, 6), deq(3, 7, 8), deq(1, 9, 10), deq(2, 11, 12)],
        {"overtaken": 2},
    ),
    "overtaken by a neighbour's successor, not by its neighbour": (
        [enq(1, 1, 3), enq(2, 2, 4), enq(3, 5, 6), deq(2, 7, 8), deq(3, 9, 10), deq(1, 11, 12)],
        {"overtaken": 1},
    ),
    "the first is still in the queue though the second was dequeued": ([*TWO, deq(2, 5, 6)], {"passed_over": 1}),
    "the second is still in the queue": ([*TWO, deq(1, 5, 6)], {}),
    "dequeued while it was enqueued": ([enq(1, 1, 9), deq(1, 2, 3)], {}),
    "dequeued before it was enqueued": ([enq(1, 5, 6), deq(1, 2, 3)], {"dequeued_early": 1}),
    "dequeued by an answer that touches its enqueue": ([enq(1, 5, 6), deq(1, 2, 5)], {}),
    "dequeued twice": ([enq(1, 1, 2), deq(1, 3, 4), deq(1, 5, 6)], {"dequeued_twice": 1}),
    "dequeued twice, at once": ([enq(1, 1, 2), deq(1, 3, 4), deq(1, 3, 4)], {"dequeued_twice": 1}),
    "dequeued three times is one value": (
        [enq(1, 1, 2), deq(1, 3, 4), deq(1, 5, 6), deq(1, 7, 8)],
        {"dequeued_twice": 1},
    ),
    "never enqueued": ([enq(1, 1, 2), deq(1, 3, 4), deq(5, 5, 6)], {"phantom": 1}),
    # ---- pending and failed enqueues
    "an unanswered enqueue that was dequeued": ([enq(1, 1, None), deq(1, 9, 10)], {}),
    "an unanswered enqueue that never happened": ([enq(1, 1, None), enq(2, 3, 4), deq(2, 5, 6)], {}),
    "an unanswered enqueue may come late": (
        [enq(1, 1, None), enq(2, 3, 4), deq(2, 5, 6), enq(3, 7, 8), deq(3, 9, 10), deq(1, 11, 12)],
        {},
    ),
    "an unanswered enqueue that was dequeued before it was invoked": (
        [enq(1, 5, None), deq(1, 1, 2)],
        {"dequeued_early": 1},
    ),
    "an unanswered enqueue overtakes as any other": (
        [enq(1, 1, 2), enq(2, 3, None), deq(2, 5, 6), deq(1, 7, 8)],
        {"overtaken": 1},
    ),
    "a refused enqueue is not in the queue": ([refused(1, 1, 2), enq(2, 3, 4), deq(2, 5, 6), empty(7, 8)], {}),
    "a refused enqueue that was dequeued": ([refused(1, 1, 2), deq(1, 3, 4)], {"visible_failure": 1}),
    "a refused enqueue that was tried again": ([refused(1, 1, 2), enq(1, 3, 4), deq(1, 5, 6)], {}),
    "a refused dequeue has taken nothing": ([enq(1, 1, 2), refused_dequeue(1, 3, 4), deq(1, 5, 6)], {}),
    # ---- pending dequeues
    "an unanswered dequeue may have taken the first": ([*TWO, unanswered(5), deq(2, 6, 7)], {}),
    "an unanswered dequeue may have taken nothing": ([*TWO, unanswered(5), deq(1, 6, 7), deq(2, 8, 9)], {}),
    "an unanswered dequeue takes one value, not two": (
        [*TWO, enq(3, 5, 6), unanswered(7), deq(3, 8, 9)],
        {"passed_over": 1},
    ),
    "two unanswered dequeues take two": ([*TWO, enq(3, 5, 6), unanswered(7), unanswered(7), deq(3, 8, 9)], {}),
    "an unanswered dequeue that came too late for it": ([*TWO, deq(2, 5, 6), unanswered(7)], {"passed_over": 1}),
    "an unanswered dequeue that came just in time": ([*TWO, deq(2, 5, 6), unanswered(6)], {}),
    "one of two unanswered dequeues came too late": (
        [*TWO, enq(3, 5, 6), unanswered(7), deq(3, 8, 9), unanswered(10)],
        {"passed_over": 1},
    ),
    "the value with the nearer deadline is taken first": (
        [*TWO, enq(3, 5, 6), enq(4, 7, 8), deq(2, 9, 10), unanswered(5), unanswered(11), deq(4, 12, 13)],
        {},
    ),
    "the nearer deadline may be of the value that was enqueued later": (
        [
            *[enq(1, 1, 20), enq(2, 2, 3), enq(3, 4, 5), deq(3, 6, 7), unanswered(7)],
            *[enq(4, 21, 22), deq(4, 23, 24), unanswered(24)],
        ],
        {},
    ),
    "what no unanswered dequeue can excuse leaves them to the others": (
        [
            *[enq(1, 1, 2), enq(2, 3, 4), deq(2, 5, 6)],
            *[enq(3, 7, 8), enq(4, 9, 10), enq(5, 11, 12), enq(6, 13, 14)],
            *[unanswered(15), unanswered(15), unanswered(15), deq(6, 16, 17)],
        ],
        {"passed_over": 1},
    ),
    "an unanswered dequeue does not excuse an answered one": (
        [*TWO, unanswered(1), deq(2, 5, 6), deq(1, 7, 8)],
        {"overtaken": 1},
    ),
    # ---- empty answers
    "empty before anything": ([empty(1, 2), enq(1, 3, 4), deq(1, 5, 6)], {}),
    "empty while a value is inside": ([enq(1, 1, 2), empty(3, 4), deq(1, 5, 6)], {"false_empty": 1}),
    "empty as the enqueue ends": ([enq(1, 1, 3), empty(3, 4), deq(1, 5, 6)], {}),
    "empty as the dequeue begins": ([enq(1, 1, 2), empty(3, 5), deq(1, 5, 6)], {}),
    "empty between two values": ([enq(1, 1, 2), deq(1, 3, 4), empty(3, 8), enq(2, 6, 7), deq(2, 9, 10)], {}),
    "empty while one value or another is inside": (
        [enq(1, 1, 2), enq(2, 4, 5), empty(3, 8), deq(1, 6, 7), deq(2, 9, 10)],
        {"false_empty": 1},
    ),
    "empty at the very moment between one value and the next": (
        [enq(1, 1, 2), enq(2, 4, 6), empty(3, 8), deq(1, 6, 7), deq(2, 9, 10)],
        {},
    ),
    "empty though a value was never dequeued": ([enq(1, 1, 2), empty(3, 4)], {"false_empty": 1}),
    "empty while a value was enqueued that was never dequeued": ([enq(1, 1, 5), empty(3, 4)], {}),
    "empty though an unanswered enqueue was invoked": ([enq(1, 1, None), empty(3, 4)], {}),
    "two wrong answers": ([enq(1, 1, 2), empty(3, 4), empty(5, 6), deq(1, 7, 8)], {"false_empty": 2}),
    "empty, for an unanswered dequeue has taken it": ([enq(1, 1, 2), unanswered(3), empty(4, 5)], {}),
    "empty before the unanswered dequeue was invoked": ([enq(1, 1, 2), empty(3, 4), unanswered(5)], {"false_empty": 1}),
    "empty as the unanswered dequeue is invoked": ([enq(1, 1, 2), empty(3, 5), unanswered(5)], {}),
    "an unanswered dequeue has not emptied a queue of two": (
        [*TWO, unanswered(5), empty(6, 7)],
        {"false_empty": 1},
    ),
    "one unanswered dequeue for the value passed over, and one for the empty queue": (
        [*TWO, enq(3, 5, 6), deq(2, 7, 8), unanswered(7), unanswered(9), empty(10, 11)],
        {},
    ),
    # ---- one wrong is told of once
    "what was passed over is not held against the empty queue": ([*TWO, deq(2, 5, 6), empty(7, 8)], {"passed_over": 1}),
    "what came before its enqueue is in nobody's way": (
        [enq(1, 1, 2), deq(2, 3, 4), enq(2, 5, 6), empty(7, 7), deq(1, 6, 9)],
        {"dequeued_early": 1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_patterns(case: str) -> None:
    history, expected = CASES[case]
    assert found(history) == expected
    assert linearizable(history) == (not expected), "the table itself is wrong"


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_the_rows_means_nothing(case: str) -> None:
    history, expected = CASES[case]
    assert found(history[::-1]) == expected


@pytest.mark.parametrize(
    "ids",
    [
        [MessageId(1, 1), MessageId(1, 2), MessageId(2, 1)],
        [MessageId(1, 1), MessageId(3, 10**9), MessageId(70_000, 5)],
        [MessageId(0, 0), MessageId(2**24 - 1, 2**40 - 1), MessageId(2**23, 0)],
    ],
    ids=["dense", "sparse", "at the limits"],
)
def test_ids_may_be_any(ids: list[MessageId]) -> None:
    """Nobody's ids, next to those of values and far away, are nobody's; the values find their dequeues."""
    values = [one.packed for one in ids]
    strange = [number for one in values for number in (one ^ 1, one ^ 1 << 40, one ^ 1 << 63) if number not in values]
    begin = np.arange(3) * 10
    moments = 100 + np.arange(3 + len(strange)) * 10
    findings = fifo.check(
        Enqueues(invoked_ns=begin, completed_ns=begin + 5, outcome=np.ones(3), value=np.array(values, np.uint64)),
        Dequeues(
            invoked_ns=moments,
            completed_ns=moments + 5,
            outcome=np.ones(len(moments)),
            value=np.array([*values, *strange], np.uint64),
            empty=np.zeros(len(moments)),
        ),
    )
    assert {name: one.count for name, one in findings.anomalies.items() if one} == {"phantom": len(strange)}
    assert set(findings.anomalies["phantom"].ids.tolist()) == set(strange)


# ---- what is said ----------------------------------------------------------------------------------------------------


def test_a_verdict_is_a_sentence_with_its_figures() -> None:
    findings = fifo.check(*tables([*TWO, deq(1, 5, 6), deq(2, 7, 8), empty(9, 10), unanswered(11)]))
    assert findings.status is Status.HELD
    assert findings.sentence == (
        "linearizable_fifo HELD: one order explains 2 enqueues, 2 dequeues and 1 answers 'empty', "
        "with 1 operations never answered"
    )


def test_nothing_is_held_where_no_dequeue_was_answered() -> None:
    findings = fifo.check(*tables([*TWO, unanswered(5)]))
    assert findings.linearizable
    assert findings.status is Status.UNKNOWN
    assert findings.sentence == ("linearizable_fifo UNKNOWN: no dequeue was answered, so nothing was at stake")


def test_the_witness_of_an_overtaking_names_both_values_and_their_rows() -> None:
    findings = fifo.check(*tables([enq(9, 0, 1), *TWO, deq(9, 4, 5), deq(2, 5, 6), deq(1, 7, 8)]))
    assert findings.status is Status.VIOLATED
    assert findings.sentence == ("linearizable_fifo VIOLATED: 1 values dequeued after one that was enqueued later")
    (witness,) = findings.anomalies["overtaken"].witnesses
    assert witness.message == packed(1)
    assert witness.story == (
        "value 2:0: enqueue 1 (0.000000001 s to 0.000000002 s), dequeue 2 (0.000000007 s to 0.000000008 s); but "
        "value 3:0: enqueue 2 (0.000000003 s to 0.000000004 s), dequeue 1 (0.000000005 s to 0.000000006 s)"
    )
    assert findings.rows["overtaken"] == (fifo.Rows(enqueues=(1, 2), dequeues=(2, 1)),)
    assert (findings.anomalies["overtaken"].first_ns, findings.anomalies["overtaken"].last_ns) == (1, 8)


def test_the_witness_of_a_false_empty_names_the_values_that_cover_it() -> None:
    findings = fifo.check(*tables([enq(1, 1, 2), enq(2, 4, 5), empty(3, 8), deq(1, 6, 7), deq(2, 9, 10)]))
    (witness,) = findings.anomalies["false_empty"].witnesses
    assert witness.message is None
    assert witness.story == (
        "dequeue 0 (0.000000003 s to 0.000000008 s) found the queue empty; but value 2:0: enqueue 0 (0.000000001 s to "
        "0.000000002 s), dequeue 1 (0.000000006 s to 0.000000007 s); then value 3:0: enqueue 1 (0.000000004 s to "
        "0.000000005 s), dequeue 2 (0.000000009 s to 0.000000010 s)"
    )
    assert findings.rows["false_empty"] == (fifo.Rows(enqueues=(0, 1), dequeues=(0, 1, 2)),)


def test_the_witness_of_a_false_empty_counts_unanswered_dequeues() -> None:
    findings = fifo.check(*tables([*TWO, unanswered(5), empty(6, 7)]))
    (witness,) = findings.anomalies["false_empty"].witnesses
    assert witness.story == (
        "dequeue 1 (0.000000006 s to 0.000000007 s) found the queue empty; but, from 0.000000006 s on: values 2:0, 3:0 "
        "were enqueued before and never dequeued, and of the dequeues invoked by then, which may have taken one each, "
        "1 was never answered"
    )
    assert findings.rows["false_empty"] == (fifo.Rows(enqueues=(0, 1), dequeues=(1,)),)


def test_where_nothing_was_enqueued_every_value_is_nobodys() -> None:
    assert found([deq(1, 1, 2), deq(2, 3, 4)]) == {"phantom": 2}
    assert found([deq(1, 1, 2)]) == {"phantom": 1}
    assert found([enq(1, 1, 2)]) == {}


def test_the_witness_of_a_false_empty_names_no_more_values_than_it_needs() -> None:
    history = [enq(1, 1, 2), enq(2, 3, 4), empty(10, 20), deq(1, 12, 13), deq(2, 30, 31)]
    findings = fifo.check(*tables(history))
    assert findings.rows["false_empty"] == (fifo.Rows(enqueues=(1,), dequeues=(0, 2)),)


def test_the_witness_of_a_false_empty_names_what_was_stored_wholly_before() -> None:
    findings = fifo.check(*tables([enq(1, 1, 10), enq(2, 2, 3), empty(10, 11)]))
    assert findings.rows["false_empty"] == (fifo.Rows(enqueues=(1,), dequeues=(0,)),)


def test_the_witness_of_a_false_empty_counts_a_dequeue_that_is_invoked_at_its_moment() -> None:
    findings = fifo.check(*tables([*TWO, unanswered(6), empty(6, 7)]))
    assert findings.rows["false_empty"] == (fifo.Rows(enqueues=(0, 1), dequeues=(1,)),)
    assert "1 was never answered" in findings.anomalies["false_empty"].witnesses[0].story


def test_the_witness_of_a_false_empty_names_the_first_of_a_long_chain() -> None:
    chain = [
        op for value in range(1, 8) for op in (enq(value, 10 * value, 10 * value + 1), deq(value, 10 * value + 15, 99))
    ]
    findings = fifo.check(*tables([*chain, empty(12, 80)]))
    assert [rows.enqueues for rows in findings.rows["false_empty"]] == [(0, 1, 2, 3)]


def test_a_dequeue_and_an_answer_empty_are_both_at_stake() -> None:
    assert fifo.check(*tables([enq(1, 1, 2), deq(1, 3, 4), empty(5, 6)])).status is Status.HELD


def test_what_nobody_enqueued_is_counted_among_the_dequeues() -> None:
    findings = fifo.check(*tables([enq(1, 1, 2), deq(1, 3, 4), deq(NOBODYS, 5, 6), empty(7, 8)]))
    assert (findings.enqueued, findings.dequeued, findings.empties, findings.pending) == (1, 2, 1, 0)


def test_every_pattern_is_looked_for() -> None:
    assert list(fifo.check(*tables([])).anomalies) == list(fifo.PATTERNS)


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_values_must_be_distinct() -> None:
    with pytest.raises(ValueError, match="value 2:0 is enqueued twice"):
        fifo.check(*tables([enq(1, 1, 2), enq(1, 3, None)]))


def columns(**changes: list[int]) -> dict[str, np.ndarray]:
    told = {"invoked_ns": [1, 3], "completed_ns": [2, 4], "outcome": [1, 1], "value": [1, 2], **changes}
    return {name: np.array(column) for name, column in told.items()}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"value": [1]}, "columns of unequal length"),
        ({"outcome": [1, 3]}, "outcome 3 is none"),
        ({"completed_ns": [2, 2]}, "row 1 is OK, yet completed at 2 ns, before it was invoked at 3 ns"),
        ({"value": [[1, 2]]}, "column value has 2 dimensions"),
    ],
)
def test_columns_that_are_no_operations_are_refused(changes: dict[str, list[int]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Enqueues(**columns(**changes))
    with pytest.raises(ValueError, match=says):
        Dequeues(**columns(**changes), empty=np.array([False, False]))


# ---- every order tried -----------------------------------------------------------------------------------------------

KINDS: dict[str, frozenset[str]] = {
    "answered operations alone": frozenset(),
    "with pending enqueues": frozenset({"pending enqueue", "failed"}),
    "with pending dequeues": frozenset({"pending dequeue"}),
    "with empty answers": frozenset({"empty"}),
    "with duplicates": frozenset({"duplicate", "empty"}),
    "with everything": frozenset({"pending enqueue", "pending dequeue", "empty", "duplicate", "failed"}),
    "with pending dequeues and empty answers": frozenset({"pending dequeue", "empty"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdict_is_that_of_trying_every_order(kind: str, prove: Callable[[str, int], None]) -> None:
    """1,600 histories of each kind, 11,200 in all."""
    seed = random.Random(f"{SEED} {kind}")
    decided: Counter[bool] = Counter()
    for _ in range(HISTORIES_PER_KIND):
        history = queue_histories.drawn(
            seed, enqueues=seed.randint(2, 6), dequeues=seed.randint(2, 6), kinds=KINDS[kind]
        )
        expected = linearizable(history)
        assert fifo.check(*tables(history)).linearizable == expected, history
        decided[expected] += 1
    prove("random histories of queues, judged as by trying every order", HISTORIES_PER_KIND)
    prove("    of them are linearizable", decided[True])
    assert min(decided.values()) >= HISTORIES_PER_KIND / 20, "both verdicts must be put to the test"


moments = st.integers(0, 12)


@st.composite
def any_operations(draw: st.DrawFn) -> list[Op]:
    """Operations at any moments at all, as no queue would have them: ties, and answers to anything."""
    ops: list[Op] = []
    for value in range(1, draw(st.integers(1, 4)) + 1):
        start = draw(moments)
        end = draw(st.none() | st.integers(start, 12))
        ops.append(Op("enq", start, end, value, failed=draw(st.integers(0, 7)) == 7))
    for _ in range(draw(st.integers(0, 5))):
        start = draw(moments)
        kind = draw(st.sampled_from(["deq", "deq", "empty"]))
        end = draw(st.none() | st.integers(start, 12))
        ops.append(Op("deq" if end is None else kind, start, end, draw(st.integers(1, 5))))
    return ops


@settings(max_examples=800, deadline=None)
@given(history=any_operations())
def test_the_verdict_is_that_of_trying_every_order_on_anything(history: list[Op]) -> None:
    assert fifo.check(*tables(history)).linearizable == linearizable(history)


def test_returns_are_held_only_with_an_explanation_and_violated_only_without(
    prove: Callable[[str, int], None],
) -> None:
    seed = random.Random(SEED)
    told: Counter[str] = Counter()
    kinds = ({"pending dequeue"}, {"pending dequeue", "empty"}, {"pending dequeue", "empty", "pending enqueue"})
    for number in range(RETURNS):
        drawn = queue_histories.drawn(
            seed, enqueues=seed.randint(1, 4), dequeues=seed.randint(1, 5), kinds=frozenset(kinds[number % 3])
        )
        history = queue_histories.with_returns(seed, drawn)
        findings = fifo.check(*tables(history), may_return=queue_histories.returned(history))
        expected = explained(history)
        assert not (findings.violated and expected), history
        assert not (findings.linearizable and not expected), history
        told["violated" if findings.violated else "linearizable" if findings.linearizable else "undecided"] += 1
    assert min(told["violated"], told["linearizable"]) > RETURNS // 20, "both come up"
    assert told["undecided"] < RETURNS // 50, told
    for verdict, count in told.items():
        prove(f"histories of a queue with returns, {verdict}: never against what trying every order says", count)


def test_one_unanswered_dequeue_does_not_excuse_a_return_and_a_value_passed_over() -> None:
    """Nothing is decided of the answer "empty", and this is said: no explanation was found, and none was ruled out."""
    history = [
        *[unanswered(1), enq(1, 2, 2), unanswered(3), enq(2, 6, 6), empty(9, 9)],
        *[deq(1, 10, 10)._replace(returned=True), enq(3, 11, 11), enq(4, 14, 14), deq(4, 15, 15)],
    ]
    assert not explained(history)
    findings = fifo.check(*tables(history), may_return=queue_histories.returned(history))
    assert (findings.status, findings.undecided, findings.linearizable) == (Status.UNKNOWN, 1, False)
    assert findings.sentence.startswith("linearizable_fifo UNKNOWN: 1 answers 'empty' are true only if")


def test_one_unanswered_dequeue_does_not_excuse_two_returns() -> None:
    history = [
        *[enq(1, 1, 2), enq(2, 3, 4), unanswered(5), empty(6, 7)],
        *[deq(1, 8, 9)._replace(returned=True), deq(2, 10, 11)._replace(returned=True)],
    ]
    findings = fifo.check(*tables(history), may_return=queue_histories.returned(history))
    assert {name: one.count for name, one in findings.anomalies.items() if one} == {"false_empty": 1}
    (witness,) = findings.anomalies["false_empty"].witnesses
    assert "brought later (value" in witness.story
    assert witness.story.endswith("which may have taken one each, 1 was never answered")


def test_the_operations_of_a_witness_are_not_linearizable_by_themselves() -> None:
    """Whoever looks at the rows of a witness alone sees the wrong. Without pending dequeues, which excuse by number."""
    seed = random.Random(SEED)
    kinds = frozenset({"pending enqueue", "empty", "duplicate", "failed"})
    shown: Counter[str] = Counter()
    for _ in range(1_000):
        history = queue_histories.drawn(seed, enqueues=5, dequeues=5, kinds=kinds)
        enqueues = [op for op in history if op.kind == "enq"]
        dequeues = [op for op in history if op.kind != "enq"]
        for name, witnesses in fifo.check(*tables(history)).rows.items():
            for rows in witnesses:
                shown[name] += 1
                part = [enqueues[row] for row in rows.enqueues] + [dequeues[row] for row in rows.dequeues]
                assert not linearizable(part), (name, part)
    assert set(shown) >= {"dequeued_twice", "dequeued_early", "overtaken", "passed_over", "false_empty"}


# ---- planting --------------------------------------------------------------------------------------------------------


def valid(seed: random.Random, count: int) -> list[Op]:
    """A valid history of `count` values, enqueued and dequeued one at a time in turn, with slack for what is planted:
    value v is enqueued at 100 v and dequeued at 100 v + 1,050, each over up to 40; the queue is empty at both ends."""
    ops = [empty(20, 30), empty(100 * count + 1_200, 100 * count + 1_210)]
    for value in range(1, count + 1):
        start, taken = 100 * value + seed.randint(0, 20), 100 * value + 1_050 + seed.randint(0, 20)
        ops.append(enq(value, start, None if seed.random() < 0.1 else start + seed.randint(0, 20)))
        ops.append(deq(value, taken, taken + seed.randint(0, 20)))
    return ops


def enqueue_of(history: list[Op], value: int) -> int:
    return next(place for place, op in enumerate(history) if op.kind == "enq" and op.value == value)


def dequeue_of(history: list[Op], value: int) -> int:
    return next(place for place, op in enumerate(history) if op.kind == "deq" and op.value == value)


def answered_enqueue(history: list[Op], value: int) -> list[Op]:
    place = enqueue_of(history, value)
    return [*history[:place], history[place]._replace(end=history[place].start + 9), *history[place + 1 :]]


def _swap(history: list[Op], value: int) -> list[Op]:
    history = answered_enqueue(history, value)
    mine, theirs = dequeue_of(history, value), dequeue_of(history, value + 1)
    history[mine], history[theirs] = history[mine]._replace(value=value + 1), history[theirs]._replace(value=value)
    return history


def _lose(history: list[Op], value: int) -> list[Op]:
    history = answered_enqueue(history, value)
    del history[dequeue_of(history, value)]
    return history


def _repeat(history: list[Op], value: int) -> list[Op]:
    return [*history, deq(value, 100 * value + 1_300, 100 * value + 1_310)]


def _foresee(history: list[Op], value: int) -> list[Op]:
    place = dequeue_of(history, value)
    return [*history[:place], deq(value, 40, 50), *history[place + 1 :]]


def _invent(history: list[Op], value: int) -> list[Op]:
    return [*history, deq(NOBODYS, 100 * value, 100 * value + 5)]


def _refuse(history: list[Op], value: int) -> list[Op]:
    place = enqueue_of(history, value)
    history[place] = history[place]._replace(end=history[place].start + 9, failed=True)
    return history


def _lie(history: list[Op], value: int) -> list[Op]:
    history = answered_enqueue(history, value)
    return [*history, empty(100 * value + 500, 100 * value + 510)]


PLANTS: dict[str, tuple[Callable[[list[Op], int], list[Op]], str]] = {
    "a value overtaken by its successor": (_swap, "overtaken"),
    "a lost value": (_lose, "passed_over"),
    "a value dequeued twice": (_repeat, "dequeued_twice"),
    "a value dequeued before it was enqueued": (_foresee, "dequeued_early"),
    "a value that nobody enqueued": (_invent, "phantom"),
    "a value whose enqueue had failed": (_refuse, "visible_failure"),
    "an answer 'empty' from a queue that was not": (_lie, "false_empty"),
}


@pytest.mark.parametrize("count", [12, 2_000])
def test_a_valid_history_shows_nothing(count: int) -> None:
    for number in range(5):
        assert found(valid(random.Random(number), count)) == {}


@pytest.mark.parametrize("planted", PLANTS)
@pytest.mark.parametrize("count", [12, 2_000])
def test_what_is_planted_is_found_and_nothing_else(planted: str, count: int, prove: Callable[[str, int], None]) -> None:
    plant, name = PLANTS[planted]
    for number in range(5):
        seed = random.Random(f"{number} {planted}")
        value = seed.randint(2, count - 2)
        history = plant(valid(seed, count), value)
        findings = fifo.check(*tables(seed.sample(history, len(history))))
        assert {name: one.count for name, one in findings.anomalies.items() if one} == {name: 1}
        assert findings.anomalies[name].ids.tolist() in ([], [packed(value)], [packed(NOBODYS)])
        assert len(findings.rows[name]) == len(findings.anomalies[name].witnesses) == 1
    prove(f"plantings of {planted} into a queue's history: found, and nothing else", 5)
