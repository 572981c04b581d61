"""What do other programs read? `results.json`, versioned, with its JSON Schema; and `badge.json`."""

from __future__ import annotations

from importlib import resources
from typing import Any

from harness.checkers.availability import Availability
from harness.checkers.load import Window
from harness.guarantee import Verdict
from harness.history.terms import InjectionTerms
from harness.operation import MessageId
from harness.plain import to_plain
from harness.report.model import CellView, Ran, Report, Tally

FORMAT = 1
COUNTS = (
    "attempted",
    "acked",
    "sent",
    "indeterminate",
    "failed",
    "delivered",
    "lost",
    "lost_unconfirmed",
    "duplicate_publish",
    "duplicate_delivery",
    "phantom",
    "corrupt",
    "reordered",
    "recovered",
    "stranded",
)
"""Counts that every judged cell has; others stand beside them by name."""
_COLOURS = {"violated": "red", "unknown": "yellow", "held": "brightgreen", "none": "lightgrey"}


def results(report: Report) -> dict[str, Any]:
    """The content of results.json."""
    session = report.session
    return {
        "format": FORMAT,
        "assay": {
            "version": session.assay,
            "seed": session.seed,
            "engine": session.engine,
            "tier": session.tier,
            "machine": to_plain(session.machine),
            "started": session.started,
            "session": session.session,
        },
        "cells": [_cell(view) for view in report.cells],
        "summary": {
            "held": report.claims.held,
            "violated": report.claims.violated,
            "unknown": report.claims.unknown,
            "claims": _tally(report.claims),
            "cells": {**_tally(report.cell_tally), "unclaimed": report.cell_tally.unclaimed},
            "configurations": {**_tally(report.configurations), "unclaimed": report.configurations.unclaimed},
            "headline": report.headline,
        },
    }


def schema() -> str:
    """The JSON Schema of results.json, as shipped."""
    return resources.files("harness.report").joinpath("schema/results.schema.json").read_text(encoding="utf-8")


def badge(report: Report) -> dict[str, Any]:
    """A badge for a page that shows them (the endpoint form of common badge servers)."""
    tally = report.claims
    words = [
        f"{count} {word}"
        for count, word in ((tally.violated, "violated"), (tally.unknown, "unknown"), (tally.held, "held"))
        if count
    ]
    worst = "violated" if report.worst else "unknown" if report.undecided else "held" if tally.held else "none"
    return {
        "schemaVersion": 1,
        "label": "guarantees",
        "message": ", ".join(words) or "nothing claimed",
        "color": _COLOURS[worst],
    }


def _tally(tally: Tally) -> dict[str, int]:
    return {"held": tally.held, "violated": tally.violated, "unknown": tally.unknown, "predicted": tally.predicted}


def _cell(view: CellView) -> dict[str, Any]:
    cell, ran = view.cell, view.ran
    terms = ran.terms if ran is not None else None
    return {
        "id": cell.id,
        "test": cell.test,
        "status": cell.status,
        "outcome": cell.outcome,
        "grade": view.grade,
        "reason": view.reason or None,
        "configuration": cell.configuration,
        "mechanism": cell.mechanism,
        "broker": _broker(ran),
        "fault": cell.fault,
        "plan": dict(ran.plan) if ran is not None else None,
        "seed": terms.seed if terms is not None else None,
        "phases_s": _phases(ran) if ran is not None else [],
        "counts": {**dict.fromkeys(COUNTS, 0), **ran.counts} if ran is not None else None,
        "latency": to_plain(ran.latency) if ran is not None else None,
        "availability": _availability(ran.availability) if ran is not None else None,
        "injections": [_injection(injection) for injection in terms.injections] if terms is not None else [],
        "verdicts": {name: _verdict(verdict) for name, verdict in ran.verdicts.items()} if ran is not None else {},
        "expected": to_plain(cell.expected),
        "observed": view.observed if ran is not None else None,
        "claim_kept": ran.claim_kept if ran is not None and view.grade != "unknown" else None,
        "run": cell.run,
        "reproduce": view.command,
    }


def _broker(ran: Ran | None) -> dict[str, Any] | None:
    if ran is None:
        return None
    terms = ran.terms
    image = terms.environment.get("image")
    return {"name": terms.family, "version": terms.broker_version, "image": None if image is None else str(image)}


def _phases(ran: Ran) -> list[dict[str, Any]]:
    return [
        {"phase": load.phase, "trial": load.trial, "begin_s": load.begin_s, "end_s": load.end_s} for load in ran.phases
    ]


def _availability(measured: Availability) -> dict[str, Any]:
    return {
        "publishing": _outage(measured.publishing),
        "delivering": _outage(measured.delivering),
        "recoveries": [
            {
                "fault": one.fault,
                "number": one.number,
                "publishing_s": _seconds(one.publishing_ns),
                "delivering_s": _seconds(one.delivering_ns),
            }
            for one in measured.recoveries
        ],
    }


def _outage(outage: Window | None) -> dict[str, Any] | None:
    return None if outage is None else {"begin_s": _seconds(outage.begin_ns), "end_s": _seconds(outage.end_ns)}


def _injection(injection: InjectionTerms) -> dict[str, Any]:
    return {
        "fault": injection.fault,
        "number": injection.number,
        "trial": injection.trial,
        "targets": list(injection.targets),
        "planned_s": _seconds(injection.planned_ns),
        "asked_s": _seconds(injection.asked_ns),
        "bit_s": _seconds(injection.bit_ns),
        "mended_s": _seconds(injection.mended_ns),
        "recovered_s": _seconds(injection.recovered_ns),
        "at_risk": injection.at_risk,
        "evidence": to_plain(injection.facts),
        "why_not": injection.why_not,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "status": str(verdict.status),
        "claimed": verdict.claimed,
        "page": verdict.page,
        "sentence": verdict.sentence,
        "counts": dict(verdict.counts),
        "injections": verdict.injections,
        "violating": verdict.violating,
        "exposure": verdict.exposure,
        "upper_bound": verdict.upper_bound,
        "reason": "; ".join(verdict.reasons) or None,
        "witnesses": [
            {
                "anomaly": witness.anomaly,
                "message": None if witness.message is None else str(MessageId.unpack(witness.message)),
                "story": witness.story,
            }
            for witness in verdict.witnesses
        ],
    }


def _seconds(at_ns: int | None) -> float | None:
    return None if at_ns is None else round(at_ns / 1e9, 6)
