"""When are times of publication kept, and when do the numbers of messages say their order?"""

from __future__ import annotations

import pytest

from harness.checkers import gathering
from harness.checkers.facts import gather
from harness.history import history as table
from tests.histories import Event, deliver, history, publish

IN_ORDER: dict[str, list[Event]] = {
    "one after another": [publish(1).at(1).acked(), publish(2).at(2).acked(), publish(4).at(3)],
    "of two producers, each by itself": [
        publish(1).at(1).acked(),
        publish((2, 1)).at(0.5).acked(),
        publish(2).at(2),
        publish((2, 2)).at(3),
    ],
    "over two connections, one after the other": [publish(1).at(1).acked(), publish(2).at(2).over(2).acked()],
    "outcomes differ": [publish(1).at(1).acked(), publish(2).at(2).refused(), publish(3).at(3)],
    "one of them never sent": [publish(1).at(1).acked(), publish(2).at(2).never_sent(), publish(3).at(3).acked()],
}
NOT_IN_ORDER: dict[str, list[Event]] = {
    "a later number first": [publish(1).at(2).acked(), publish(2).at(1).acked()],
    "two at one moment": [publish(1).at(1).acked(), publish(2).at(1).acked()],
    "tried again": [publish(1).at(1), publish(2).at(2).acked(), publish(1).at(3).retry(2).acked()],
}


@pytest.mark.parametrize("rows", [1, 2, table.CHUNK_ROWS])
@pytest.mark.parametrize("case", [*IN_ORDER, *NOT_IN_ORDER])
def test_times_are_kept_only_where_numbers_do_not_say_the_order(
    case: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "CHUNK_ROWS", rows)
    past = history(*(IN_ORDER | NOT_IN_ORDER)[case], deliver(1))
    for compiled in (False, None):
        gathered: gathering.Gathering = gather(past, compiled=compiled).gathered
        kept = len(gathered.invoked.times_ns)
        assert kept == (0 if case in IN_ORDER else gathered.places.count)


def test_connections_that_are_too_mixed_to_be_followed_one_by_one_have_their_times_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "RUNS_MAX", 1)
    past = history(publish(1).at(1).acked(), publish(2).at(2).over(2).acked(), publish(3).at(3).acked(), deliver(1))
    assert len(gather(past, compiled=False).gathered.invoked.times_ns) == 3
