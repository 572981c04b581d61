"""Do the checkers find what the definitions say, no more and no less? Against a slow reference, and by planting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bench.synthetic import held, synthetic
from harness.checkers import delivery, messages, ordering, places, processing
from harness.checkers.facts import Facts, gather
from harness.checkers.judge import judge
from harness.guarantee import Status
from harness.history import history as table
from harness.history.history import History, Table
from harness.operation import AckKind, AcknowledgedBy, Outcome
from tests import reference
from tests.histories import (
    Deliver,
    Event,
    Publish,
    counter,
    deliver,
    dropped,
    effect,
    fair_events,
    history,
    injection,
    left,
    packed,
    publish,
    terms,
)

MESSAGES = [1, 2, 3, 4, (2, 1), (2, 9), (3, 5), (3, 1_000_000)]

publications = st.builds(
    Publish,
    message=st.sampled_from(MESSAGES),
    attempt=st.integers(1, 3),
    epoch=st.integers(0, 2),
    outcome=st.sampled_from(Outcome),
    by=st.sampled_from(AcknowledgedBy),
    sequence=st.integers(0, 3),
    duplicate=st.booleans(),
    at_ms=st.integers(1, 40),
)
deliveries = st.builds(
    Deliver,
    message=st.sampled_from([*MESSAGES, (2, 4), (9, 9)]),
    attempt=st.integers(1, 3),
    client=st.integers(101, 102),
    epoch=st.integers(1, 2),
    group=st.sampled_from(["group", "group", "group", "other"]),
    sequence=st.integers(0, 3),
    redelivered=st.booleans(),
    fetch_ms=st.integers(1, 60),
    at_ms=st.integers(1, 60),
    ack=st.sampled_from(AckKind),
    ack_ms=st.integers(1, 90),
    acks=st.booleans(),
    settled_ms=st.integers(1, 90),
    settles=st.booleans(),
    corrupt=st.sampled_from([False] * 9 + [True]),
    foreign=st.sampled_from([False] * 9 + [True]),
)


def causal(delivery: Deliver, pushed: bool) -> Deliver:
    """Fetched before it is received, acknowledged after, confirmed after that: no client can write it otherwise."""
    times = sorted([delivery.fetch_ms, delivery.at_ms, delivery.ack_ms, delivery.settled_ms])  # type: ignore[type-var]
    fetch_ms, at_ms, ack_ms, settled_ms = times
    return replace(
        delivery,
        fetch_ms=None if pushed else fetch_ms,
        at_ms=at_ms,
        ack_ms=ack_ms,
        settled_ms=settled_ms,
        settles=delivery.settles and delivery.acks,
    )


causal_deliveries = st.builds(causal, deliveries, st.booleans())
leftovers = st.builds(
    left,
    st.sampled_from([*MESSAGES, (2, 4)]),
    st.sampled_from(["owed", "stored", "dead-letter", "queue"]),
    st.integers(0, 3),
)
effects = st.builds(effect, st.sampled_from(MESSAGES), st.integers(1, 2))
drops = st.builds(dropped, st.sampled_from([*MESSAGES, (2, 4)]), st.sampled_from(["ttl", "max-length"]))


def unique_attempts(events: list[Event]) -> list[Event]:
    """A client makes an attempt once, and has one effect count a message."""
    kept: dict[object, Event] = {}
    for place, event in enumerate(events):
        key: object = place
        if isinstance(event, Publish):
            key = ("publish", event.message, event.attempt)
        elif not isinstance(event, Deliver) and type(event).__name__ == "Effect":
            key = ("effect", event.message)  # type: ignore[union-attr]
        kept.setdefault(key, event)
    return list(kept.values())


any_events = st.lists(
    st.one_of(publications, publications, causal_deliveries, causal_deliveries, leftovers, effects, drops), max_size=24
).map(unique_attempts)
any_terms = st.fixed_dictionaries(
    {
        "ack_wait_s": st.none() | st.just(0.01),
        "groups": st.sampled_from([("group",), ("group", "other")]),
    }
)


def found(past: History) -> dict[str, set[int]]:
    """Every anomaly that the checkers find, by name."""
    facts = gather(past)
    sets = {**delivery.check(facts).anomalies, **processing.check(facts).anomalies}
    sets["reordered"] = ordering.check(facts).reordered
    return {
        name: {int(message) for message in anomaly.ids}
        for name, anomaly in sets.items()
        if name not in delivery.STRANGE
    }


@contextmanager
def in_chunks_of(rows: int) -> Iterator[None]:
    """Tables are looked at so many rows at a time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (table, places, messages):
            patch.setattr(module, "CHUNK_ROWS", rows)
        yield


chunk_rows = st.sampled_from([1, 3, 7, table.CHUNK_ROWS])


@settings(max_examples=400, deadline=None)
@given(events=any_events, changes=any_terms, chunk_rows=chunk_rows)
def test_checkers_agree_with_the_reference_on_any_history(
    events: list[Event], changes: dict[str, Any], chunk_rows: int
) -> None:
    with in_chunks_of(chunk_rows):
        _agree(events, changes)


def _agree(events: list[Event], changes: dict[str, Any]) -> None:
    past = history(*events, terms=terms(mechanism="ack_after_effect", effects_audited=True, **changes))
    expected = reference.anomalies(past)
    facts = gather(past)
    checked = delivery.check(facts)
    assert {name: expected[name] for name in found(past)} == found(past)
    named = {name for name in checked.counts if name in expected}
    assert {name: checked.counts[name] for name in named} == {name: len(expected[name]) for name in named}
    assert {name: checked.anomalies[name].count for name in delivery.STRANGE} == reference.strange(past)


# ---- a chunk at a time -----------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    events=any_events, changes=any_terms, chunk_rows=st.integers(1, 9), touches=st.sampled_from(["both", "consumer"])
)
def test_a_verdict_does_not_depend_on_how_many_rows_are_looked_at_together(
    events: list[Event], changes: dict[str, Any], chunk_rows: int, touches: str
) -> None:
    struck = injection(asked_ns=10_000_000, bit_ns=20_000_000, mended_ns=30_000_000, touches=touches)
    counters = (counter("published", 3), counter("delivered", 3), counter("acked", 3))
    settings = {"prefetch": 2}
    past = history(
        *fair_events(until_ms=60),
        *events,
        terms=terms(injections=(struck,), counters=counters, settings=settings, **changes),
    )
    whole = judge(past)
    with in_chunks_of(chunk_rows):
        assert judge(past) == whole


@pytest.mark.parametrize("plant", [0, 3])
@pytest.mark.parametrize("rows_at_once", [64, 1000])
def test_a_history_that_is_made_chunk_by_chunk_is_judged_as_one_in_memory(plant: int, rows_at_once: int) -> None:
    made = synthetic(4000, plant=plant, chunk_rows=rows_at_once)
    in_memory = held(made.history)
    assert judge(made.history) == judge(in_memory)
    expected, found_ = reference.anomalies(in_memory), found(made.history)
    assert {name: expected[name] for name in found_} == found_
    for name in ("duplicate_publish", "visible_failure", "unflagged_redelivery", "reordered"):
        assert found_[name] == {int(message) for message in made.planted[name]}
    lost = ("lost_never_delivered", "lost_after_delivery", "phantom", "corrupt")
    assert found_["lost"] == {int(message) for name in lost for message in made.planted[name]}
    verdicts = judge(made.history).verdicts
    assert verdicts["at_least_once"].status is (Status.VIOLATED if plant else Status.HELD)


# ---- machine code ----------------------------------------------------------------------------------------------------


def _all_of(facts: Facts) -> tuple[object, ...]:
    """Everything that the gathering of a history leads to."""
    return (
        facts.flags.of.tolist(),
        sorted(set(facts.apart.tolist())),
        facts.strangers.tolist(),
        facts.whole,
        facts.census_strangers,
        {name: repr(anomaly) for name, anomaly in delivery.check(facts).anomalies.items()},
        repr(ordering.check(facts)),
    )


@settings(max_examples=400, deadline=None)
@given(events=any_events, changes=any_terms, chunk_rows=chunk_rows)
def test_machine_code_gathers_the_same(events: list[Event], changes: dict[str, Any], chunk_rows: int) -> None:
    pytest.importorskip("numba", reason="the extra `fast` is not installed: there is no machine code to compare")
    past = history(*events, terms=terms(**changes))
    with in_chunks_of(chunk_rows):
        assert _all_of(gather(past, compiled=True)) == _all_of(gather(past, compiled=False))


@pytest.mark.parametrize("shift", [0, 40])
def test_machine_code_gathers_the_same_of_many_rows(shift: int) -> None:
    pytest.importorskip("numba", reason="the extra `fast` is not installed: there is no machine code to compare")
    past = held(synthetic(20_000, plant=5, chunk_rows=3000).history)
    if shift:  # numbers that need 8 bytes
        columns = {"broker_sequence": past.deliveries.broker_sequence << np.uint64(shift)}
        deliveries = Table("deliveries", {**past.deliveries, **columns})
        past = History({**past.tables, "deliveries": deliveries}, past.terms, past.words)
    with in_chunks_of(3000):
        assert _all_of(gather(past, compiled=True)) == _all_of(gather(past, compiled=False))


# ---- planting --------------------------------------------------------------------------------------------------------


@st.composite
def valid_events(draw: st.DrawFn) -> list[Event]:
    """A history in which every guarantee is kept: acked ones delivered once or owed, refused ones never delivered."""
    events: list[Event] = []
    count = draw(st.integers(4, 12))
    sound = draw(st.integers(1, count - 1))
    for number in range(1, count + 1):
        # Message `sound` and the one after it are always acked and delivered: something to plant into.
        fate = (
            "delivered"
            if number in (sound, sound + 1)
            else draw(
                st.sampled_from(
                    ["delivered", "delivered", "refused", "unanswered", "recovered", "owed", "kept", "retried"]
                )
            )
        )
        message, sequence = (1, number), number
        if fate == "refused":
            events.append(publish(message).refused())
        elif fate == "unanswered":
            events.append(publish(message))
        elif fate == "owed":
            events += [
                publish(message).acked(sequence),
                left(message, "owed", sequence),
                deliver_unsettled(message, sequence),
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


def deliver_unsettled(message: object, sequence: int) -> Deliver:
    return deliver(message).as_sequence(sequence)  # type: ignore[arg-type]


def target(events: list[Event]) -> int:
    """Where the publish of the first message is that was acked at once and delivered, followed by another such."""
    for place, event in enumerate(events[:-5]):
        following = [events[place + 1], events[place + 3], events[place + 4]]
        if (
            isinstance(event, Publish)
            and event.outcome is Outcome.OK
            and not event.duplicate
            and isinstance(following[0], Deliver)
            and following[0].settles
            and isinstance(following[1], Publish)
            and following[1].outcome is Outcome.OK
            and isinstance(following[2], Deliver)
            and following[2].settles
        ):
            return place
    raise AssertionError("nothing to plant into")


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


def _store_twice(events: list[Event], at: int) -> list[Event]:
    message = events[at].message  # type: ignore[union-attr]
    retried = publish(message).retry(2).acked(900)
    copy = deliver(message).of_attempt(2).as_sequence(900).confirmed()
    return [*events, retried, copy]


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
    "a message stored twice": (_store_twice, {"duplicate_publish"}),
    "a message swallowed as a duplicate": (_swallow, {"lost", "swallowed", "never_processed"}),
    "a message overtaken by its successor": (_swap, {"reordered"}),
    "a message delivered though refused": (_refuse, {"visible_failure"}),
    "a message that nobody published": (_invent, {"phantom"}),
    "a damaged delivery": (_damage, {"corrupt"}),
    "a delivery of another run": (_mix_up_runs, {"foreign"}),
    "a lost message that nobody had confirmed": (_lose_unconfirmed, {"lost_unconfirmed", "never_processed"}),
    "a message without its effect": (_skip_effect, {"unprocessed"}),
    "a message with two effects": (_repeat_effect, {"duplicate_effect"}),
    "a message stranded in the broker": (_strand, {"stranded"}),
    "a message dropped by a policy": (_drop, {"dropped_acked", "never_processed"}),
}


def all_found(events: list[Event]) -> set[str]:
    past = history(*events, terms=terms(mechanism="ack_after_effect", effects_audited=True, pulled=True))
    names = {name for name, messages in found(past).items() if messages}
    return names | {name for name in delivery.STRANGE if delivery.check(gather(past)).anomalies[name]}


@settings(max_examples=60, deadline=None)
@given(events=valid_events())
def test_a_valid_history_shows_nothing(events: list[Event]) -> None:
    assert all_found(events) == set()


@pytest.mark.parametrize("planted", PLANTS)
@settings(max_examples=10, deadline=None)
@given(events=valid_events())
def test_what_is_planted_is_found_and_nothing_else(planted: str, events: list[Event]) -> None:
    plant, expected = PLANTS[planted]
    at = target(events)
    assert all_found(plant(events, at)) == expected


def test_the_witness_of_a_planted_loss_is_the_message_itself() -> None:
    past = history(publish(1).acked(), deliver(1).acknowledged(), publish(2).acked())
    witnesses = delivery.check(gather(past)).anomalies["lost"].witnesses
    assert [witness.message for witness in witnesses] == [packed(2)]
