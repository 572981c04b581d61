"""Does a refusal of the broker ever read as "the queue does not exist"? Only what is gone is read to its end."""

from __future__ import annotations

from typing import Any, cast

import pytest

from harness.brokers.rabbitmq.audit import Auditor, Standing
from harness.errors import Trouble


def auditor(*answers: Standing | Trouble | None, connected: bool, ends: bool) -> Auditor:
    """One that gets these answers in turn; `ends`: whether its connection ends with a refusal."""
    made = Auditor({}, {}, "harness.test")
    made._connection = cast(Any, object()) if connected else None
    left = list(answers)

    def ask(*_: object, **__: object) -> Any:
        answer = left.pop(0)
        if isinstance(answer, Trouble):
            if ends:
                made._connection = None
            raise answer
        return answer

    made._ask = ask  # type: ignore[method-assign]
    return made


REFUSED = Trouble("RabbitMQ refuses: 404 NOT_FOUND - home node of queue is down or inaccessible")


def test_a_refusal_on_a_connection_that_stands_is_trouble_and_no_empty_queue() -> None:
    with pytest.raises(Trouble, match="home node"):
        auditor(REFUSED, REFUSED, connected=True, ends=False).standing("q")


def test_a_kept_connection_that_has_ended_is_made_anew_once() -> None:
    assert auditor(REFUSED, Standing(3, 1), connected=True, ends=True).standing("q") == Standing(3, 1)
    with pytest.raises(Trouble, match="home node"):
        auditor(REFUSED, REFUSED, connected=True, ends=True).standing("q")


def test_a_queue_that_does_not_exist_is_none() -> None:
    assert auditor(None, connected=False, ends=False).standing("q") is None
