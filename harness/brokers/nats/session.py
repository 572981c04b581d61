"""How is one connection to one server kept honest? A Session: nats-py without its retries, its buffers and its queues.

Three habits of nats-py would falsify a history, so they are stepped around:
- messages wait in a queue for each subscription, whose tasks take turns: the order of arrival and its time are lost.
  Here each message is taken as its bytes are parsed, in order, through `msg_class`, and is never queued.
- its `flush()` writes PING to the socket ahead of what is still in the buffer, so that PONG proves nothing about it.
  `echo` sends a message to itself instead, which keeps its place in the line.
- after an error while closing, no callback is called at all. A watch looks at the state as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from harness.brokers.nats.configuration import PING_INTERVAL_S, PING_MAX
from harness.operation import CUT, UNANSWERED_END

BUFFER_MAX = 1 << 20
"""Bytes that may wait to be written: as with a broker's own client, more is refused, not kept."""

WATCH_S = 0.05
CLOSE_S = 0.8
Headers = Mapping[str, str] | None
Take = Callable[[str, str, bytes, Headers, int], None]
"""What a subscription does with a message: (subject, reply, payload, headers, raw monotonic ns of its parsing)."""


class Session:
    """One connection, for one life: `lost(why)` is called once when it ends unasked, and nothing afterwards.

    `noted(what)` is told what the library reports and no operation explains. `account`: a user and its password.
    Every method belongs to the event loop.
    """

    def __init__(
        self,
        address: tuple[str, int],
        name: str,
        *,
        lost: Callable[[str], None],
        noted: Callable[[str], None],
        account: tuple[str, str] | None = None,
    ) -> None:
        self._address = address
        self._name = name
        self._account = account
        self._lost = lost
        self._noted = noted
        self._client = Client()
        # Called for every message with its fields; what returns None is handed on to no queue.
        self._client.msg_class = self._dispatch  # type: ignore[assignment]
        self._takes: dict[int, Take] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._echoes: dict[int, asyncio.Future[None]] = {}
        self._echoes_sent = 0
        self._watch: asyncio.Task[None] | None = None
        self._state = "new"
        self._refusal: Exception | None = None
        self.inbox = ""

    @property
    def usable(self) -> bool:
        """Whether it is open and not known to be lost."""
        return self._state == "open" and not self._closed()

    @property
    def version(self) -> str:
        """Of the server, as it said when we connected."""
        version = self._client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    @property
    def local_port(self) -> int:
        """Our end of the connection; 0 where there is none."""
        writer = getattr(self._client._transport, "_io_writer", None)
        name = None if writer is None else writer.get_extra_info("sockname")
        return int(name[1]) if name else 0

    async def open(self, within_s: float) -> None:
        """Connect, and return when the server has answered. Raises ConnectionError or TimeoutError."""
        host, port = self._address
        try:
            async with asyncio.timeout(within_s):
                await self._client.connect(
                    f"nats://{host}:{port}",
                    name=self._name,
                    user=None if self._account is None else self._account[0],
                    password=None if self._account is None else self._account[1],
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=max(1, int(within_s)),
                    ping_interval=PING_INTERVAL_S,
                    max_outstanding_pings=PING_MAX,
                    pending_size=0,
                    skip_subject_validation=True,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_end,
                    closed_cb=self._on_end,
                )
                for task in (self._client._reading_task, self._client._flusher_task, self._client._ping_interval_task):
                    if task is not None:
                        task.add_done_callback(_fetched)
                self._state = "open"
                self.inbox = self._client.new_inbox() + "."
                self._watch = asyncio.get_running_loop().create_task(self._watch_state())
                self.subscribe(self.inbox + "echo.*", self._take_echo)
                await self.echo()
        except asyncio.CancelledError:
            self._state = "ended"
            self._abort()
            raise
        except (OSError, nats.errors.Error, TimeoutError) as error:
            self._state = "ended"
            await self._end()
            if isinstance(error, TimeoutError) and not isinstance(error, nats.errors.Error):
                raise TimeoutError(f"{host}:{port} did not answer within {within_s:g} s") from error
            why = self._refusal or error  # the first: the last one only says that no servers are left
            raise ConnectionError(f"{host}:{port}: {type(why).__name__}: {why}") from error

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: dict[str, str] | None = None) -> bool:
        """Hand one message to the library. False when the connection is gone or its buffer full: nothing was sent."""
        if not self.usable or self.unwritten() > BUFFER_MAX:
            return False
        try:
            _at_once(self._client.publish(subject, payload, reply, headers))
        except nats.errors.Error:
            return False
        return True

    def subscribe(self, subject: str, take: Take, queue: str = "") -> int:
        """Have messages on `subject` taken by `take`; the number names the subscription. Raises ConnectionError."""
        try:
            subscription = _at_once(self._client.subscribe(subject, queue=queue))
        except nats.errors.Error as error:
            raise ConnectionError(f"cannot subscribe: {type(error).__name__}") from error
        number = subscription._id
        self._takes[number] = take
        self._subscriptions[number] = subscription
        return int(number)

    def quiet(self, number: int) -> None:
        """Ask the server for no more on that subscription; what is on its way is still taken."""
        if self.usable:
            # Not Subscription.unsubscribe: it forgets the subscription at once, and drops what is on its way.
            _at_once(self._client._send_unsubscribe(number))

    def forget(self, number: int) -> None:
        """Give up a subscription that was quieted, and whatever comes late on it."""
        if self._takes.pop(number, None) is not None:
            self._subscriptions.pop(number)
            self._client._remove_sub(number)

    def unwritten(self) -> int:
        """Bytes handed over and not yet written to the socket."""
        return self._client.pending_data_size + self._buffered()

    async def echo(self, within_s: float = 5.0) -> None:
        """Return when the server has read whatever was handed over before this. Raises ConnectionError."""
        self._echoes_sent += 1
        number = self._echoes_sent
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._echoes[number] = future
        try:
            if not self.publish(f"{self.inbox}echo.{number}", b""):
                raise ConnectionError("the connection takes nothing more")
            async with asyncio.timeout(within_s):
                await future
        except TimeoutError as error:
            raise ConnectionError(f"no echo within {within_s:g} s") from error
        finally:
            self._echoes.pop(number, None)

    async def close(self) -> None:
        """Flush, close in order, and report nothing more. Never raises."""
        if self._state == "open":
            try:
                await self.echo(within_s=CLOSE_S)
            except ConnectionError:
                if self.usable:
                    self._noted(UNANSWERED_END)
        self._state = "ended"
        await self._end()

    def cut(self) -> None:
        """Close the socket at once, and report the connection as lost."""
        self._report(ConnectionAbortedError(CUT))

    # ---- what the library calls --------------------------------------------------------------------------------------

    def _dispatch(
        self, *, subject: str, reply: str, data: bytes, headers: Headers, _sid: int, **_rest: Any
    ) -> Msg | None:
        take = self._takes.get(_sid)
        if take is not None:
            try:
                take(subject, reply, data, headers, time.monotonic_ns())
            except Exception as error:
                # It would end the library's reading task without a word, and look like a silent server.
                self._noted(f"client-error: {type(error).__name__}: {error}")
        return None

    def _take_echo(self, subject: str, _reply: str, _payload: bytes, _headers: Headers, _at_ns: int) -> None:
        future = self._echoes.get(int(subject.rpartition(".")[2]))
        if future is not None and not future.done():
            future.set_result(None)

    async def _on_error(self, error: Exception) -> None:
        if self._state == "new":
            self._refusal = self._refusal or error
        if self._state != "open":
            return
        if isinstance(error, nats.errors.SlowConsumerError):
            self._noted("slow-consumer")
        elif isinstance(error, OSError | nats.errors.UnexpectedEOF):
            self._report(error)
        else:
            self._noted(f"library-error: {type(error).__name__}: {error}")

    async def _on_end(self) -> None:
        self._report(self._client.last_error)

    async def _watch_state(self) -> None:
        while self._state == "open":
            if not self._client.is_connected:
                self._report(self._client.last_error)
                return
            await asyncio.sleep(WATCH_S)

    def _report(self, error: Exception | None) -> None:
        if self._state != "open":
            return
        self._state = "ended"
        why = "connection closed" if error is None else f"{type(error).__name__}: {error}"
        for future in self._echoes.values():
            if not future.done():
                future.set_exception(ConnectionError(why))
        self._abort()
        self._lost(why)

    # ---- nats-py's inside: what its public names do not say; it is pinned to one minor version -----------------------

    def _buffered(self) -> int:
        writer = getattr(self._client._transport, "_io_writer", None)
        return 0 if writer is None else int(writer.transport.get_write_buffer_size())

    def _closed(self) -> bool:
        """Whether the socket is gone already, and the library has yet to notice: it would write to it, and raise what
        is none of its own errors."""
        writer = getattr(self._client._transport, "_io_writer", None)
        return writer is None or bool(writer.transport.is_closing())

    def _abort(self) -> None:
        """Drop the socket and what it has not taken: closing in order could wait for a peer that reads nothing, and
        what is still in the library's buffer would be sent after we said that the connection is lost."""
        self._client._pending = []
        self._client._pending_data_size = 0
        writer = getattr(self._client._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        try:
            with contextlib.suppress(OSError, nats.errors.Error, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._client.close()
        finally:  # also where nobody waits for it any more
            self._abort()


def _fetched(task: asyncio.Task[Any]) -> None:
    """Take a task's exception: the library's tasks may fail while they close a lost connection, and nobody asks."""
    if not task.cancelled():
        task.exception()


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine of nats-py that never waits: without a pending limit, publishing and subscribing only append."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("nats-py waited where nothing is to be waited for")
