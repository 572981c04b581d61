"""What does each processing guarantee cost? The founding trade-off, measured: one row a mechanism on a broker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.guarantee import Status, Verdict
from harness.history.history import History
from harness.report.series import effect_latencies, quantiles

GUARANTEES_RANKED = ("at most once", "at least once", "exactly once")
OWN_PARTS: Mapping[str, tuple[str, ...]] = {
    "transaction": ("a transaction across effect and id", "a table of ids, kept as long as one may come again"),
}
"""What a mechanism needs beyond broker, clients and store, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """One processing cell. `promised`: the guarantee of the mechanism; "nothing" where it has none. `unprocessed`:
    messages without an effect that are owed to nobody; `duplicated`: messages whose effect was done more than once;
    `doubts`: why either of them is not known for sure.

    `latency`: from the first publish of a message to its first effect. `throughput_hz`: effects a second between the
    first and the last. `settings`: how many the configuration has; `parts`: what must run and be kept.
    """

    mechanism: str
    configuration: str
    family: str
    fault: str
    cell: str
    promised: str
    observed: str
    held: bool | None
    effects: int
    unprocessed: int
    duplicated: int
    doubts: tuple[str, ...]
    p50_ms: float | None
    p99_ms: float | None
    throughput_hz: float | None
    offered_hz: float
    settings: int
    parts: tuple[str, ...]


def processed(
    history: History,
    verdicts: Mapping[str, Verdict],
    counts: Mapping[str, int],
    observed: str,
    scenario: Mapping[str, object],
    demanded: Sequence[str],
) -> Processed | None:
    """The row of a run, of which `observed` is said; None where nothing was processed. What is promised stands in the
    settings; where it does not, it is what the suite `demanded`."""
    terms = history.terms
    if not terms.mechanism:
        return None
    effects = history.effects
    latency = quantiles(effect_latencies(history))
    span_s = (int(effects.first_ns.max()) - int(effects.first_ns.min())) / 1e9 if effects.rows else 0.0
    promised = str(terms.settings.get("promises") or next(iter(demanded), "nothing")).removesuffix("_processed")
    verdict = verdicts.get(f"{promised}_processed")
    return Processed(
        mechanism=terms.mechanism,
        configuration=terms.configuration,
        family=terms.family,
        fault=", ".join(terms.faults),
        cell=terms.cell,
        promised=promised.replace("_", " "),
        observed=observed,
        held=None if verdict is None or verdict.status is Status.UNKNOWN else verdict.status is Status.HELD,
        effects=effects.rows,
        unprocessed=counts.get("unprocessed", 0) + counts.get("never_processed", 0),
        duplicated=counts.get("duplicate_effect", 0),
        doubts=_doubts(verdicts),
        p50_ms=latency.p50_ms,
        p99_ms=latency.p99_ms,
        throughput_hz=round((effects.rows - 1) / span_s, 1) if span_s > 0 else None,
        offered_hz=terms.offered_hz,
        settings=_settings(history, scenario),
        parts=_parts(history, scenario),
    )


def ranked(rows: Iterable[Processed]) -> tuple[Processed, ...]:
    """By what is promised, weakest first, then by mechanism, so that the brokers stand below one another."""
    rank = {guarantee: place for place, guarantee in enumerate(GUARANTEES_RANKED)}
    return tuple(sorted(rows, key=lambda row: (rank.get(row.promised, -1), row.mechanism, row.family)))


def _doubts(verdicts: Mapping[str, Verdict]) -> tuple[str, ...]:
    lines = []
    for name in ("at_least_once_processed", "at_most_once_processed"):
        verdict = verdicts.get(name)
        if verdict is None or verdict.status is Status.UNKNOWN:
            reasons = () if verdict is None else verdict.reasons
            word = name.removesuffix("_processed").replace("_", "-")
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            lines.append(f"{word} unknown: {reasons[0] if reasons else 'the history does not speak of it'}{more}")
    return tuple(lines)


def _settings(history: History, scenario: Mapping[str, object]) -> int:
    """Settings of the configuration: those of the terms that are not the workload's."""
    workload = scenario.get("workload")
    load = set(workload) if isinstance(workload, dict) else set()
    return len(set(history.terms.settings) - load - {"promises", "parts"})


def _parts(history: History, scenario: Mapping[str, object]) -> tuple[str, ...]:
    """What must run and be kept: the broker, its clients, the store of effects, and what the mechanism itself adds."""
    parts = [history.terms.family, "producer", "consumer"]
    sink = scenario.get("sink")
    if isinstance(sink, dict):
        parts.append(f"store ({sink.get('type', 'sink')})")
    if own := OWN_PARTS.get(history.terms.mechanism):
        return (*parts, *own)
    extra = history.terms.settings.get("parts", 0)
    return tuple(parts + [f"mechanism's own {number + 1}" for number in range(extra if isinstance(extra, int) else 0)])
