"""How long did nothing go through? Small histories whose keys say what counts as an outage, and what does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.checkers import availability
from harness.checkers.judge import judge
from harness.checkers.load import Window
from tests.histories import (
    MS,
    Deliver,
    Event,
    Publish,
    client,
    deliver,
    fair_events,
    history,
    injection,
    note,
    phase,
    publish,
    terms,
)

BEGIN, END = phase("quiet", 0, 0, 1000), phase("drain", -1, 1000, 1100)


def acked(number: int, at_ms: float, until_ms: float) -> Publish:
    return publish(number).acked().at(at_ms).until(until_ms)


def received(number: int, at_ms: float) -> Deliver:
    return deliver(number).at(at_ms).acknowledged()


def steady(*holes: tuple[int, int]) -> list[Event]:
    """A publish every 10 ms for 1 s, answered after 1 ms, received after 2, but for those due in one of the holes,
    which end in doubt."""
    events: list[Event] = [BEGIN, END]
    for number in range(1, 100):
        at_ms = number * 10
        if any(begin <= at_ms < end for begin, end in holes):
            events.append(publish(number).at(at_ms))
        else:
            events += [acked(number, at_ms, at_ms + 1), received(number, at_ms + 2)]
    return events


# events, terms, (begin, end) of the longest outage of publishing and of delivering, in ms
Outage = tuple[float, float] | None
CASES: dict[str, tuple[list[Event], dict[str, Any], Outage, Outage]] = {
    "nothing was tried": ([BEGIN, END], {}, None, None),
    "each is answered before the next is due": (steady(), {}, (10, 11), (10, 12)),
    "none is answered for a while": (steady((300, 500)), {}, (300, 501), (300, 502)),
    "two such times, of which the second is longer": (steady((100, 200), (500, 720)), {}, (500, 721), (500, 722)),
    "none is answered any more": (steady((700, 1001)), {}, (700, 990), (700, 990)),
    "there was no connection": (
        [BEGIN, END, acked(1, 10, 11), publish(2).never_sent().at(110), acked(3, 210, 211)],
        {},
        (110, 211),
        None,
    ),
    "answered all the while, and nothing is received": (
        [BEGIN, END, *(acked(number, number * 100, number * 100 + 1) for number in range(1, 10)), received(1, 650)],
        {},
        (100, 101),
        (100, 650),
    ),
    "nobody tried for longer than a stall": (
        [BEGIN, END, acked(1, 10, 11), publish(2).at(100), publish(3).at(450), acked(4, 500, 501)],
        {},
        (450, 501),
        None,
    ),
    "the harness stalled meanwhile": (
        [*steady((200, 700)), note("ticker-gap", 650, value=400 * MS)],
        {},
        (660, 701),
        (660, 702),
    ),
    "a stall that is allowed": (
        [*steady((200, 700)), note("ticker-gap", 650, value=200 * MS)],
        {},
        (200, 701),
        (200, 702),
    ),
    "no consumer lived then": (
        [
            *(event for event in steady() if not isinstance(event, Deliver)),
            client(101, "consumer", start_ms=0, end_ms=150),
            client(102, "consumer", start_ms=650, end_ms=None),
            received(1, 100),
            *(deliver(number).to(102).at(at_ms) for number, at_ms in ((2, 760), (3, 860), (4, 960))),
        ],
        {},
        (10, 11),
        (650, 760),
    ),
    "before the load and in the drain nothing is measured": (
        [phase("quiet", 0, 500, 1000), END, acked(1, 10, 490), acked(2, 600, 610), acked(3, 1050, 1090)],
        {},
        (600, 610),
        None,
    ),
    "a configuration without confirms is answered when the call returns": (
        [BEGIN, END, publish(1).sent().at(10).until(10), publish(2).sent().at(20).until(20)],
        {},
        None,
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_longest_outage(case: str) -> None:
    events, changes, publishing, delivering = CASES[case]
    if delivering is None and not any(isinstance(event, Deliver) for event in events):
        events = [*events, client(101, "consumer", start_ms=2000)]  # there, and too late to have tried
    measured = availability.check(history(*events, terms=terms(**changes)))
    assert measured.publishing == (publishing and Window(*(int(at_ms * MS) for at_ms in publishing)))
    assert measured.delivering == (delivering and Window(*(int(at_ms * MS) for at_ms in delivering)))


def test_outages_agree_with_looking_at_every_moment() -> None:
    random = np.random.default_rng(7)
    for _ in range(300):
        wanted, got = (np.sort(random.integers(0, 60, random.integers(0, 9))) for _ in range(2))
        longest = 0
        for begin in set(wanted.tolist()) - set(got.tolist()):
            last = begin  # it goes on from one thing to the next, until one is got, or nobody tries
            for at in sorted({*wanted.tolist(), *got.tolist()}):
                if begin < at and at - last <= 15 and not set(range(begin, last + 1)) & set(got.tolist()):
                    last = at
            longest = max(longest, last - begin)
        found = availability.outage(wanted, got, 15)
        assert (0 if found is None else found.end_ns - found.begin_ns) == longest, (wanted, got)


def test_recovery_is_from_the_mending_to_the_first_answer_and_the_first_receipt() -> None:
    events = [
        acked(1, 1990, 2030),  # invoked before the mending: its answer may have been on its way
        acked(2, 2010, 2050),
        received(1, 1995),
        received(2, 2070),
    ]
    past = history(*events, terms=terms(injections=(injection(), injection(number=1, mended_ns=3000 * MS))))
    first, second = availability.check(past).recoveries
    assert (first.publishing_ns, first.delivering_ns) == (50 * MS, 70 * MS)
    assert (second.publishing_ns, second.delivering_ns) == (None, None)


@pytest.mark.parametrize(("changes", "count"), [({"bit_ns": None}, 0), ({"mended_ns": None}, 1)])
def test_what_did_not_bite_is_not_recovered_from(changes: dict[str, Any], count: int) -> None:
    past = history(acked(1, 3000, 3001), terms=terms(injections=(injection(**changes),)))
    recoveries = availability.check(past).recoveries
    assert [(one.publishing_ns, one.delivering_ns) for one in recoveries] == [(None, None)] * count


def test_a_judgement_carries_what_was_measured_and_no_guarantee_breaks_by_it() -> None:
    events = [
        event
        for event in fair_events()
        if not (isinstance(event, Publish | Deliver) and 1100 < (event.at_ms or 0) < 1900)
    ]
    events += [publish(1000 + number).at(1102 + 10 * number) for number in range(80)]
    judgement = judge(history(*events, terms=terms(faults=("kill_leader",), injections=(injection(),))))
    assert judgement.availability.publishing == Window(1102 * MS, 1904 * MS)
    assert {str(verdict.status) for verdict in judgement.verdicts.values()} == {"HELD"}
