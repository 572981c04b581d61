"""Was the queue of this run linearizable, first in first out? Its enqueues are publications, its dequeues pulls of one.

*enqueue*: a publication, from its call to the broker's answer; pending where that never came. *dequeue*: a pull of one
message, from its call to its answer. *value*: the message. *return*: an answered dequeue of a message that had been
taken before, because whoever took it did not settle it. A queue that delivers at least once may make one, out of order,
so a return is none of the queue's dequeues: of each message only the first answered dequeue is judged; and where the
broker says that even this one may be a return, it is taken for one if a dequeue that was never answered can have come
before it. Under automatic acknowledgement nothing may return.

This is decided by harness/checkers/fifo.py; here a history becomes operations of one queue, or the reason why not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from harness.checkers import fifo
from harness.checkers.anomaly import Anomaly
from harness.checkers.facts import Facts
from harness.checkers.places import NOWHERE
from harness.checkers.queue_operations import Dequeues, Enqueues
from harness.history.history import Array, History
from harness.operation import AckKind, AcknowledgedBy, Outcome

PATTERNS = ("dequeued_twice", "dequeued_early", "overtaken", "passed_over", "false_empty")
"""Those of fifo.PATTERNS that deliveries do not show already, by the same names as of every anomaly."""

_DROPPING = ("max-length drop-head", "discard-old", "no-interest")
"""Policies by which a message may leave the queue without a dequeue, and the broker need not say which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linearizability:
    """What was found: `anomalies`, by the names of PATTERNS, and `counts`; both empty where nothing was pulled one by
    one. `reasons`: why nothing can be HELD. `exposure`: dequeues that were answered."""

    anomalies: Mapping[str, Anomaly]
    counts: Mapping[str, int]
    reasons: tuple[str, ...] = ()
    exposure: int = 0


def applies(facts: Facts) -> bool:
    """Whether the history can show anything of it: messages were pulled one by one."""
    return facts.history.dequeues.rows > 0


def check(facts: Facts) -> Linearizability:
    """Find every bad pattern of a queue among the pulls of one message."""
    if not applies(facts):
        return Linearizability(anomalies={}, counts={})
    nothing = {name: Anomaly(name=name, count=0) for name in PATTERNS}
    if unfit := tuple(_unfit(facts)):
        return Linearizability(anomalies=nothing, counts={}, reasons=unfit)
    history = facts.history
    dequeues, may_return, returns = _dequeues(history)
    enqueues = _enqueues(facts, dequeues)
    findings, reason = _decide(history, enqueues, dequeues, may_return)
    answered = findings.dequeued + findings.empties
    return Linearizability(
        anomalies=nothing if reason else {name: findings.anomalies[name] for name in PATTERNS},
        counts={
            "dequeues": findings.dequeued,
            "dequeues_empty": findings.empties,
            "dequeues_pending": int(np.count_nonzero(dequeues.outcome == Outcome.INFO)),
            "dequeues_returned": returns,
        },
        reasons=(reason,) if reason else (),
        exposure=answered,
    )


def _decide(
    history: History, enqueues: Enqueues, dequeues: Dequeues, may_return: Array | None
) -> tuple[fifo.QueueFindings, str]:
    """What the operations show; and why nothing is known, "" if something is."""
    findings = fifo.check(enqueues, dequeues, may_return=may_return)
    if findings.violated and may_return is not None and not history.terms.redelivered_promise:
        # A broker that forgets its deliveries hands a message out again as if for the first time.
        charitable = fifo.check(enqueues, dequeues, may_return=np.ones(len(dequeues), np.bool_))
        if not charitable.violated:
            return charitable, (
                f"{findings.patterns}: unless dequeues that were never answered had taken messages before, which came "
                "back without a flag, as this broker may let them"
            )
        findings = charitable
    undecided = findings.undecided and not findings.violated
    return findings, fifo.UNDECIDED.format(n=findings.undecided) if undecided else ""


def _unfit(facts: Facts) -> Iterator[str]:
    """Why these are not the operations of one queue with distinct values, all of them on record."""
    history, publications = facts.history, facts.history.publications
    terms, dequeues = history.terms, history.dequeues
    if terms.truncated_journals:
        yield f"journals were cut off: {', '.join(terms.truncated_journals)}"
    if (groups := max(len(terms.groups), len(np.unique(dequeues.group)))) > 1:
        yield f"{groups} groups of consumers took messages: each has a queue of its own, and none is judged apart"
    handed = publications.outcome != Outcome.FAIL
    if (routes := len(np.unique(publications.route[handed]))) > 1:
        yield f"messages were published on {routes} routes: what enters the queue by which is not known"
    if terms.acknowledged_by != AcknowledgedBy.BROKER:
        yield "the broker answered no publish, so no message is known to have been in the queue before another"
    copies = np.bincount(facts.published[handed], minlength=1)
    if again := int(np.count_nonzero(copies > 1)):
        yield f"{again} messages were published again, so their copies cannot be told apart"
    if others := history.deliveries.rows - int(np.count_nonzero(dequeues.delivery)):
        yield f"{abs(others)} deliveries were not brought by a pull of one message: the record of dequeues is not whole"
    backwards = [
        int(np.count_nonzero((table.outcome == Outcome.OK) & (table.completed_ns < table.invoked_ns)))
        for table in (publications, dequeues)
    ]
    if any(backwards):
        yield f"{sum(backwards)} operations were answered before they were invoked, as the history has it"


def _dequeues(history: History) -> tuple[Dequeues, Array | None, int]:
    """The queue's dequeues; which of them may be returns, None if none may; how many certain returns were left out."""
    table = history.dequeues
    answered = table.outcome == Outcome.OK
    empty = answered & (table.found_empty != 0)
    brought = answered & ~empty & (table.message != 0)
    # A pull that brought something damaged, or foreign, took who knows what.
    outcome = np.where(brought | empty, int(Outcome.OK), int(Outcome.INFO))
    outcome[table.outcome == Outcome.FAIL] = int(Outcome.FAIL)
    judged = np.ones(table.rows, np.bool_)
    automatic = history.terms.ack == AckKind.AUTOMATIC
    if not automatic:
        rows = np.flatnonzero(brought)
        rows = rows[np.argsort(table.completed_ns[rows], kind="stable")]
        _, first = np.unique(table.message[rows], return_index=True)
        judged[rows] = False
        judged[rows[first]] = True
    dequeues = Dequeues(
        invoked_ns=table.invoked_ns[judged],
        completed_ns=table.completed_ns[judged],
        outcome=outcome[judged],
        value=table.message[judged],
        empty=empty[judged],
    )
    may_return = None if automatic else np.asarray(table.redelivered[judged] != 0)
    return dequeues, may_return, int(np.count_nonzero(~judged))


def _enqueues(facts: Facts, dequeues: Dequeues) -> Enqueues:
    """The queue's enqueues. What a policy dropped, or may have, was not kept: without a dequeue it may as well never
    have been there. So it is in a run that was cut short, where a dequeue may be missing from the record."""
    publications, terms = facts.history.publications, facts.history.terms
    taken = np.zeros(facts.places.count, np.bool_)
    at = facts.places.of(dequeues.value[(dequeues.outcome == Outcome.OK) & ~dequeues.empty])
    taken[at[at != NOWHERE]] = True
    vanished = ~taken
    if not terms.interrupted and not any(policy in _DROPPING for policy in terms.policies):
        vanished &= (facts.dropped | facts.dead_lettered).mask()
    pending = (publications.outcome != Outcome.OK) | vanished[facts.published]
    outcome = np.where(pending, int(Outcome.INFO), int(Outcome.OK))
    outcome[publications.outcome == Outcome.FAIL] = int(Outcome.FAIL)
    return Enqueues(
        invoked_ns=publications.invoked_ns,
        completed_ns=publications.completed_ns,
        outcome=outcome,
        value=publications.message,
    )
