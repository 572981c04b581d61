"""Does every frozen record survive its JSON form, and is every mistake in a file named with its place?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import PurePath
from typing import ClassVar, Protocol

import pytest

from harness.errors import Refused
from harness.history.terms import Claimed, Counter, InjectionTerms, Terms
from harness.operation import AckKind, AcknowledgedBy
from harness.plain import from_plain, to_plain
from harness.scenario.workload import Steady


class Shape(Protocol):
    @property
    def name(self) -> str: ...


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


@dataclass(frozen=True, slots=True)
class Circle:
    radius_mm: float
    sides: ClassVar[int] = 0

    @property
    def name(self) -> str:
        return "circle"

    def __post_init__(self) -> None:
        if self.radius_mm <= 0:
            raise Refused(f"radius_mm={self.radius_mm} (above 0)")


@dataclass(frozen=True, slots=True)
class Nameless:
    weight_g: int


@dataclass(frozen=True, slots=True)
class Quorum:
    replicas: int = 3


@dataclass(frozen=True, slots=True)
class Classic:
    durable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    shape: Shape
    queue: Quorum | Classic = Quorum()
    spare: Shape | None = None
    colour: Colour = Colour.RED
    size: Size = Size.SMALL
    pair: tuple[str, int] = ("a", 1)
    shapes: tuple[Shape, ...] = ()
    by_colour: Mapping[Colour, float] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    clients: int | str = 1
    limit_s: float | None = None
    anything: Mapping[str, object] = field(default_factory=dict)


def lookup(name: str) -> type:
    return {"Circle": Circle, "Nameless": Nameless}[name]


def through_json(value: object) -> object:
    return json.loads(json.dumps(to_plain(value), allow_nan=False))


FULL = Box(
    shape=Circle(1.5),
    queue=Classic(durable=False),
    spare=Circle(2.0),
    colour=Colour.GREEN,
    size=Size.LARGE,
    pair=("b", 2),
    shapes=(Circle(1.0), Circle(3.0)),
    by_colour={Colour.RED: 0.5},
    tags=frozenset({"y", "x"}),
    clients="many",
    limit_s=2.0,
    anything={"bytes": 12, "state": "paused", "nodes": ["a", "b"], "deep": {"at": None}},
)

TERMS = Terms(
    cell="memory-nothing",
    seed=7,
    run=9,
    configuration="memory",
    family="memory",
    broker_version="1",
    faults=("nothing",),
    acknowledged_by=AcknowledgedBy.BROKER,
    ack=AckKind.CONFIRMED,
    injections=(
        InjectionTerms(
            fault="kill_leader",
            number=1,
            trial=0,
            targets=("n1",),
            planned_ns=1,
            asked_ns=2,
            bit_ns=None,
            mended_ns=None,
            recovered_ns=None,
            at_risk=3,
            touches="both",
        ),
    ),
    claims=(Claimed(guarantee="at_least_once", page="p", says="s"),),
    counters=(Counter(name="acked", value=3, comparable=True),),
    clock_pairs=((1, 2), (3, 4)),
)


@pytest.mark.parametrize(
    "record",
    [FULL, Box(shape=Circle(1)), TERMS, Steady(rate_hz=100, service_ms=1.5)],
    ids=["every kind of field", "defaults", "terms of a history", "workload"],
)
def test_a_record_survives_its_json_form(record: object) -> None:
    assert from_plain(type(record), through_json(record), lookup) == record


def test_a_protocol_and_a_union_of_records_name_their_class_and_others_do_not() -> None:
    written = to_plain(FULL)
    assert written["shape"] == {"type": "Circle", "radius_mm": 1.5}
    assert written["queue"] == {"type": "Classic", "durable": False}
    assert written["colour"] == "green"
    assert written["size"] == "large"
    assert written["tags"] == ["x", "y"]
    assert "type" not in written


def test_numbers_that_are_not_finite_survive() -> None:
    assert from_plain(Box, through_json(Box(shape=Circle(1), limit_s=math.inf)), lookup).limit_s == math.inf


def test_a_path_among_facts_is_written_as_text_and_bytes_are_refused() -> None:
    assert to_plain(Box(shape=Circle(1), anything={"file": PurePath("/a")}))["anything"] == {"file": "/a"}
    with pytest.raises(Refused, match=r"box\.anything\.raw: a bytes has no plain form"):
        to_plain(Box(shape=Circle(1), anything={"raw": b"x"}))


GOOD: dict[str, object] = {"shape": {"type": "Circle", "radius_mm": 1}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({**GOOD, "limit_s": "x"}, "box.limit_s: expected a number, got 'x'"),
        ({**GOOD, "limit_s": True}, "box.limit_s: expected a number, got True"),
        ({**GOOD, "pair": ["a"]}, "box.pair: expected 2 items, got 1"),
        ({**GOOD, "pair": ["a", 1.5]}, "box.pair[1]: expected a whole number, got 1.5"),
        ({**GOOD, "colour": "gren"}, "box.colour: expected one of red, green, got 'gren'; did you mean \"green\"?"),
        ({**GOOD, "size": 2}, "box.size: expected one of small, large, got 2"),
        ({**GOOD, "colours": 1}, 'box: unknown field "colours"; did you mean "colour"?'),
        ({}, 'box: field "shape" is missing'),
        ({"shape": {"radius_mm": 1}}, 'box.shape: "type" is missing: which Shape is it?'),
        ({"shape": {"type": "Square"}}, 'box.shape: unknown type "Square"'),
        ({"shape": {"type": "Nameless", "weight_g": 1}}, "box.shape: expected a Shape, and Nameless is none"),
        ({"shape": {"type": "Circle", "radius_mm": -1}}, "box.shape: radius_mm=-1.0 (above 0)"),
        ({"shape": {"type": "Circle", "radius": 1}}, 'unknown field "radius"; did you mean "radius_mm"?'),
        ({**GOOD, "queue": {"type": "Quorun"}}, 'box.queue: unknown type "Quorun"; did you mean "Quorum"?'),
        ({**GOOD, "shapes": [GOOD["shape"], 3]}, 'box.shapes[1]: expected an object with "type" (Shape), got 3'),
        ({**GOOD, "clients": [1]}, "box.clients: expected a whole number or a word, got [1]"),
        ({**GOOD, "anything": 3}, "box.anything: expected an object, got 3"),
        ([], "box: expected an object (Box), got []"),
    ],
)
def test_a_mistake_is_named_with_its_place(data: object, message: str) -> None:
    with pytest.raises(Refused) as refused:
        from_plain(Box, data, lookup)
    assert message in refused.value.message


def test_all_mistakes_are_named_at_once() -> None:
    data = {"shape": {"type": "Circle", "radius_mm": "wide"}, "size": "huge", "shapez": 1, "pair": [1, "b"]}
    with pytest.raises(Refused) as refused:
        from_plain(Box, data, lookup)
    assert len(refused.value.message.splitlines()) == 5


def test_a_scenario_with_protocols_inside_survives() -> None:
    from harness.faults.node import Kill
    from harness.scenario.schedule import Repeat

    schedule = Repeat(Kill(), times=3)
    written = through_json(schedule)
    assert from_plain(Repeat, written, lambda name: {"Kill": Kill}[name]) == schedule
