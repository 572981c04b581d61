"""A client's end of RabbitMQ, in the client's own process: one epoch, without any retry or reconnect of its own.

One AMQP 0-9-1 connection with one channel, on the client's event loop. Producers with confirms hear about every publish
once; consumers are pushed deliveries, or pull them one by one. Whatever ends the channel ends the epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pika
import pika.exceptions
from pika import spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel

from harness.brokers.rabbitmq.confirms import Confirms
from harness.brokers.rabbitmq.frames import BODY_SIZE_MAX, PublishFrames, ack_frame
from harness.operation import CUT, UNANSWERED_END, Outcome, Role
from harness.system.service import Listener, NoMessage, Received

OPEN_S = 5.0
ANSWER_S = 5.0
CLOSE_S = 1.0
BUFFER_MAX = 1 << 20
"""Bytes that may wait to be written; more is refused, so that a silent link does not look like a fast broker."""

NEVER = -1
_CONSUMER_TAG = "consumer"
_ENDED = (pika.exceptions.AMQPError, OSError)

# Every lost connection is reported to the listener with its reason; the library would log a page about each as well.
logging.getLogger("pika").setLevel(logging.CRITICAL)


class Connection:
    """One connection of one client. `orders` come from `Broker.orders()`, with "address": [host, port] to dial, and
    "epoch" where the client counts them."""

    def __init__(
        self, orders: Mapping[str, Any], listener: Listener, role: Role | str, name: str, prefetch: int
    ) -> None:
        self._orders = orders
        self._listener = listener
        self._role = Role(role)
        self._name = name
        self._prefetch = max(1, min(prefetch, 65_535))
        self._epoch = int(orders.get("epoch", 0))
        self._queue = str(orders["queue"])
        self._confirms = bool(orders["confirms"])
        self._automatic = str(orders["acknowledge"]) == "automatic"
        self._answers = Confirms(refuses=bool(orders["refuses"]))
        self._connection: AsyncioConnection | None = None
        self._channel: Channel | None = None
        self._number = 0
        self._frames = PublishFrames(1, self._queue, persistent=False, mandatory=False)
        self._open = False
        self._closing = False
        self._why = ""
        self._waiting: set[asyncio.Future[Any]] = set()
        self._ended: asyncio.Future[None] | None = None
        self._pull: asyncio.Future[NoMessage | None] | None = None

    # ---- the epoch's life ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and open the channel. Raises ConnectionError or TimeoutError."""
        try:
            async with asyncio.timeout(OPEN_S):
                await self._connect()
                await self._set_up()
        except _ENDED as error:
            self._abandon()
            raise ConnectionError(_reason(error)) from error
        except BaseException:  # a time-out or a cancellation: what was begun must not go on by itself
            self._abandon()
            raise
        self._open = True

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._orders["address"]
        self._ended = loop.create_future()
        opened = self._wait()
        self._connection = connection = AsyncioConnection(
            pika.ConnectionParameters(
                host=str(host),
                port=int(port),
                virtual_host=str(self._orders["vhost"]),
                credentials=pika.PlainCredentials(str(self._orders["user"]), str(self._orders["password"])),
                heartbeat=int(self._orders["heartbeat_s"]),
                socket_timeout=OPEN_S,
                stack_timeout=OPEN_S,
                blocked_connection_timeout=float(self._orders["blocked_timeout_s"]),
                connection_attempts=1,
                client_properties={"connection_name": f"{self._orders['cell']}/{self._name}"},
            ),
            on_open_callback=lambda _: _succeed(opened, None),
            on_open_error_callback=lambda _, error: self._on_end(error),
            on_close_callback=lambda _, error: self._on_end(error),
            custom_ioloop=loop,
        )
        connection.add_on_connection_blocked_callback(lambda *_: self._listener.noted("connection.blocked"))
        connection.add_on_connection_unblocked_callback(lambda *_: self._listener.noted("connection.unblocked"))
        await opened

    async def _set_up(self) -> None:
        connection = self._connection
        assert connection is not None
        opened = self._wait()
        channel = connection.channel(on_open_callback=lambda _: _succeed(opened, None))
        channel.add_on_close_callback(lambda _, error: self._on_channel_end(error))
        channel.add_on_cancel_callback(lambda _: self._on_cancelled())
        await opened
        self._channel, self._number = channel, int(channel.channel_number)
        if declare := self._orders["declare"]:
            # What nobody would make again after its node was restarted, clients declare as they connect.
            await self._ask(lambda done: channel.queue_declare(self._queue, **declare, callback=done))
        if self._role is not Role.PRODUCER:
            channel.add_callback(self._on_empty, [spec.Basic.GetEmpty], one_shot=False)
            return
        self._frames = PublishFrames(
            self._number,
            self._queue,
            persistent=bool(self._orders["persistent"]),
            mandatory=bool(self._orders["mandatory"]),
        )
        if self._confirms:
            channel.add_on_return_callback(self._on_returned)
            await self._ask(lambda done: channel.confirm_delivery(self._on_answer, callback=done))

    async def close(self) -> None:
        """Flush and close in order. Never raises."""
        self._open, self._closing = False, True
        connection, ended = self._connection, self._ended
        if connection is None or ended is None or ended.done():
            return
        with contextlib.suppress(*_ENDED):
            connection.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(ended), CLOSE_S)
        if not ended.done():
            self._listener.noted(UNANSWERED_END)
            self._abandon()

    def cut(self) -> None:
        """Close the socket at once; `_on_end` follows."""
        if self._open and self._connection is not None:
            self._why = CUT
            self._connection._terminate_stream(ConnectionAbortedError(CUT))

    def _abandon(self) -> None:
        """End the connection without a goodbye."""
        self._open, self._closing = False, True
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        with contextlib.suppress(*_ENDED):
            if not connection.is_open and not connection.is_closing:
                connection.close()  # while it is being opened: gives up at once
            else:
                connection._terminate_stream(ConnectionAbortedError("given up"))

    def _on_end(self, error: BaseException) -> None:
        """The connection ended, or never came about."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        self._finish(self._why or _reason(error))

    def _on_channel_end(self, error: BaseException) -> None:
        """The channel ended; if its connection has not, it is of no more use."""
        connection = self._connection
        if self._closing or connection is None:
            return
        if isinstance(error, pika.exceptions.ChannelClosed):
            self._why = _reason(error)
        if connection.is_open:
            with contextlib.suppress(*_ENDED):
                connection.close()
            self._finish(self._why or _reason(error))

    def _on_cancelled(self) -> None:
        """The broker cancelled the consumer (its queue was deleted, or lost its node): nothing more would come."""
        self._listener.noted("basic.cancel")
        self._why = "basic.cancel"
        if self._connection is not None and self._connection.is_open:
            with contextlib.suppress(*_ENDED):
                self._connection.close()
        self._finish(self._why)

    def _finish(self, why: str) -> None:
        """Tell everybody who waits, and the listener, once."""
        was_open, self._open = self._open, False
        for waiting in list(self._waiting):
            if not waiting.done():
                waiting.set_exception(ConnectionError(why))
        self._waiting.clear()
        if was_open and not self._closing:
            self._closing = True
            self._listener.lost(why)

    # ---- publishing ------------------------------------------------------------------------------------------------

    def publish(self, payload: bytes, tag: int, native_id: str | None) -> bool:
        """Hand one message over; its answer, if there is one, comes to `listener.confirmed`. `native_id` is not used:
        the broker recognises no duplicates here."""
        if not self._open or self.unwritten() > BUFFER_MAX:
            return False
        if len(payload) > BODY_SIZE_MAX:
            raise ValueError(f"a payload of {len(payload)} bytes does not fit into one frame ({BODY_SIZE_MAX})")
        self._send(self._frames.make(payload, tag))
        if self._confirms:
            self._answers.handed(tag)
        return True

    def unwritten(self) -> int:
        """Bytes handed over and not yet written to the socket."""
        transport = None if self._connection is None else self._connection._transport
        return 0 if transport is None else int(transport.get_write_buffer_size())

    def _send(self, frame: bytes) -> None:
        """Hand bytes of whole frames to the library's write buffer."""
        if self._connection is not None:
            self._connection._output_marshaled_frames((frame,))

    def _on_answer(self, frame: Any) -> None:
        at_ns = time.monotonic_ns()
        method = frame.method
        ack = isinstance(method, spec.Basic.Ack)
        news = self._answers.answer(method.delivery_tag, multiple=method.multiple, ack=ack)
        for first, last, outcome, error in news:
            self._listener.confirmed(first, last, outcome, at_ns, 0, False, error)

    def _on_returned(self, _channel: Channel, method: Any, properties: Any, _body: bytes) -> None:
        self._answers.returned(int(properties.message_id), str(method.reply_code))

    # ---- consuming -------------------------------------------------------------------------------------------------

    async def consume(self) -> None:
        """Start consuming. Raises ConnectionError or TimeoutError."""
        channel = self._usable()
        if not self._automatic:
            await self.barrier()
        await self._ask(
            lambda done: channel.basic_consume(
                self._queue, self._on_delivery, auto_ack=self._automatic, consumer_tag=_CONSUMER_TAG, callback=done
            )
        )

    async def pull(self, invoked_ns: int) -> NoMessage | None:
        """One basic.get, which the broker answers sooner or later, or the connection ends. Raises ConnectionError."""
        channel = self._usable()
        answer: asyncio.Future[NoMessage | None] = self._wait()
        self._pull = answer

        def brought(_channel: Channel, method: Any, properties: Any, body: bytes) -> None:
            self._hand_on(method, properties, body, invoked_ns)
            _succeed(answer, None)

        try:
            channel.basic_get(self._queue, brought, auto_ack=self._automatic)
        except pika.exceptions.AMQPError as error:
            answer.cancel()
            raise ConnectionError(_reason(error)) from error
        return await answer

    def _on_empty(self, _frame: object) -> None:
        if self._pull is not None:
            _succeed(self._pull, NoMessage(Outcome.OK, time.monotonic_ns()))

    def settle(self, handle: object) -> Awaitable[Outcome] | None:
        """Acknowledge one delivery, which is never answered. What finds no connection is not sent."""
        if self._open and isinstance(handle, int):
            self._send(ack_frame(self._number, handle))
        return None

    async def barrier(self) -> None:
        """One round trip on the channel: basic.qos, with the prefetch that it has already."""
        channel = self._usable()
        await self._ask(lambda done: channel.basic_qos(prefetch_count=self._prefetch, callback=done))

    async def stop_consuming(self) -> None:
        """Cancel the consumer; deliveries that are on their way until the broker has answered are still handed over."""
        if not self._open or self._channel is None or _CONSUMER_TAG not in self._channel.consumer_tags:
            return
        channel = self._channel
        # The library's own basic_cancel would reject what still comes, or drop it where the broker thinks it settled.
        cancel = spec.Basic.Cancel(consumer_tag=_CONSUMER_TAG)
        replies = [(spec.Basic.CancelOk, {"consumer_tag": _CONSUMER_TAG})]
        with contextlib.suppress(ConnectionError):
            await self._ask(lambda done: channel._rpc(cancel, done, replies))

    def _on_delivery(self, _channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        self._hand_on(method, properties, body, NEVER)

    def _hand_on(self, method: Any, properties: Any, body: bytes, invoked_ns: int) -> None:
        received_ns = time.monotonic_ns()
        headers = properties.headers
        count = 0
        if headers:
            # Acquired counts every earlier delivery, from 4.3; the other one only those that the limit counts.
            count = int(headers.get("x-acquired-count", headers.get("x-delivery-count", 0)))
        handle = None if self._automatic else method.delivery_tag
        self._listener.received(
            Received(body, received_ns, invoked_ns, 0, bool(method.redelivered), count, handle, self._epoch)
        )

    # ---- questions -------------------------------------------------------------------------------------------------

    def _usable(self) -> Channel:
        if not self._open or self._channel is None:
            raise ConnectionError("the connection is not open")
        return self._channel

    def _wait(self) -> asyncio.Future[Any]:
        """A future that the end of the connection fails."""
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)
        return waiting

    async def _ask(self, question: Callable[[Callable[[Any], None]], object]) -> Any:
        """Ask something on the channel and wait for its answer."""
        answer = self._wait()
        try:
            question(lambda frame: _succeed(answer, frame))
        except pika.exceptions.AMQPError as error:
            answer.cancel()
            raise ConnectionError(_reason(error)) from error
        async with asyncio.timeout(ANSWER_S):
            return await answer


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _reason(error: BaseException) -> str:
    """The innermost reason in the library's nest of exceptions: "404 NOT_FOUND - no queue 'orders'"."""
    if isinstance(error, pika.exceptions.ChannelClosed | pika.exceptions.ConnectionClosed):
        return f"{error.reply_code} {error.reply_text}"
    inner: tuple[object, ...] = (getattr(error, "exception", None), *getattr(error, "exceptions", ()), *error.args)
    for cause in reversed(inner):
        if isinstance(cause, BaseException):
            return _reason(cause)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
