"""How did rates and latencies of a run go over time? A few hundred points of each, on one axis with the faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.history.columns import NEVER
from harness.history.history import Array, Columns, History
from harness.operation import Outcome

POINTS_MAX = 240
_SAMPLE_MAX = 1_000_000
_BIN_MIN_S = 0.05
_NO_TIME = np.iinfo(np.int64).max


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
    wanted, which = np.unique(messages, return_inverse=True)
    first_ns = np.full(len(wanted), _NO_TIME)
    for chunk in history.publications.chunks("message", "invoked_ns"):
        ids = chunk.message
        begin, end = np.searchsorted(wanted, ids.min()), np.searchsorted(wanted, ids.max(), side="right")
        if begin == end:
            continue
        there = np.flatnonzero(_holds(ids, wanted[begin:end]) & (chunk.invoked_ns != NEVER))
        np.minimum.at(first_ns, np.searchsorted(wanted, ids[there]), chunk.invoked_ns[there])
    return np.where(first_ns == _NO_TIME, NEVER, first_ns)[which]


def _holds(ids: Array, wanted: Array) -> Array:
    """Which of these ids are wanted ones (ascending)."""
    if (ids[1:] > ids[:-1]).all():  # as one client publishes: its ids need no search of their own
        at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        mask = np.zeros(len(ids), np.bool_)
        mask[at[ids[at] == wanted]] = True
        return mask
    return np.isin(ids, wanted)


def receipt_latencies(history: History) -> tuple[Array, Array]:
    """(when received, how long after its first publish), both ns, of the first receipt of each message."""
    deliveries, sound = history.deliveries, ("corrupt", "foreign")
    good = sum(int(_good(chunk).sum()) for chunk in deliveries.chunks(*sound))
    # Quantiles of every k-th receipt are near enough for a chart.
    step = good // _SAMPLE_MAX + 1 if good > _SAMPLE_MAX else 1
    seen = 0

    def every_step(chunk: Columns) -> Array:
        nonlocal seen
        mask = _good(chunk)
        rows = np.flatnonzero(mask)
        mask[rows] = (seen + np.arange(len(rows))) % step == 0
        seen += len(rows)
        return mask

    sample = deliveries.select(sound, every_step, ("message", "received_ns"))
    ids, received = sample.message, sample.received_ns
    order = np.lexsort((received, ids))
    first = np.ones(len(order), bool)
    first[1:] = ids[order][1:] != ids[order][:-1]
    ids, received = ids[order][first], received[order][first]
    return _since_publish(history, ids, received)


def _good(deliveries: Columns) -> Array:
    return np.asarray((deliveries.corrupt == 0) & (deliveries.foreign == 0))


def effect_latencies(history: History) -> Array:
    """How long after its first publish each message left its first effect, ns."""
    return _since_publish(history, history.effects.message, history.effects.first_ns)[1]


def quantiles(latencies_ns: Array) -> Latency:
    """Median and 99th percentile."""
    if not len(latencies_ns):
        return Latency(count=0, p50_ms=None, p99_ms=None)
    p50, p99 = np.percentile(latencies_ns, (50, 99)) / 1e6
    return Latency(count=len(latencies_ns), p50_ms=round(float(p50), 3), p99_ms=round(float(p99), 3))


def series(history: History, receipts: tuple[Array, Array] | None = None) -> Series | None:
    """The series of a history; None where nothing was published or delivered. `receipts`: its `receipt_latencies`."""
    begins_ns, ends_ns = [], []
    for _, times_ns in _times(history):
        begins_ns.append(int(times_ns.min()))
        ends_ns.append(int(times_ns.max()))
    if not ends_ns:
        return None
    begin_s, end_s = min(begins_ns) / 1e9, max(ends_ns) / 1e9
    bin_s = max(_BIN_MIN_S, (end_s - begin_s) / POINTS_MAX)
    count = max(1, int(np.ceil((end_s - begin_s) / bin_s + 1e-9)))
    edges = begin_s + bin_s * np.arange(count + 1)
    edges[-1] = max(edges[-1], end_s)
    happened = {name: np.zeros(count, np.int64) for name in ("attempted", "acked", "delivered")}
    for name, times_ns in _times(history):
        places = ((times_ns / 1e9 - begin_s) / bin_s).astype(np.int64)
        happened[name] += np.bincount(np.clip(places, 0, count - 1), minlength=count)
    rates = {name: counted / bin_s for name, counted in happened.items()}
    received, latencies = receipts or receipt_latencies(history)
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


def phase_loads(history: History, receipts: tuple[Array, Array] | None = None) -> tuple[PhaseLoad, ...]:
    """The load in each phase. `receipts`: its `receipt_latencies`."""
    phases = history.phases
    happened = {name: np.zeros(phases.rows, np.int64) for name in ("attempted", "acked", "delivered")}
    for name, times_ns in _times(history):
        first_ns, last_ns = int(times_ns.min()), int(times_ns.max())
        for row in np.flatnonzero((phases.begin_ns <= last_ns) & (phases.end_ns > first_ns)).tolist():
            begin, end = int(phases.begin_ns[row]), int(phases.end_ns[row])
            inside = begin <= first_ns and last_ns < end
            happened[name][row] += len(times_ns) if inside else int(((times_ns >= begin) & (times_ns < end)).sum())
    received, latencies = receipts or receipt_latencies(history)
    loads = []
    for row in range(phases.rows):
        begin, end = int(phases.begin_ns[row]), int(phases.end_ns[row])
        length_s = max((end - begin) / 1e9, 1e-9)
        hz = {name: round(float(counted[row]) / length_s, 1) for name, counted in happened.items()}
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


def _times(history: History) -> Iterator[tuple[str, Array]]:
    """Times of what was attempted, acked and delivered, with its name: some of them at a time, never none."""
    for chunk in history.publications.chunks("intended_ns", "invoked_ns", "completed_ns", "outcome"):
        invoked = np.where(chunk.invoked_ns != NEVER, chunk.invoked_ns, chunk.intended_ns)
        acked = (chunk.outcome == Outcome.OK) & (chunk.completed_ns != NEVER)
        for name, times_ns in (("attempted", invoked[invoked != NEVER]), ("acked", chunk.completed_ns[acked])):
            if len(times_ns):
                yield name, times_ns
    for chunk in history.deliveries.chunks("received_ns"):
        if len(received := chunk.received_ns[chunk.received_ns != NEVER]):
            yield "delivered", received


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
