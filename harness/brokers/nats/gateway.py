"""How does the harness itself ask NATS? One persistent connection to each node, from a loop in a thread of its own.

Synchronous to its callers. A node that is down is dialled anew at the next question, at most once in DIAL_AGAIN_S;
a question goes unanswered (None) rather than raising, because a node that is down is what we are here to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from harness.brokers.nats.session import Headers, Session

T = TypeVar("T")
Reply = Mapping[str, Any]
DIAL_S = 1.0
DIAL_AGAIN_S = 0.05
_UNANSWERED: Reply = {"error": {"code": 0, "description": "no answer"}}
BETTER_S = 0.1
"""How long to wait for a better reply after "nobody leads": any node that thinks so answers, ahead of the leader."""


class Gateway:
    """Our own connections, by node. `addresses`: of the link to each. `account`: a user and its password, if any."""

    def __init__(
        self, addresses: Mapping[str, tuple[str, int]], name: str, *, account: tuple[str, str] | None = None
    ) -> None:
        self._nodes = tuple(addresses)
        self._addresses = addresses
        self._name = name
        self._account = account
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"nats-gateway-{name}", daemon=True)
        self._thread.start()
        self._sessions: dict[str, Session] = {}
        self._dialled_s: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._asked = 0

    def ask(self, subject: str, body: Mapping[str, object], *, within_s: float = 1.0) -> Reply | None:
        """The first reply that any node's connection brings, an error of the API included; None if there is none.

        Every node's connection asks: for questions only.
        """
        return self._run(self._first(subject, body, within_s))

    def tell(self, subject: str, body: Mapping[str, object], *, within_s: float) -> Reply | None:
        """Have something made or deleted, over one connection after the other until there is a reply."""
        return self._run(self._in_turn(subject, body, within_s))

    def ask_each(self, subject: str, body: Mapping[str, object], *, within_s: float) -> dict[str, Reply]:
        """Every node's own connection is asked the same; what came back, by node."""
        return self._run(self._each(subject, body, within_s))

    def echo(self, *, within_s: float) -> dict[str, bool]:
        """Whether each node answers by its protocol."""
        return self._run(self._echo(within_s))

    def versions(self) -> dict[str, str]:
        """What each connected server says it is."""
        return {node: session.version for node, session in list(self._sessions.items()) if session.usable}

    def fetch(
        self, subject: str, bodies: Sequence[Mapping[str, object]], *, window: int, within_s: float
    ) -> list[Reply | None]:
        """Many questions on one connection, `window` of them at a time; replies in the order of `bodies`, None where
        there was none in time."""
        return self._run(self._fetch(subject, bodies, window, within_s))

    def store(self, subject: str, payload: bytes, *, count: int, window: int, within_s: float) -> Reply | None:
        """Publish the same payload so many times, `window` of them at a time, over the first connection there is, until
        one is refused or not answered within `within_s`: what was said then, "no answer" included; None where all were
        stored."""
        return self._run(self._store(subject, payload, count, window, within_s))

    def close(self) -> None:
        """Close all connections and end the thread. Idempotent."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(TimeoutError):
            self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5.0)
        if not self._thread.is_alive():
            self._loop.close()

    # ---- on the loop -------------------------------------------------------------------------------------------------

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=120.0)

    async def _session(self, node: str) -> Session | None:
        async with self._locks.setdefault(node, asyncio.Lock()):
            session = self._sessions.get(node)
            if session is not None and session.usable:
                return session
            if session is not None:  # the library need not have noticed that it is lost, and left its socket open
                del self._sessions[node]
                await session.close()
            if time.monotonic() - self._dialled_s.get(node, 0.0) < DIAL_AGAIN_S:
                return None
            name = f"harness/{self._name}"
            session = Session(self._addresses[node], name, lost=_ignore, noted=_ignore, account=self._account)
            try:
                await session.open(DIAL_S)
                session.subscribe(session.inbox + "reply.*", self._take)
            except (ConnectionError, TimeoutError):
                return None
            finally:
                self._dialled_s[node] = time.monotonic()
            self._sessions[node] = session
            return session

    async def _one(self, node: str, subject: str, body: Mapping[str, object], within_s: float) -> Reply | None:
        try:
            async with asyncio.timeout(within_s):
                session = await self._session(node)
                return None if session is None else await self._reply(session, subject, body)
        except TimeoutError:
            return None

    async def _reply(self, session: Session, subject: str, body: Mapping[str, object]) -> Reply | None:
        return await self._answer(session, subject, json.dumps(body).encode() if body else b"")

    async def _answer(self, session: Session, subject: str, payload: bytes) -> Reply | None:
        self._asked += 1
        number = self._asked
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting[number] = future
        try:
            if not session.publish(subject, payload, f"{session.inbox}reply.{number}"):
                return None
            reply = await future
            if is_unavailable(reply):
                future = self._waiting[number] = self._loop.create_future()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BETTER_S):
                        reply = await future
            return reply
        finally:
            self._waiting.pop(number, None)

    def _take(self, subject: str, _reply: str, body: bytes, headers: Headers, _at_ns: int) -> None:
        future = self._waiting.get(int(subject.rpartition(".")[2]))
        if future is None or future.done():
            return
        if body:
            future.set_result(json.loads(body))
        else:
            status = (headers or {}).get("Status", "empty")
            future.set_result({"error": {"code": int(status) if status.isdigit() else 0, "description": status}})

    async def _first(self, subject: str, body: Mapping[str, object], within_s: float) -> Reply | None:
        best: Reply | None = None
        tasks = [asyncio.create_task(self._one(node, subject, body, within_s)) for node in self._nodes]
        try:
            for task in asyncio.as_completed(tasks):
                reply = await task
                if reply is not None and not is_unavailable(reply):
                    return reply
                best = reply or best
            return best
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _in_turn(self, subject: str, body: Mapping[str, object], within_s: float) -> Reply | None:
        best: Reply | None = None
        for node in self._nodes:
            reply = await self._one(node, subject, body, within_s)
            if reply is not None and not is_unavailable(reply):
                return reply
            best = reply or best
        return best

    async def _each(self, subject: str, body: Mapping[str, object], within_s: float) -> dict[str, Reply]:
        replies = await asyncio.gather(*(self._one(node, subject, body, within_s) for node in self._nodes))
        return {node: reply for node, reply in zip(self._nodes, replies, strict=True) if reply is not None}

    async def _echo(self, within_s: float) -> dict[str, bool]:
        async def one(node: str) -> bool:
            try:
                async with asyncio.timeout(within_s):
                    session = await self._session(node)
                    if session is not None:
                        await session.echo(within_s)
                    return session is not None
            except (TimeoutError, ConnectionError):
                return False

        answers = await asyncio.gather(*(one(node) for node in self._nodes))
        return dict(zip(self._nodes, answers, strict=True))

    async def _fetch(
        self, subject: str, bodies: Sequence[Mapping[str, object]], window: int, within_s: float
    ) -> list[Reply | None]:
        replies: list[Reply | None] = [None] * len(bodies)
        session = next((s for s in [await self._session(node) for node in self._nodes] if s is not None), None)
        if session is None:
            return replies
        places = iter(range(len(bodies)))

        async def worker() -> None:
            for place in places:
                replies[place] = await self._reply(session, subject, bodies[place])

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
                for _ in range(min(window, len(bodies))):
                    group.create_task(worker())
        return replies

    async def _store(self, subject: str, payload: bytes, count: int, window: int, within_s: float) -> Reply | None:
        session = next((s for s in [await self._session(node) for node in self._nodes] if s is not None), None)
        if session is None:
            return _UNANSWERED
        left = count

        async def worker() -> Reply | None:
            nonlocal left
            while left > 0:
                left -= 1
                reply: Reply | None = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(within_s):
                        reply = await self._answer(session, subject, payload)
                if reply is None or "error" in reply:
                    return reply or _UNANSWERED
            return None

        workers = [asyncio.create_task(worker()) for _ in range(min(window, count))]
        try:
            for done in asyncio.as_completed(workers):
                if (refusal := await done) is not None:
                    return refusal
            return None
        finally:  # who waits for an answer to what was sent with it may wait in vain
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _close(self) -> None:
        await asyncio.gather(*(session.close() for session in self._sessions.values()))
        await asyncio.sleep(0)
        # Somebody may still be dialled: each socket must be closed before the loop stops, and one that was dropped is
        # closed at the loop's next turn.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)


def is_unavailable(reply: Reply) -> bool:
    """Whether a reply says that nobody could answer now: no responders, or no leader."""
    error = reply.get("error")
    return error is not None and int(error.get("code", 0)) == 503


def error_code(reply: Reply | None) -> int:
    """The API's own number of the error in `reply`; 0 for none."""
    error = (reply or {}).get("error")
    return 0 if error is None else int(error.get("err_code") or error.get("code") or -1)


def error_of(reply: Reply | None) -> str:
    """The error in `reply` for a reader."""
    if reply is None:
        return "no answer"
    error = reply.get("error")
    if error is None:
        return "no error"
    return f"{error.get('err_code') or error.get('code')} {error.get('description', '')}".strip()


def _ignore(_what: str) -> None:
    """Our own connections come and go with the nodes."""
