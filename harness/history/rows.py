"""How are rows read that somebody else wrote? JSON lines or Parquet, a chunk at a time, with limits, none trusted.

*row*: one object with plain values, by field name. Rows are numbered from 1: in JSON lines that is the line's number.
Whatever is wrong is one Refused that names the file, the row and the cure.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import Refused, Trouble

ROWS_MAX = 20_000_000
"""Rows of one table or file: more do not fit into the memory of the machines that Assay runs on."""

LINE_BYTES_MAX = 1 << 20
OBJECT_BYTES_MAX = 64 << 20
DEPTH_MAX = 40
ROWS_AT_ONCE = 10_000
_BYTES_AT_ONCE = 32 << 20
SUFFIXES = (".jsonl", ".parquet")
_FEWER = f"import a part of it; {ROWS_MAX:,} rows are the most that is read at once"
_ONE_OBJECT = "give one JSON object a line, in UTF-8, its numbers finite"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows with their numbers, as they follow each other in the file."""

    numbers: Sequence[int]
    rows: list[dict[str, Any]]


def read_rows(path: Path, rows_max: int = ROWS_MAX) -> Iterator[Chunk]:
    """The rows of a `.jsonl` or `.parquet` file. Raises Refused for what is neither, damaged, or too large."""
    readable(path)
    if path.suffix == ".parquet":
        from harness.history.parquet import read_batches

        yield from read_batches(path, rows_max)
    elif path.suffix == ".jsonl":
        yield from _read_lines(path, rows_max)
    else:
        raise Refused(
            f"{path} is neither JSON lines nor Parquet, as its name says",
            cure=f"give a file whose name ends in {' or '.join(SUFFIXES)}",
        )


def bad_row(path: Path, number: int, why: str, cure: str = "correct the row, or what wrote it") -> Refused:
    """The refusal of one row."""
    return Refused(f"{path}, row {number}: {why}", cure=cure)


def too_many(path: Path, said: str, rows_max: int = ROWS_MAX) -> Refused:
    """The refusal of a file with more rows than are read."""
    return Refused(
        f"{path} {said}: more than {rows_max:,}", cure=_FEWER if rows_max == ROWS_MAX else "import a part of it"
    )


def readable(path: Path) -> None:
    """Refuse what is no regular file: a pipe or device would never end."""
    if not path.exists():
        raise Refused(f"there is no {path}", cure="name a file or folder that is there")
    if not path.is_file():
        raise Refused(f"{path} is no regular file", cure="name a file")


def read_object(path: Path) -> Mapping[str, Any]:
    """The one JSON object that a file holds. Raises Refused for what is none, too large, or nested too deeply."""
    readable(path)
    try:
        if (size := path.stat().st_size) > OBJECT_BYTES_MAX:
            raise Refused(f"{path} has {size:,} bytes; at most {OBJECT_BYTES_MAX:,} are read", cure="is it this file?")
        data = _parse(path.read_bytes())
        if depth(data) > DEPTH_MAX:
            raise ValueError("it is nested too deeply")
    except ValueError as error:
        raise Refused(f"{path} is no JSON object: {error}", cure="give it as it was written, whole") from error
    except OSError as error:
        raise Trouble(f"{path} cannot be read: {error.strerror}") from error
    return data


def _read_lines(path: Path, rows_max: int) -> Iterator[Chunk]:
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    number = read = held_bytes = 0
    try:
        with open(path, "rb") as file:
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise bad_row(path, number, f"the line has more than {LINE_BYTES_MAX:,} bytes", _ONE_OBJECT)
                if line.isspace():
                    continue
                if (read := read + 1) > rows_max:
                    raise too_many(path, "has too many rows", rows_max)
                try:
                    rows.append(_parse(line))
                except ValueError as error:
                    if not line.endswith(b"\n"):
                        raise bad_row(path, number, "the file is cut off in the middle of this row") from error
                    raise bad_row(path, number, f"it is no JSON object: {error}", _ONE_OBJECT) from error
                numbers.append(number)
                held_bytes += len(line)
                if len(rows) == ROWS_AT_ONCE or held_bytes > _BYTES_AT_ONCE:
                    yield Chunk(numbers, rows)
                    numbers, rows, held_bytes = [], [], 0
    except OSError as error:
        raise Trouble(f"{path} cannot be read: {error.strerror}") from error
    if rows:
        yield Chunk(numbers, rows)


def _parse(text: bytes) -> dict[str, Any]:
    """One object. Raises ValueError, also for what JSON allows and nobody means: names twice, NaN, endless nesting."""
    try:
        data = _decoder()(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError(f"it is a {type(data).__name__}")
    return data


def depth(data: object) -> int:
    """How deeply lists and objects are nested: 1 for an object of plain values."""
    level, deep = [data], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        deep += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return deep


@functools.cache
def _decoder() -> Any:
    return json.JSONDecoder(object_pairs_hook=_each_once, parse_constant=_not_finite).decode


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {twice[:60]!r} twice")
    return found


def _not_finite(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")
