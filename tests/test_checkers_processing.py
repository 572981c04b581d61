"""Did each message leave its effect, once? Small histories whose keys say it in English."""

from __future__ import annotations

import pytest

from harness.checkers.judge import judge
from harness.guarantee import Status
from tests.histories import Event, deliver, dropped, effect, fair_events, fair_history, history, left, publish, terms

AUDITED = {"mechanism": "ack_after_effect", "effects_audited": True}

CASES: dict[str, tuple[list[Event], dict[str, int]]] = {
    "acked, received, one effect": ([publish(1).acked(), deliver(1).acknowledged(), effect(1)], {}),
    "acknowledged first, then the consumer died: unprocessed": (
        [publish(1).acked(), deliver(1).acknowledged()],
        {"unprocessed": 1},
    ),
    "received by automatic acknowledgement, no effect: unprocessed": (
        [publish(1).acked(), deliver(1).automatic()],
        {"unprocessed": 1},
    ),
    "received, no effect, still owed: not yet": ([publish(1).acked(), deliver(1), left(1)], {}),
    "received, no effect, kept by the stream and owed to nobody: unprocessed": (
        [publish(1).acked(5), deliver(1).as_sequence(5).acknowledged(), left(1, "stored", 5)],
        {"unprocessed": 1},
    ),
    "received, no effect, in a dead-letter queue: owed to its group no more": (
        [publish(1).acked(), deliver(1), left(1, "dead-letter")],
        {"unprocessed": 1},
    ),
    "recovered, received, no effect: received in any way": (
        [publish(1), deliver(1).acknowledged()],
        {"unprocessed": 1},
    ),
    "effect done, acknowledgement lost, gone from the broker: lost, but processed": (
        [publish(1).acked(), deliver(1), effect(1)],
        {"lost": 1},
    ),
    "acked, never received, nowhere: lost, so never processed": (
        [publish(1).acked()],
        {"lost": 1, "never_processed": 1},
    ),
    "acked, dropped by a policy: never processed": (
        [publish(1).acked(), dropped(1)],
        {"dropped_acked": 1, "never_processed": 1},
    ),
    "never answered, never received: nothing is promised": ([publish(1)], {}),
    "delivered twice, one effect: what a good mechanism does": (
        [publish(1).acked(), deliver(1), deliver(1).again().acknowledged(), effect(1)],
        {"duplicate_delivery": 1},
    ),
    "effect done twice": (
        [publish(1).acked(), deliver(1), deliver(1).again().acknowledged(), effect(1, 2)],
        {"duplicate_delivery": 1, "duplicate_effect": 1},
    ),
}
NAMES = ("unprocessed", "never_processed", "duplicate_effect", "lost", "dropped_acked", "duplicate_delivery")


@pytest.mark.parametrize("case", CASES)
def test_each_history_shows_exactly_its_anomalies(case: str) -> None:
    events, expected = CASES[case]
    counts = judge(history(*events, terms=terms(**AUDITED))).counts
    assert {name: counts[name] for name in NAMES if counts[name]} == expected


def test_the_three_guarantees_of_processing_break_apart() -> None:
    undone = judge(history(publish(1).acked(), deliver(1).acknowledged(), terms=terms(**AUDITED)))
    twice = judge(history(publish(1).acked(), deliver(1).acknowledged(), effect(1, 2), terms=terms(**AUDITED)))

    def violated(judgement: object) -> list[str]:
        verdicts = judgement.verdicts  # type: ignore[attr-defined]
        return [name for name, verdict in verdicts.items() if verdict.status is Status.VIOLATED]

    assert violated(undone) == ["at_least_once_processed", "exactly_once_processed"]
    assert violated(twice) == ["at_most_once_processed", "exactly_once_processed"]
    assert "1 of 1 received messages left no effect" in undone.verdicts["at_least_once_processed"].sentence


def test_unprocessed_needs_a_complete_read() -> None:
    past = history(publish(1).acked(), deliver(1).acknowledged(), terms=terms(**AUDITED, drained=False))
    judgement = judge(past)
    assert judgement.verdicts["at_least_once_processed"].status is Status.UNKNOWN
    assert (judgement.counts["unprocessed"], judgement.counts["unprocessed_so_far"]) == (0, 1)


def test_without_processing_nothing_is_said_of_it() -> None:
    assert not [name for name in judge(history(publish(1).acked())).verdicts if name.endswith("processed")]


def test_a_sink_that_was_not_read_is_unknown() -> None:
    verdict = judge(history(publish(1).acked(), terms=terms(mechanism="x"))).verdicts["at_least_once_processed"]
    assert verdict.reasons == ("the sink was not read, so nobody knows which effects there are",)


def test_effects_of_what_nobody_received_are_a_miscount() -> None:
    judgement = judge(history(publish(1).acked(), effect(1), terms=terms(**AUDITED)))
    assert any("harness or sink miscounts" in reason for reason in judgement.trial.reasons)


def test_what_was_observed_is_said_of_processing_where_there_was_any() -> None:
    numbers = range(1, 401)
    once = [effect(number) for number in numbers]
    assert judge(fair_history(*once, **AUDITED)).observed == "exactly once"
    assert judge(fair_history(*once[1:], **AUDITED)).observed == "at most once"
    assert judge(fair_history(effect(1, 2), *once[1:], **AUDITED)).observed == "at least once"
    assert judge(fair_history(effect(1, 2), *once[2:], **AUDITED)).observed == "neither"
    assert judge(fair_history(*once, **AUDITED, drained=False)).observed == "unknown"
    assert len(fair_events()) == 808
