"""What does an answer to a publish prove? Only what stands in this table is a definite failure; all else is doubt.

*Definite*: this publish is in no queue and never will be. A nack that is not listed says nothing: a broker nacks what
it could not finish when a queue's process or node died, and such a message may be on disk and come back.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.operation import Outcome

NACK = "nack"
RETURNED = "312"
"""NO_ROUTE, the reply code of basic.return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definite:
    """One answer that proves that nothing was stored. `refuses_only`: it is one only where the cell's queue, the one
    queue that its publishes can reach, refuses at its limit and is on the broker's only node."""

    code: str
    reason: str
    proof: str
    refuses_only: bool = False


DEFINITE: tuple[Definite, ...] = (
    Definite(
        code=RETURNED,
        reason="unroutable: a mandatory message was returned with NO_ROUTE",
        proof="it is returned only when the exchange found no queue at all, after which nobody keeps it",
    ),
    Definite(
        code=NACK,
        reason="the queue is full and refuses (x-overflow: reject-publish)",
        proof="the only queue that was to get it refused it before storing it; with one node there is no other reason "
        "for a nack that a connection survives, short of a crash of the queue's own process",
        refuses_only=True,
    ),
)


def outcome_of(code: str, *, refuses: bool) -> Outcome:
    """FAIL for a definite error, else INFO. `refuses`: the cell's only queue is at reject-publish, on one node.

    >>> outcome_of("312", refuses=False).name, outcome_of("nack", refuses=False).name
    ('FAIL', 'INFO')
    """
    for definite in DEFINITE:
        if definite.code == code and (refuses or not definite.refuses_only):
            return Outcome.FAIL
    return Outcome.INFO
