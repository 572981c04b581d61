"""How long did a publish take to be answered, counted from when it was due, and did the load wait for the broker?

*Response time*: from when the workload wanted a message published to the good answer. *Service time*: from the call.
A load generator that waits while the system stands still calls late, so that its service times leave the waiting out:
*coordinated omission* (G. Tene, "How NOT to measure latency", 2013). It shows as calls later than intended, and the
response time does not fall for it.

Quantiles are exact: the history holds every time, so they are order statistics and no histogram is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.checkers import bounds
from harness.history.columns import NEVER
from harness.history.history import Array, History
from harness.operation import Outcome

QUANTILES = (0.5, 0.99)
LATE_NS = 20_000_000
"""A call this much later than intended was held up: two rounds of the 10 ms ticker by which clients are watched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """One quantile of a latency, in ns: the value, and the order statistics that enclose it at 95 % (None where there
    are too few values to say)."""

    quantile: float
    value_ns: int
    lower_ns: int | None
    upper_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """`response`: of first attempts that were answered OK, at QUANTILES; empty where none was. `service_p99_ns`: what
    the slowest hundredth took counted from the call, 0 where none was answered. `called`: first attempts that were
    handed to the library; `late`: those called later than intended by more than LATE_NS; `latest_ns`: by how much."""

    response: tuple[Quantile, ...]
    service_p99_ns: int
    called: int
    late: int
    latest_ns: int

    @property
    def omitted_ns(self) -> int:
        """What service times leave out at the 99th percentile."""
        return self.response[-1].value_ns - self.service_p99_ns if self.response else 0


def check(history: History) -> Latency:
    """Measure the first attempts of a history. Retries fall due when their producer decides, and show nothing."""
    publications = history.publications
    called = (publications.attempt == 1) & (publications.invoked_ns != NEVER) & (publications.intended_ns != NEVER)
    answered = called & (publications.outcome == Outcome.OK)
    held_up_ns = publications.invoked_ns[called] - publications.intended_ns[called]
    completed_ns = publications.completed_ns[answered]
    service = np.sort(completed_ns - publications.invoked_ns[answered])
    return Latency(
        response=quantiles(completed_ns - publications.intended_ns[answered]),
        service_p99_ns=_at(service, 0.99) if len(service) else 0,
        called=int(called.sum()),
        late=int((held_up_ns > LATE_NS).sum()),
        latest_ns=max(int(held_up_ns.max()), 0) if len(held_up_ns) else 0,
    )


def quantiles(latencies_ns: Array) -> tuple[Quantile, ...]:
    """The quantiles of some latencies, in any order, in ns; none of none."""
    ordered = np.sort(latencies_ns)
    if len(ordered) == 0:
        return ()
    found = []
    for quantile in QUANTILES:
        lower, upper = bounds.quantile_ranks(len(ordered), quantile)
        found.append(
            Quantile(
                quantile=quantile,
                value_ns=_at(ordered, quantile),
                lower_ns=None if lower is None else int(ordered[lower - 1]),
                upper_ns=None if upper is None else int(ordered[upper - 1]),
            )
        )
    return tuple(found)


def _at(ordered: Array, quantile: float) -> int:
    """The smallest value that at least this part of all do not exceed."""
    return int(ordered[max(int(np.ceil(quantile * len(ordered))), 1) - 1])
