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
    # Laid out for as many as there can be: of a large history these two are most of what is held.
    response, service = (np.empty(publications.rows, np.int64) for _ in range(2))
    count = called = late = latest_ns = 0
    for chunk in publications.chunks("attempt", "intended_ns", "invoked_ns", "completed_ns", "outcome"):
        first = (chunk.attempt == 1) & (chunk.invoked_ns != NEVER) & (chunk.intended_ns != NEVER)
        held_up_ns = chunk.invoked_ns[first] - chunk.intended_ns[first]
        called += len(held_up_ns)
        late += int((held_up_ns > LATE_NS).sum())
        latest_ns = max(latest_ns, int(held_up_ns.max(initial=0)))
        answered = first & (chunk.outcome == Outcome.OK)
        completed_ns = chunk.completed_ns[answered]
        response[count : count + len(completed_ns)] = completed_ns - chunk.intended_ns[answered]
        service[count : count + len(completed_ns)] = completed_ns - chunk.invoked_ns[answered]
        count += len(completed_ns)
    return Latency(
        response=quantiles(response[:count]),
        service_p99_ns=_ranked(service[:count], [_rank(count, 0.99)])[0] if count else 0,
        called=called,
        late=late,
        latest_ns=latest_ns,
    )


def quantiles(latencies_ns: Array) -> tuple[Quantile, ...]:
    """The quantiles of some latencies, in any order, in ns; none of none. Brings them into another order."""
    count = len(latencies_ns)
    if count == 0:
        return ()
    found = []
    for quantile in QUANTILES:
        lower, upper = bounds.quantile_ranks(count, quantile)
        enclosing = [rank for rank in (lower, upper) if rank is not None]
        value_ns, *enclosing_ns = _ranked(latencies_ns, [_rank(count, quantile), *enclosing])
        found.append(
            Quantile(
                quantile=quantile,
                value_ns=value_ns,
                lower_ns=None if lower is None else enclosing_ns[0],
                upper_ns=None if upper is None else enclosing_ns[-1],
            )
        )
    return tuple(found)


def _rank(count: int, quantile: float) -> int:
    """The rank, from 1, of the smallest value that at least this part of all do not exceed."""
    return max(int(np.ceil(quantile * count)), 1)


def _ranked(values: Array, ranks: list[int]) -> list[int]:
    """The values of these ranks, from 1, of which there are so many. They are only put in order as far as needed."""
    values.partition([rank - 1 for rank in ranks])
    return [int(values[rank - 1]) for rank in ranks]
