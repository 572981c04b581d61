"""How long were messages on their way, as journals tell that are still being written?"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.history.journal import CONFIRM, DELIVER, PUBLISH, Journal
from harness.operation import Outcome
from harness.runner.passages import deliveries_ns, publishes_ns

START = 1_000


def producer(
    path: Path, publishes: list[tuple[int, int, int | None]], outcome: Outcome = Outcome.OK, attempt: int = 1
) -> Path:
    """A journal of publishes: (message, invoked, answered)."""
    journal = Journal(path, client=1, origin_ns=START)
    for tag, (message, invoked, answered) in enumerate(publishes, 1):
        journal.write(PUBLISH, 0, 1, attempt, 0, message, START + invoked, START + invoked, tag)
        if answered is not None:
            journal.write(CONFIRM, outcome, 1, 0, 0, tag, tag, START + answered)
    journal.close()
    return path


def consumer(path: Path, receipts: list[tuple[int, ...]]) -> Path:
    """A journal of deliveries: (message, received), or (message, received, attempt)."""
    journal = Journal(path, client=2, origin_ns=START)
    for number, (message, received, *attempt) in enumerate(receipts, 1):
        journal.write(DELIVER, 0, 1, attempt[0] if attempt else 1, 0, message, 0, START + received, 0, number)
    journal.close()
    return path


def test_the_quickest_publish_is_one_that_began_and_was_answered_between(tmp_path: Path) -> None:
    path = producer(tmp_path / "p", [(1, 10, 15), (2, 20, 60), (3, 30, 50), (4, 40, 45), (5, 45, None)])
    assert publishes_ns({"p": path}, 0, 100) == {"p": 5}
    assert publishes_ns({"p": path}, 20, 100) == {"p": 5}
    assert publishes_ns({"p": path}, 20, 44) == {}
    assert publishes_ns({"p": path}, 20, 50) == {"p": 5}
    assert publishes_ns({"p": path}, 41, 100) == {}


def test_of_less_than_were_asked_for_there_is_none(tmp_path: Path) -> None:
    path = producer(tmp_path / "p", [(1, 10, 15), (2, 20, 60), (3, 30, 50)])
    assert publishes_ns({"p": path}, 0, 100, 3) == {"p": 5}
    assert publishes_ns({"p": path}, 0, 100, 4) == {}
    got = consumer(tmp_path / "c", [(1, 30), (2, 35)])
    assert deliveries_ns({"c": got}, [path], 0, 100, 2) == {"c": 15}
    assert deliveries_ns({"c": got}, [path], 0, 100, 3) == {}


def test_a_publish_that_was_refused_says_nothing_of_the_way(tmp_path: Path) -> None:
    assert publishes_ns({"p": producer(tmp_path / "p", [(1, 10, 11)], Outcome.FAIL)}, 0, 100) == {}


DELIVERIES: dict[str, tuple[list[tuple[int, ...]], int, int, int | None]] = {
    "the quickest of all": ([(1, 30), (2, 35)], 0, 100, 15),
    "of what was published since": ([(1, 30), (2, 35), (3, 80)], 30, 100, 50),
    "of what came by then": ([(1, 30), (3, 80)], 30, 79, None),
    "of a message that nobody here published": ([(9, 30)], 0, 100, None),
    "of its own attempt, the first": ([(4, 95)], 0, 100, 55),
    "of its own attempt, the second": ([(4, 95, 2)], 0, 100, 5),
    "of an attempt that was made since": ([(4, 95), (4, 97, 2)], 50, 100, 7),
    "of an attempt that nobody made": ([(4, 95, 3)], 0, 100, None),
    "of nothing": ([], 0, 100, None),
}


@pytest.mark.parametrize("case", DELIVERIES)
def test_the_quickest_delivery_is(case: str, tmp_path: Path) -> None:
    receipts, since_ns, until_ns, quickest = DELIVERIES[case]
    first = producer(tmp_path / "first", [(1, 10, 12), (2, 20, 22), (3, 30, 32), (4, 40, None)])
    again = producer(tmp_path / "again", [(4, 90, 92)], attempt=2)
    found = deliveries_ns({"c": consumer(tmp_path / "c", receipts)}, [first, again], since_ns, until_ns)
    assert found == ({} if quickest is None else {"c": quickest})


def test_where_nobody_published_nothing_was_on_its_way(tmp_path: Path) -> None:
    assert deliveries_ns({"c": consumer(tmp_path / "c", [(1, 30)])}, [], 0, 100) == {}
