"""Which guarantees are judged, what counts as a claim kept, and how does a verdict speak?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checkers import bounds
from harness.checkers.judge import BREAKS, judge
from harness.guarantee import GUARANTEES, Status
from harness.operation import AckKind
from tests.histories import Deliver, claim, deliver, fair_events, fair_history, history, publish, terms

DELIVERY = ["at_least_once", "at_most_once", "exactly_once", "publish_once", "ordered", "genuine"]


def test_every_guarantee_has_its_anomalies() -> None:
    assert {guarantee.name for guarantee in BREAKS} == set(GUARANTEES)


def test_only_what_a_history_can_show_is_judged() -> None:
    assert list(judge(history()).verdicts) == DELIVERY
    assert "ordered" not in judge(history(terms=terms(ordered=False))).verdicts


@pytest.mark.parametrize(
    ("pulled", "ack", "judged"),
    [(True, AckKind.CONFIRMED, True), (False, AckKind.CONFIRMED, False), (True, AckKind.SENT, False)],
    ids=["pulled, confirmed", "pushed", "never answered"],
)
def test_never_again_needs_a_fetch_and_an_answer(pulled: bool, ack: AckKind, judged: bool) -> None:
    assert ("never_again" in judge(history(terms=terms(pulled=pulled, ack=ack))).verdicts) is judged


def confirmed_run() -> list[object]:
    return [
        replace(event.confirmed(event.at_ms + 8, asked_ms=event.at_ms + 7), fetch_ms=event.at_ms - 1)  # type: ignore[operator]
        if isinstance(event, Deliver)
        else event
        for event in fair_events()
    ]


def test_never_again_is_held_violated_or_unknown() -> None:
    values = {"pulled": True, "ack": AckKind.CONFIRMED, "ack_wait_s": 0.5}
    events = confirmed_run()
    again = deliver(1).as_sequence(1).again().fetched(3000).at(3001).confirmed()
    late = [
        publish(900).acked(900).at(3000),
        deliver(900).as_sequence(900).fetched(3000).at(3001).confirmed(3800, asked_ms=3790),
    ]
    late_again = deliver(900).as_sequence(900).again().fetched(3900).at(3901).confirmed()
    assert judge(fair_history(events=events, **values)).verdicts["never_again"].status is Status.HELD
    assert judge(fair_history(again, events=events, **values)).verdicts["never_again"].status is Status.VIOLATED
    excused = judge(fair_history(*late, late_again, events=events, **values))
    assert excused.verdicts["never_again"].status is Status.UNKNOWN
    assert "later than ack_wait (0.5 s)" in excused.verdicts["never_again"].sentence
    assert excused.verdicts["at_most_once"].status is Status.VIOLATED


def test_a_verdict_names_its_claim_and_page() -> None:
    verdict = judge(fair_history(claims=(claim("at_least_once"),))).verdicts["at_least_once"]
    assert (verdict.claimed, verdict.page, verdict.claim_kept) == (True, "the manual", True)
    assert not judge(fair_history()).verdicts["at_least_once"].claimed


def test_a_claim_is_kept_broken_or_not_known() -> None:
    claims = (claim("at_least_once"), claim("publish_once"))
    lost = publish(900).acked().at(3000)
    assert judge(fair_history()).claim_kept is None
    assert judge(fair_history(claims=claims)).claim_kept is True
    assert judge(fair_history(lost, claims=claims)).claim_kept is False
    assert judge(fair_history(claims=claims, drained=False)).claim_kept is None
    # Another claim that is not known does not excuse the one that is broken.
    assert judge(fair_history(lost, claims=claims, whole=False)).claim_kept is False


def test_a_claim_that_the_history_cannot_show_is_unknown_and_never_forgotten() -> None:
    judgement = judge(fair_history(claims=(claim("never_again"), claim("at_least_once"))))
    assert judgement.claim_kept is None
    assert judgement.verdicts["never_again"].status is Status.UNKNOWN


def test_a_claim_of_processing_where_nothing_was_processed_is_unknown() -> None:
    judgement = judge(fair_history(claims=(claim("at_least_once_processed"),)))
    assert judgement.verdicts["at_least_once_processed"].status is Status.UNKNOWN
    assert (judgement.observed, judgement.claim_kept) == ("exactly once", None)


def test_what_was_observed() -> None:
    lost = publish(900).acked().at(3000)
    twice = deliver(5).as_sequence(5).again().acknowledged().at(3000)
    assert judge(fair_history()).observed == "exactly once"
    assert judge(fair_history(lost)).observed == "at most once"
    assert judge(fair_history(twice)).observed == "at least once"
    assert judge(fair_history(lost, twice)).observed == "neither"
    assert judge(fair_history(lost, whole=False)).observed == "unknown"


def test_a_held_verdict_says_what_it_excludes() -> None:
    verdict = judge(fair_history()).verdicts["at_least_once"]
    assert verdict.sentence == (
        "at_least_once HELD: no violation in 1 trial, 400 acknowledged messages "
        "(95 %: at most 95.0% of such trials would show one)"
    )
    assert verdict.exposure == 400


def test_a_violated_verdict_says_what_was_found() -> None:
    lost, twice = publish(900).acked().at(3000), deliver(5).as_sequence(5).again().acknowledged().at(3000)
    verdicts = judge(fair_history(lost, twice)).verdicts
    found = {name: verdict.sentence for name, verdict in verdicts.items() if verdict.status is Status.VIOLATED}
    assert found == {
        "at_least_once": "at_least_once VIOLATED: 1 of 401 acked messages lost (1 never delivered, 0 vanished after "
        "delivery)",
        "at_most_once": "at_most_once VIOLATED: 1 of 400 messages delivered more than once to one group",
        "exactly_once": "exactly_once VIOLATED: 1 of 401 acked messages lost (1 never delivered, 0 vanished after "
        "delivery); 1 of 400 messages delivered more than once to one group",
    }


def test_a_violation_belongs_to_a_trial_that_overlaps_any_of_its_story() -> None:
    """From its publish to the last thing that happened to it, and for as long as the broker may redeliver."""
    cases = {
        "published before the fault, answered while it held": (publish(900).acked().at(700).until(1200), 1),
        "published and answered before": (publish(900).acked().at(700).until(800), 0),
        "answered so late that the broker might still redeliver": (publish(900).acked().at(700).until(960), 1),
        "published after the recovery": (publish(900).acked().at(2600).until(2700), 0),
    }
    for case, (lost, violating) in cases.items():
        verdict = judge(fair_history(lost, redelivery_horizon_s=0.05)).verdicts["at_least_once"]
        assert (verdict.status, verdict.violating) == (Status.VIOLATED, violating), case


def test_an_unknown_verdict_counts_its_reasons() -> None:
    judgement = judge(fair_history(whole=False, brokers_up=False, drained=False, drained_why_not="4 are left"))
    sentence = judgement.verdicts["at_least_once"].sentence
    assert sentence == (
        "at_least_once UNKNOWN: not every broker answered while the system was drained and read (and 2 more reasons)"
    )


def test_duplicates_of_publishing_break_three_guarantees() -> None:
    past = history(
        publish(1), publish(1).retry(2).acked(), deliver(1).acknowledged(), deliver(1).of_attempt(2).acknowledged()
    )
    verdicts = judge(past).verdicts
    assert [name for name, verdict in verdicts.items() if verdict.status is Status.VIOLATED] == [
        "at_most_once", "exactly_once", "publish_once",
    ]  # fmt: skip


def test_the_counts_have_the_names_of_the_results_file() -> None:
    names = {
        "attempted", "acked", "sent", "indeterminate", "failed", "delivered", "lost", "lost_unconfirmed",
        "duplicate_publish", "duplicate_delivery", "phantom", "corrupt", "foreign", "reordered", "recovered",
        "stranded", "visible_failure", "again_after_confirmed_ack", "swallowed", "dropped_by_policy",
    }  # fmt: skip
    assert names <= set(judge(history()).counts)
    assert {"unprocessed", "duplicate_effect"} <= set(
        judge(history(terms=terms(mechanism="x", effects_audited=True))).counts
    )


def test_judging_is_a_pure_function() -> None:
    past = fair_history(publish(900).acked().at(3000), deliver(5).as_sequence(5).again().at(3000))
    assert judge(past) == judge(past)


# ---- bounds ----------------------------------------------------------------------------------------------------------

# Published tables of exact (Clopper-Pearson) 95 % intervals.
INTERVALS = {
    (0, 10): (0.0, 0.3085),
    (1, 10): (0.0025, 0.4450),
    (2, 10): (0.0252, 0.5561),
    (5, 10): (0.1871, 0.8129),
    (10, 10): (0.6915, 1.0),
    (1, 20): (0.0013, 0.2487),
    (3, 50): (0.0125, 0.1655),
    (1, 1000): (0.00002532, 0.0055589),
}


@pytest.mark.parametrize(("violating", "trials"), INTERVALS)
def test_intervals_have_their_known_values(violating: int, trials: int) -> None:
    assert bounds.interval(violating, trials) == pytest.approx(INTERVALS[violating, trials], abs=6e-5)


def test_zero_of_n_has_the_closed_form() -> None:
    for trials in (1, 3, 24, 59, 1000):
        assert bounds.upper_bound(0, trials) == pytest.approx(1 - 0.05 ** (1 / trials))
    assert bounds.upper_bound(0, 59) < 0.05 < bounds.upper_bound(0, 58)


def test_bounds_grow_with_violations_and_shrink_with_trials() -> None:
    ups = [bounds.upper_bound(violating, 12) for violating in range(13)]
    assert ups == sorted(ups)
    assert ups[-1] == 1.0
    assert bounds.upper_bound(1, 100) < bounds.upper_bound(1, 10)


def test_trials_that_exclude_a_bug() -> None:
    assert [bounds.trials_to_exclude(p) for p in (1.0, 0.5, 0.1, 0.05, 0.01)] == [1, 5, 29, 59, 299]
    for probability in (0.5, 0.1, 0.05):
        needed = bounds.trials_to_exclude(probability)
        assert bounds.upper_bound(0, needed) <= probability < bounds.upper_bound(0, needed - 1)


@pytest.mark.parametrize(("violating", "trials"), [(0, 0), (1, 0), (3, 2), (-1, 2)])
def test_what_is_no_count_is_refused(violating: int, trials: int) -> None:
    with pytest.raises(ValueError, match="no count"):
        bounds.upper_bound(violating, trials)


@pytest.mark.parametrize("confidence", [-0.1, 0.0, 1.0, 1.1])
def test_what_is_no_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        bounds.upper_bound(0, 10, confidence)


@pytest.mark.parametrize("probability", [-0.1, 0.0, 1.5])
def test_what_is_no_probability_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="above 0, at most 1"):
        bounds.trials_to_exclude(probability)
