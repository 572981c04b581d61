"""Is the queue of a run linearizable? Small stories told inside a fair run whose messages are pulled one by one."""

from __future__ import annotations

from typing import Any

import pytest

from harness.checkers.judge import judge
from harness.guarantee import Status, Verdict
from harness.operation import AckKind
from tests.histories import (
    Deliver,
    Event,
    Pull,
    deliver,
    dropped,
    fair_events,
    fair_history,
    history,
    publish,
    pull,
)

HELD, VIOLATED, UNKNOWN = Status


def pulled_events() -> list[Event]:
    """The fair run with a pull for each delivery, from half a millisecond before it."""
    return [
        pull(event.message).at(event.at_ms - 0.5).until(event.at_ms)
        if isinstance(event, Deliver) and event.at_ms is not None
        else event
        for event in fair_events()
    ]


def ms(moment: float) -> float:
    """A moment of a story: all of it happens while the queue of the fair run is empty."""
    return 3005.5 + moment / 10


def published(message: int, begin: float, end: float) -> Event:
    return publish(message).acked().at(ms(begin)).until(ms(end))


def unanswered_publish(message: int, begin: float) -> Event:
    return publish(message).at(ms(begin))


def got(message: int, begin: float, end: float) -> Pull:
    return pull(message).at(ms(begin)).until(ms(end))


def empty(begin: float, end: float) -> Pull:
    return pull().at(ms(begin)).until(ms(end))


def unanswered(begin: float) -> Pull:
    return pull().at(ms(begin))


def verdict_on(*story: Event, **terms: Any) -> Verdict:
    past = fair_history(*story, events=pulled_events(), **{"redelivered_promise": True, **terms})
    return judge(past).verdicts["linearizable_fifo"]


A, B = 901, 902
TWO = (published(A, 1, 2), published(B, 3, 4))
FORGETS = {"redelivered_promise": False}
DROPS = {"policies": ("max-length drop-head",)}
CUT_SHORT = {"interrupted": "KeyboardInterrupt"}
AUTOMATIC = {"ack": AckKind.AUTOMATIC}

# what happens: (events, terms, verdict, anomalies that are counted)
STORIES: dict[str, tuple[tuple[Event, ...], dict[str, Any], Status, dict[str, int]]] = {
    "nothing else": ((), {}, HELD, {}),
    "two in order": ((*TWO, got(A, 5, 6), got(B, 7, 8)), {}, HELD, {}),
    "two change places": ((*TWO, got(B, 5, 6), got(A, 7, 8)), {}, VIOLATED, {"overtaken": 1}),
    "two change places, pulled at once": ((*TWO, got(B, 5, 8), got(A, 6, 7)), {}, HELD, {}),
    "empty, though one is there": ((published(A, 1, 2), empty(3, 4), got(A, 5, 6)), {}, VIOLATED, {"false_empty": 1}),
    "empty, while one is being published": ((published(A, 1, 4), empty(2, 3), got(A, 5, 6)), {}, HELD, {}),
    "the first is lost": ((*TWO, got(B, 5, 6)), {}, VIOLATED, {"passed_over": 1}),
    "pulled before it was published": ((got(A, 1, 2), published(A, 3, 4)), {}, VIOLATED, {"dequeued_early": 1}),
    "a publish that nobody answered": ((unanswered_publish(A, 1), empty(5, 6), got(A, 7, 8)), {}, HELD, {}),
    # ---- what comes back
    "received, not settled, and back behind a later one": (
        (*TWO, got(A, 5, 6), got(B, 7, 8), got(A, 9, 10).again()),
        {},
        HELD,
        {},
    ),
    "received, not settled, and back without a flag": (
        (*TWO, got(A, 5, 6), got(B, 7, 8), got(A, 9, 10)),
        {},
        HELD,
        {},
    ),
    "a pull without an answer, and what it took comes back": (
        (*TWO, unanswered(5), got(B, 6, 7), got(A, 8, 9).again()),
        {},
        HELD,
        {},
    ),
    "a pull that came too late to have taken it": (
        (*TWO, got(B, 6, 7), unanswered(8), got(A, 9, 10).again()),
        {},
        VIOLATED,
        {"overtaken": 1},
    ),
    "flagged, and nobody can have had it": (
        (*TWO, got(B, 5, 6), got(A, 7, 8).again()),
        {},
        VIOLATED,
        {"overtaken": 1},
    ),
    "flagged as after a restart, in order": ((*TWO, got(A, 5, 6).again(), got(B, 7, 8).again()), {}, HELD, {}),
    "one pull without an answer has taken one message, not two": (
        (*TWO, published(903, 4.2, 4.4), unanswered(5), got(903, 6, 7), got(A, 8, 9).again(), got(B, 10, 11).again()),
        {},
        VIOLATED,
        {"overtaken": 1},
    ),
    "empty, while a pull without an answer holds it": (
        (published(A, 1, 2), unanswered(3), empty(4, 5), got(A, 6, 7).again()),
        {},
        HELD,
        {},
    ),
    "empty, before the pull without an answer": (
        (published(A, 1, 2), empty(3, 4), unanswered(5), got(A, 6, 7).again()),
        {},
        VIOLATED,
        {"false_empty": 1},
    ),
    "back without a flag from a broker that promises one": (
        (*TWO, unanswered(5), got(B, 6, 7), got(A, 8, 9)),
        {},
        VIOLATED,
        {"overtaken": 1},
    ),
    "back without a flag from a broker that forgets": (
        (*TWO, unanswered(5), got(B, 6, 7), got(A, 8, 9)),
        FORGETS,
        UNKNOWN,
        {},
    ),
    "a broker that forgets, and nobody can have had it": (
        (*TWO, got(B, 6, 7), got(A, 8, 9)),
        FORGETS,
        VIOLATED,
        {"overtaken": 1},
    ),
    "under automatic acknowledgement nothing comes back": (
        (published(A, 1, 2), got(A, 3, 4), got(A, 5, 6).again()),
        AUTOMATIC,
        VIOLATED,
        {"dequeued_twice": 1},
    ),
    # ---- what was asked for
    "dropped, as was asked for and said": ((*TWO, dropped(A), got(B, 5, 6)), {}, HELD, {}),
    "not pulled by the time that the run was cut short": ((*TWO, got(B, 5, 6)), CUT_SHORT, UNKNOWN, {}),
    "two change places before the run was cut short": (
        (*TWO, got(B, 5, 6), got(A, 7, 8)),
        CUT_SHORT,
        VIOLATED,
        {"overtaken": 1},
    ),
    "perhaps dropped, as was asked for": ((*TWO, got(B, 5, 6)), DROPS, HELD, {}),
}


@pytest.mark.parametrize("told", STORIES)
def test_the_verdict_on_a_story(told: str) -> None:
    story, terms, status, counts = STORIES[told]
    verdict = verdict_on(*story, **terms)
    assert (verdict.status, dict(verdict.counts)) == (status, counts), verdict


# what the history is: (events, terms, reason)
UNFIT: dict[str, tuple[tuple[Event, ...], dict[str, Any], str]] = {
    "of two groups": (
        (published(A, 1, 2), got(A, 3, 4).within("other")),
        {"groups": ("group", "other")},
        "2 groups of consumers",
    ),
    "of a message published again": (
        (unanswered_publish(A, 1), publish(A).retry(2).acked().at(ms(2)).until(ms(3)), got(A, 4, 5)),
        {},
        "1 messages were published again",
    ),
    "with a delivery that was pushed": (
        (published(A, 1, 2), deliver(A).at(ms(3)).acknowledged()),
        {},
        "1 deliveries were not brought by a pull",
    ),
    "without confirms": ((publish(A).sent().at(ms(1)), got(A, 3, 4)), {"acknowledged_by": 0}, "answered no publish"),
    "of a journal cut off": ((*TWO, got(B, 5, 6)), {"truncated_journals": ("consumer-1.2",)}, "journals were cut off"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_a_history_that_cannot_show_it_is_unknown(what: str) -> None:
    story, terms, reason = UNFIT[what]
    verdict = verdict_on(*story, **terms)
    assert verdict.status is UNKNOWN
    assert any(reason in one for one in verdict.reasons), verdict.reasons


def test_an_attempt_that_was_never_sent_is_no_copy() -> None:
    story = (publish(A).never_sent().at(ms(1)), publish(A).retry(2).acked().at(ms(2)).until(ms(3)), got(A, 4, 5))
    assert verdict_on(*story).status is HELD


def test_it_is_judged_only_where_messages_were_pulled_one_by_one() -> None:
    assert "linearizable_fifo" not in judge(fair_history()).verdicts
    assert "false_empty" not in judge(fair_history()).counts


def test_held_is_as_fair_as_any_other() -> None:
    verdict = verdict_on(drained=False)
    assert verdict.status is UNKNOWN
    assert "not drained" in verdict.sentence
    assert judge(history(unanswered(1))).verdicts["linearizable_fifo"].status is UNKNOWN, "nothing was at stake"


def test_a_witness_tells_both_values_and_a_verdict_its_figures() -> None:
    verdict = verdict_on(*TWO, got(B, 5, 6), got(A, 7, 8))
    assert verdict.sentence == "linearizable_fifo VIOLATED: 1 values dequeued after one that was enqueued later"
    (witness,) = verdict.witnesses
    assert witness.message == (1 << 40) + A
    assert "value 1:901: enqueue" in witness.story
    assert "but value 1:902: enqueue" in witness.story
    assert verdict.exposure == 400 + 2


def test_counts_say_what_was_pulled() -> None:
    story = (*TWO, unanswered(5), got(B, 6, 7), got(A, 8, 9).again(), got(B, 9, 10).again(), empty(10, 11))
    past = fair_history(*story, events=pulled_events(), redelivered_promise=True)
    counts = judge(past).counts
    names = ("dequeues", "dequeues_empty", "dequeues_pending", "dequeues_returned")
    assert [counts[name] for name in names] == [402, 1, 1, 1]
