"""Is what is planted into a valid history found, wherever it is planted, and nothing else?"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkers import delivery, ordering, processing
from harness.checkers.facts import gather
from harness.operation import AcknowledgedBy, Outcome
from tests.histories import (
    Deliver,
    Effect,
    Event,
    Publish,
    deliver,
    dropped,
    effect,
    history,
    left,
    packed,
    publish,
    terms,
)

PLANTINGS = 100
"""Of each anomaly, each into a history of its own and at a random place."""

FATES = ("delivered", "delivered", "refused", "unanswered", "recovered", "owed", "kept", "retried")


def valid(seed: random.Random, most: int) -> list[Event]:
    """A history in which every guarantee is kept: acked ones delivered once or owed, refused ones never delivered."""
    events: list[Event] = []
    count = seed.randint(4, most)
    sound = seed.randint(1, count - 1)
    for number in range(1, count + 1):
        # Message `sound` and the one after it are always acked and delivered: something to plant into.
        fate = "delivered" if number in (sound, sound + 1) else seed.choice(FATES)
        message, sequence = (1, number), number
        if fate == "refused":
            events.append(publish(message).refused())
        elif fate == "unanswered":
            events.append(publish(message))
        elif fate == "owed":
            events += [
                publish(message).acked(sequence),
                left(message, "owed", sequence),
                deliver(message).as_sequence(sequence),
            ]
        else:
            if fate == "recovered":
                events.append(publish(message))
            elif fate == "retried":
                events += [publish(message), publish(message).retry(2).acked(sequence, duplicate=True)]
            else:
                events.append(publish(message).acked(sequence))
            events += [deliver(message).as_sequence(sequence).confirmed(), effect(message)]
            if fate == "kept":
                events.append(left(message, "stored", sequence))
    return events


def targets(events: list[Event]) -> list[int]:
    """Where a message is that was acked at once and delivered, followed by another such."""
    return [place for place in range(len(events) - 5) if _sound(events, place) and _sound(events, place + 3)]


def _sound(events: list[Event], place: int) -> bool:
    published, delivered, done = events[place : place + 3]
    return (
        isinstance(published, Publish)
        and published.outcome is Outcome.OK
        and not published.duplicate
        and isinstance(delivered, Deliver)
        and delivered.settles
        and isinstance(done, Effect)
    )


Plant = Callable[[list[Event], int], list[Event]]


def _lose(events: list[Event], at: int) -> list[Event]:
    return events[: at + 1] + events[at + 3 :]


def _lose_after_delivery(events: list[Event], at: int) -> list[Event]:
    return [*events[: at + 1], replace(events[at + 1], acks=False, settles=False), *events[at + 2 :]]  # type: ignore[type-var]


def _deliver_again(events: list[Event], at: int) -> list[Event]:
    return [*events[: at + 2], replace(events[at + 1], redelivered=True), *events[at + 2 :]]  # type: ignore[type-var]


def _deliver_again_unflagged(events: list[Event], at: int) -> list[Event]:
    return [*events[: at + 2], events[at + 1], *events[at + 2 :]]


def _fetch_again(events: list[Event], at: int) -> list[Event]:
    again = replace(events[at + 1], redelivered=True, fetch_ms=1000.0, at_ms=1001.0)  # type: ignore[type-var]
    return [*events[: at + 2], again, *events[at + 2 :]]


def _fetch_again_after_a_late_ack(events: list[Event], at: int) -> list[Event]:
    late = replace(events[at + 1], at_ms=900.0, ack_ms=1500.0, settled_ms=1501.0)  # type: ignore[type-var]
    again = replace(late, redelivered=True, fetch_ms=1600.0, at_ms=1601.0, ack_ms=1602.0, settled_ms=1603.0)
    # The late one comes last, so that it has overtaken nobody and nobody was to wait for it.
    return [*events[: at + 1], *events[at + 2 :], replace(late, client=102), replace(again, client=102)]


def _store_twice(events: list[Event], at: int) -> list[Event]:
    message = events[at].message  # type: ignore[union-attr]
    retried = publish(message).retry(2).acked(900)
    copy = deliver(message).of_attempt(2).as_sequence(900).confirmed()
    return [*events, retried, copy]


def _store_twice_unread(events: list[Event], at: int) -> list[Event]:
    return [*events, left(events[at].message, "stored", 901)]  # type: ignore[union-attr]


def _swallow(events: list[Event], at: int) -> list[Event]:
    called = replace(events[at], duplicate=True)  # type: ignore[type-var]
    return [*events[:at], called, *events[at + 3 :]]


def _swap(events: list[Event], at: int) -> list[Event]:
    return [*events[: at + 1], *events[at + 2 : at + 5], events[at + 1], *events[at + 5 :]]


def _refuse(events: list[Event], at: int) -> list[Event]:
    refused = replace(events[at], outcome=Outcome.FAIL)  # type: ignore[type-var]
    return [*events[:at], refused, *events[at + 1 :]]


def _invent(events: list[Event], at: int) -> list[Event]:
    return [*events, deliver((77, 1)).acknowledged()]


def _invent_unread(events: list[Event], at: int) -> list[Event]:
    return [*events, left((77, 1), "stored")]


def _damage(events: list[Event], at: int) -> list[Event]:
    return [*events, deliver(events[at].message).damaged()]  # type: ignore[union-attr]


def _mix_up_runs(events: list[Event], at: int) -> list[Event]:
    return [*events, deliver(events[at].message).of_another_run()]  # type: ignore[union-attr]


def _lose_unconfirmed(events: list[Event], at: int) -> list[Event]:
    unconfirmed = replace(events[at], by=AcknowledgedBy.NONE)  # type: ignore[type-var]
    return [*events[:at], unconfirmed, *events[at + 3 :]]


def _skip_effect(events: list[Event], at: int) -> list[Event]:
    return events[: at + 2] + events[at + 3 :]


def _repeat_effect(events: list[Event], at: int) -> list[Event]:
    return [*events[: at + 2], effect(events[at].message, 2), *events[at + 3 :]]  # type: ignore[union-attr]


def _strand(events: list[Event], at: int) -> list[Event]:
    message = events[at].message  # type: ignore[union-attr]
    return [*events[: at + 1], left(message, "owed"), *events[at + 3 :]]


def _drop(events: list[Event], at: int) -> list[Event]:
    message = events[at].message  # type: ignore[union-attr]
    return [*events[: at + 1], dropped(message, "max-length"), *events[at + 3 :]]


PLANTS: dict[str, tuple[Plant, set[str]]] = {
    "a lost message": (_lose, {"lost", "never_processed"}),
    "a message that vanished after delivery": (_lose_after_delivery, {"lost"}),
    "a message delivered twice": (_deliver_again, {"duplicate_delivery"}),
    "a message delivered twice, unflagged": (_deliver_again_unflagged, {"duplicate_delivery", "unflagged_redelivery"}),
    "a message that comes again after its confirmed acknowledgement": (
        _fetch_again,
        {"duplicate_delivery", "again_after_confirmed_ack"},
    ),
    "a message that comes again after a confirmed acknowledgement that came too late": (
        _fetch_again_after_a_late_ack,
        {"duplicate_delivery", "again_after_late_ack"},
    ),
    "a message stored twice": (_store_twice, {"duplicate_publish"}),
    "a message stored twice, as the auditor read": (_store_twice_unread, {"duplicate_publish"}),
    "a message swallowed as a duplicate": (_swallow, {"lost", "swallowed", "never_processed"}),
    "a message overtaken by its successor": (_swap, {"reordered"}),
    "a message delivered though refused": (_refuse, {"visible_failure"}),
    "a message that nobody published": (_invent, {"phantom"}),
    "a message that nobody published, as the auditor read": (_invent_unread, {"phantom"}),
    "a damaged delivery": (_damage, {"corrupt"}),
    "a delivery of another run": (_mix_up_runs, {"foreign"}),
    "a lost message that nobody had confirmed": (_lose_unconfirmed, {"lost_unconfirmed", "never_processed"}),
    "a message without its effect": (_skip_effect, {"unprocessed"}),
    "a message with two effects": (_repeat_effect, {"duplicate_effect"}),
    "a message stranded in the broker": (_strand, {"stranded"}),
    "a message dropped by a policy": (_drop, {"dropped_acked", "never_processed"}),
}


def found(events: list[Event]) -> dict[str, list[int]]:
    """Every anomaly that the checkers find, with its messages."""
    past = history(
        *events, terms=terms(mechanism="ack_after_effect", effects_audited=True, pulled=True, ack_wait_s=0.5)
    )
    facts = gather(past)
    sets = {**delivery.check(facts).anomalies, **processing.check(facts).anomalies}
    sets["reordered"] = ordering.check(facts).reordered
    return {name: [int(message) for message in one.ids] for name, one in sets.items() if one}


@settings(max_examples=60, deadline=None)
@given(seed=st.randoms(use_true_random=False))
def test_a_valid_history_shows_nothing(seed: random.Random) -> None:
    assert found(valid(seed, 12)) == {}


@pytest.mark.parametrize("planted", PLANTS)
@settings(max_examples=10, deadline=None)
@given(seed=st.randoms(use_true_random=False))
def test_what_is_planted_is_found_and_nothing_else(planted: str, seed: random.Random) -> None:
    plant_one(planted, seed, 12)


@pytest.mark.parametrize("planted", PLANTS)
def test_what_is_planted_anywhere_is_found_and_nothing_else(planted: str, prove: Callable[[str, int], None]) -> None:
    for number in range(PLANTINGS):
        plant_one(planted, random.Random(f"{number} {planted}"), 60)
    prove(f"plantings of {planted}: found, and nothing else", PLANTINGS)


def plant_one(planted: str, seed: random.Random, most: int) -> None:
    plant, expected = PLANTS[planted]
    events = valid(seed, most)
    at = seed.choice(targets(events))
    seen = found(plant(events, at))
    assert set(seen) == expected
    # Whatever happened to a message happened to this one: but an overtaken one is the one that comes late.
    message = packed(events[at].message)  # type: ignore[union-attr]
    assert all(messages == [message] for name, messages in seen.items() if name not in delivery.STRANGE)


def test_the_witness_of_a_planted_loss_is_the_message_itself() -> None:
    past = history(publish(1).acked(), deliver(1).acknowledged(), publish(2).acked())
    witnesses = delivery.check(gather(past)).anomalies["lost"].witnesses
    assert [witness.message for witness in witnesses] == [packed(2)]
