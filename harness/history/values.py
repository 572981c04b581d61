"""How do the words and numbers of an exported row become the columns of a table again?

The reverse of what harness/history/exchange.py does with them: words become numbers of the run's list, true and false
1 and 0, names of outcomes and kinds their numbers, null NEVER. Nothing is guessed: 1 is no word, "1" no number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from harness.history.columns import NEVER, Column
from harness.history.history import Array
from harness.history.join import Words
from harness.operation import SEQUENCE_BITS, SEQUENCE_MAX, AckKind, AcknowledgedBy, Outcome
from harness.plain import did_you_mean

ENUMS: Mapping[str, type[IntEnum]] = {"Outcome": Outcome, "AcknowledgedBy": AcknowledgedBy, "AckKind": AckKind}
NEVER_UNITS = frozenset({"ns", "client number", "number"})
WORDS_MAX = 1 << 16
WORD_LENGTH_MAX = 1000
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Misfit(ValueError):
    """A value that cannot stand in its column: `place` among the values given, `why`."""

    def __init__(self, place: int, why: str) -> None:
        super().__init__(why)
        self.place = place
        self.why = why


def nullable(column: Column) -> bool:
    """Whether null stands for NEVER in this column."""
    return column.type.startswith("i") and column.unit in NEVER_UNITS


class ColumnReader:
    """Reads the values of one column. `careful`: refuse words that a terminal could take for commands."""

    def __init__(self, column: Column, words: Words, *, careful: bool) -> None:
        self._type = column.type
        self._careful = careful
        self._words = words
        self._wrong: Callable[[Any], str | None]
        self._number: Callable[[Any], int]
        if column.unit == "word":
            self._wrong, self._number = self._wrong_word, words.number
        elif column.unit == "0/1":
            self._wrong, self._number = _wrong_flag, int
        elif column.unit in ENUMS:
            members = {member.name: int(member) for member in ENUMS[column.unit]}
            self._wrong, self._number = _wrong_name(column.unit, members), members.__getitem__
        else:
            limits = np.iinfo(column.type)
            self._wrong = _wrong_number(int(limits.min), int(limits.max), null=nullable(column))
            self._number = _or_never

    def array(self, values: Sequence[Any]) -> Array:
        """The values as the column holds them. Raises Misfit."""
        for place, value in enumerate(values):
            if why := self._wrong(value):
                raise Misfit(place, why)
        numbers = list(map(self._number, values))
        if len(self._words.numbers) > WORDS_MAX:
            raise Misfit(len(values) - 1, f"a history has at most {WORDS_MAX:,} different words")
        return np.array(numbers, self._type)

    def _wrong_word(self, value: Any) -> str | None:
        return wrong_word(value) if self._careful else None if isinstance(value, str) else f"{show(value)} is no word"


def wrong_word(value: Any) -> str | None:
    """Why a value is no word that a reader could be shown; None if it is one."""
    if not isinstance(value, str):
        return f"{show(value)} is no word"
    if len(value) > WORD_LENGTH_MAX:
        return f"{show(value)} has {len(value)} characters, at most {WORD_LENGTH_MAX} are read"
    return f"{show(value)} has characters that nobody can print" if _UNPRINTABLE.search(value) else None


def show(value: object) -> str:
    """A value for a reader, shortened and printable."""
    text = value[:80] if isinstance(value, str) else value
    told = ascii(text)
    return told if len(told) <= 60 else f"{told[:57]}..."


def _or_never(value: int | None) -> int:
    return NEVER if value is None else value


def _wrong_flag(value: Any) -> str | None:
    return None if value is True or value is False else f"{show(value)} is neither true nor false"


def _wrong_name(what: str, members: Mapping[str, int]) -> Callable[[Any], str | None]:
    def wrong(value: Any) -> str | None:
        if isinstance(value, str) and value in members:
            return None
        hint = did_you_mean(value[:60], members) if isinstance(value, str) else ""
        return f"{show(value)} is no {what} (one of {', '.join(members)}){hint}"

    return wrong


def _wrong_number(low: int, high: int, *, null: bool) -> Callable[[Any], str | None]:
    def wrong(value: Any) -> str | None:
        if type(value) is int and low <= value <= high:
            return None
        if value is None and null:
            return None
        if type(value) is int:
            return f"{show(value)} is out of range ({low} to {high})"
        return f"{show(value)} is no whole number"

    return wrong


def texts(packed: Array) -> list[str]:
    """Packed ids as text: "producer:sequence"."""
    return [f"{number >> SEQUENCE_BITS}:{number & SEQUENCE_MAX}" for number in packed.tolist()]


def names_of(column: Column) -> Iterator[tuple[int, str]]:
    """(number, name) of each outcome or kind that a column holds."""
    for member in ENUMS[column.unit]:
        yield int(member), member.name
