"""Was the harness itself well? If a client or the machine stalled, timings and silences say nothing of the broker.

A disturbance of a connection is explained by a fault window: from when an injection was asked for until the system had
recovered. A gap in a 10 ms ticker is only explained by a fault that stops clocks or clients, as the run wrote down, or
when nothing is judged by time: before the load and after the drain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.checkers.load import Load, Window, phase_windows, quiet_windows
from harness.history.columns import NEVER
from harness.history.history import History

OFFERED_SHARE = 0.98
"""Of what the workload offers, outside fault windows: below it the harness did not keep up."""

_START_NS = 250_000_000
_HARMLESS = frozenset({"connected", "local-port", "told-to-stop", "cpu-steal"})
TICKER_GAP = "ticker-gap"
_SHOWN_MAX = 3


def unhealthy(history: History, faults: Sequence[Window]) -> tuple[str, ...]:
    """What was wrong with the harness, one sentence each, outside what `faults` explain."""
    return (*_exits(history), *_states(history, faults))


def underloaded(history: History, load: Load) -> tuple[str, ...]:
    """Whether less was offered in the quiet phases than the workload wanted."""
    terms = history.terms
    if terms.offered_hz <= 0:
        return ("the terms do not say what load was offered",)
    windows = quiet_windows(history)
    if not windows:
        return ("the run has no quiet phase, so nothing shows that the load was as offered",)
    if load.offered:
        # Clients start to publish a moment after they are told to.
        first = windows[0]
        began_ns = min(max(first.begin_ns, load.offered.first_ns), first.begin_ns + _START_NS)
        windows[0] = Window(min(began_ns, first.end_ns), first.end_ns)
    length_s = sum(window.seconds for window in windows)
    published = sum(load.offered.count(window) for window in windows)
    # A window may begin and end between two messages of each producer, whoever holds its slot.
    slots = len(np.unique(history.clients.slot[history.clients.role == history.word_number("producer")]))
    slack = 1 + max(slots, 1) * len(windows)
    if published >= OFFERED_SHARE * terms.offered_hz * length_s - slack:
        return ()
    return (
        f"the producers published {published / length_s if length_s else 0:.0f}/s in the quiet phases; "
        f"{terms.offered_hz:.0f}/s were offered, and {OFFERED_SHARE:.0%} of that are needed",
    )


def _exits(history: History) -> list[str]:
    clients = history.clients
    reasons = []
    for row in np.flatnonzero(clients.planned == 0):
        name = history.word(clients["name"][row]) or f"client {clients.client[row]}"
        if clients.end_ns[row] == NEVER:
            reasons.append(f"{name} was never seen to end")
        else:
            reasons.append(f"{name} ended unplanned with exit code {clients.exit[row]}")
    return _shortened(reasons, "clients that ended unplanned")


def _states(history: History, faults: Sequence[Window]) -> list[str]:
    health, limit_ms = history.health, history.terms.ticker_limit_ms
    unplanned = np.flatnonzero(health.planned == 0)
    explained = np.zeros(len(unplanned), np.bool_)
    for window in faults:
        explained |= window.contains(health.time_ns[unplanned])
    harmless = np.array([word.split(":")[0] in _HARMLESS for word in history.words])
    gap_word = history.word_number(TICKER_GAP)
    state = health.state[unplanned]
    gaps = (state == gap_word) & (health.value[unplanned] > limit_ms * 1e6)
    judged = _judged(history)
    gaps &= health.time_ns[unplanned] >= judged.begin_ns
    gaps &= health.time_ns[unplanned] - health.value[unplanned] <= judged.end_ns
    states = (state != gap_word) & ~harmless[state] & ~explained
    return [
        *_shortened(
            [
                f"{history.word(health.member[row]) or 'a member'} stalled for {health.value[row] / 1e6:.0f} ms at "
                f"{health.time_ns[row] / 1e9:.3f} s; limit {limit_ms:.0f} ms"
                for row in unplanned[gaps][: _SHOWN_MAX + 1]
            ],
            f"{int(gaps.sum())} stalls in all",
        ),
        *_shortened(
            [
                f"{history.word(health.member[row]) or 'a member'} noted {history.word(health.state[row])!r} at "
                f"{health.time_ns[row] / 1e9:.3f} s, outside every fault window"
                for row in unplanned[states][: _SHOWN_MAX + 1]
            ],
            f"{int(states.sum())} such notes in all",
        ),
    ]


def _judged(history: History) -> Window:
    """From the first load to the end of the drain: before and after it, no timing and no silence is judged."""
    quiet, drain = quiet_windows(history), phase_windows(history, "drain")
    begin_ns = quiet[0].begin_ns if quiet else 0
    return Window(begin_ns, drain[-1].end_ns if drain else np.iinfo(np.int64).max)


def _shortened(sentences: list[str], rest: str) -> list[str]:
    return sentences if len(sentences) <= _SHOWN_MAX else [*sentences[:_SHOWN_MAX], rest]
