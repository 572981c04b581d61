"""Is a system called drained only if the broker says so last, when nobody holds a delivery any more?"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

import harness.runner.drain as drain_module
from harness.errors import Trouble
from harness.operation import AckKind
from harness.runner.drain import Drained, drain
from harness.system.service import Promise

PROMISE = Promise(confirms=True, ack=AckKind.SENT, drain="declare", redelivery_horizon_s=0.05)


class Crew:
    """Consumers that receive nothing more; how many live is given. What is replaced is counted."""

    def __init__(self, consumers: int) -> None:
        self.consumers = [SimpleNamespace(name=f"consumer-{number}") for number in range(consumers)]
        self.replaced = 0

    def finish(self, *_: object, **__: object) -> None:
        """They end at once."""

    def living(self, *_: object) -> list[Any]:
        return list(self.consumers)

    def all(self) -> list[Any]:
        return []

    def replace(self, _: object) -> Any:
        self.replaced += 1
        return SimpleNamespace(head=SimpleNamespace(set=lambda *_: None))


def drained(
    monkeypatch: pytest.MonkeyPatch,
    crew: Crew,
    *said: str | Trouble | None,
    missing: Callable[[], str | None] = lambda: None,
) -> Drained:
    """How the drain ends where the broker says these in turn, and then the last of them for ever, while `missing` says
    what is not there."""
    for name, value in (("QUIET_S", 0.0), ("LOOK_S", 0.01), ("STRANDED_S", 0.3), ("DRAIN_LIMIT_S", 1.5)):
        monkeypatch.setattr(drain_module, name, value)
    answers = list(said)

    def answer() -> str | None:
        one = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(one, Trouble):
            raise one
        return one

    broker = SimpleNamespace(drained=answer, whole=missing, ready=lambda: None)
    return drain(cast(Any, broker), cast(Any, crew), PROMISE, hides_ends=False, confirm_timeout_s=0.1)


def test_it_is_drained_when_nothing_is_left_with_and_without_consumers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drained(monkeypatch, Crew(1), None).drained


def test_what_comes_back_when_nobody_is_left_to_read_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = drained(monkeypatch, Crew(0), None, "40 ready")
    assert (ended.drained, ended.why_not) == (False, "40 ready")


def test_what_comes_back_as_consumers_end_is_read_by_their_successors(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew(2)
    ended = drained(monkeypatch, crew, None, "40 ready")
    assert not ended.drained
    assert crew.replaced > 0


def test_what_is_left_after_a_long_silence_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = drained(monkeypatch, Crew(1), "40 ready")
    assert (ended.drained, ended.why_not) == (False, "40 ready")
    assert ended.silence_s > PROMISE.redelivery_horizon_s


def test_no_answer_is_not_that_something_is_left_and_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = drained(monkeypatch, Crew(1), Trouble("nobody leads the queue"))
    assert (ended.drained, ended.why_not) == (False, "nobody leads the queue")
    assert ended.silence_s == 0


def test_an_answer_that_comes_late_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drained(monkeypatch, Crew(1), Trouble("nobody leads"), Trouble("nobody leads"), None).drained


def test_while_a_member_is_missing_no_silence_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    back = time.monotonic() + 0.6
    asked: list[float] = []

    def missing() -> str | None:
        asked.append(time.monotonic())
        return "rabbit-3 is missing" if asked[-1] < back else None

    ended = drained(monkeypatch, Crew(1), "40 ready", missing=missing)
    assert (ended.drained, ended.why_not) == (False, "40 ready")
    assert ended.silence_s < asked[-1] - back + 0.1
    assert asked[-1] > back + PROMISE.redelivery_horizon_s


def test_with_a_member_missing_to_the_end_nothing_is_called_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = drained(monkeypatch, Crew(1), "40 ready", missing=lambda: "rabbit-3 is missing")
    assert (ended.drained, ended.why_not) == (False, "rabbit-3 is missing")
    assert ended.silence_s == 0
