"""What was at risk at the moment a fault bit? Operations under way then, as far as the fault could touch them.

*unanswered*: publishes invoked, and not answered yet; *unsettled*: deliveries received, and not settled yet;
*in flight*: published, and not yet received. An operation is only under way while its connection lives: what an
earlier fault left behind without an answer is over, and endangers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.checkers.facts import Facts
from harness.checkers.gathering import whole
from harness.history.columns import NEVER
from harness.history.history import Array, Columns, Table
from harness.history.terms import InjectionTerms
from harness.operation import AckKind, AcknowledgedBy, Outcome

_PUBLISHED = ("client", "epoch", "message", "attempt", "invoked_ns", "completed_ns", "outcome")
_SETTLED = ("client", "received_ns", "handled_ns", "ack_kind", "ack_invoked_ns", "settled_ns")
_RECEIVED = ("client", "epoch", "received_ns")
_EPOCH_BITS = 16
GIVEN_UP_S = 5.0
"""A publish without any answer for so long is given up, and no longer under way, where the terms do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRisk:
    """What was under way, on the producers' and on the consumers' side, as far as the fault touches the side."""

    producers: int
    consumers: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.producers + self.consumers


class Risks:
    """What each injection of one history endangered."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._publications = facts.history.publications
        self._deliveries = facts.history.deliveries

    def at(self, injection: InjectionTerms) -> AtRisk:
        """What `injection` endangered when it bit; nothing if it did not bite."""
        if injection.bit_ns is None:
            return AtRisk(producers=0, consumers=0)
        terms = self._facts.history.terms
        confirms, automatic = terms.acknowledged_by == AcknowledgedBy.BROKER, terms.ack == AckKind.AUTOMATIC
        asked_ns, bit_ns, hit = injection.asked_ns, injection.bit_ns, self._hit(injection)
        producers = consumers = 0
        if injection.touches in ("producer", "both"):
            producers = self._unanswered(asked_ns, bit_ns, hit) if confirms else self._in_flight(asked_ns, bit_ns, hit)
        if injection.touches in ("consumer", "both"):
            if not automatic:
                consumers = self._unsettled(asked_ns, bit_ns, hit)
            elif confirms or injection.touches == "consumer":
                consumers = self._in_flight(asked_ns, bit_ns, hit)
        return AtRisk(producers=producers, consumers=consumers)

    def _hit(self, injection: InjectionTerms) -> Array:
        """The numbers of the clients that the injection names as its targets, or whose links it names ("slot->node").
        Where it names none, as a node's fault does, it may touch all of them."""
        history = self._facts.history
        words = {history.word_number(target.partition("->")[0]) for target in injection.targets} - {-1}
        clients = history.clients
        named = np.isin(clients["name"], list(words)) | np.isin(clients.slot, list(words))
        return np.asarray(clients.client[named] if named.any() else clients.client)

    @cached_property
    def _given_up_ns(self) -> int:
        told = self._facts.history.terms.settings.get("confirm_timeout_s")
        return int((told if isinstance(told, int | float) else GIVEN_UP_S) * 1e9)

    def _unanswered(self, asked_ns: int, bit_ns: int, hit: Array) -> int:
        rows = self._publications.select(
            ("invoked_ns", "completed_ns", "outcome", "client"),
            lambda chunk: (
                (chunk.invoked_ns <= bit_ns)
                & (chunk.outcome != Outcome.FAIL)
                & ((chunk.completed_ns == NEVER) | (chunk.completed_ns >= bit_ns))
                & ((chunk.completed_ns != NEVER) | (chunk.invoked_ns >= bit_ns - self._given_up_ns))
                & np.isin(chunk.client, hit)
            ),
            _PUBLISHED,
        )
        under_way = self._latest_attempt(rows, bit_ns)
        return int((under_way & self._lives(rows, rows.invoked_ns, self._published_from, asked_ns)).sum())

    def _latest_attempt(self, rows: Columns, bit_ns: int) -> Array:
        """Which of these publications had not been followed by a further attempt of their message when it bit."""
        followed = self._publications.select(
            ("attempt",), lambda chunk: chunk.attempt > 1, ("message", "attempt", "invoked_ns")
        )
        before = (followed.invoked_ns <= bit_ns) & np.isin(followed.message, rows.message)
        messages, which = np.unique(rows.message, return_inverse=True)
        latest = np.zeros(len(messages), np.int64)
        np.maximum.at(latest, which, rows.attempt)
        np.maximum.at(latest, np.searchsorted(messages, followed.message[before]), followed.attempt[before])
        return np.asarray(rows.attempt == latest[which])

    def _unsettled(self, asked_ns: int, bit_ns: int, hit: Array) -> int:
        rows = self._deliveries.select(
            _SETTLED, lambda chunk: self._open_still(chunk, bit_ns) & np.isin(chunk.client, hit), _RECEIVED
        )
        return int(self._lives(rows, rows.received_ns, self._received_from, asked_ns).sum())

    def _open_still(self, deliveries: Columns, bit_ns: int) -> Array:
        settled_ns = np.where(
            deliveries.ack_kind == AckKind.CONFIRMED, deliveries.settled_ns, deliveries.ack_invoked_ns
        )
        open_still = (settled_ns == NEVER) | (settled_ns >= bit_ns)
        if self._facts.history.terms.mechanism:
            # Acknowledged, and its effect not done: nothing that the broker knows of, yet its processing is at risk.
            # What was never done although its client went on is given up: not done long ago, it is not under way.
            never = (deliveries.handled_ns == NEVER) & (deliveries.received_ns >= bit_ns - self._given_up_ns)
            open_still |= never | (deliveries.handled_ns >= bit_ns)
        return np.asarray((deliveries.received_ns <= bit_ns) & open_still)

    def _in_flight(self, asked_ns: int, bit_ns: int, hit: Array) -> int:
        """Messages published and not received when it bit. What a later one had overtaken by then is lost already."""
        producers = hit[np.isin(hit, np.array(sorted(self._published_from), hit.dtype))]
        arrived = self._arrived(bit_ns)
        places, received = self._facts.places, self._facts.received

        def published(chunk: Columns) -> Array:
            mask = (chunk.invoked_ns <= bit_ns) & (chunk.outcome != Outcome.FAIL)
            # To which consumer a message is on its way, nobody knows.
            return np.asarray(mask & np.isin(chunk.client, producers) if len(producers) else mask)

        newest_ns = NEVER
        for chunk in self._publications.chunks(*_PUBLISHED):
            there = chunk.invoked_ns[published(chunk) & arrived[places.of(chunk.message)]]
            newest_ns = max(newest_ns, int(there.max()) if len(there) else NEVER)

        def waiting(chunk: Columns) -> Array:
            at = places.of(chunk.message)
            return np.asarray(published(chunk) & ~arrived[at] & (received[at] | (chunk.invoked_ns > newest_ns)))

        rows = self._publications.select(_PUBLISHED, waiting, _PUBLISHED)
        alive = self._lives(rows, rows.invoked_ns, self._published_from, asked_ns)
        return len(np.unique(rows.message[alive]))

    def _arrived(self, bit_ns: int) -> Array:
        """Which messages had been received by then, by place."""
        arrived = np.zeros(self._facts.places.count, np.bool_)
        for chunk in self._deliveries.chunks("message", "corrupt", "foreign", "received_ns"):
            mask, places = whole(self._facts.gathered, chunk)
            arrived[places[chunk.received_ns[mask] <= bit_ns]] = True
        return arrived

    # ---- does its connection still live? -----------------------------------------------------------------------------

    @cached_property
    def _published_from(self) -> dict[int, list[tuple[int, int]]]:
        return _epochs(self._publications, "invoked_ns")

    @cached_property
    def _received_from(self) -> dict[int, list[tuple[int, int]]]:
        return _epochs(self._deliveries, "received_ns")

    def _lives(self, rows: Columns, began_ns: Array, epochs: dict[int, list[tuple[int, int]]], asked_ns: int) -> Array:
        """Which of these operations had a living client, and its current connection, just before the fault was asked
        for. A connection or client that ended after that moment ended by the fault."""
        history = self._facts.history
        health, ends = history.health, history.clients
        lost_word = history.word_number("lost")
        alive = np.ones(rows.rows, np.bool_)
        for client in np.unique(rows.client):
            mine = rows.client == client
            current = max((epoch for first_ns, epoch in epochs[int(client)] if first_ns <= asked_ns), default=0)
            alive[mine] &= rows.epoch[mine] >= current
            lost = (health.client == client) & (health.state == lost_word) & (health.time_ns < asked_ns)
            if lost.any():
                alive[mine] &= began_ns[mine] > health.time_ns[lost].max()
            ended = ends.end_ns[ends.client == client]
            if len(ended) and ended[0] != NEVER and ended[0] < asked_ns:
                alive[mine] = False
        return alive


def _epochs(table: Table, times: str) -> dict[int, list[tuple[int, int]]]:
    """Of each client: (first time, epoch) of its connections."""
    firsts_ns: dict[int, int] = {}
    for chunk in table.chunks("client", "epoch", times):
        code = (chunk.client.astype(np.int64) << _EPOCH_BITS) | chunk.epoch
        starts = np.concatenate([[0], np.flatnonzero(code[1:] != code[:-1]) + 1])
        first_ns = np.minimum.reduceat(chunk[times], starts)
        for connection, began_ns in zip(code[starts].tolist(), first_ns.tolist(), strict=True):
            firsts_ns[connection] = min(firsts_ns.get(connection, began_ns), began_ns)
    epochs: dict[int, list[tuple[int, int]]] = {}
    for connection, began_ns in sorted(firsts_ns.items()):
        client, epoch = connection >> _EPOCH_BITS, connection & ((1 << _EPOCH_BITS) - 1)
        epochs.setdefault(client, []).append((began_ns, epoch))
    return epochs
