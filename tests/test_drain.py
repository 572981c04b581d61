"""Is a system called drained only if the broker says so last, when nobody holds a delivery any more?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

import harness.runner.drain as drain_module
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


def drained(monkeypatch: pytest.MonkeyPatch, crew: Crew, *said: str | None) -> Drained:
    """How the drain ends where the broker says these in turn, and then the last of them for ever."""
    monkeypatch.setattr(drain_module, "QUIET_S", 0.0)
    answers = list(said)
    broker = SimpleNamespace(drained=lambda: answers.pop(0) if len(answers) > 1 else answers[0])
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
