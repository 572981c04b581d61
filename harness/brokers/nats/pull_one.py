"""How does a consumer take from JetStream one message at a time, and know for each request what became of it?

A request is a fetch of one with `no_wait`: it is answered at once, by a message, or (404) that there is none. Its inbox
is used again only after an answer, so that a message which comes late is still known for the one of its own request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from harness.brokers.nats.pull import ACK_PREFIX, RETIRED_MAX, Deliver
from harness.brokers.nats.session import Headers, Session
from harness.operation import Outcome
from harness.system.service import NoMessage

ANSWER_S = 2.0
"""A request that is not answered for so long is given up: whoever led the consumer is gone."""

_REQUEST = b'{"batch":1,"no_wait":true}'


@dataclass(slots=True, eq=False)
class _Request:
    """One inbox, and the request under way on it."""

    inbox: str
    answer: asyncio.Future[NoMessage | None]
    number: int = 0
    invoked_ns: int = 0


class PullOne:
    """One request at a time on one connection."""

    def __init__(self, session: Session, subject: str, *, deliver: Deliver) -> None:
        self._session = session
        self._subject = subject
        self._deliver = deliver
        self._request: _Request | None = None
        self._retired: list[_Request] = []
        self._inboxes = 0

    async def pull(self, invoked_ns: int) -> NoMessage | None:
        """Send one request and wait for its answer. Raises ConnectionError."""
        if self._request is None:
            self._request = self._subscribe()
        request = self._request
        request.invoked_ns = invoked_ns
        request.answer = asyncio.get_running_loop().create_future()
        if not self._session.publish(self._subject, _REQUEST, request.inbox):
            raise ConnectionError("the connection takes nothing more")
        try:
            async with asyncio.timeout(ANSWER_S):
                return await request.answer
        except TimeoutError:
            self._retire(request)
            return None

    def end(self, why: str) -> None:
        """The connection is gone, and with it the answer."""
        if self._request is not None and not self._request.answer.done():
            self._request.answer.set_exception(ConnectionError(why))

    def _subscribe(self) -> _Request:
        self._inboxes += 1
        inbox = f"{self._session.inbox}one.{self._inboxes}"
        request = _Request(inbox, asyncio.get_running_loop().create_future())

        def take(_subject: str, reply: str, payload: bytes, headers: Headers, at_ns: int) -> None:
            if reply.startswith(ACK_PREFIX):
                self._deliver(reply, payload, at_ns, request.invoked_ns)
                self._answered(request, None)
                return
            status = (headers or {}).get("Status", "")
            if status == "404":
                self._answered(request, NoMessage(Outcome.OK, at_ns))
            elif status in ("408", "503"):
                # 408 is a leader's word that the request is over, and was given nothing: others wait for what is there.
                # 503, no responders: no server knows of a leader, so the request reached none.
                self._answered(request, NoMessage(Outcome.FAIL, at_ns))
            else:  # a leader that gives up its place, or a limit: a message may have been sent all the same
                self._retire(request)
                self._answered(request, None)

        request.number = self._session.subscribe(inbox, take)
        return request

    def _answered(self, request: _Request, answer: NoMessage | None) -> None:
        if not request.answer.done():
            request.answer.set_result(answer)

    def _retire(self, request: _Request) -> None:
        """Use another inbox from now on; what still comes to this one is taken."""
        if self._request is not request:
            return
        self._request = None
        self._retired.append(request)
        while len(self._retired) > RETIRED_MAX and self._session.usable:
            oldest = self._retired.pop(0)
            self._session.quiet(oldest.number)
            self._session.forget(oldest.number)
