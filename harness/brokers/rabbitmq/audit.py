"""What is left in a queue, message by message? It is read by one consumer of ours, to the end that basic.get proves.

Nobody else may consume meanwhile. What is read is acknowledged as it is read; the queue is deleted afterwards anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from harness.errors import Trouble
from harness.operation import decode_payload

OPEN_S = 2.0
ASK_S = 5.0
READ_S = 60.0
SILENCE_S = 1.0
NOT_FOUND = 404
_MANY = 50
# The library's errors of connecting are no AMQPError, unless it wraps them.
_ENDED = (pika.exceptions.AMQPError, AMQPConnectorException, OSError)


class Standing(NamedTuple):
    """What a passive declare says of a queue: messages that are ready, and consumers."""

    ready: int
    consumers: int


class Reading(NamedTuple):
    """What was read: packed ids in order, and how many messages were corrupt or of another run."""

    found: Sequence[int]
    corrupt: int
    foreign: int


class Auditor:
    """Our own AMQP connection, to the first node that takes it; made when it is needed, and again when it ended."""

    def __init__(self, addresses: Mapping[str, tuple[str, int]], access: Mapping[str, Any], name: str) -> None:
        self._addresses = addresses
        self._access = access
        self._name = name
        self._connection: pika.BlockingConnection | None = None

    def answers(self, node: str) -> bool:
        """Whether that node opens an AMQP connection now."""
        try:
            connection = self._connect(node)
        except _ENDED:
            return False
        _close(connection)
        return True

    def standing(self, queue: str) -> Standing | None:
        """What is in the queue, exactly and now; None where it does not exist. Raises Trouble."""
        reused = self._connection is not None
        try:
            return self._stands(queue)
        except Trouble:
            if not reused or self._connection is not None:
                raise  # a new connection, or one that still stands: the broker itself has refused
        return self._stands(queue)

    def _stands(self, queue: str) -> Standing | None:
        standing: Standing | None = self._ask(lambda channel: _standing(channel, queue), within_s=ASK_S)
        return standing

    def read(self, queue: str, run: int) -> Reading | None:
        """Read all of it; None where it does not exist. Raises Trouble: a queue cannot be read twice."""
        bodies: list[bytes] = []
        self.close()
        if self._ask(lambda channel: _read(channel, queue, bodies), within_s=READ_S) is None:
            return None
        found: list[int] = []
        corrupt = foreign = 0
        for body in bodies:
            decoded = decode_payload(body)
            if decoded.corrupt:
                corrupt += 1
            elif decoded.run != run:
                foreign += 1
            else:
                found.append(decoded.message)
        return Reading(found, corrupt, foreign)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _close(connection)

    def _ask(self, question: Callable[[BlockingChannel], Any], *, within_s: float) -> Any:
        """Ask on a channel of its own; None for a queue that does not exist. Raises Trouble when that fails."""
        connection = self._connection or self._connect_any()
        self._connection = connection
        try:
            with _limited(connection, within_s):
                channel = connection.channel()
                answer = question(channel)
                channel.close()
                return answer
        except pika.exceptions.ChannelClosedByBroker as closed:
            if closed.reply_code == NOT_FOUND and "no queue" in closed.reply_text:
                return None
            raise Trouble(f"RabbitMQ refuses: {closed.reply_code} {closed.reply_text}") from closed
        except _ENDED as error:
            self.close()
            raise Trouble(f"RabbitMQ does not answer over AMQP: {type(error).__name__}: {error}") from error

    def _connect_any(self) -> pika.BlockingConnection:
        failures = []
        for node in self._addresses:
            try:
                return self._connect(node)
            except _ENDED as error:
                failures.append(f"{node}: {type(error).__name__}: {error}")
        raise Trouble(f"no RabbitMQ node answers over AMQP: {'; '.join(failures)}")

    def _connect(self, node: str) -> pika.BlockingConnection:
        host, port = self._addresses[node]
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                host=host,
                port=port,
                virtual_host=self._access["vhost"],
                credentials=pika.PlainCredentials(self._access["user"], self._access["password"]),
                # Nobody turns this connection's loop between two questions, so the broker would miss its heartbeats.
                heartbeat=0,
                socket_timeout=OPEN_S,
                stack_timeout=OPEN_S,
                blocked_connection_timeout=OPEN_S,
                connection_attempts=1,
                client_properties={"connection_name": self._name},
            )
        )


@contextmanager
def _limited(connection: pika.BlockingConnection, within_s: float) -> Iterator[None]:
    """End the connection after that time: the library's own calls wait for an answer without any limit."""
    loop = connection._impl
    timer = loop._adapter_call_later(within_s, lambda: loop._terminate_stream(ConnectionAbortedError("no answer")))
    try:
        yield
    finally:
        loop._adapter_remove_timeout(timer)


def _close(connection: pika.BlockingConnection) -> None:
    try:
        if connection.is_open:
            with _limited(connection, OPEN_S):
                connection.close()
    except _ENDED:
        return


def _standing(channel: BlockingChannel, queue: str) -> Standing:
    method = channel.queue_declare(queue, passive=True).method
    return Standing(int(method.message_count), int(method.consumer_count))


def _read(channel: BlockingChannel, queue: str, bodies: list[bytes]) -> bool:
    """Take all that is there: most of it by a consumer, which is quick, the end by basic.get, which is exact."""
    ready = _standing(channel, queue).ready
    if ready > _MANY:
        channel.basic_qos(prefetch_count=500)
        for method, _, body in channel.consume(queue, inactivity_timeout=SILENCE_S):
            if method is None:
                break
            bodies.append(body)
            ready -= 1
            if ready <= 0 or len(bodies) % 100 == 0:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if ready <= 0:
                break
        channel.cancel()  # what was sent beyond that goes back
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return True
        bodies.append(body)
