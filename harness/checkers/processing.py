"""Did every message leave its effect in the sink, and did any leave it twice?

*unprocessed*: received in any way, no effect, and no longer owed to its group by the broker. *never processed*: its
producer was entitled to believe it delivered, nobody received it, no effect, not owed: what delivery lost, dropped or
dead-lettered, processing never saw.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.checkers.anomaly import Anomaly, of_messages
from harness.checkers.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingFindings:
    """What was found: anomalies and further counts, by name; empty where no sink was audited."""

    anomalies: dict[str, Anomaly]
    counts: dict[str, int]


def applies(facts: Facts) -> bool:
    """Whether the history can show anything of processing: a mechanism worked, and its sink was read."""
    terms = facts.history.terms
    return bool(terms.mechanism) and terms.effects_audited


def check(facts: Facts) -> ProcessingFindings:
    """Find every anomaly of processing."""
    if not applies(facts):
        return ProcessingFindings(anomalies={}, counts={})
    missing = ~facts.effect & ~facts.owed
    unprocessed = facts.received & missing
    never_processed = facts.believed & ~facts.received & missing
    return ProcessingFindings(
        anomalies={
            "unprocessed": of_messages(
                facts, "unprocessed", unprocessed, "received, no effect in the sink, and owed to nobody any more"
            ),
            "never_processed": of_messages(
                facts, "never_processed", never_processed, "its publish was OK, nobody received it, no effect"
            ),
            "duplicate_effect": of_messages(
                facts, "duplicate_effect", facts.effect_again, "the sink holds its effect more than once"
            ),
        },
        counts={"effects": facts.effect.sum()},
    )
