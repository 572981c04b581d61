"""Do the checkers find what the definitions say, no more and no less? Against a slow reference."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bench.synthetic import held, synthetic
from harness.checkers import chunk_index, delivery, gathering, messages, ordering, places, processing
from harness.checkers.facts import Facts, gather
from harness.checkers.judge import judge
from harness.guarantee import Status
from harness.history import history as table
from harness.history.history import History, Table
from harness.operation import AckKind, AcknowledgedBy, Outcome
from tests import random_histories, reference
from tests.agreement import compare
from tests.histories import (
    Deliver,
    Event,
    Publish,
    counter,
    dropped,
    effect,
    fair_events,
    history,
    injection,
    left,
    terms,
)

HISTORIES = int(os.environ.get("ASSAY_REFERENCE_HISTORIES", "10000"))
PARTS = 8
"""So that one of them can be run by itself."""

MESSAGES = [1, 2, 3, 4, (2, 1), (2, 9), (3, 5), (3, 1_000_000)]

publications = st.builds(
    Publish,
    message=st.sampled_from(MESSAGES),
    attempt=st.sampled_from([1, 1, 2, 3, 5, 6]),
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
    attempt=st.sampled_from([1, 1, 2, 3, 5, 6]),
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
    """Tables are looked at so many rows at a time, half of them together, and messages are looked up one by one."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (table, places, messages, chunk_index):
            patch.setattr(module, "CHUNK_ROWS", rows)
        patch.setattr(gathering, "LABELS", -(-rows // 2))
        patch.setattr(chunk_index, "_PAGE_BITS", 0)
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
    compare(past)


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
    """Everything that the gathering of a history leads to. (`apart` need not name messages that came twice, whose rows
    are looked at in any case; machine code sees some of them.)"""
    return (
        facts.flags.of.tolist(),
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


def test_machine_code_gathers_the_same_of_strangers_that_came_out_of_order() -> None:
    pytest.importorskip("numba", reason="the extra `fast` is not installed: there is no machine code to compare")
    past = history(Publish(message=3), Deliver(message=1, at_ms=5), Deliver(message=2, at_ms=1))
    assert gather(past, compiled=True).gathered.lanes.unsorted
    assert _all_of(gather(past, compiled=True)) == _all_of(gather(past, compiled=False))


@pytest.mark.parametrize("large", [(), ("deliveries",), ("publications", "deliveries")], ids=" and ".join)
@pytest.mark.parametrize("chunk", [3000, 30_000, 200_000])
def test_machine_code_gathers_the_same_of_many_rows(large: tuple[str, ...], chunk: int) -> None:
    """`large`: tables whose numbers need 8 bytes. Of each client machine code looks at several blocks."""
    pytest.importorskip("numba", reason="the extra `fast` is not installed: there is no machine code to compare")
    past = held(synthetic(200_000, plant=5).history)
    for name in large:
        columns = {**past.tables[name], "broker_sequence": past.tables[name].broker_sequence << np.uint64(40)}
        past = History({**past.tables, name: Table(name, columns)}, past.terms, past.words)
    with in_chunks_of(chunk):
        assert _all_of(gather(past, compiled=True)) == _all_of(gather(past, compiled=False))


# ---- whole runs, very many of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(PARTS))
def test_judge_and_reference_agree_on_whole_runs(part: int, prove: Callable[[str, int], None]) -> None:
    """10,000 histories; ASSAY_REFERENCE_HISTORIES asks for another number."""
    numbers = range(part, HISTORIES, PARTS)
    statuses: Counter[str] = Counter()
    for number in numbers:
        try:
            judgement = compare(random_histories.drawn(random.Random(number)))
        except AssertionError as error:
            raise AssertionError(f"random_histories.drawn(random.Random({number})): {error}") from error
        statuses.update(verdict.status for verdict in judgement.verdicts.values())
    prove("random histories of whole runs, judged alike by the checkers and by a slow reference", len(numbers))
    for status, count in sorted(statuses.items()):
        prove(f"    of their verdicts are {status}", count)
    assert min(statuses[status] for status in Status) > 0.03 * statuses.total(), "every verdict must be put to the test"
