"""Can the harness be deceived? Clients that do not do what the terms of their run say, planted on purpose.

A verdict that stays the same when a client lies proves nothing. Producers: *answers-itself* switches confirms off and
takes each call that returned for the broker's answer, while the terms say that the broker answers; *drops-msg-id*
publishes without the id by which the broker would know a retry again, while its journal says that it was sent.
Consumers: *acknowledges-first* acknowledges before its effect, while the terms say after. Once each in its life, with
its hundredth delivery: *omits-a-delivery* acknowledges it and writes nothing down; *records-twice* writes it down
twice; *discards* leaves it alone, as if its connection were lost and the broker would requeue it, and then has the
broker throw it away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from harness.clients.spec import ClientSpec
from harness.errors import Refused
from harness.operation import Outcome, Role
from harness.system.service import Connection, Listener, Received

ANSWERS_ITSELF = "answers-itself"
DROPS_MSG_ID = "drops-msg-id"
ACKNOWLEDGES_FIRST = "acknowledges-first"
OMITS_A_DELIVERY = "omits-a-delivery"
RECORDS_TWICE = "records-twice"
DISCARDS = "discards"
SABOTAGES = (ANSWERS_ITSELF, DROPS_MSG_ID, ACKNOWLEDGES_FIRST, OMITS_A_DELIVERY, RECORDS_TWICE, DISCARDS)

NTH = 100
"""Which delivery of a consumer's life is treated otherwise, and no other: a single one must not go unnoticed."""

Connect = Callable[..., Connection]


def sabotaged(spec: ClientSpec) -> ClientSpec:
    """The orders that a sabotaged client really follows. Raises Refused for an unknown sabotage."""
    sabotage = spec.options.get("sabotage", "")
    if sabotage == ACKNOWLEDGES_FIRST and spec.mechanism is not None:
        return replace(spec, mechanism={"type": "AckBeforeEffect"})
    if sabotage not in ("", *SABOTAGES):
        raise Refused(f"unknown sabotage {sabotage!r}", cure=f"use one of {', '.join(SABOTAGES)}")
    return spec


def connecting(connect: Connect, spec: ClientSpec) -> Connect:
    """How a client with these orders makes its connections: as `connect`, or with a lie."""
    lies = _OF_PRODUCERS if spec.role is Role.PRODUCER else _OF_CONSUMERS
    lie = lies.get(spec.options.get("sabotage", ""))
    return connect if lie is None else lie(connect, spec.family)


# ---- producers -------------------------------------------------------------------------------------------------------


def _answering_itself(connect: Connect, _family: str) -> Connect:
    def lying(orders: Mapping[str, Any], listener: Listener, *rest: Any) -> Connection:
        connection = connect({**orders, "confirms": False}, listener, *rest)
        hand_over = connection.publish

        def publish(payload: bytes, tag: int, native_id: str | None) -> bool:
            handed = hand_over(payload, tag, native_id)
            if handed:
                asyncio.get_running_loop().call_soon(answer, tag)
            return handed

        def answer(tag: int) -> None:
            listener.confirmed(tag, tag, Outcome.OK, time.monotonic_ns(), 0, False, "")

        connection.publish = publish  # type: ignore[method-assign]  # the point of a sabotage
        return connection

    return lying


def _dropping_ids(connect: Connect, _family: str) -> Connect:
    def lying(*given: Any) -> Connection:
        connection = connect(*given)
        hand_over = connection.publish
        connection.publish = lambda payload, tag, native_id: hand_over(payload, tag, None)  # type: ignore[method-assign]
        return connection

    return lying


# ---- consumers -------------------------------------------------------------------------------------------------------


class _Deaf:
    """Hears a connection for the body, but for one delivery of the process's life, which goes to `instead`."""

    def __init__(self, listener: Listener, numbers: count[int], instead: Callable[[Received], None]) -> None:
        self._listener = listener
        self._numbers = numbers
        self._instead = instead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def received(self, delivery: Received) -> None:
        """A delivery arrived."""
        if next(self._numbers) == NTH:
            self._instead(delivery)
        else:
            self._listener.received(delivery)


def _once(treat: Callable[[Any, Any, Received, str], None]) -> Callable[[Connect, str], Connect]:
    """A lie about the NTH delivery: `treat` gets the connection, the body's own listener, the delivery, the family."""

    def lie(connect: Connect, family: str) -> Connect:
        numbers = count(1)  # of the process: a connection after the first goes on with it

        def lying(orders: Mapping[str, Any], listener: Listener, *rest: Any) -> Connection:
            deaf = _Deaf(listener, numbers, lambda delivery: treat(connection, listener, delivery, family))
            connection = connect(orders, deaf, *rest)
            return connection

        return lying

    return lie


def _omit(connection: Any, _listener: Any, delivery: Received, _family: str) -> None:
    connection.settle(delivery.handle)


def _record_twice(connection: Any, listener: Any, delivery: Received, _family: str) -> None:
    settle, copy = connection.settle, object()
    # Acknowledged once: brokers end the channel of who acknowledges twice, and so the lie would tell itself.
    connection.settle = lambda handle: None if handle is copy else settle(handle)
    listener.received(delivery)
    listener.received(replace(delivery, handle=copy))


def _discard(connection: Any, listener: Any, delivery: Received, family: str) -> None:
    body = listener._body
    body.connection, mine = None, body.connection  # so the body writes it down and leaves it alone
    listener.received(delivery)
    body.connection = mine
    _THROW_AWAY[family](connection, delivery.handle)


def _reject(connection: Any, tag: int) -> None:
    connection._channel.basic_reject(tag, requeue=False)


def _terminate(connection: Any, reply: str) -> None:
    connection._session.publish(reply, b"+TERM")
    connection._held.discard(reply)
    connection._pull.settled()


def _settle(connection: Any, sequence: int) -> None:
    connection.settle(sequence)


_THROW_AWAY: Mapping[str, Callable[[Any, Any], None]] = {"rabbitmq": _reject, "nats": _terminate, "memory": _settle}
"""How each broker is told to keep a delivery no longer; of the memory broker's words only settling does that."""

_OF_PRODUCERS = {ANSWERS_ITSELF: _answering_itself, DROPS_MSG_ID: _dropping_ids}
_OF_CONSUMERS = {OMITS_A_DELIVERY: _once(_omit), RECORDS_TWICE: _once(_record_twice), DISCARDS: _once(_discard)}
