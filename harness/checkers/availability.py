"""For how long did nothing go through while clients were trying, and how soon did it again once a fault was mended?

*Trying*: publishes fall due (those included for which no connection is there). *Outage*: the longest time from a
publish that fell due to the next sign of life, with no sign of life in between: an answer OK, of *publishing*; a
receipt by any consumer, of *delivering* (so that a broker that takes nothing counts against both). An outage that had
not ended when trying did is as long as the trying.

It is measured, not judged: no guarantee breaks by it. Time in which nobody tried is no outage: where no publish fell
due for longer than the harness may stall, an outage begins anew, and so it does where a client or the runner stalled
for longer than that, for what they note then is late. While no consumer process lives, nobody tries to receive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.checkers.health import TICKER_GAP
from harness.checkers.load import Window, due_ns, good_ns, phase_windows, quiet_windows
from harness.history.columns import NEVER
from harness.history.history import Array, Columns, History, Table
from harness.operation import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """How long after its mending an injection was over for clients, in ns: until the first good answer to a publish
    that was invoked after it, and until the first receipt. None: never, or it was not mended."""

    fault: str
    number: int
    publishing_ns: int | None
    delivering_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """What was measured. `publishing`, `delivering`: the longest outage of each; None where nobody tried, or none was
    seen. `recoveries`: one for each injection that bit, in order."""

    publishing: Window | None = None
    delivering: Window | None = None
    recoveries: tuple[Recovery, ...] = ()


def check(history: History) -> Availability:
    """Measure the outages and the recoveries of a history. One pass along its publications, and one along receipts."""
    due, good = _times(history.publications, ("intended_ns", "invoked_ns", "completed_ns", "outcome"), due_ns, good_ns)
    wanted_ns = _while_healthy(history, _while_loaded(history, due))
    (received_ns,) = _times(history.deliveries, ("received_ns",), lambda chunk: chunk.received_ns)
    hole_ns = int(history.terms.ticker_limit_ms * 1e6)
    return Availability(
        publishing=outage(wanted_ns, good, hole_ns),
        delivering=outage(_while_consumed(history, wanted_ns), received_ns, hole_ns),
        recoveries=tuple(_recoveries(history, received_ns)),
    )


def _times(table: Table, columns: Sequence[str], *kinds: Callable[[Columns], Array]) -> list[Array]:
    """Each kind of times that a table has, ascending: no more than the first and the last of each millisecond, for what
    lies between them is no outage that anybody would measure, and a large table has very many."""
    found: list[list[Array]] = [[np.empty(0, np.int64)] for _ in kinds]
    for chunk in table.chunks(*columns):
        for place, kind in enumerate(kinds):
            times_ns = np.sort(kind(chunk), kind="stable")  # they nearly ascend already
            found[place].append(_thinned(times_ns))
    return [_thinned(np.sort(np.concatenate(parts), kind="stable")) for parts in found]


def _thinned(times_ns: Array) -> Array:
    """The first and the last of each millisecond; they ascend."""
    ms = times_ns // 1_000_000
    kept = np.ones(len(ms), np.bool_)
    kept[1:-1] = (ms[1:-1] != ms[:-2]) | (ms[1:-1] != ms[2:])
    return np.asarray(times_ns[kept])


def outage(wanted_ns: Array, got_ns: Array, hole_ns: int) -> Window | None:
    """The longest time from one of `wanted_ns` to the next of `got_ns`, or to the last wanted before a hole.

    Both ascending, in ns; where neither happened for longer than `hole_ns`, nobody was trying. None where that is no
    time at all.

    >>> ms = 1_000_000
    >>> outage(np.array([1, 2, 3, 4]) * ms, np.array([1, 4]) * ms, hole_ns=10 * ms)
    Window(begin_ns=2000000, end_ns=4000000)
    >>> outage(np.array([1, 2, 3, 40]) * ms, np.array([41]) * ms, hole_ns=10 * ms)
    Window(begin_ns=1000000, end_ns=3000000)
    """
    times = np.concatenate([wanted_ns, got_ns])
    got = np.concatenate([np.zeros(len(wanted_ns), np.bool_), np.ones(len(got_ns), np.bool_)])
    # What was got at the instant at which something was wanted is its answer.
    order = np.lexsort((got, times))
    times, got = times[order], got[order]
    if len(times) == 0:
        return None
    begins = np.ones(len(times), np.bool_)
    begins[1:] = got[:-1] | (np.diff(times) > hole_ns)
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(times)) - 1
    lengths = times[ends] - times[starts]
    longest = int(np.argmax(lengths))
    if lengths[longest] == 0:
        return None
    return Window(int(times[starts[longest]]), int(times[ends[longest]]))


def _while_loaded(history: History, times_ns: Array) -> Array:
    """From the first quiet phase to the drain, in which clients may end as they like."""
    quiet, drain = quiet_windows(history), phase_windows(history, "drain")
    begin_ns = quiet[0].begin_ns if quiet else 0
    end_ns = drain[0].begin_ns if drain else np.iinfo(np.int64).max
    return times_ns[(times_ns >= begin_ns) & (times_ns <= end_ns)]


def _while_healthy(history: History, times_ns: Array) -> Array:
    health, limit_ns = history.health, history.terms.ticker_limit_ms * 1e6
    stalled = (health.state == history.word_number(TICKER_GAP)) & (health.value > limit_ns)
    well = np.ones(len(times_ns), np.bool_)
    for end_ns, length_ns in zip(health.time_ns[stalled], health.value[stalled], strict=True):
        well &= ~Window(int(end_ns - length_ns), int(end_ns)).contains(times_ns)
    return times_ns[well]


def _while_consumed(history: History, times_ns: Array) -> Array:
    clients = history.clients
    there = np.zeros(len(times_ns), np.bool_)
    for row in np.flatnonzero(clients.role == history.word_number("consumer")):
        end_ns = clients.end_ns[row]
        there |= (times_ns >= clients.start_ns[row]) & ((end_ns == NEVER) | (times_ns < end_ns))
    return times_ns[there]


def _recoveries(history: History, received_ns: Array) -> Iterator[Recovery]:
    for injection in history.terms.injections:
        if injection.bit_ns is None:
            continue
        publishing_ns = delivering_ns = None
        if injection.mended_ns is not None:
            answered_ns = _first_answer_ns(history, injection.mended_ns)
            after_ns = received_ns[received_ns >= injection.mended_ns]
            publishing_ns = None if answered_ns is None else answered_ns - injection.mended_ns
            delivering_ns = int(after_ns[0]) - injection.mended_ns if len(after_ns) else None
        yield Recovery(
            fault=injection.fault,
            number=injection.number,
            publishing_ns=publishing_ns,
            delivering_ns=delivering_ns,
        )


def _first_answer_ns(history: History, since_ns: int) -> int | None:
    """When the first good answer came to a publish that was invoked no earlier than `since_ns`."""
    first_ns: int | None = None
    for chunk in history.publications.chunks("invoked_ns", "completed_ns", "outcome"):
        answered_ns = chunk.completed_ns[(chunk.outcome == Outcome.OK) & (chunk.invoked_ns >= since_ns)]
        if len(answered_ns):
            earliest_ns = int(answered_ns.min())
            first_ns = earliest_ns if first_ns is None else min(first_ns, earliest_ns)
    return first_ns
