"""What do quantiles of a latency mean, and does a load that waited for the broker show? Against known values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.checkers import bounds, latency
from harness.checkers.latency import LATE_NS
from harness.history.history import History, Table
from tests.histories import MS, deliver, history, publish

# Fisher's exact test, two-sided, as published: his own example of tea and milk; the dieters of Wikipedia's page; the
# oceans of scipy's documentation; and tables whose value is a fraction of binomial coefficients.
TABLES = {
    (3, 4, 1, 4): 34 / 70,
    (1, 12, 9, 12): 0.002759456185220083,
    (8, 10, 1, 6): 0.03496503496503495,
    (0, 5, 5, 5): 2 / 252,
    (0, 10, 0, 7): 1.0,
    (2, 30, 2, 30): 1.0,
}


@pytest.mark.parametrize("table", TABLES)
def test_two_rates_have_their_known_probability(table: tuple[int, int, int, int]) -> None:
    assert bounds.same_rate(*table) == pytest.approx(TABLES[table], rel=1e-12)
    assert bounds.same_rate(*table[2:], *table[:2]) == pytest.approx(TABLES[table], rel=1e-12)


def test_two_rates_are_told_apart_with_enough_trials_and_not_with_few() -> None:
    assert bounds.same_rate(1, 3, 0, 3) == 1.0
    assert bounds.same_rate(10, 30, 0, 30) < 0.001
    with pytest.raises(ValueError, match="no count"):
        bounds.same_rate(1, 0, 0, 3)


# Tables of distribution-free 95 % intervals of the median: ranks of the order statistics, by the number of values.
MEDIANS = {5: (None, None), 6: (1, 6), 10: (2, 9), 20: (6, 15), 50: (18, 33), 100: (40, 61)}


@pytest.mark.parametrize("count", MEDIANS)
def test_ranks_that_enclose_the_median(count: int) -> None:
    assert bounds.quantile_ranks(count, 0.5) == MEDIANS[count]


@pytest.mark.parametrize(("count", "quantile"), [(10, 0.5), (300, 0.99), (473, 0.9), (900, 0.01)])
def test_ranks_are_the_narrowest_whose_tails_are_small_enough(count: int, quantile: float) -> None:
    def at_most(k: int) -> float:
        return math.fsum(math.comb(count, i) * quantile**i * (1 - quantile) ** (count - i) for i in range(k + 1))

    lower, upper = bounds.quantile_ranks(count, quantile)
    if lower is not None:
        assert at_most(lower - 1) <= 0.025 < at_most(lower)
    if upper is not None:
        assert 1 - at_most(upper - 1) <= 0.025 < 1 - at_most(upper - 2)
    assert (lower is None) == (at_most(0) > 0.025)
    assert (upper is None) == (1 - at_most(count - 1) > 0.025)


def test_an_interval_encloses_the_quantile_as_often_as_it_says() -> None:
    random, within = np.random.default_rng(7), 0
    for _ in range(1000):
        (_, p99) = latency.quantiles((random.exponential(1e6, 1000)).astype(np.int64))
        assert p99.lower_ns is not None
        assert p99.upper_ns is not None
        within += p99.lower_ns <= -math.log(0.01) * 1e6 <= p99.upper_ns
    assert within >= 940  # 95 % are expected, and below 940 of 1000 comes once in ten


def test_ranks_of_ten_million_values() -> None:
    lower, upper = bounds.quantile_ranks(10_000_000, 0.99)
    assert lower is not None
    assert upper is not None
    spread = 1.959964 * math.sqrt(10_000_000 * 0.99 * 0.01)
    assert lower == pytest.approx(9_900_000 - spread, abs=2)
    assert upper == pytest.approx(9_900_000 + spread, abs=2)


# ---- coordinated omission --------------------------------------------------------------------------------------------


def intended(past: History, times_ms: list[float]) -> History:
    """The history with its publishes intended at these times."""
    wanted = Table("publications", {**past.publications, "intended_ns": [int(at_ms * MS) for at_ms in times_ms]})
    return History({**past.tables, "publications": wanted}, past.terms, past.words)


def test_a_load_in_time_leaves_nothing_out() -> None:
    past = history(*(publish(number).acked().at(number * 10).until(number * 10 + 3) for number in range(1, 101)))
    measured = latency.check(past)
    assert (measured.called, measured.late, measured.latest_ns, measured.omitted_ns) == (100, 0, 0, 0)
    assert [one.value_ns for one in measured.response] == [3 * MS, 3 * MS]


def test_a_load_that_waited_for_the_broker_shows_and_does_not_look_fast() -> None:
    """Due every 10 ms; the broker stands still from 500 to 900 ms, and the producer waits instead of calling."""
    due = [number * 10.0 for number in range(1, 101)]
    called = [900.0 if 500 <= at_ms < 900 else at_ms for at_ms in due]
    events = [publish(number).acked().at(at_ms).until(at_ms + 3) for number, at_ms in enumerate(called, 1)]
    measured = latency.check(intended(history(*events), due))
    assert measured.late == sum(at_ms - wanted_ms > LATE_NS / MS for at_ms, wanted_ms in zip(called, due, strict=True))
    assert measured.latest_ns == 400 * MS
    assert measured.service_p99_ns == 3 * MS
    assert measured.response[-1].value_ns == 393 * MS
    assert measured.omitted_ns == 390 * MS


def test_retries_refusals_and_what_was_never_answered_are_not_measured() -> None:
    events = [
        publish(1).acked().at(10).until(12),
        publish(2).at(20),
        publish(2).retry(2).acked().at(60).until(99),
        publish(3).refused().at(30).until(95),
        deliver(1),
    ]
    measured = latency.check(history(*events))
    assert measured.called == 3
    assert [one.value_ns for one in measured.response] == [2 * MS, 2 * MS]
    assert (measured.response[0].lower_ns, measured.response[0].upper_ns) == (None, None)


def test_of_nothing_nothing_is_said() -> None:
    measured = latency.check(history())
    assert (measured.response, measured.called, measured.late, measured.omitted_ns) == ((), 0, 0, 0)
