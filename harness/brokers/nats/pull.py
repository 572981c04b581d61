"""How does a consumer take from JetStream by pull, so that every delivery knows the fetch that brought it?

*Fetch*: one request for up to `batch` messages, good for EXPIRES_S. Each has a subscription of its own, which is what
tells deliveries of several outstanding fetches apart, and which is used again only after a fetch that certainly ended:
a late delivery dated by a younger fetch would look like one that was asked for after its acknowledgement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.brokers.nats.session import Headers, Session

EXPIRES_S = 1.0
OVERDUE_S = 0.2
"""A fetch that has neither brought all nor ended this long after it expired is given up: its server is gone."""

AGAIN_S = 0.05
FETCHES = 4
RETIRED_MAX = 64
ACK_PREFIX = "$JS.ACK."

Deliver = Callable[[str, bytes, int, int], None]
"""What is done with a message: (reply subject, payload, raw monotonic ns of its parsing, and of its fetch's call)."""


@dataclass(slots=True, eq=False)
class _Fetch:
    """One subscription and the fetch under way on it: `missing` messages are still to come, 0 when none is."""

    inbox: str
    number: int = 0
    invoked_ns: int = 0
    missing: int = 0


class Pull:
    """Keeps up to FETCHES requests outstanding, and never more than `prefetch` messages asked for or unsettled."""

    def __init__(
        self, session: Session, subject: str, prefetch: int, *, deliver: Deliver, noted: Callable[[str], None]
    ) -> None:
        self._session = session
        self._subject = subject
        self._prefetch = prefetch
        self._batch = max(1, prefetch // FETCHES)
        self._deliver = deliver
        self._noted = noted
        self._fetches: list[_Fetch] = []
        self._retired: list[_Fetch] = []
        self._subscribed = 0
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._not_before_ns = 0
        self._pulling = False

    def start(self) -> None:
        """Begin to ask."""
        self._pulling = True
        self._fetches = [self._subscribe() for _ in range(min(FETCHES, self._prefetch))]
        self._tick()

    def settled(self) -> None:
        """One delivery was settled: there is room for another."""
        self._held -= 1
        self._ask()

    async def stop(self) -> None:
        """Ask for nothing more, and take what is on its way. Raises ConnectionError."""
        self.end()
        for fetch in (*self._fetches, *self._retired):
            self._session.quiet(fetch.number)
        await self._session.echo()

    def end(self) -> None:
        """Ask for nothing more."""
        self._pulling = False
        if self._timer is not None:
            self._timer.cancel()

    def _subscribe(self) -> _Fetch:
        self._subscribed += 1
        fetch = _Fetch(inbox=f"{self._session.inbox}pull.{self._subscribed}")

        def take(_subject: str, reply: str, payload: bytes, headers: Headers, at_ns: int) -> None:
            if not reply.startswith(ACK_PREFIX):
                self._ended(fetch, headers or {})
                return
            self._held += 1
            fetch.missing -= 1
            self._deliver(reply, payload, at_ns, fetch.invoked_ns)
            if fetch.missing == 0:
                self._ask()

        fetch.number = self._session.subscribe(fetch.inbox, take)
        return fetch

    def _ask(self) -> None:
        """Send fetches while there is room for a batch, or for anything at all when nothing is asked for."""
        if not self._pulling or time.monotonic_ns() < self._not_before_ns:
            return
        asked = sum(fetch.missing for fetch in self._fetches)
        room = self._prefetch - self._held - asked
        for fetch in self._fetches:
            if fetch.missing > 0:
                continue
            if room < (self._batch if asked else 1):
                return
            batch = min(room, self._batch)
            fetch.invoked_ns = time.monotonic_ns()
            request = b'{"batch":%d,"expires":%d}' % (batch, int(EXPIRES_S * 1e9))
            if not self._session.publish(self._subject, request, fetch.inbox):
                return
            fetch.missing = batch
            asked += batch
            room -= batch

    def _ended(self, fetch: _Fetch, headers: Headers) -> None:
        """A status instead of a message: the fetch is over, or (100) still alive."""
        headers = headers or {}
        status, says = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":
            return
        if status in ("404", "408") and fetch in self._fetches:
            fetch.missing = 0  # nothing is there, or its time is up: said by the consumer's own leader, in its order
            self._ask()
            return
        # 503 nobody leads the consumer; 409 its leader changed, its server stops, it was deleted, it has too many
        # fetches. Another leader's late deliveries may still come, so the subscription is not used again.
        self._retire(fetch)
        if status not in ("409", "503") or "Deleted" in says or "Exceeded" in says:
            self._noted(f"fetch-refused: {status} {says}".strip())
        self._not_before_ns = time.monotonic_ns() + int(AGAIN_S * 1e9)

    def _retire(self, fetch: _Fetch) -> None:
        fetch.missing = 0
        if fetch not in self._fetches or not self._session.usable:
            return
        self._fetches[self._fetches.index(fetch)] = self._subscribe()
        self._retired.append(fetch)
        while len(self._retired) > RETIRED_MAX:
            oldest = self._retired.pop(0)
            self._session.quiet(oldest.number)
            self._session.forget(oldest.number)

    def _tick(self) -> None:
        """Every AGAIN_S: give up fetches that are overdue, and ask again after a refusal."""
        if not self._pulling or not self._session.usable:
            return
        overdue_ns = time.monotonic_ns() - int((EXPIRES_S + OVERDUE_S) * 1e9)
        for fetch in [each for each in self._fetches if each.missing > 0 and each.invoked_ns < overdue_ns]:
            self._retire(fetch)
        self._ask()
        self._timer = asyncio.get_running_loop().call_later(AGAIN_S, self._tick)
