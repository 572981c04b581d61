"""How does a client speak to the memory broker? One socket; what is handed over is written when the event loop turns.

It writes late on purpose, as the libraries of real brokers do: a call that returned is not a byte sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from typing import Any, cast

from harness.brokers.memory import wire
from harness.operation import CUT, Outcome
from harness.system.service import Listener, NoMessage, Received

OPEN_S = 5.0
BUFFER_MAX = 4 << 20
"""Bytes that may wait to be written; a publish beyond that is not taken."""


class Connection(asyncio.Protocol):
    """One epoch of one client."""

    def __init__(self, orders: Mapping[str, Any], listener: Listener, role: str, name: str, prefetch: int) -> None:
        self._orders = orders
        self._listener = listener
        self._hello = {
            "name": name,
            "queue": orders["queue"],
            "role": role,
            "prefetch": prefetch,
            "automatic": orders["ack"] == "automatic",
            "confirms": orders["confirms"],
        }
        self._answers_acks = orders["ack"] == "confirmed"
        self._transport: asyncio.Transport | None = None
        self._frames = wire.Frames()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._token = 0
        self._pending: dict[int, asyncio.Future[Outcome]] = {}
        self._pull: asyncio.Future[NoMessage | None] | None = None
        self._pull_invoked_ns = 0
        self._greeted: asyncio.Future[bool] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._opened = False
        self._closing = False
        self._why = ""
        self._heard_s = 0.0
        self._beat: asyncio.TimerHandle | None = None
        self.local_port = 0

    # ---- as the client's body calls it -----------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and be known by name."""
        loop = asyncio.get_running_loop()
        host, port = self._orders["address"]
        self._greeted, self._ended = loop.create_future(), loop.create_future()
        async with asyncio.timeout(OPEN_S):
            await loop.create_connection(lambda: self, host, port)
            self._hand(wire.spoken(wire.HELLO, self._hello))
            if not await self._greeted:
                raise ConnectionError(f"the broker has no queue {self._hello['queue']!r}")
        self._opened = True
        self._heard_s = time.monotonic()
        self._keep_alive()

    def publish(self, payload: bytes, tag: int, native_id: str | None) -> bool:
        """Hand one message over."""
        if self._transport is None or self._transport.is_closing() or self.unwritten() > BUFFER_MAX:
            return False
        name = native_id.encode() if native_id else b""
        size = len(name)
        self._hand(wire.PUBLISH_HEAD.pack(10 + size + len(payload), wire.PUBLISH, tag, size) + name + payload)
        return True

    def unwritten(self) -> int:
        """Bytes handed over and not yet given to the kernel."""
        return self._out_bytes + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    async def consume(self) -> None:
        """Ask for deliveries."""
        self._hand(wire.frame(wire.CONSUME))

    async def pull(self, invoked_ns: int) -> NoMessage | None:
        """Ask for one message."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the connection is not open")
        self._pull = asyncio.get_running_loop().create_future()
        self._pull_invoked_ns = invoked_ns
        self._hand(wire.frame(wire.PULL))
        return await self._pull

    def settle(self, handle: object) -> Awaitable[Outcome] | None:
        """Acknowledge a delivery by its sequence."""
        if self._hello["automatic"]:
            return None
        assert isinstance(handle, int)
        if not self._answers_acks:
            self._hand(wire.frame(wire.SETTLE, wire.PAIR.pack(handle, 0)))
            return None
        token, answer = self._expect()
        self._hand(wire.frame(wire.SETTLE, wire.PAIR.pack(handle, token)))
        return answer

    async def barrier(self) -> None:
        """One round trip behind everything that was handed over so far."""
        token, answer = self._expect()
        self._hand(wire.frame(wire.PING, wire.U64.pack(token)))
        if await answer is not Outcome.OK:
            raise ConnectionError("the connection ended before the broker answered")

    async def stop_consuming(self) -> None:
        """Take no new deliveries: none comes after the answer."""
        self._hand(wire.frame(wire.STOP))
        try:
            await self.barrier()
        except ConnectionError:
            return

    def cut(self) -> None:
        """Close the socket at once."""
        if self._opened and self._transport is not None:
            self._why = CUT
            self._out.clear()
            self._transport.abort()

    async def close(self) -> None:
        """Flush and close."""
        self._closing = True
        if self._transport is None or self._ended is None:
            return
        self._flush()
        self._transport.close()
        await asyncio.wait([self._ended], timeout=OPEN_S)
        self._transport.abort()

    # ---- as the event loop calls it --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self.local_port = transport.get_extra_info("sockname")[1]

    def data_received(self, data: bytes) -> None:
        """Whole frames go to the listener."""
        now_ns = time.monotonic_ns()
        self._heard_s = now_ns / 1e9
        for operation, body in self._frames.feed(data):
            if operation == wire.CONFIRM:
                tag, outcome, duplicate, sequence = wire.CONFIRM_BODY.unpack_from(body)
                error = body[wire.CONFIRM_BODY.size :].decode()
                self._listener.confirmed(tag, tag, Outcome(outcome), now_ns, sequence, bool(duplicate), error)
            elif operation == wire.DELIVER:
                handle, number, redelivered, count = wire.DELIVER_BODY.unpack_from(body)
                payload = body[wire.DELIVER_BODY.size :]
                invoked_ns, epoch = self._pull_invoked_ns, self._orders.get("epoch", 0)
                self._listener.received(
                    Received(payload, now_ns, invoked_ns, number, bool(redelivered), count, handle, epoch)
                )
            elif operation == wire.PULLED and self._pull is not None and not self._pull.done():
                self._pull.set_result(None if body[0] else NoMessage(Outcome.OK, now_ns))
            elif operation == wire.SETTLED:
                token, outcome = wire.SETTLED_BODY.unpack(body)
                self._answered(token, Outcome(outcome))
            elif operation == wire.PONG:
                self._answered(wire.U64.unpack(body)[0], Outcome.OK)
            elif operation == wire.TOLD and self._greeted is not None and not self._greeted.done():
                self._greeted.set_result(wire.heard(body)["exists"])

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: what awaits an answer gets none."""
        why = self._why or (type(exc).__name__ if exc is not None else "closed by the broker")
        if self._beat is not None:
            self._beat.cancel()
        for answer in self._pending.values():
            if not answer.done():
                answer.set_result(Outcome.INFO)
        self._pending.clear()
        if self._pull is not None and not self._pull.done():
            self._pull.set_exception(ConnectionError(why))
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_exception(ConnectionError(why))
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        if self._opened and not self._closing:
            self._listener.lost(why)

    def _expect(self) -> tuple[int, asyncio.Future[Outcome]]:
        self._token += 1
        answer = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            answer.set_result(Outcome.INFO)
        else:
            self._pending[self._token] = answer
        return self._token, answer

    def _answered(self, token: int, outcome: Outcome) -> None:
        answer = self._pending.pop(token, None)
        if answer is not None and not answer.done():
            answer.set_result(outcome)

    def _hand(self, data: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)
        self._out_bytes += len(data)

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    def _keep_alive(self) -> None:
        """Speak now and then, and give up a broker that has not done so for too long."""
        if self._transport is None or self._transport.is_closing():
            return
        if time.monotonic() - self._heard_s > wire.SILENCE_S:
            self._why = "silence"
            self._transport.abort()
            return
        self._hand(wire.frame(wire.PING, wire.U64.pack(0)))
        self._beat = asyncio.get_running_loop().call_later(wire.PING_S, self._keep_alive)
