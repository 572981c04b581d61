"""When does "never delivered" mean that the broker strands a message? Only while consumers could have received it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.checkers.judge import judge
from harness.guarantee import Status
from harness.history.history import History
from harness.operation import AckKind
from tests.histories import (
    CONSUMER,
    Deliver,
    Event,
    deliver,
    fair_events,
    fair_history,
    injection,
    left,
    note,
    publish,
)

NEVER_RECOVERED = injection(recovered_ns=None)


def undelivered() -> list[Event]:
    """Acked messages 150 and up are never delivered, and still in the broker at the end."""
    events = [one for one in fair_events() if not (isinstance(one, Deliver) and int(str(one.message)) >= 150)]
    return [*events, *(left(number) for number in range(150, 401))]


def stuck(*more: Event, **changes: object) -> History:
    return fair_history(*more, events=undelivered(), **{"drained": False, "drained_why_not": "251 ready", **changes})


def test_what_idle_consumers_never_get_is_stranded() -> None:
    judgement = judge(stuck())
    assert judgement.counts["stranded"] == 251
    assert judgement.verdicts["at_least_once"].status is Status.VIOLATED


BUSY: dict[str, tuple[Callable[[], History], str]] = {
    "its connection was lost and never came back": (
        lambda: stuck(note("lost", 1500, client=CONSUMER), injections=(NEVER_RECOVERED,)),
        "no consumer was connected while the system was drained",
    ),
    "it was cancelled and never consumed again": (
        lambda: stuck(note("basic.cancel", 1500, client=CONSUMER)),
        "no consumer was connected while the system was drained",
    ),
    "the system never recovered": (
        lambda: stuck(injections=(NEVER_RECOVERED,)),
        "the system did not recover from every fault",
    ),
    "the cluster was not whole": (lambda: stuck(whole=False), "the cluster was not whole at the end: nobody knows why"),
    "it held as many as it may": (
        lambda: stuck(*(deliver(number).at(3990) for number in range(1, 11)), settings={"prefetch": 10}),
        "every consumer held as many unsettled deliveries as it may",
    ),
}


@pytest.mark.parametrize("why", BUSY)
def test_what_busy_or_absent_consumers_never_get_is_not_called_stranded(why: str) -> None:
    make, reason = BUSY[why]
    judgement = judge(make())
    verdict = judgement.verdicts["at_least_once"]
    assert verdict.status is Status.UNKNOWN
    assert reason in verdict.reasons
    assert judgement.counts["stranded"] == 0
    assert judgement.counts["stranded_so_far"] == 251


def test_a_connection_that_came_back_is_one() -> None:
    lost_and_found = note("lost", 1500, client=CONSUMER), note("connected", 2200, client=CONSUMER)
    assert judge(stuck(*lost_and_found)).counts["stranded"] == 251


def test_nobody_is_full_under_automatic_acknowledgement() -> None:
    events = [one.automatic() if isinstance(one, Deliver) else one for one in undelivered()]
    past = fair_history(
        events=events, drained=False, drained_why_not="ready", ack=AckKind.AUTOMATIC, settings={"prefetch": 1}
    )
    assert judge(past).counts["stranded"] == 251


@pytest.mark.parametrize("event", [publish(900).at(1500), publish(900).refused().at(1500)], ids=["open", "refused"])
def test_what_nobody_was_promised_is_left_and_not_stranded(event: Event) -> None:
    judgement = judge(fair_history(event, left(900), drained=False, drained_why_not="1 ready"))
    assert (judgement.counts["stranded"], judgement.counts["left_unpromised"]) == (0, 1)
    assert judgement.verdicts["at_least_once"].status is Status.UNKNOWN
