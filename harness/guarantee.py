"""Guarantees, what is claimed of them, and what was found: the vocabulary of every verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """What a history shows of a guarantee. UNKNOWN is never green."""

    HELD = "HELD"
    VIOLATED = "VIOLATED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A property of histories with one sentence, its promise. `subject`: what it speaks of, delivery or processing."""

    name: str
    promise: str
    subject: str = "delivery"

    def __str__(self) -> str:
        return self.name


AT_LEAST_ONCE = Guarantee("at_least_once", "every message whose publish was acknowledged is delivered, or still owed")
AT_MOST_ONCE = Guarantee("at_most_once", "no message is delivered twice to one group of consumers")
EXACTLY_ONCE = Guarantee("exactly_once", "every acknowledged message is delivered, and none twice")
AT_LEAST_ONCE_PROCESSED = Guarantee(
    "at_least_once_processed", "every acknowledged message leaves its effect, or is still owed", "processing"
)
AT_MOST_ONCE_PROCESSED = Guarantee("at_most_once_processed", "no message leaves its effect twice", "processing")
EXACTLY_ONCE_PROCESSED = Guarantee(
    "exactly_once_processed", "every acknowledged message leaves its effect exactly once", "processing"
)
PUBLISH_ONCE = Guarantee("publish_once", "no message is stored more than once, however often its publish is retried")
NEVER_AGAIN = Guarantee("never_again", "a message whose acknowledgement was confirmed is never delivered again")
ORDERED = Guarantee("ordered", "one consumer receives what one producer published in published order")
GENUINE = Guarantee("genuine", "whatever is delivered was published by this run, is unharmed, and was not refused")
LOG_CONSISTENT = Guarantee(
    "log_consistent",
    "each number of the broker's log names one message to every reader, in order, and none is skipped",
)

LINEARIZABLE_FIFO = Guarantee(
    "linearizable_fifo",
    "some order of the enqueues and dequeues of one queue explains every answer, first in first out",
)
GUARANTEES: Mapping[str, Guarantee] = {
    guarantee.name: guarantee
    for guarantee in (
        AT_LEAST_ONCE,
        AT_MOST_ONCE,
        EXACTLY_ONCE,
        AT_LEAST_ONCE_PROCESSED,
        AT_MOST_ONCE_PROCESSED,
        EXACTLY_ONCE_PROCESSED,
        PUBLISH_ONCE,
        NEVER_AGAIN,
        ORDERED,
        GENUINE,
        LINEARIZABLE_FIFO,
        LOG_CONSISTENT,
    )
}


@dataclass(frozen=True, slots=True)
class Claim:
    """What documentation says that a configuration keeps: the guarantee, the page, the words in our own paraphrase.

    `faults`: glob patterns of fault names in whose presence the page claims it ("*": all of them).
    """

    guarantee: str
    page: str
    says: str
    faults: tuple[str, ...] = ("*",)
    versions: str = "*"


@dataclass(frozen=True, slots=True)
class Witness:
    """One anomaly that can be pointed at: what kind, which message (packed id; None if it has none), and its story."""

    anomaly: str
    message: int | None
    story: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one history shows of one guarantee.

    `counts`: how often each anomaly that breaks it was found. `injections`: trials in the history; `violating`: those
    with at least one violation. `exposure`: messages at stake. `upper_bound`: upper limit at 95 % of the probability
    that one injection violates it (None where nothing can be said). `reasons`: why UNKNOWN, one sentence each.
    """

    guarantee: str
    status: Status
    sentence: str
    counts: Mapping[str, int] = field(default_factory=dict)
    witnesses: tuple[Witness, ...] = ()
    reasons: tuple[str, ...] = ()
    injections: int = 0
    violating: int = 0
    exposure: int = 0
    upper_bound: float | None = None
    claimed: bool = False
    page: str | None = None

    @property
    def claim_kept(self) -> bool | None:
        """Whether a claim was kept: None where nothing is claimed or nothing is known."""
        if not self.claimed or self.status is Status.UNKNOWN:
            return None
        return self.status is Status.HELD
