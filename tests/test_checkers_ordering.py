"""When is a message out of order, and when did nobody promise an order? Small histories whose keys say it."""

from __future__ import annotations

import pytest

from harness.checkers import ordering
from harness.checkers.facts import gather
from harness.checkers.judge import judge
from harness.guarantee import Status
from tests.histories import Event, deliver, history, packed, publish, terms

THREE = [publish(1).acked(), publish(2).acked(), publish(3).acked()]

# events, messages that are reordered, deliveries that are "not ordered by contract"
CASES: dict[str, tuple[list[Event], list[int], int]] = {
    "in published order": ([*THREE, deliver(1), deliver(2), deliver(3)], [], 0),
    "overtaken by its successor": ([*THREE, deliver(2), deliver(1), deliver(3)], [1], 0),
    "two that were overtaken by one": ([*THREE, deliver(3), deliver(1), deliver(2)], [1, 2], 0),
    "in the order of publication, which is not that of their numbers": (
        [publish(1).at(2).acked(), publish(2).at(1).acked(), deliver(2), deliver(1)],
        [],
        0,
    ),
    "in the order of their numbers, which is not that of publication": (
        [publish(1).at(2).acked(), publish(2).at(1).acked(), deliver(1), deliver(2)],
        [2],
        0,
    ),
    "a gap is not out of order": ([*THREE, deliver(1), deliver(3)], [], 0),
    "a redelivery is not ordered by contract": ([*THREE, deliver(2), deliver(3), deliver(1).again()], [], 1),
    "a second unflagged receipt is a duplicate, not out of order": (
        [*THREE, deliver(1), deliver(2), deliver(1), deliver(3)],
        [],
        1,
    ),
    "over a new connection of the consumer": ([*THREE, deliver(2), deliver(1).over(2)], [], 0),
    "to two consumers of one group": ([*THREE, deliver(2).to(101), deliver(1).to(102)], [], 0),
    "published over two connections": (
        [publish(1).acked(), publish(2).over(2).acked(), deliver(2), deliver(1)],
        [],
        0,
    ),
    "of two producers": ([publish(1).acked(), publish((2, 1)).acked(), deliver((2, 1)), deliver(1)], [], 0),
    "a retry is published when it is retried": (
        [publish(1), publish(2).acked(), publish(1).retry(2).acked(), deliver(2), deliver(1).of_attempt(2)],
        [],
        0,
    ),
    "a first attempt that arrives after a later message": (
        [publish(1), publish(2).acked(), publish(1).retry(2).acked(), deliver(2), deliver(1)],
        [1],
        0,
    ),
    "a retry that arrives before what was published before it": (
        [publish(1), publish(2).acked(), publish(1).retry(2).acked(), deliver(1).of_attempt(2), deliver(2)],
        [2],
        0,
    ),
    "an attempt that was never invoked": ([publish(1).acked(), deliver(1).of_attempt(7)], [], 1),
    "an attempt without a connection": ([publish(1).over(0).acked(), deliver(1)], [], 1),
    "damaged and foreign deliveries are not compared": (
        [*THREE, deliver(2), deliver(1).damaged(), deliver(1).of_another_run()],
        [],
        0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_order(case: str) -> None:
    events, reordered, exempt = CASES[case]
    findings = ordering.check(gather(history(*events)))
    assert [int(message) for message in findings.reordered.ids] == [packed(number) for number in reordered]
    assert findings.exempt == exempt


def test_receipts_at_one_instant_are_in_the_order_of_their_numbers() -> None:
    events = [*THREE, deliver(2).at(50), deliver(1).at(50)]
    assert ordering.check(gather(history(*events))).reordered.count == 1


def test_order_is_judged_only_where_it_is_promised() -> None:
    events = [*THREE, deliver(2), deliver(1), deliver(3)]
    promised, free = (judge(history(*events, terms=terms(ordered=ordered))) for ordered in (True, False))
    assert promised.verdicts["ordered"].status is Status.VIOLATED
    assert promised.verdicts["ordered"].sentence == (
        "ordered VIOLATED: 1 messages received out of published order, among 3 compared"
    )
    assert "ordered" not in free.verdicts
    assert free.counts["reordered"] == 1
