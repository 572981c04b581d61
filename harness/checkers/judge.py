"""Which guarantees does this history keep, which does it break, and of which can nothing be said?

One violation with its witness is VIOLATED. HELD has to be earned: no violation, something at stake, and a fair trial.
Anything less is UNKNOWN, with the reasons. `judge` is a pure function of a history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from harness.checkers import (
    availability,
    bounds,
    delivery,
    latency,
    linearizability,
    ordering,
    processing,
    sentences,
    streams,
    trial,
)
from harness.checkers.anomaly import WITNESSES_MAX, Anomaly
from harness.checkers.availability import Availability
from harness.checkers.facts import Facts, gather
from harness.checkers.latency import Latency
from harness.checkers.linearizability import Linearizability
from harness.checkers.streams import StreamFindings
from harness.checkers.trial import Fairness, Trial
from harness.guarantee import (
    AT_LEAST_ONCE,
    AT_LEAST_ONCE_PROCESSED,
    AT_MOST_ONCE,
    AT_MOST_ONCE_PROCESSED,
    EXACTLY_ONCE,
    EXACTLY_ONCE_PROCESSED,
    GENUINE,
    LINEARIZABLE_FIFO,
    LOG_CONSISTENT,
    NEVER_AGAIN,
    ORDERED,
    PUBLISH_ONCE,
    Guarantee,
    Status,
    Verdict,
)
from harness.history.history import History
from harness.history.terms import Terms
from harness.operation import AckKind, Outcome

_LOSS = ("lost", "lost_unconfirmed", "dropped_acked", "stranded")
_REPEAT = ("duplicate_delivery", "duplicate_publish")
_UNDONE = ("unprocessed", "never_processed", "stranded")

BREAKS: Mapping[Guarantee, tuple[str, ...]] = {
    AT_LEAST_ONCE: _LOSS,
    AT_MOST_ONCE: _REPEAT,
    EXACTLY_ONCE: (*_LOSS, *_REPEAT),
    AT_LEAST_ONCE_PROCESSED: _UNDONE,
    AT_MOST_ONCE_PROCESSED: ("duplicate_effect",),
    EXACTLY_ONCE_PROCESSED: (*_UNDONE, "duplicate_effect"),
    PUBLISH_ONCE: ("duplicate_publish",),
    NEVER_AGAIN: ("again_after_confirmed_ack",),
    ORDERED: ("reordered",),
    GENUINE: ("visible_failure",),
    LINEARIZABLE_FIFO: ("visible_failure", *linearizability.PATTERNS),
    LOG_CONSISTENT: streams.NAMES,
}
"""Which anomalies break which guarantee; those of delivery.STRANGE break every one."""

_NEED_THE_READ = frozenset(
    {"lost", "lost_unconfirmed", "dropped_acked", "swallowed", "unprocessed", "never_processed", "gap"}
)
_NEED_THE_JOURNALS = frozenset({"phantom", "visible_failure"})
_COVERED_AS = {"gap": "lost", "inconsistent_offset": "duplicate_publish"}
"""Anomalies from which a mismatch of the books takes the ground as it does from another one."""

_CLASSES_OF_LOSS = ("lost_never_delivered", "lost_after_delivery", "lost_prefix", "lost_middle", "lost_suffix")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a history shows.

    `verdicts`: by guarantee, of those that the history can speak of (claimed ones always). `counts`: by the names of
    results.json; what cannot be called lost, unprocessed or stranded for want of a complete read is counted as
    `..._so_far` instead. `dropped`: messages dropped by each policy. `trial`: whether it was fair. `observed`: "exactly
    once", "at least once", "at most once", "neither" or "unknown", of processing where there was any. `claim_kept`:
    whether every claim in scope was kept; None where nothing is claimed, or something claimed is not known.
    `availability`, `latency`: outages, recoveries and how long answers took, measured and not judged.
    """

    verdicts: Mapping[str, Verdict]
    counts: Mapping[str, int]
    dropped: Mapping[str, int]
    trial: Fairness
    observed: str
    claim_kept: bool | None
    availability: Availability
    latency: Latency


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything that a verdict is drawn from."""

    facts: Facts
    anomalies: Mapping[str, Anomaly]
    counts: Mapping[str, int]
    fairness: Fairness
    log: StreamFindings
    queue: Linearizability

    @property
    def terms(self) -> Terms:
        return self.facts.history.terms

    def doubts(self, name: str) -> tuple[str, ...]:
        """Why an anomaly, though found, proves nothing; empty if it is proven."""
        reasons = list(self.fairness.books.doubts(_COVERED_AS.get(name, name)))
        if name == "gap":
            reasons.extend(self.log.doubts)
        if name in _NEED_THE_READ:
            reasons.extend(self.fairness.unread)
        elif name == "stranded":
            reasons.extend(self.fairness.not_idle)
        elif name in _NEED_THE_JOURNALS and self.terms.truncated_journals:
            reasons.append(f"journals were cut off: {', '.join(self.terms.truncated_journals)}")
        return tuple(dict.fromkeys(reasons))


def judge(history: History) -> Judgement:
    """Judge a history: every applicable guarantee, the counts, and the fairness of its trials."""
    facts = gather(history)
    delivered = delivery.check(facts)
    order = ordering.check(facts)
    processed = processing.check(facts)
    log = streams.check(facts)
    queue = linearizability.check(facts)
    case = _Case(
        facts,
        {
            **delivered.anomalies,
            "reordered": order.reordered,
            **processed.anomalies,
            **log.anomalies,
            **queue.anomalies,
        },
        {
            **delivered.counts,
            **processed.counts,
            **queue.counts,
            "order_compared": order.compared,
            "not_ordered_by_contract": order.exempt,
        },
        trial.check(facts),
        log,
        queue,
    )
    verdicts = {guarantee.name: _verdict(case, guarantee) for guarantee in _applicable(facts)}
    for guarantee, reason in _expected(case.terms):
        verdicts.setdefault(guarantee, _unknown(case.terms, guarantee, reason))
    return Judgement(
        verdicts=verdicts,
        counts=_counts(case),
        dropped=delivered.dropped,
        trial=case.fairness,
        observed=_observed(case.terms, verdicts),
        claim_kept=_claim_kept(case.terms, verdicts),
        availability=availability.check(history),
        latency=latency.check(history),
    )


def _applicable(facts: Facts) -> list[Guarantee]:
    """The guarantees of which this history can say anything."""
    terms = facts.history.terms
    return [
        AT_LEAST_ONCE,
        AT_MOST_ONCE,
        EXACTLY_ONCE,
        *(
            (AT_LEAST_ONCE_PROCESSED, AT_MOST_ONCE_PROCESSED, EXACTLY_ONCE_PROCESSED)
            if processing.applies(facts)
            else ()
        ),
        PUBLISH_ONCE,
        *((NEVER_AGAIN,) if terms.pulled and terms.ack == AckKind.CONFIRMED else ()),
        *((ORDERED,) if terms.ordered else ()),
        GENUINE,
        *((LINEARIZABLE_FIFO,) if linearizability.applies(facts) else ()),
        *((LOG_CONSISTENT,) if streams.applies(facts) else ()),
    ]


def _expected(terms: Terms) -> Iterator[tuple[str, str]]:
    """What somebody will ask for although this history cannot show it, and why it cannot."""
    if terms.mechanism and not terms.effects_audited:
        for guarantee in (AT_LEAST_ONCE_PROCESSED, AT_MOST_ONCE_PROCESSED, EXACTLY_ONCE_PROCESSED):
            yield guarantee.name, "the sink was not read, so nobody knows which effects there are"
    for claim in terms.claims:
        yield claim.guarantee, "it is claimed, and nothing that this configuration records can show it"


def _unknown(terms: Terms, guarantee: str, reason: str) -> Verdict:
    pages = [claim.page for claim in terms.claims if claim.guarantee == guarantee]
    return Verdict(
        guarantee=guarantee,
        status=Status.UNKNOWN,
        sentence=f"{guarantee} {Status.UNKNOWN}: {reason}",
        reasons=(reason,),
        claimed=bool(pages),
        page=pages[0] if pages else None,
    )


# ---- one verdict -----------------------------------------------------------------------------------------------------


def _verdict(case: _Case, guarantee: Guarantee) -> Verdict:
    names = (*BREAKS[guarantee], *delivery.STRANGE)
    found = [case.anomalies[name] for name in names if case.anomalies[name]]
    proven = [anomaly for anomaly in found if not case.doubts(anomaly.name)]
    doubted = [anomaly for anomaly in found if case.doubts(anomaly.name)]
    exposure = _exposure(case, guarantee)
    reasons: tuple[str, ...] = ()
    if proven:
        status = Status.VIOLATED
    else:
        reasons = _why_unknown(case, guarantee, doubted, exposure)
        status = Status.UNKNOWN if reasons else Status.HELD
    violating = _violating(case, proven)
    trials = [one for one in case.fairness.trials if one.fair or one in violating]
    upper_bound = None
    if trials and (status is Status.HELD or (status is Status.VIOLATED and violating)):
        upper_bound = bounds.upper_bound(len(violating), len(trials))
    claims = [claim for claim in case.terms.claims if claim.guarantee == guarantee.name]
    return Verdict(
        guarantee=guarantee.name,
        status=status,
        sentence=sentences.sentence(
            guarantee, status, case.counts, proven, doubted, reasons, exposure, len(trials), upper_bound
        ),
        counts={anomaly.name: anomaly.count for anomaly in proven},
        witnesses=tuple(witness for anomaly in proven for witness in anomaly.witnesses)[:WITNESSES_MAX],
        reasons=reasons,
        injections=len(trials),
        violating=len(violating),
        exposure=exposure,
        upper_bound=upper_bound,
        claimed=bool(claims),
        page=claims[0].page if claims else None,
    )


def _why_unknown(case: _Case, guarantee: Guarantee, doubted: list[Anomaly], exposure: int) -> tuple[str, ...]:
    """Everything that stands between this history and HELD."""
    reasons = [reason for anomaly in doubted for reason in case.doubts(anomaly.name)]
    if guarantee == NEVER_AGAIN and (late := case.anomalies["again_after_late_ack"]):
        reasons.append(
            f"{late.count} messages came again after a confirmed acknowledgement that their client gave later than "
            f"ack_wait ({case.terms.ack_wait_s:g} s): not the broker's doing, and no proof that it keeps its promise"
        )
    if guarantee == LINEARIZABLE_FIFO:
        reasons.extend(case.queue.reasons)
    if guarantee == LOG_CONSISTENT:
        reasons.extend(case.log.untold)
    reasons.extend(case.fairness.reasons)
    if exposure == 0:
        reasons.append(f"nothing was at stake: {sentences.stake(guarantee, 0)}")
    return tuple(dict.fromkeys(reasons))


def _violating(case: _Case, proven: list[Anomaly]) -> list[Trial]:
    """The trials with at least one violation: [first invoked, last settled + horizon] overlaps their fault window."""
    horizon_ns = int(case.terms.redelivery_horizon_s * 1e9)
    return [
        one
        for one in case.fairness.trials
        if any(
            bool(((anomaly.first_ns <= one.end_ns) & (anomaly.last_ns + horizon_ns >= one.begin_ns)).any())
            for anomaly in proven
        )
    ]


def _exposure(case: _Case, guarantee: Guarantee) -> int:
    """Messages (deliveries, for order and for what was confirmed) that could have shown a violation."""
    facts = case.facts
    if guarantee in (AT_LEAST_ONCE, EXACTLY_ONCE):
        return facts.believed.sum()
    if guarantee in (AT_LEAST_ONCE_PROCESSED, EXACTLY_ONCE_PROCESSED):
        return (facts.believed | facts.received).sum()
    if guarantee == AT_MOST_ONCE_PROCESSED:
        return facts.effect.sum()
    if guarantee == PUBLISH_ONCE:
        return (facts.attempted & ~facts.failed).sum()
    if guarantee == NEVER_AGAIN:
        chunks = facts.history.deliveries.chunks("settlement")
        return sum(int(np.count_nonzero(chunk.settlement == Outcome.OK)) for chunk in chunks)
    if guarantee == ORDERED:
        return case.counts["order_compared"]
    if guarantee == LINEARIZABLE_FIFO:
        return case.queue.exposure
    if guarantee == LOG_CONSISTENT:
        return case.log.numbers
    if guarantee == GENUINE:
        return facts.history.deliveries.rows
    return facts.received.sum()


# ---- the whole -------------------------------------------------------------------------------------------------------


def _counts(case: _Case) -> dict[str, int]:
    counts = dict(case.counts)
    for name, anomaly in case.anomalies.items():
        proven = not case.doubts(name)
        counts[name] = anomaly.count if proven else 0
        if not proven and anomaly:
            counts[f"{name}_so_far"] = anomaly.count
    if case.doubts("lost"):
        counts.update(dict.fromkeys(_CLASSES_OF_LOSS, 0))
    return counts


def _observed(terms: Terms, verdicts: Mapping[str, Verdict]) -> str:
    least, most = AT_LEAST_ONCE.name, AT_MOST_ONCE.name
    if terms.mechanism:  # then both are there; a claim alone would bring one of them
        least, most = AT_LEAST_ONCE_PROCESSED.name, AT_MOST_ONCE_PROCESSED.name
    words = {
        (Status.HELD, Status.HELD): "exactly once",
        (Status.HELD, Status.VIOLATED): "at least once",
        (Status.VIOLATED, Status.HELD): "at most once",
        (Status.VIOLATED, Status.VIOLATED): "neither",
    }
    return words.get((verdicts[least].status, verdicts[most].status), "unknown")


def _claim_kept(terms: Terms, verdicts: Mapping[str, Verdict]) -> bool | None:
    if not terms.claims:
        return None
    claimed = [verdicts.get(claim.guarantee) for claim in terms.claims]
    if any(verdict is not None and verdict.status is Status.VIOLATED for verdict in claimed):
        return False
    if any(verdict is None or verdict.status is Status.UNKNOWN for verdict in claimed):
        return None
    return True
