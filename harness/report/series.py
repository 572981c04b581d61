"""How did rates and latencies of a run go over time? A few hundred points of each, on one axis with the faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.history.columns import NEVER
from harness.history.history import Array, History
from harness.operation import Outcome

POINTS_MAX = 240
_SAMPLE_MAX = 1_000_000
_BIN_MIN_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Columns of equal length: `time_s` is the middle of each bin. None: nothing happened in that bin."""

    bin_s: float
    time_s: Sequence[float]
    attempted_hz: Sequence[float]
    acked_hz: Sequence[float]
    delivered_hz: Sequence[float]
    p50_ms: Sequence[float | None]
    p99_ms: Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseLoad:
    """One phase and the load in it. `latency`: from the first publish of a message to its first receipt."""

    phase: str
    trial: int | None
    begin_s: float
    end_s: float
    attempted_hz: float
    acked_hz: float
    delivered_hz: float
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Quantiles of a set of latencies, in ms, and how many there were."""

    count: int
    p50_ms: float | None
    p99_ms: float | None


def first_publish_ns(history: History, messages: Array) -> Array:
    """When each message was first published; NEVER where it was not. `messages`: packed ids."""
    publications = history.publications
    sent = np.flatnonzero(publications.invoked_ns != NEVER)
    ids, times = publications.message[sent], publications.invoked_ns[sent]
    if not np.all(ids[1:] > ids[:-1]):  # else each was published once, and they stand in order
        order = np.lexsort((times, ids))
        ids, times = ids[order], times[order]
    if not len(ids):
        return np.full(len(messages), NEVER)
    at = np.minimum(np.searchsorted(ids, messages), len(ids) - 1)
    found: Array = np.where(ids[at] == messages, times[at], NEVER)
    return found


def receipt_latencies(history: History) -> tuple[Array, Array]:
    """(when received, how long after its first publish), both ns, of the first receipt of each message."""
    deliveries = history.deliveries
    good = np.flatnonzero((deliveries.corrupt == 0) & (deliveries.foreign == 0))
    if len(good) > _SAMPLE_MAX:  # quantiles of every k-th receipt are near enough for a chart
        good = good[:: len(good) // _SAMPLE_MAX + 1]
    ids, received = deliveries.message[good], deliveries.received_ns[good]
    order = np.lexsort((received, ids))
    first = np.ones(len(order), bool)
    first[1:] = ids[order][1:] != ids[order][:-1]
    ids, received = ids[order][first], received[order][first]
    return _since_publish(history, ids, received)


def effect_latencies(history: History) -> Array:
    """How long after its first publish each message left its first effect, ns."""
    return _since_publish(history, history.effects.message, history.effects.first_ns)[1]


def quantiles(latencies_ns: Array) -> Latency:
    """Median and 99th percentile."""
    if not len(latencies_ns):
        return Latency(count=0, p50_ms=None, p99_ms=None)
    p50, p99 = np.percentile(latencies_ns, (50, 99)) / 1e6
    return Latency(count=len(latencies_ns), p50_ms=round(float(p50), 3), p99_ms=round(float(p99), 3))


def series(history: History) -> Series | None:
    """The series of a history; None where nothing was published or delivered."""
    times = _times(history)
    ends = [int(array.max()) for array in times.values() if len(array)]
    if not ends:
        return None
    begin_s = min(int(array.min()) for array in times.values() if len(array)) / 1e9
    end_s = max(ends) / 1e9
    bin_s = max(_BIN_MIN_S, (end_s - begin_s) / POINTS_MAX)
    count = max(1, int(np.ceil((end_s - begin_s) / bin_s + 1e-9)))
    edges = begin_s + bin_s * np.arange(count + 1)
    edges[-1] = max(edges[-1], end_s)
    rates = {name: _histogram(array / 1e9, edges) / bin_s for name, array in times.items()}
    received, latencies = receipt_latencies(history)
    p50, p99 = _quantiles_by_bin(received / 1e9, latencies, edges)
    return Series(
        bin_s=round(bin_s, 4),
        time_s=_rounded((edges[:-1] + edges[1:]) / 2, 3),
        attempted_hz=_rounded(rates["attempted"], 1),
        acked_hz=_rounded(rates["acked"], 1),
        delivered_hz=_rounded(rates["delivered"], 1),
        p50_ms=p50,
        p99_ms=p99,
    )


def phase_loads(history: History) -> tuple[PhaseLoad, ...]:
    """The load in each phase."""
    times = _times(history)
    received, latencies = receipt_latencies(history)
    loads = []
    phases = history.phases
    for row in range(phases.rows):
        begin, end = int(phases.begin_ns[row]), int(phases.end_ns[row])
        length_s = max((end - begin) / 1e9, 1e-9)
        hz = {
            name: round(float(np.searchsorted(array, end) - np.searchsorted(array, begin)) / length_s, 1)
            for name, array in times.items()
        }
        latency = quantiles(latencies[(received >= begin) & (received < end)])
        trial = int(phases.trial[row])
        loads.append(
            PhaseLoad(
                phase=history.word(phases.phase[row]),
                trial=None if trial == NEVER else trial,
                begin_s=begin / 1e9,
                end_s=end / 1e9,
                attempted_hz=hz["attempted"],
                acked_hz=hz["acked"],
                delivered_hz=hz["delivered"],
                p50_ms=latency.p50_ms,
                p99_ms=latency.p99_ms,
            )
        )
    return tuple(loads)


def _since_publish(history: History, messages: Array, then_ns: Array) -> tuple[Array, Array]:
    published = first_publish_ns(history, messages)
    known = (published != NEVER) & (then_ns != NEVER)
    return then_ns[known], then_ns[known] - published[known]


def _times(history: History) -> Mapping[str, Array]:
    """What happened when, ascending: a stable sort merges what clients recorded in order, each its own."""
    publications, deliveries = history.publications, history.deliveries
    acked = (publications.outcome == Outcome.OK) & (publications.completed_ns != NEVER)
    invoked = np.where(publications.invoked_ns != NEVER, publications.invoked_ns, publications.intended_ns)
    times = {
        "attempted": invoked[invoked != NEVER],
        "acked": publications.completed_ns[acked],
        "delivered": deliveries.received_ns[deliveries.received_ns != NEVER],
    }
    return {name: np.sort(array, kind="stable") for name, array in times.items()}


def _histogram(ascending: Array, edges: Array) -> Array:
    """How many lie in each bin, as np.histogram counts, which would sort them."""
    bounds = np.searchsorted(ascending, edges, side="left")
    bounds[-1] = np.searchsorted(ascending, edges[-1], side="right")
    return np.diff(bounds)


def _quantiles_by_bin(
    received_s: Array, latencies_ns: Array, edges: Array
) -> tuple[list[float | None], list[float | None]]:
    count = len(edges) - 1
    places = np.clip(np.searchsorted(edges, received_s, side="right") - 1, 0, count - 1)
    order = np.lexsort((latencies_ns, places))
    sorted_ns = latencies_ns[order]
    begins = np.searchsorted(places[order], np.arange(count + 1))
    p50: list[float | None] = []
    p99: list[float | None] = []
    for begin, end in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
        for quantile, into in ((0.5, p50), (0.99, p99)):
            at = begin + min(end - begin - 1, int((end - begin) * quantile))
            into.append(round(float(sorted_ns[at]) / 1e6, 3) if end > begin else None)
    return p50, p99


def _rounded(array: Array, digits: int) -> list[float]:
    return [float(value) for value in np.round(array, digits)]
