"""A client's end of NATS, in the client's own process: one epoch, without any retry or reconnect of its own.

Publishes are answered on one inbox whose last token is the publish's tag; confirmed acknowledgements on another. Core
NATS answers neither. JetStream is consumed by pull, core NATS by a subscription in a queue group.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from typing import Any

from harness.brokers.nats.errors import read_answer
from harness.brokers.nats.pull import Pull
from harness.brokers.nats.pull_one import PullOne
from harness.brokers.nats.session import Headers, Session
from harness.operation import UNSENT_ACK, Outcome, Role
from harness.system.service import Listener, NoMessage, Received

OPEN_S = 5.0
SETTLE_S = 5.0
SWEEP_S = 0.25
NEVER = -1
_ACK = b"+ACK"


class Connection:
    """One connection of one client. `orders` come from `Broker.orders()`, with "address": [host, port] to dial, and
    "epoch" where the client counts them."""

    def __init__(
        self, orders: Mapping[str, Any], listener: Listener, role: Role | str, name: str, prefetch: int
    ) -> None:
        self._listener = listener
        self._role = Role(role)
        self._prefetch = max(1, prefetch)
        self._epoch = int(orders.get("epoch", 0))
        self._subject = str(orders["subject"])
        self._group = str(orders["group"])
        self._stream = str(orders["stream"])
        self._consumer = str(orders["consumer"])
        self._confirms = bool(orders["confirms"])
        self._acknowledge = str(orders["acknowledge"])
        host, port = orders["address"]
        self._session = Session(
            (str(host), int(port)), f"{orders['cell']}/{name}", lost=self._on_lost, noted=listener.noted
        )
        self._pull: Pull | None = None
        self._pull_one: PullOne | None = None
        self._subscription: int | None = None
        self._answers = ""
        self._version: tuple[int, ...] = ()
        self._settlements = ""
        self._settled = 0
        self._held: set[str] = set()
        self._unsettled: dict[int, tuple[asyncio.Future[Outcome], int]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def local_port(self) -> int:
        """Our end of the connection."""
        return self._session.local_port

    async def open(self) -> None:
        """Connect and subscribe to the answers. Raises ConnectionError or TimeoutError."""
        await self._session.open(OPEN_S)
        self._version = tuple(int(part) for part in self._session.version.split("."))
        if self._role is Role.PRODUCER and self._confirms:
            self._answers = self._session.inbox + "ack."
            self._session.subscribe(self._answers + "*", self._take_answer)
        if self._role is Role.CONSUMER and self._acknowledge == "confirmed":
            self._settlements = self._session.inbox + "settled."
            self._session.subscribe(self._settlements + "*", self._take_settlement)
            self._sweep()

    def publish(self, payload: bytes, tag: int, native_id: str | None) -> bool:
        """Hand one message over; its answer, if there is one, comes to `listener.confirmed`."""
        headers = None if native_id is None else {"Nats-Msg-Id": native_id}
        reply = f"{self._answers}{tag}" if self._confirms else ""
        return self._session.publish(self._subject, payload, reply, headers)

    def unwritten(self) -> int:
        """Bytes handed over and not yet written to the socket."""
        return self._session.unwritten()

    async def consume(self) -> None:
        """Start consuming. Raises ConnectionError."""
        if self._stream:
            self._pull = Pull(
                self._session, self._next, self._prefetch, deliver=self._take_pulled, noted=self._listener.noted
            )
            self._pull.start()
        else:
            self._subscription = self._session.subscribe(self._subject, self._take_pushed, queue=self._group)
            await self._session.echo()

    async def pull(self, invoked_ns: int) -> NoMessage | None:
        """Fetch one message, now or not at all. Raises ConnectionError."""
        if self._pull_one is None:
            self._pull_one = PullOne(self._session, self._next, deliver=self._take_pulled)
        return await self._pull_one.pull(invoked_ns)

    @property
    def _next(self) -> str:
        """The subject on which a message of the consumer is asked for."""
        return f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"

    def settle(self, handle: object) -> Awaitable[Outcome] | None:
        """Acknowledge one delivery. What finds no connection is not sent, and its outcome is INFO all the same."""
        reply = str(handle)
        if self._acknowledge == "none" or not reply:
            return None
        if self._pull is not None and reply in self._held:
            self._held.discard(reply)  # a second acknowledgement makes no room for a second message
            self._pull.settled()
        if self._acknowledge == "sent":
            if not self._session.publish(reply, _ACK):
                self._listener.noted(UNSENT_ACK)
            return None
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._settled += 1
        if self._session.publish(reply, _ACK, f"{self._settlements}{self._settled}"):
            self._unsettled[self._settled] = (future, time.monotonic_ns())
        else:
            future.set_result(Outcome.INFO)
        return future

    async def barrier(self) -> None:
        """Return when the server dialled has read all that was handed over before. Raises ConnectionError.

        On another node's consumer, and for the moment of applying it, only a confirmed acknowledgement says more.
        """
        await self._session.echo()

    async def stop_consuming(self) -> None:
        """Take no new deliveries; those on their way still come."""
        try:
            if self._pull is not None:
                await self._pull.stop()
            elif self._subscription is not None:
                self._session.quiet(self._subscription)
                await self._session.echo()
        except ConnectionError as error:
            if self._session.usable:
                raise TimeoutError("the server does not answer, so more may come") from error

    def cut(self) -> None:
        """Close the socket at once."""
        self._session.cut()

    async def close(self) -> None:
        """Flush and close in order. Never raises."""
        self._finish()
        await self._session.close()
        self._give_up(time.monotonic_ns())

    # ---- what arrives ------------------------------------------------------------------------------------------------

    def _take_answer(self, subject: str, _reply: str, body: bytes, headers: Headers, at_ns: int) -> None:
        tag = int(subject.rpartition(".")[2])
        answer = read_answer(body, headers, self._version)
        self._listener.confirmed(tag, tag, answer.outcome, at_ns, answer.sequence, answer.duplicate, answer.error)

    def _take_settlement(self, subject: str, _reply: str, body: bytes, headers: Headers, _at_ns: int) -> None:
        future, _ = self._unsettled.pop(int(subject.rpartition(".")[2]), (None, 0))
        if future is None or future.done():
            return
        # An empty answer without a status is the confirmation; 503 says that nobody leads the consumer.
        confirmed = not body and not (headers or {}).get("Status")
        future.set_result(Outcome.OK if confirmed else Outcome.INFO)

    def _take_pulled(self, reply: str, payload: bytes, at_ns: int, invoked_ns: int) -> None:
        delivered, sequence = read_ack_subject(reply)
        handle = reply if self._acknowledge != "none" else ""
        if handle:
            self._held.add(handle)
        self._listener.received(
            Received(payload, at_ns, invoked_ns, sequence, delivered > 1, delivered, handle, self._epoch)
        )
        if not handle and self._pull is not None:
            self._pull.settled()

    def _take_pushed(self, _subject: str, _reply: str, payload: bytes, _headers: Headers, at_ns: int) -> None:
        self._listener.received(Received(payload, at_ns, NEVER, 0, False, 0, "", self._epoch))

    def _on_lost(self, why: str) -> None:
        self._finish()
        if self._pull_one is not None:
            self._pull_one.end(why)
        self._give_up(time.monotonic_ns())
        self._listener.lost(why)

    def _finish(self) -> None:
        if self._pull is not None:
            self._pull.end()
        if self._sweeper is not None:
            self._sweeper.cancel()

    # ---- confirmed acknowledgements without an answer ----------------------------------------------------------------

    def _sweep(self) -> None:
        self._give_up(time.monotonic_ns() - int(SETTLE_S * 1e9))
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _give_up(self, before_ns: int) -> None:
        """Acknowledgements sent before that moment and not answered end in doubt."""
        for number in [number for number, (_, sent_ns) in self._unsettled.items() if sent_ns <= before_ns]:
            future, _ = self._unsettled.pop(number)
            if not future.done():
                future.set_result(Outcome.INFO)


def read_ack_subject(reply: str) -> tuple[int, int]:
    """(times delivered, stream sequence) out of a JetStream delivery's reply subject, in its older or newer form.

    >>> read_ack_subject("$JS.ACK.orders.group.2.17.40.1700000000000000000.5")
    (2, 17)
    >>> read_ack_subject("$JS.ACK._.hash.orders.group.2.17.40.1700000000000000000.5.token")
    (2, 17)
    """
    tokens = reply.split(".")
    first = 4 if len(tokens) == 9 else 6
    return int(tokens[first]), int(tokens[first + 1])
