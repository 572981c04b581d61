"""What did somebody's own client write down? Its rows, each checked, as columns of whole numbers.

*recording*: one file of publications and deliveries, or a folder with one file of each. A row may stand twice: as a
call is made or a message received, and again, whole, once the call has ended or the message is acknowledged. So a
client that is killed between the two leaves a publication that nobody answered, and not a gap.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import Refused
from harness.history.join import Words
from harness.history.mapping import DELIVERY, MEANINGS, PUBLICATION, FieldMap
from harness.history.rows import SUFFIXES, bad_row, read_rows
from harness.history.values import WORD_LENGTH_MAX, WORDS_MAX, show, wrong_word
from harness.operation import AcknowledgedBy
from harness.plain import did_you_mean

RECORDING_ROWS_MAX = 5_000_000
MISSING = -(1 << 63)
"""Stands in a column for what a row does not say."""

UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TIME_MAX = 1 << 61
_COUNT_MAX = {"attempt": 0xFFFF, "epoch": 0xFFFF, "delivery_count": 0xFFFF, "number": 0xFFFFFFFF}
_SEQUENCE_MAX = (1 << 63) - 1
_CLIENTS_MAX = 0xFFFF
_IN_ORDER = {
    PUBLICATION: (("invoked", "completed"),),
    DELIVERY: (("fetched", "received"), ("received", "acknowledged"), ("acknowledged", "settled")),
}
_WHEN = {PUBLICATION: "invoked", DELIVERY: "received"}
_END = {PUBLICATION: ("outcome", "completed"), DELIVERY: ("acknowledged", "settled")}
_FILES = {"publications": PUBLICATION, "deliveries": DELIVERY}


@dataclass(slots=True)
class Rows:
    """All rows of one kind: a column of each meaning, MISSING where a row does not say it; `row`: their numbers.

    Times are ns as recorded, messages and clients numbers of `Recording`, words of its list.
    """

    columns: dict[str, array[int]]
    row: array[int] = field(default_factory=lambda: array("q"))
    places: dict[tuple[int, ...], int] = field(default_factory=dict)
    recorded: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Recording:
    """What was read. `messages`: the number of each message's own identity, from 0. `clients`: the number of each
    (kind, name), from 1."""

    kinds: dict[str, Rows] = field(
        default_factory=lambda: {
            kind: Rows({meaning: array("q") for meaning in meanings}) for kind, meanings in MEANINGS.items()
        }
    )
    words: Words = field(default_factory=Words)
    messages: dict[str, int] = field(default_factory=dict)
    clients: dict[tuple[str, str], int] = field(default_factory=dict)


def read_recording(path: Path, fields: FieldMap, *, unit: str = "ns", ignored: Iterable[str] = ()) -> Recording:
    """Read a recording; `unit`: of its times, `ignored`: fields of which nothing is wanted ("*": any).

    Raises Refused for what cannot be one, naming file, row and cure.
    """
    recording = Recording()
    reader = _Reader(recording, fields, UNITS_NS[unit], frozenset(ignored))
    if not path.is_dir():
        reader.read(path, None)
        return recording
    for name, kind in _FILES.items():
        found = [file for suffix in SUFFIXES if (file := path / f"{name}{suffix}").exists()]
        if len(found) != 1:
            raise Refused(
                f"{path} holds {len(found)} files of {name}, where a recording has one: {name}{' or .'.join(SUFFIXES)}",
                cure=f"give a folder with one file of {' and one of '.join(_FILES)}, or one file with both",
            )
        reader.read(found[0], kind)
    return recording


class _Misread(ValueError):
    """Why a row cannot be read, and the cure."""

    def __init__(self, why: str, cure: str = "correct the row, or what wrote it") -> None:
        super().__init__(why)
        self.why, self.cure = why, cure


class _Reader:
    def __init__(self, recording: Recording, fields: FieldMap, scale: int, ignored: frozenset[str]) -> None:
        self.recording = recording
        self.fields = fields
        self.scale = scale
        self.ignored = ignored
        self.meaning_of = {
            kind: {own: meaning for meaning, own in names.items()} for kind, names in fields.fields.items()
        }
        self.known = {fields.kind, *ignored, *(own for names in self.meaning_of.values() for own in names)}
        self.forms: Mapping[str, Callable[[str, str, Any], int]] = {
            "name": self._client,
            "message": self._message,
            "time": self._time,
            "outcome": self._outcome,
            "by": _by,
            "count": _count,
            "flag": _flag,
            "word": self._word,
        }

    def read(self, path: Path, kind: str | None) -> None:
        """Read a file whose rows are of this kind, or say of which kind they are."""
        for chunk in read_rows(path, RECORDING_ROWS_MAX):
            for number, row in zip(chunk.numbers, chunk.rows, strict=True):
                try:
                    self._add(row, kind or self._kind(row), number)
                except _Misread as misread:
                    raise bad_row(path, number, misread.why, misread.cure) from misread

    def _kind(self, row: Mapping[str, Any]) -> str:
        word = row.get(self.fields.kind)
        kind = self.fields.kinds.get(word.lower()) if isinstance(word, str) else None
        if kind is None:
            said = f"field {self.fields.kind!r} says {show(word)}" if word is not None else f"no {self.fields.kind!r}"
            raise _Misread(
                f"{said}, so it is neither a publication nor a delivery",
                "write --map kind=FIELD, --map kind.publication=WORD and --map kind.delivery=WORD",
            )
        return kind

    def _add(self, row: Mapping[str, Any], kind: str, number: int) -> None:
        rows, said = self.recording.kinds[kind], self._said(row, kind)
        for first, then in _IN_ORDER[kind]:
            if MISSING not in (said[first], said[then]) and said[then] < said[first]:
                raise _Misread(f"it was {then} before it was {first}")
        if kind == PUBLICATION and said["completed"] == MISSING and said["outcome"] > 0:
            raise _Misread("its outcome is certain, and no field says when it was completed")
        identity = (said["client"], said["message"], said[_WHEN[kind]], said.get("number", MISSING))
        place = rows.places.setdefault(identity, len(rows.row))
        if place == len(rows.row):
            rows.row.append(number)
            for meaning, column in rows.columns.items():
                column.append(said[meaning])
            return
        ended = any(said[meaning] != MISSING for meaning in _END[kind])
        if not ended or any(rows.columns[meaning][place] != MISSING for meaning in _END[kind]):
            raise _Misread(
                f"it is row {rows.row[place]} again: the same client, message and time",
                "leave one of them; if there were two within one tick of the clock, record a finer time, or the number",
            )
        for meaning, column in rows.columns.items():
            if said[meaning] != MISSING:
                column[place] = said[meaning]

    def _said(self, row: Mapping[str, Any], kind: str) -> dict[str, int]:
        """What the row says, by meaning, as whole numbers."""
        said = dict.fromkeys(MEANINGS[kind], MISSING)
        for own, value in row.items():
            meaning = self.meaning_of[kind].get(own)
            if meaning is None:
                if value is not None or own not in self.known:
                    self._stranger(own, kind)
                continue
            self.recording.kinds[kind].recorded.add(meaning)
            if value is not None:
                form = MEANINGS[kind][meaning].form
                said[meaning] = self.forms[form](own, kind if form == "name" else meaning, value)
        for meaning, one in MEANINGS[kind].items():
            if one.needed and said[meaning] == MISSING and not (meaning == "message" and said.get("corrupt") == 1):
                own = self.fields.fields[kind][meaning]
                raise _Misread(
                    f"a {kind} needs {meaning} ({one.says}), and there is no {own!r}",
                    f"record it, or write --map {kind}.{meaning}=FIELD",
                )
        return said

    def _stranger(self, own: str, kind: str) -> None:
        if own == self.fields.kind or own in self.ignored or "*" in self.ignored:
            return
        if own in self.known:
            raise _Misread(f"field {show(own)} says nothing of a {kind}", "leave it out, or null")
        hint = did_you_mean(own[:60], self.meaning_of[kind])
        raise _Misread(
            f"unknown field {show(own)}{hint}", f"write --map {kind}.MEANING={own[:40]!r}, or --ignore {own[:40]!r}"
        )

    # ---- forms -------------------------------------------------------------------------------------------------------

    def _client(self, own: str, kind: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise _Misread(f"{own} {show(value)} is neither a text nor a whole number")
        name = str(value)
        if why := wrong_word(name):
            raise _Misread(f"{own}: {why}")
        number = self.recording.clients.setdefault((kind, name), len(self.recording.clients) + 1)
        if number > _CLIENTS_MAX:
            raise _Misread(f"a history has at most {_CLIENTS_MAX:,} clients")
        return number

    def _message(self, own: str, meaning: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise _Misread(f"{own} {show(value)} is neither a text nor a whole number")
        identity = str(value)
        if len(identity) > WORD_LENGTH_MAX:
            raise _Misread(f"{own} has {len(identity)} characters, at most {WORD_LENGTH_MAX} are read")
        return self.recording.messages.setdefault(identity, len(self.recording.messages))

    def _time(self, own: str, meaning: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _Misread(f"{own} {show(value)} is no number", "give times as numbers, and their --unit")
        time_ns = value * self.scale if isinstance(value, int) else round(value * self.scale)
        if not -_TIME_MAX < time_ns < _TIME_MAX:
            raise _Misread(f"{own} {show(value)} is out of range", "give times as numbers, and their --unit")
        return time_ns

    def _outcome(self, own: str, meaning: str, value: Any) -> int:
        # true, false and codes are words too: --map outcome.OK=true, or =200.
        word = value if isinstance(value, str) else json.dumps(value) if isinstance(value, int) else ""
        outcome = self.fields.outcomes.get(word.lower().removeprefix(":"))
        if outcome is None:
            raise _Misread(
                f"{own} {show(value)} is no outcome",
                "OK, INFO or FAIL; for another word, write --map outcome.OK=WORD. FAIL is for what certainly never "
                "happens: a time-out, a lost connection and most refusals are INFO",
            )
        return int(outcome)

    def _word(self, own: str, meaning: str, value: Any) -> int:
        if why := wrong_word(value):
            raise _Misread(f"{own}: {why}")
        # Clients' names become words too.
        if len(self.recording.words.numbers) + len(self.recording.clients) > WORDS_MAX - 10:
            raise _Misread(f"a history has at most {WORDS_MAX:,} different words")
        return self.recording.words.number(value)


def _by(own: str, meaning: str, value: Any) -> int:
    known = {"broker": int(AcknowledgedBy.BROKER), "nobody": int(AcknowledgedBy.NONE)}
    if not isinstance(value, str) or value.lower() not in known:
        raise _Misread(f"{own} {show(value)} is neither broker nor nobody")
    return known[value.lower()]


def _count(own: str, meaning: str, value: Any) -> int:
    low, high = (0, _SEQUENCE_MAX) if meaning == "broker_sequence" else (1, _COUNT_MAX[meaning])
    if type(value) is not int or not low <= value <= high:
        raise _Misread(f"{own} {show(value)} is no whole number from {low} to {high}")
    return value


def _flag(own: str, meaning: str, value: Any) -> int:
    if value is True or value is False:
        return int(value)
    if type(value) is int and value in (0, 1):
        return value
    raise _Misread(f"{own} {show(value)} is neither true nor false")
