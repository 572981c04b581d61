"""When does a broker's log keep its numbers, and when does it not? Small histories whose keys say it."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkers import streams
from harness.checkers.facts import gather
from harness.checkers.judge import Judgement, judge
from harness.guarantee import Status
from harness.history.history import History
from harness.operation import SEQUENCE_MAX, AckKind
from tests import reference
from tests.histories import (
    Deliver,
    Event,
    Message,
    counter,
    deliver,
    dropped,
    fair_events,
    fair_history,
    history,
    left,
    packed,
    publish,
    terms,
)
from tests.reference import Row
from tests.test_checkers_reference import any_events

STORED = [publish(number).acked(number) for number in (1, 2, 3)]


def read(message: Message, sequence: int | None = None) -> Deliver:
    """A receipt under the message's own number, or another one."""
    own = message if isinstance(message, int) else message[1]
    return deliver(message).as_sequence(own if sequence is None else sequence).acknowledged()


# events, terms, messages by anomaly
CASES: dict[str, tuple[list[Event], dict[str, Any], dict[str, list[Message]]]] = {
    "in order, none skipped": ([*STORED, read(1), read(2), read(3)], {}, {}),
    # ---- gap
    "a number that was passed over": ([*STORED, read(1), read(3)], {}, {"gap": [2]}),
    "one that only the auditor knows": (
        [publish(1).acked(1), publish(2), publish(3).acked(3), read(1), read(3), left(2, "stored", 2)],
        {},
        {"gap": [2]},
    ),
    "one that nobody knows": ([publish(1).acked(1), publish(2), publish(3).acked(3), read(1), read(3)], {}, {}),
    "the first ones, where the group may have begun later": ([*STORED, read(2), read(3)], {}, {}),
    "the last ones, which the group may not have come to": ([*STORED, read(1), read(2)], {}, {}),
    "one that is still owed": ([*STORED, read(1), read(3), left(2, "owed", 2)], {}, {}),
    "one that is dead-lettered": ([*STORED, read(1), read(3), left(2, "dead-letter", 1)], {}, {}),
    "one that a policy dropped": ([*STORED, read(1), read(3), dropped(2)], {}, {}),
    "one that came to another member of the group": ([*STORED, read(1), read(3), read(2).to(102)], {}, {}),
    "one that came flagged, later": ([*STORED, read(1), read(3), read(2).again()], {}, {}),
    "one that came over a new connection": ([*STORED, read(1), read(3), read(2).again().over(2)], {}, {}),
    "one whose answer called it a duplicate": (
        [publish(1).acked(1), publish(2).acked(2, duplicate=True), publish(3).acked(3), read(1), read(3)],
        {},
        {},
    ),
    "a retry that was deduplicated": (
        [
            *(publish(1).acked(1), publish(2), publish(2).retry(2).acked(2, duplicate=True), publish(3).acked(3)),
            *(read(1), read(2), read(3)),
        ],
        {},
        {},
    ),
    "the other copy of a message that was stored twice": (
        [publish(1).acked(1), publish(1).retry(2).acked(2), publish(3).acked(3), read(1), read(3)],
        {},
        {"gap": [1]},
    ),
    "a copy whose delivery does not tell its attempt": (
        [*STORED, read(1), read(3), deliver(2).of_attempt(0).acknowledged()],
        {},
        {},
    ),
    "a route of which the group reads nothing": (
        [*STORED[:1], publish(2).to("other").acked(2), STORED[2], read(1), read(3)],
        {},
        {},
    ),
    "a route of which it reads something": (
        [
            publish(1).acked(1),
            *(publish(number).to("other").acked(number) for number in (2, 3, 4)),
            publish(5).acked(5),
            *(read(number) for number in (1, 2, 4, 5)),
        ],
        {},
        {"gap": [3]},
    ),
    "a message that was published over two routes": (
        [STORED[0], publish(2).acked(2), publish(2).retry(2).to("other").acked(9), STORED[2], read(1), read(3)],
        {},
        {},
    ),
    "two groups, of which nobody knows whether they read one log": (
        [*STORED, read(1).within("a"), read(3).within("a"), read(2).within("b")],
        {},
        {},
    ),
    "two groups, of which one received nothing": ([*STORED, read(1), read(3)], {"groups": ("group", "b")}, {}),
    "numbers that grow by more than one": ([publish(1).acked(7), publish(2).acked(1_000_007), read(1, 7)], {}, {}),
    "numbers beyond what is told apart": (
        [publish(1).acked(SEQUENCE_MAX + 1), publish(2).acked(SEQUENCE_MAX + 2), read(2, SEQUENCE_MAX + 2)],
        {},
        {},
    ),
    # ---- inconsistent offset
    "two answers name one number": (
        [publish(1).acked(1), publish(2).acked(1), read(1), deliver(2).acknowledged()],
        {},
        {"inconsistent_offset": [1, 2]},
    ),
    "served under another number than was answered": (
        [*STORED, read(1), read(2, 3), read(3)],
        {},
        {"inconsistent_offset": [2, 3]},
    ),
    "one attempt under two numbers": (
        [publish(1).acked(1), read(1), read(1, 2).again()],
        {},
        {"inconsistent_offset": [1]},
    ),
    "one attempt of a retry under two numbers": (
        [publish(1), publish(1).retry(2).acked(2), read(1, 2).of_attempt(2), read(1, 3).of_attempt(2).again()],
        {},
        {"inconsistent_offset": [1]},
    ),
    "two attempts under a number each": (
        [publish(1).acked(1), publish(1).retry(2).acked(2), read(1), read(1, 2).of_attempt(2)],
        {},
        {},
    ),
    "a number answered as a duplicate's is the original's": (
        [publish(1).acked(1), publish(2).acked(1, duplicate=True), read(1), read(2)],
        {},
        {},
    ),
    "a dead-letter queue numbers on its own": ([*STORED, read(1), read(2), read(3), left(3, "dead-letter", 1)], {}, {}),
    "two routes may number on their own": (
        [publish(1).acked(1), publish(2).to("other").acked(1), read(1), read(2, 1)],
        {},
        {},
    ),
    "two queues number on their own": (
        [publish(1), publish(2), read(1, 1).within("a"), read(2, 2).within("a"), read(2, 1).within("b")],
        {},
        {},
    ),
    "one queue of two gives a number twice": (
        [publish(1), publish(2), read(1, 1).within("a"), read(2, 1).within("a"), read(2, 9).within("b")],
        {},
        {"inconsistent_offset": [1, 2]},
    ),
    # ---- divergence
    "two consumers are served different messages under one number": (
        [publish(1), publish(2), read(1, 1), read(2, 1).to(102)],
        {},
        {"divergence": [1, 2]},
    ),
    "the auditor reads another message there": (
        [publish(1).acked(1), publish(2), read(1), left(2, "stored", 1)],
        {},
        {"divergence": [1, 2]},
    ),
    "one number diverges, another one is given twice": (
        [publish(1), publish(2), read(1, 1), read(2, 1).to(102), publish(3).acked(5), publish(4).acked(5)],
        {},
        {"divergence": [1, 2], "inconsistent_offset": [3, 4]},
    ),
    # ---- non-monotonic read
    "backwards": ([*STORED, read(2), read(1), read(3)], {}, {"non_monotonic_read": [1]}),
    "backwards, and published by two producers": (
        [publish((1, 1)).acked(1), publish((2, 1)).acked(2), read((2, 1), 2), read((1, 1), 1)],
        {},
        {"non_monotonic_read": [(1, 1)]},
    ),
    "backwards in a redelivery": ([*STORED, read(2), read(3), read(1).again()], {}, {}),
    "after a redelivery": ([*STORED, read(3).again(), read(1), read(2)], {}, {}),
    "backwards over a new connection": ([*STORED, read(2), read(1).over(2), read(3)], {}, {}),
    "the same again, unflagged: a repeat": ([*STORED, read(1), read(2), read(1), read(3)], {}, {}),
    "of two members of a group": ([*STORED, read(2), read(1).to(102), read(3)], {}, {}),
    "where nobody knows what is a redelivery": ([*STORED, read(2), read(1), read(3)], {"ordered": False}, {}),
    # ---- no log at all
    "a queue without numbers": ([publish(1).acked(), publish(2).acked(), deliver(2).acknowledged()], {}, {}),
    "damaged and foreign deliveries have no place in the log": (
        [publish(1).acked(1), publish(2), read(1), read(2, 1).damaged(), read(2, 1).of_another_run()],
        {},
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_log(case: str) -> None:
    events, changes, expected = CASES[case]
    findings = streams.check(gather(history(*events, terms=terms(**changes))))
    found = {name: [int(message) for message in anomaly.ids] for name, anomaly in findings.anomalies.items() if anomaly}
    assert found == {name: [packed(message) for message in messages] for name, messages in expected.items()}


def test_a_witness_tells_its_numbers() -> None:
    anomaly = streams.check(gather(history(*STORED, read(1), read(3)))).anomalies["gap"]
    (witness,) = anomaly.witnesses
    assert witness.story == (
        "message 1:2: attempt 1 at 0.002 s acked, sequence 2: its number was stored, and its readers passed over it"
    )


# ---- verdicts --------------------------------------------------------------------------------------------------------


def judged(*events: Event, **changes: Any) -> Judgement:
    """A fair run whose log is in order, with more in the quiet phase after its fault."""
    return judge(fair_history(*events, **changes))


def status(judgement: Judgement) -> Status:
    return judgement.verdicts["log_consistent"].status


def test_a_log_in_order_is_held_and_counted_by_its_numbers() -> None:
    verdict = judged().verdicts["log_consistent"]
    assert verdict.status is Status.HELD
    assert verdict.exposure == len([event for event in fair_events() if type(event).__name__ == "Publish"])


def test_a_queue_without_numbers_is_not_judged() -> None:
    assert "log_consistent" not in judge(history(publish(1).acked(), deliver(1).acknowledged())).verdicts


BETWEEN = [publish(900).acked(900).at(5000), publish(901).acked(901).at(5001), read(901).at(5002)]


def test_a_gap_needs_the_whole_read() -> None:
    assert status(judged(*BETWEEN)) is Status.VIOLATED
    unread = judged(*BETWEEN, exhaustive=False)
    assert status(unread) is Status.UNKNOWN
    assert (unread.counts["gap"], unread.counts["gap_so_far"]) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policies": ("discard-old",)}, "discard-old"),
        ({"ack": AckKind.AUTOMATIC}, "settled as it is sent"),
        ({"counters": (counter("delivered", 402),), "faults": ("nothing",), "injections": ()}, "402 deliveries"),
    ],
    ids=["messages may be dropped", "settled as they are sent", "the broker counted more deliveries"],
)
def test_a_gap_that_something_else_may_explain_proves_nothing(changes: dict[str, Any], reason: str) -> None:
    verdict = judged(*BETWEEN, **changes).verdicts["log_consistent"]
    assert verdict.status is Status.UNKNOWN
    assert any(reason in told for told in verdict.reasons), verdict.reasons


def test_a_number_given_twice_needs_no_read() -> None:
    twice = [publish(900).acked(900).at(5000), publish(901).acked(900).at(5001)]
    assert status(judged(*twice, exhaustive=False, drained=False)) is Status.VIOLATED


@pytest.mark.parametrize(
    ("events", "changes", "reason"),
    [
        ([publish(900).acked().at(5000), read(900).at(5001)], {}, "1 publishes were OK and given no number"),
        ([publish(900).acked(900).at(5000)], {}, "1 numbers were stored, and nobody saw them"),
        ([read(1).within("b").again().at(5000)], {}, "several groups"),
        ([], {"ordered": False}, "whether a read went backwards"),
    ],
    ids=["an answer without a number", "the end of the log", "several groups", "no flags"],
)
def test_what_would_not_show_is_not_held(events: list[Event], changes: dict[str, Any], reason: str) -> None:
    verdict = judged(*events, **changes).verdicts["log_consistent"]
    assert verdict.status is Status.UNKNOWN
    assert any(reason in told for told in verdict.reasons), verdict.reasons


# ---- against a slow reference ----------------------------------------------------------------------------------------


def slowly(past: History) -> dict[str, set[int]]:
    """The same anomalies of histories of one route, by the definitions, over rows as dictionaries."""
    publications, deliveries = reference.rows(past, "publications"), reference.rows(past, "deliveries")
    several = len({row["group"] for row in _whole(publications, deliveries)}) > 1 or len(past.terms.groups) > 1
    served = [
        (row["group"] if several else 0, row["broker_sequence"], row["message"], row["attempt"], row["client"], row)
        for row in _whole(publications, deliveries)
        if row["broker_sequence"]
    ]
    answered = [
        (0, row["broker_sequence"], row["message"], row["attempt"])
        for row in publications
        if row["outcome"] == reference.OK and not row["duplicate"] and row["broker_sequence"]
    ]
    known = {row["message"] for row in publications}
    census = [row for row in reference.rows(past, "census") if row["message"] in known]
    read = [
        (0, row["broker_sequence"], row["message"], 0)
        for row in census
        if row["broker_sequence"] and past.words[row["place"]] != "dead-letter" and not several
    ]
    told = [*answered, *read, *(row[:4] for row in served)]
    views = [(row[:3], row[4]) for row in served] + [(row[:3], "auditor") for row in read]
    result: dict[str, set[int]] = {name: set() for name in ("gap", "inconsistent_offset", "divergence")}
    shared = set()
    for (log, number, message, attempt), (other_log, other_number, other, other_attempt) in combinations(told, 2):
        if log == other_log and number == other_number and message != other:
            shared.add((log, number))
        if log == other_log and (message, attempt) == (other, other_attempt) and attempt and number != other_number:
            result["inconsistent_offset"].add(message)
    diverged = {
        one[:2]
        for (one, reader), (other, other_reader) in combinations(views, 2)
        if one[:2] == other[:2] and one[2] != other[2] and reader != other_reader
    }
    # Two readers of a number that names two messages to readers: some two of them saw different ones.
    for log, number, message, _ in told:
        if (log, number) in diverged:
            result["divergence"].add(message)
        elif (log, number) in shared:
            result["inconsistent_offset"].add(message)
    result["inconsistent_offset"] -= result["divergence"]
    result["gap"] = set() if several else _skipped(past, publications, deliveries, census, [*answered, *read], served)
    result["non_monotonic_read"] = _behind(served)
    return result


def _whole(publications: list[Row], deliveries: list[Row]) -> list[Row]:
    invoked = reference._invoked(publications)
    return [row for row in deliveries if not row["corrupt"] and not row["foreign"] and row["message"] in invoked]


def _skipped(
    past: History,
    publications: list[Row],
    deliveries: list[Row],
    census: list[Row],
    stored: list[Any],
    served: list[Any],
) -> set[int]:
    seen = {row[1] for row in served}
    came = {(row["message"], row["attempt"]) for row in _whole(publications, deliveries)}
    messages = {message for message, _ in came}
    invoked = reference._invoked(publications)
    excused = {row["message"] for row in census if past.words[row["place"]] != "stored"} & invoked
    excused |= {row["message"] for row in reference.rows(past, "dropped")} & invoked
    return {
        message
        for _, number, message, attempt in stored
        if seen
        and min(seen) < number < max(seen)
        and number not in seen
        and message not in excused
        and not ((message, attempt) in came or (message, 0) in came or (attempt == 0 and message in messages))
    }


def _behind(served: list[Any]) -> set[int]:
    late = set()
    for one in served:
        row, number = one[5], one[1]
        earlier = [
            other
            for other in served
            if all(other[5][name] == row[name] for name in ("client", "epoch", "group"))
            and (other[5]["received_ns"], other[5]["number"]) < (row["received_ns"], row["number"])
        ]
        higher = any(other[1] > number and not other[5]["redelivered"] for other in earlier)
        if not row["redelivered"] and higher and not any(other[1] == number for other in earlier):
            late.add(one[2])
    return late


@settings(max_examples=300, deadline=None)
@given(events=any_events, groups=st.sampled_from([("group",), ("group", "other")]))
def test_any_log_is_judged_as_the_reference_does(events: list[Event], groups: tuple[str, ...]) -> None:
    past = history(*events, terms=terms(groups=groups))
    findings = streams.check(gather(past))
    found = {name: {int(message) for message in anomaly.ids} for name, anomaly in findings.anomalies.items()}
    assert found == slowly(past)
