"""Does each small history on the pages show what the page says of it, and nothing else?

A block of the language `history` is written in the words of tests/histories.py, one event a line; a line `terms(...)`
changes the terms. Below it stands what a judge says: "Found: `lost`. Violated: `at_least_once`. Counted: `acked` 2.
Measured: `publishing` 12 ms."
"""

from __future__ import annotations

import ast
import re
import sys
from typing import Any, NamedTuple

import pytest
from pages import ROOT, headings, read
from test_complete import GUARANTEES_PAGE, anomalies

from harness.checkers.judge import Judgement, judge
from harness.guarantee import Status
from harness.history.terms import Terms
from harness.operation import AckKind, AcknowledgedBy

sys.path.append(str(ROOT / "tests"))
import histories

INTERACTIONS_PAGE = "docs/interactions.md"
INTERACTIONS = (
    "Dead-letter queues",
    "Time to live",
    "Maximum length",
    "Delivery limits",
    "Retries with the same id",
    "Retries with a new id",
    "Negative acknowledgement and requeue",
    "Prefetch",
    "Fan-out to several groups",
    "A consumer that died holding messages",
    "A producer that died with a window open",
    "Acknowledgements of which nobody knows",
    "Drains that were cut short",
)
WORDS = {name: getattr(histories, name) for name in dir(histories) if not name.startswith("_")}
WORDS |= {"AckKind": AckKind, "AcknowledgedBy": AcknowledgedBy}

_EXAMPLE = re.compile(r"^```history\n(.*?)^```\n\n(.*?)\n(?:\n|\Z)", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"`(\w+)`")
_COUNT = re.compile(r"`(\w+)` (\d+)")


class Example(NamedTuple):
    """One block below its heading, and what the page says of it."""

    heading: str
    code: str
    found: frozenset[str]
    violated: frozenset[str]
    counted: dict[str, int]
    measured: dict[str, int]


def examples(page: str) -> list[Example]:
    """Every example of a page, in order."""
    made = []
    for section in re.split(r"^#{2,4} ", read(page), flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0].strip("`")
        for code, said in _EXAMPLE.findall(section):
            parts = dict(re.findall(r"(Found|Violated|Counted|Measured): (.*?)\.(?:\s|$)", said.replace("\n", " ")))
            counted, measured = (
                {name: int(count) for name, count in _COUNT.findall(parts.get(part, ""))}
                for part in ("Counted", "Measured")
            )
            names = [frozenset(_NAME.findall(parts.get(part, ""))) for part in ("Found", "Violated")]
            assert "Found" in parts, f"{page}, {heading}: nothing says what is found: {said}"
            made.append(Example(heading, code, *names, counted, measured))
    return made


def judged(code: str) -> Judgement:
    """The judgement on a block."""
    values: list[Any] = [
        eval(compile(ast.Expression(line.value), "example", "eval"), dict(WORDS))
        for line in ast.parse(code).body
        if isinstance(line, ast.Expr)
    ]
    (terms,) = [value for value in values if isinstance(value, Terms)] or [histories.TERMS]
    return judge(histories.history(*(value for value in values if not isinstance(value, Terms)), terms=terms))


def measured_ms(judgement: Judgement) -> dict[str, float]:
    """The outages, and the recovery from the one injection, in ms."""
    told = judgement.availability
    (recovery,) = told.recoveries
    windows = {"publishing": told.publishing, "delivering": told.delivering}
    measured = {name: (window.end_ns - window.begin_ns) / 1e6 for name, window in windows.items() if window}
    for name, recovered_ns in (("publishing", recovery.publishing_ns), ("delivering", recovery.delivering_ns)):
        if recovered_ns is not None:
            measured[f"recovered_{name}"] = recovered_ns / 1e6
    return measured


EXAMPLES = [
    (f"{page}: {example.heading} {place}", example)
    for page in (GUARANTEES_PAGE, INTERACTIONS_PAGE)
    for place, example in enumerate(examples(page), 1)
]


@pytest.mark.parametrize("example", [example for _, example in EXAMPLES], ids=[name for name, _ in EXAMPLES])
def test_an_example_shows_what_its_page_says(example: Example) -> None:
    judgement = judged(example.code)
    assert {name for name in anomalies() if judgement.counts.get(name)} == example.found
    violated = {name for name, verdict in judgement.verdicts.items() if verdict.status is Status.VIOLATED}
    assert violated == example.violated
    assert {name: judgement.counts[name] for name in example.counted} == example.counted
    if example.measured:
        assert measured_ms(judgement) == example.measured


def test_every_anomaly_has_an_example_that_shows_it() -> None:
    shown = {example.heading for example in examples(GUARANTEES_PAGE) if example.heading in example.found}
    assert shown == anomalies()


def test_an_example_shows_one_anomaly_or_one_with_what_it_brings_along() -> None:
    """Of two that are always found together, one is the other's cause or kind: no example shows three."""
    assert all(len(example.found) <= 2 for example in examples(GUARANTEES_PAGE))
    alone = {example.heading for example in examples(GUARANTEES_PAGE) if example.found == {example.heading}}
    brings = {"swallowed", "again_after_confirmed_ack", "again_after_late_ack", "unflagged_redelivery"}
    assert anomalies() - alone == brings | {"dequeued_twice", "passed_over"}


def test_every_interaction_is_settled_with_an_example() -> None:
    assert tuple(dict.fromkeys(example.heading for example in examples(INTERACTIONS_PAGE))) == INTERACTIONS
    assert [heading for heading in headings(read(INTERACTIONS_PAGE)) if heading in INTERACTIONS] == [*INTERACTIONS]
