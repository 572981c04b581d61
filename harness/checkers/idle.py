"""Could consumers have received more? Only of idle ones does "never delivered" mean that the broker strands a message.

*idle*: its process lives, its connection stands, and it has room for more than it holds, all through a silence longer
than the redelivery horizon, with the whole system there.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.checkers.load import phase_windows
from harness.history.columns import NEVER
from harness.history.history import History
from harness.operation import AckKind

_CONNECTED = "connected"
_GONE = ("lost", "unreachable", "basic.cancel")
"""What a client notes when it can receive nothing until it notes that it is connected."""


def broken_record(history: History) -> Iterable[str]:
    """Why what stands in the history is not all that happened."""
    terms = history.terms
    if terms.interrupted:
        yield f"the run was interrupted: {terms.interrupted}"
    if terms.truncated_journals:
        yield f"journals were cut off: {', '.join(terms.truncated_journals)}"


def too_short(history: History) -> str:
    """That the silence at the end proves nothing."""
    terms = history.terms
    return (
        f"the system was silent for {terms.silence_s:.1f} s before its drain ended; the broker may redeliver after "
        f"{terms.redelivery_horizon_s:.1f} s"
    )


def not_idle(history: History) -> Iterable[str]:
    """Why consumers that received nothing more prove nothing."""
    terms = history.terms
    yield from broken_record(history)
    if not terms.brokers_up:
        yield "not every broker answered while the system was drained and read"
    if not terms.whole:
        yield f"the cluster was not whole at the end: {terms.whole_why_not or 'nobody knows why'}"
    if any(injection.recovered_ns is None and injection.bit_ns is not None for injection in terms.injections):
        yield "the system did not recover from every fault"
    if terms.silence_s < terms.redelivery_horizon_s:
        yield too_short(history)
    consumers = _there(history)
    if not consumers:
        yield "no consumer was there while the system was drained"
    elif not (connected := [consumer for consumer in consumers if _connected(history, consumer)]):
        yield "no consumer was connected while the system was drained"
    elif all(_full(history, consumer) for consumer in connected):
        yield "every consumer held as many unsettled deliveries as it may"


def _there(history: History) -> list[int]:
    """Consumers whose process lived when the drain began."""
    drains = phase_windows(history, "drain")
    clients = history.clients
    there = clients.role == history.word_number("consumer")
    if drains:
        there = there & ((clients.end_ns == NEVER) | (clients.end_ns > drains[0].begin_ns))
    return [int(number) for number in clients.client[there]]


def _connected(history: History, consumer: int) -> bool:
    """Whether its last word on its connection is not that it is gone."""
    health = history.health
    rows = np.flatnonzero(health.client == consumer)
    rows = rows[np.argsort(health.time_ns[rows], kind="stable")]
    words = [history.word(state).partition(":")[0] for state in health.state[rows]]
    known = [word for word in words if word == _CONNECTED or word in _GONE]
    return not known or known[-1] == _CONNECTED


def _full(history: History, consumer: int) -> bool:
    """Whether it holds, of its last connection, as many unsettled deliveries as it may."""
    terms = history.terms
    room = terms.settings.get("prefetch")
    if terms.ack == AckKind.AUTOMATIC or not isinstance(room, int):
        return False
    latest, held, any_row = 0, 0, False
    for chunk in history.deliveries.chunks("client", "epoch", "ack_invoked_ns"):
        own = chunk.client == consumer
        if not own.any():
            continue
        any_row, epochs = True, chunk.epoch[own]
        if (newest := int(epochs.max())) > latest:
            latest, held = newest, 0
        held += int((chunk.ack_invoked_ns[own][epochs == latest] == NEVER).sum())
    return any_row and held >= room
