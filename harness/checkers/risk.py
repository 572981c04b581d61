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
from harness.history.columns import NEVER
from harness.history.history import Array, Table
from harness.history.terms import InjectionTerms
from harness.operation import AckKind, AcknowledgedBy, Outcome

_NO_TIME = np.iinfo(np.int64).max
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
        publications = self._publications
        invoked_ns = publications.invoked_ns
        rows = np.flatnonzero(
            (invoked_ns >= bit_ns - self._longest_ns) & (invoked_ns <= bit_ns) & (publications.outcome != Outcome.FAIL)
        )
        rows = rows[np.isin(publications.client[rows], hit)]
        completed_ns = publications.completed_ns[rows]
        open_still = (completed_ns == NEVER) | (completed_ns >= bit_ns)
        given_up = (completed_ns == NEVER) & (invoked_ns[rows] < bit_ns - self._given_up_ns)
        rows = rows[open_still & ~given_up]
        rows = rows[self._latest_attempt(rows, bit_ns)]
        return int(self._lives(publications, rows, invoked_ns, self._published_from, asked_ns).sum())

    @cached_property
    def _longest_ns(self) -> int:
        """No publish that took longer than this can have been under way: bounds what has to be looked at."""
        took_ns = self._publications.completed_ns - self._publications.invoked_ns
        answered = self._publications.completed_ns != NEVER
        return max(int(took_ns[answered].max()) if answered.any() else 0, self._given_up_ns)

    def _latest_attempt(self, rows: Array, bit_ns: int) -> Array:
        """Which of these publications had not been followed by a further attempt of their message when it bit."""
        attempts, published = self._publications.attempt, self._facts.published
        if len(attempts) == 0 or attempts.max() <= 1:
            return np.ones(len(rows), np.bool_)
        latest = np.zeros(self._facts.places.count, np.int64)
        before = self._publications.invoked_ns <= bit_ns
        np.maximum.at(latest, published[before], attempts[before])
        return np.asarray(attempts[rows] == latest[published[rows]])

    def _unsettled(self, asked_ns: int, bit_ns: int, hit: Array) -> int:
        deliveries = self._deliveries
        settled_ns = np.where(
            deliveries.ack_kind == AckKind.CONFIRMED, deliveries.settled_ns, deliveries.ack_invoked_ns
        )
        open_still = (settled_ns == NEVER) | (settled_ns >= bit_ns)
        if self._facts.history.terms.mechanism:
            # Acknowledged, and its effect not done: nothing that the broker knows of, yet its processing is at risk.
            # What was never done although its client went on is given up: not done long ago, it is not under way.
            never = (deliveries.handled_ns == NEVER) & (deliveries.received_ns >= bit_ns - self._given_up_ns)
            open_still |= never | (deliveries.handled_ns >= bit_ns)
        rows = np.flatnonzero((deliveries.received_ns <= bit_ns) & open_still)
        rows = rows[np.isin(deliveries.client[rows], hit)]
        return int(self._lives(deliveries, rows, deliveries.received_ns, self._received_from, asked_ns).sum())

    def _in_flight(self, asked_ns: int, bit_ns: int, hit: Array) -> int:
        """Messages published and not received when it bit. What a later one had overtaken by then is lost already."""
        publications, published = self._publications, self._facts.published
        rows = np.flatnonzero((publications.invoked_ns <= bit_ns) & (publications.outcome != Outcome.FAIL))
        producers = hit[np.isin(hit, publications.client)]
        if len(producers):  # to which consumer a message is on its way, nobody knows
            rows = rows[np.isin(publications.client[rows], producers)]
        received_ns = self._first_receipts_ns[published[rows]]
        arrived = received_ns <= bit_ns
        newest_ns = int(publications.invoked_ns[rows[arrived]].max()) if arrived.any() else NEVER
        waiting = ~arrived & ((received_ns != _NO_TIME) | (publications.invoked_ns[rows] > newest_ns))
        rows = rows[waiting]
        rows = rows[self._lives(publications, rows, publications.invoked_ns, self._published_from, asked_ns)]
        return len(np.unique(published[rows]))

    @cached_property
    def _first_receipts_ns(self) -> Array:
        times = np.full(self._facts.places.count, _NO_TIME)
        np.minimum.at(times, self._facts.delivered, self._facts.delivery("received_ns"))
        return times

    # ---- does its connection still live? -----------------------------------------------------------------------------

    @cached_property
    def _published_from(self) -> dict[int, list[tuple[int, int]]]:
        return _epochs(self._publications, self._publications.invoked_ns)

    @cached_property
    def _received_from(self) -> dict[int, list[tuple[int, int]]]:
        return _epochs(self._deliveries, self._deliveries.received_ns)

    def _lives(
        self, table: Table, rows: Array, began_ns: Array, epochs: dict[int, list[tuple[int, int]]], asked_ns: int
    ) -> Array:
        """Which of these operations had a living client, and its current connection, just before the fault was asked
        for. A connection or client that ended after that moment ended by the fault."""
        history = self._facts.history
        health, ends = history.health, history.clients
        lost_word = history.word_number("lost")
        clients = table.client[rows]
        alive = np.ones(len(rows), np.bool_)
        for client in np.unique(clients):
            mine = clients == client
            current = max((epoch for first_ns, epoch in epochs[int(client)] if first_ns <= asked_ns), default=0)
            alive[mine] &= table.epoch[rows[mine]] >= current
            lost = (health.client == client) & (health.state == lost_word) & (health.time_ns < asked_ns)
            if lost.any():
                alive[mine] &= began_ns[rows[mine]] > health.time_ns[lost].max()
            ended = ends.end_ns[ends.client == client]
            if len(ended) and ended[0] != NEVER and ended[0] < asked_ns:
                alive[mine] = False
        return alive


def _epochs(table: Table, times_ns: Array) -> dict[int, list[tuple[int, int]]]:
    """Of each client: (first time, epoch) of its connections."""
    if table.rows == 0:
        return {}
    code = (table.client.astype(np.int64) << _EPOCH_BITS) | table.epoch
    starts = np.concatenate([[0], np.flatnonzero(code[1:] != code[:-1]) + 1])
    connections, which = np.unique(code[starts], return_inverse=True)
    firsts_ns = np.full(len(connections), _NO_TIME)
    np.minimum.at(firsts_ns, which, np.minimum.reduceat(times_ns, starts))
    epochs: dict[int, list[tuple[int, int]]] = {}
    for connection, first_ns in zip(connections.tolist(), firsts_ns.tolist(), strict=True):
        client, epoch = connection >> _EPOCH_BITS, connection & ((1 << _EPOCH_BITS) - 1)
        epochs.setdefault(client, []).append((first_ns, epoch))
    return epochs
