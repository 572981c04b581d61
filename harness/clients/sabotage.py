"""Can the harness be deceived? Clients that do not do what the terms of their run say, planted on purpose.

A verdict that stays the same when a client lies proves nothing. *answers-itself*: a producer that switches confirms off
and takes each call that returned for the broker's answer, while the terms say that the broker answers.
*acknowledges-first*: a consumer that acknowledges before its effect, while the terms say after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from harness.clients.spec import ClientSpec
from harness.errors import Refused
from harness.operation import Outcome, Role
from harness.system.service import Connection, Listener

ANSWERS_ITSELF = "answers-itself"
ACKNOWLEDGES_FIRST = "acknowledges-first"
SABOTAGES = (ANSWERS_ITSELF, ACKNOWLEDGES_FIRST)

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
    if spec.role is not Role.PRODUCER or spec.options.get("sabotage") != ANSWERS_ITSELF:
        return connect

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
