"""How does a history leave for other programs? As JSON lines, with names and units as docs/run-format.md gives them.

Against the tables: words are text, 0/1 is false/true, outcomes and kinds are names, NEVER is null, and beside each
packed id (too large for a JavaScript number) stands its text, "producer:sequence".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, TextIO

from harness.errors import Refused, Trouble
from harness.history.columns import NEVER, TABLES, Column
from harness.history.history import Array, History
from harness.operation import AckKind, AcknowledgedBy, MessageId, Outcome
from harness.plain import did_you_mean, to_plain

FORMATS = ("jsonl",)
_ENUMS: dict[str, type[IntEnum]] = {"Outcome": Outcome, "AcknowledgedBy": AcknowledgedBy, "AckKind": AckKind}
_NEVER_UNITS = {"ns", "client number", "number"}
_ROWS_AT_ONCE = 10_000


def rows(history: History, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a table as plain objects, in order. Raises Refused for a name that is no table."""
    if name not in TABLES:
        raise Refused(f'unknown table "{name}"{did_you_mean(name, TABLES)}', cure=f"one of {', '.join(TABLES)}")
    table = history.tables[name]
    readers = [(column, _reader(meaning, history.words)) for column, meaning in TABLES[name].items()]
    for begin in range(0, table.rows, _ROWS_AT_ONCE):
        columns: dict[str, list[Any]] = {}
        for column, read in readers:
            values = table[column][begin : begin + _ROWS_AT_ONCE]
            columns[column] = read(values)
            if TABLES[name][column].unit == "packed id":
                columns[f"{column}_id"] = [str(MessageId.unpack(int(value))) for value in values]
        for row in zip(*columns.values(), strict=True):
            yield {"table": name, **dict(zip(columns, row, strict=True))}


def objects(history: History) -> Iterator[dict[str, Any]]:
    """The terms, then every row of every table."""
    yield {"table": "terms", **to_plain(history.terms)}
    for name in TABLES:
        yield from rows(history, name)


def export_stream(history: History, stream: TextIO) -> None:
    """Write a whole history to a stream, one object a line."""
    for item in objects(history):
        stream.write(_line(item))


def export_directory(history: History, directory: Path) -> tuple[Path, ...]:
    """Write `terms.json` and one `<table>.jsonl` a table into a directory (made if absent). Raises Trouble."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        paths = [directory / "terms.json"]
        paths[0].write_text(_line(to_plain(history.terms)), encoding="utf-8")
        for name in TABLES:
            path = directory / f"{name}.jsonl"
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(_line(row) for row in rows(history, name))
            paths.append(path)
    except OSError as error:
        raise Trouble(f"{error.filename or directory} cannot be written: {error.strerror}") from error
    return tuple(paths)


def _line(item: object) -> str:
    return json.dumps(item, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _reader(column: Column, words: tuple[str, ...]) -> Callable[[Array], list[Any]]:
    if column.unit == "word":
        return lambda values: [words[number] for number in values.tolist()]
    if column.unit == "0/1":
        return lambda values: [bool(value) for value in values.tolist()]
    if column.unit in _ENUMS:
        names = {int(member): member.name for member in _ENUMS[column.unit]}
        return lambda values: [names.get(value, value) for value in values.tolist()]
    if column.type.startswith("i") and column.unit in _NEVER_UNITS:
        return lambda values: [None if value == NEVER else value for value in values.tolist()]
    return lambda values: list(values.tolist())
