"""What may a judge know of the scenario? The terms: written at freeze, they travel in the history.

A checker sees nothing but the history, so whatever a verdict depends on beyond the recorded operations stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.operation import AckKind, AcknowledgedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """One counter of the broker at the end of the run. `comparable`: no restart has reset it."""

    name: str
    value: int
    comparable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claim of documentation that is in scope for this run's configuration, version and faults."""

    guarantee: str
    page: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionTerms:
    """One injection as the judge needs it: JSON form of operation.Injection. Times in ns of the run; None: never."""

    fault: str
    number: int
    trial: int
    targets: tuple[str, ...]
    planned_ns: int
    asked_ns: int
    bit_ns: int | None
    mended_ns: int | None
    recovered_ns: int | None
    at_risk: int
    touches: str
    facts: Mapping[str, object] = field(default_factory=dict)
    why_not: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of one run.

    `acknowledged_by`: whose word an OK publication is. `retry`: none, same-id, new-id. `floor_hz`: attempts per second
    below which a phase is no load; `offered_hz`: what the workload offered. `at_risk_min`: operations under way when a
    fault bites, for a trial. `ticker_limit_ms`: longest gap in a client's or the runner's 10 ms ticker that a healthy
    harness may show. `drained`: whether the broker (or silence) said that nothing is left; `drained_why_not` else.
    `exhaustive`: whether the auditor read to the end. `silence_s`: how long it was silent before the drain ended;
    `silence_needed`: whether the verdict needs silence beyond the horizon (an end that the broker did not see).
    `brokers_up`: whether all nodes answered during drain and audit. `whole`: whether the cluster was whole at the end;
    `whole_why_not` else, where somebody knew.
    `peers_all_proxy`: whether every client connection that the broker listed came from the proxy; None: not asked.
    `effects_audited`: whether a sink was read; `mechanism`: name of the processing mechanism ("" without processing).
    `interrupted`: why the run did not come to its end (""); such a run is never HELD.
    `recovery_limit_s`: how long recovery was waited for. `stores`: whether messages outlive their consumer's absence.
    `truncated_journals`: clients whose journal was cut. `recorded_by`: who recorded the history, where it was not Assay
    (""); such a history is never HELD, for nothing shows what was done to the system, or that all was written down.
    """

    format: int = 1
    cell: str
    seed: int
    run: int
    configuration: str
    family: str
    broker_version: str
    faults: tuple[str, ...]
    acknowledged_by: AcknowledgedBy
    ack: AckKind
    retry: str = "none"
    pulled: bool = False
    redelivered_promise: bool = False
    ordered: bool = True
    stores: bool = True
    drain: str = "silence"
    groups: tuple[str, ...] = ("group",)
    floor_hz: float = 0.0
    offered_hz: float = 0.0
    at_risk_min: int = 1
    ticker_limit_ms: float = 250.0
    redelivery_horizon_s: float = 1.0
    recovery_limit_s: float = 40.0
    ack_wait_s: float | None = None
    policies: tuple[str, ...] = ()
    drained: bool = False
    drained_why_not: str = ""
    silence_s: float = 0.0
    silence_needed: bool = False
    exhaustive: bool = False
    exhaustive_why_not: str = ""
    brokers_up: bool = False
    whole: bool = False
    whole_why_not: str = ""
    peers_all_proxy: bool | None = None
    effects_audited: bool = False
    mechanism: str = ""
    interrupted: str = ""
    proxy_trouble: str = ""
    truncated_journals: tuple[str, ...] = ()
    recorded_by: str = ""
    injections: tuple[InjectionTerms, ...] = ()
    claims: tuple[Claimed, ...] = ()
    counters: tuple[Counter, ...] = ()
    census_corrupt: int = 0
    census_foreign: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    clock_pairs: tuple[tuple[int, int], ...] = ()
    boot_id: str = ""
