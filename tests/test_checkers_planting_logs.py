"""Is what is planted into the numbers of a log found, wherever it is planted, and nothing else?"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.checkers import delivery, ordering, processing, streams
from harness.checkers.facts import gather
from tests.histories import Deliver, Event, Publish, deliver, effect, history, left, packed, publish, terms

PLANTINGS = 250
"""Of each anomaly, each into a log of its own and at a random place."""

Log = list[list[Event]]
"""Of each message, in the order of their numbers: its publication, its delivery, its effect."""


def kept(chance: random.Random) -> Log:
    """A log that is kept: of two producers, numbered from 1, each message read once, in order; some are kept there."""
    log: Log = []
    counts = {1: 0, 2: 0}
    for number in range(1, chance.randint(6, 60)):
        # The producers take turns where something is planted, and as it comes elsewhere.
        producer = number % 2 + 1 if chance.random() < 0.8 else chance.choice((1, 2))
        counts[producer] += 1
        message = (producer, counts[producer])
        log.append([publish(message).acked(number), deliver(message).as_sequence(number).confirmed(), effect(message)])
        if chance.random() < 0.3:
            log[-1].append(left(message, "stored", number))
    return log


def of(log: Log, place: int) -> tuple[Publish, Deliver]:
    published, delivered = log[place][:2]
    assert isinstance(published, Publish)
    assert isinstance(delivered, Deliver)
    return published, delivered


def _pass_over(log: Log, place: int) -> None:
    published, _ = of(log, place)
    log[place] = [published, left(published.message, "stored", published.sequence)]


def _pass_over_unread(log: Log, place: int) -> None:
    log[place] = [of(log, place)[0]]


def _number_twice(log: Log, place: int) -> None:
    published, delivered = of(log, place)
    number = published.sequence - 1
    del log[place - 1][3:]  # else the auditor is another reader, who was served a different one
    log[place] = [replace(published, sequence=number), delivered.as_sequence(number), effect(published.message)]


def _serve_another(log: Log, place: int) -> None:
    _number_twice(log, place)
    published, delivered = of(log, place)
    log[place] = [published, delivered.to(102), effect(published.message)]


def _read_backwards(log: Log, place: int) -> None:
    before, this = of(log, place - 1), of(log, place)
    log[place - 1][1], log[place][1] = this[1], before[1]


# what is planted: (how, the anomalies that must be found, of which messages: 0 is the place, -1 the one before it)
PLANTS: dict[str, tuple[Callable[[Log, int], None], set[str], tuple[int, ...]]] = {
    "a number passed over, that the auditor found": (_pass_over, {"gap", "lost", "never_processed"}, (0,)),
    "a number passed over, that nobody found": (_pass_over_unread, {"gap", "lost", "never_processed"}, (0,)),
    "two messages under one number": (_number_twice, {"inconsistent_offset"}, (-1, 0)),
    "two readers served different ones under one number": (_serve_another, {"divergence"}, (-1, 0)),
    "a number read after a greater one": (_read_backwards, {"non_monotonic_read"}, (-1,)),
}


def found(log: Log) -> dict[str, list[int]]:
    """Every anomaly that the checkers find, with its messages."""
    events = [event for one in log for event in one]
    facts = gather(history(*events, terms=terms(mechanism="ack_after_effect", effects_audited=True)))
    sets = {**delivery.check(facts).anomalies, **processing.check(facts).anomalies, **streams.check(facts).anomalies}
    sets["reordered"] = ordering.check(facts).reordered
    return {name: [int(message) for message in one.ids] for name, one in sets.items() if one}


def test_a_log_that_is_kept_shows_nothing(prove: Callable[[str, int], None]) -> None:
    for number in range(PLANTINGS):
        assert found(kept(random.Random(number))) == {}
    prove("logs that are kept: nothing found", PLANTINGS)


@pytest.mark.parametrize("planted", PLANTS)
def test_what_is_planted_into_a_log_is_found_and_nothing_else(planted: str, prove: Callable[[str, int], None]) -> None:
    plant, expected, befallen = PLANTS[planted]
    for number in range(PLANTINGS):
        chance = random.Random(f"{number} {planted}")
        log = kept(chance)
        inside = range(1, len(log) - 1)  # a log begins and ends where its readers do
        place = chance.choice([at for at in inside if of(log, at)[0].message[0] != of(log, at - 1)[0].message[0]])  # type: ignore[index]
        messages = {packed(of(log, place + offset)[0].message) for offset in befallen}
        plant(log, place)
        seen = found(log)
        assert set(seen) == expected, (number, place)
        assert all({*of_one} == messages for of_one in seen.values()), (number, place, seen)
    prove(f"plantings of {planted}: found, and nothing else", PLANTINGS)
