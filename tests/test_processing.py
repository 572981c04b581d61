"""What does each mechanism leave behind when its consumer dies at each crash point? Played out in one process.

The acknowledgement of a delivery goes from the consumer's hands into its buffer, and from there to the broker when the
loop turns. Dying is an exception that nothing handles; what is in the buffer is then gone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields
from typing import Any

import pytest

from harness.clients.crash import Guarded, Trap
from harness.errors import AssayError
from harness.operation import CrashPoint, Stage
from harness.processing.ack_after import AckAfterEffect
from harness.processing.ack_before import AckBeforeEffect, AckBeforeEffectUnflushed
from harness.processing.transaction import Transaction

MECHANISMS = {
    mechanism.name: mechanism
    for mechanism in (AckBeforeEffect(), AckBeforeEffectUnflushed(), AckAfterEffect(), Transaction())
}


class Died(BaseException):
    pass


class Spring(Trap):
    """A trap that raises instead of killing, and remembers every pass."""

    def __init__(self, point: CrashPoint | None, after: int = 0) -> None:
        self.armed = point.number if point is not None else 0
        self._left = after
        self._stage = 0
        self.sprung: Stage | None = None

    def spring(self, point: int, stage: Stage | None, message: int) -> None:
        self.sprung = stage
        raise Died


@dataclass
class World:
    """A broker that owes one message, and a sink."""

    effects: int = 0
    ids: set[int] = field(default_factory=set)
    owed: bool = True


@dataclass
class Held:
    """One delivery of the message, in a consumer with a buffer."""

    world: World
    answerable: bool
    automatic: bool = False
    message: int = 1
    effected: bool = False
    acknowledged: bool = False
    answered: bool = False
    buffer: int = 0
    connected: bool = True

    def __post_init__(self) -> None:
        if self.automatic:
            self.acknowledged = self.answered = True
            self.world.owed = False

    async def effect(self) -> None:
        self.world.effects += 1
        self.effected = True

    async def effect_once(self) -> bool:
        if new := self.message not in self.world.ids:
            self.world.ids.add(self.message)
            self.world.effects += 1
        self.effected = True
        return new

    def hand_over(self) -> None:
        if self.acknowledged:
            return
        if not self.connected:
            raise ConnectionError
        self.acknowledged, self.buffer = True, 1
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self.buffer and self.connected:
            self.buffer, self.world.owed = 0, False

    async def answer(self) -> None:
        await asyncio.sleep(0)
        if not self.connected:
            raise ConnectionError
        self.answered = True

    def unwritten(self) -> int:
        return self.buffer


def deliver(world: World, mechanism: Any, trap: Spring, *, answerable: bool = False, automatic: bool = False) -> bool:
    """Deliver the message once; whether the consumer outlived it."""

    async def go() -> bool:
        held = Held(world, answerable, automatic)
        try:
            await mechanism.process(Guarded(held, trap))
        except Died:
            held.buffer = 0
            return False
        await asyncio.sleep(0)
        return True

    return asyncio.run(go())


def play(
    mechanism: Any, point: CrashPoint, *, answerable: bool = False, after: int = 0
) -> tuple[int, Stage | None, bool]:
    """(effects in the end, stage at the crash, whether it came to the point); it comes until nobody owes it."""
    world, trap = World(), Spring(point, after)
    crashed = not deliver(world, mechanism, trap, answerable=answerable)
    for _ in range(3):
        if not world.owed:
            break
        assert deliver(world, mechanism, Spring(None), answerable=answerable)
    assert not world.owed
    return world.effects, trap.sprung, crashed


A_E, E_A, A_C = CrashPoint.BETWEEN_ACK_AND_EFFECT, CrashPoint.BETWEEN_EFFECT_AND_ACK, CrashPoint.BETWEEN_ACK_AND_CONFIRM
HANDED, WRITTEN, ANSWERED = Stage.HANDED, Stage.WRITTEN, Stage.ANSWERED
NOT_REACHED = (1, None, False)

ENDS: dict[tuple[str, CrashPoint], tuple[int, Stage | None, bool]] = {
    ("ack_before_effect", A_E): (0, ANSWERED, True),  # unprocessed: at most once
    ("ack_before_effect", E_A): NOT_REACHED,
    ("ack_before_effect_unflushed", A_E): (1, HANDED, True),  # the acknowledgement died with it: comes again
    ("ack_before_effect_unflushed", E_A): (2, HANDED, True),  # processed twice, though it acknowledges first
    ("ack_after_effect", A_E): NOT_REACHED,
    ("ack_after_effect", E_A): (2, None, True),  # processed twice: at least once
    ("transaction", A_E): NOT_REACHED,
    ("transaction", E_A): (1, None, True),  # the id is there: exactly once
}


@pytest.mark.parametrize(("name", "point"), ENDS, ids=lambda value: str(value))
def test_where_it_dies_decides_how_often_it_is_processed(name: str, point: CrashPoint) -> None:
    assert play(MECHANISMS[name], point) == ENDS[name, point]


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_mechanism_promises_what_it_keeps_at_every_point(name: str) -> None:
    mechanism = MECHANISMS[name]
    counts = [
        play(mechanism, point, answerable=answerable, after=after)[0]
        for point in (A_E, E_A, A_C)
        for answerable in (False, True)
        for after in (0, 1)
    ]
    promises = {
        "at_most_once": max(counts) == 1,
        "at_least_once": min(counts) == 1 and max(counts) == 2,
        "exactly_once": set(counts) == {1},
        "nothing": max(counts) == 2,
    }
    assert promises[mechanism.promises], counts


@pytest.mark.parametrize("name", MECHANISMS)
def test_without_a_crash_it_is_processed_once(name: str) -> None:
    world = World()
    assert deliver(world, MECHANISMS[name], Spring(None))
    assert (world.effects, world.owed) == (1, False)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("name", MECHANISMS)
def test_an_answered_acknowledgement_can_be_interrupted_twice(name: str, after: int) -> None:
    _, stage, crashed = play(MECHANISMS[name], A_C, answerable=True, after=after)
    assert (stage, crashed) == ((HANDED, WRITTEN)[after], True)
    assert play(MECHANISMS[name], A_C, answerable=False) == NOT_REACHED, "what is never answered has no such point"


@pytest.mark.parametrize("name", MECHANISMS)
def test_under_automatic_acknowledgement_a_crash_before_the_effect_loses_it(name: str) -> None:
    world, trap = World(), Spring(A_E)
    assert not deliver(world, MECHANISMS[name], trap, automatic=True)
    assert (world.effects, world.owed, trap.sprung) == (0, False, ANSWERED)


def test_without_an_answer_there_is_no_effect() -> None:
    async def go() -> World:
        world = World()
        held = Held(world, answerable=False, connected=False)
        with pytest.raises(ConnectionError):
            await AckBeforeEffect().process(Guarded(held, Spring(None)))
        return world

    assert asyncio.run(go()).effects == 0


def test_a_point_is_passed_as_often_as_was_asked() -> None:
    world, trap = World(), Spring(E_A, after=2)
    outlived = [deliver(world, AckAfterEffect(), trap) for _ in range(2)]
    assert outlived == [True, True]
    assert not deliver(world, AckAfterEffect(), trap)


def test_mechanisms_are_plain_values() -> None:
    for mechanism in MECHANISMS.values():
        assert mechanism == type(mechanism)()
        assert hash(mechanism) == hash(type(mechanism)())
        assert fields(mechanism) == ()
        with pytest.raises((AttributeError, TypeError, AssayError)):
            mechanism.name = "another"  # type: ignore[misc]
    assert len({mechanism.name for mechanism in MECHANISMS.values()}) == 4
