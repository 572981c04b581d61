"""How does a history leave for other programs? As JSON lines, Parquet or EDN, as docs/run-format.md describes them.

Against the tables: words are text, 0/1 is false/true, outcomes and kinds are names, NEVER is null, and beside each
packed id (too large for a JavaScript number) stands its text, "producer:sequence". An export of JSON lines or Parquet
ends with its manifest, so that `assay import` knows it for whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from harness.errors import Refused, Trouble
from harness.history.columns import NEVER, TABLES, Column
from harness.history.edn import operations
from harness.history.history import Array, History
from harness.history.manifest import Manifest, write_manifest
from harness.history.rows import ROWS_AT_ONCE
from harness.history.store import TERMS_FILE, version
from harness.history.values import ENUMS, names_of, nullable
from harness.operation import MessageId
from harness.plain import did_you_mean, to_plain

FORMATS = ("jsonl", "parquet", "edn")
TERMS_NAME, END_NAME = "terms", "end"
"""What a stream of JSON lines calls its first object and its last one, where a row names its table."""

OPERATIONS_FILE = "history.edn"


def rows(history: History, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a table as plain objects, in order. Raises Refused for a name that is no table."""
    if name not in TABLES:
        raise Refused(f'unknown table "{name}"{did_you_mean(name, TABLES)}', cure=f"one of {', '.join(TABLES)}")
    table = history.tables[name]
    readers = [(column, _reader(meaning, history.words)) for column, meaning in TABLES[name].items()]
    for chunk in table.chunks():
        for begin in range(0, chunk.rows, ROWS_AT_ONCE):
            columns: dict[str, list[Any]] = {}
            for column, read in readers:
                values = chunk[column][begin : begin + ROWS_AT_ONCE]
                columns[column] = read(values)
                if TABLES[name][column].unit == "packed id":
                    columns[f"{column}_id"] = [str(MessageId.unpack(int(value))) for value in values]
            for row in zip(*columns.values(), strict=True):
                yield {"table": name, **dict(zip(columns, row, strict=True))}


def objects(history: History) -> Iterator[dict[str, Any]]:
    """The terms, then every row of every table, each naming its table."""
    yield {"table": TERMS_NAME, **to_plain(history.terms)}
    for name in TABLES:
        yield from rows(history, name)


def export_stream(history: History, stream: TextIO, form: str = "jsonl") -> None:
    """Write a whole history to a stream: one object or operation a line. Raises Refused for Parquet, which is files."""
    if form == "parquet":
        raise Refused("Parquet is one file a table", cure="name a folder for them with --out")
    if form == "edn":
        stream.writelines(operations(history))
        return
    said = hashlib.sha256()
    for item in objects(history):
        said.update((line := _line(item)).encode())
        stream.write(line)
    end = Manifest(assay=version(), rows=_rows_of(history), sha256={"stream": said.hexdigest()})
    stream.write(_line({"table": END_NAME, **to_plain(end)}))


def export_directory(history: History, directory: Path, form: str = "jsonl") -> tuple[Path, ...]:
    """Write `terms.json` and one `<table>.<form>` a table, then the manifest, into a directory (made if absent); as
    EDN, the terms and `history.edn`. Raises Trouble where it cannot be written, Refused without pyarrow."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        paths = [directory / TERMS_FILE]
        paths[0].write_text(_line(to_plain(history.terms)), encoding="utf-8")
        if form == "edn":
            paths.append(directory / OPERATIONS_FILE)
            with open(paths[-1], "w", encoding="utf-8") as file:
                file.writelines(operations(history))
            return tuple(paths)
        for name in TABLES:
            paths.append(directory / f"{name}.{form}")
            if form == "parquet":
                from harness.history.parquet import write_table

                write_table(history, name, paths[-1])
                continue
            with open(paths[-1], "w", encoding="utf-8") as file:
                file.writelines(_line(row) for row in rows(history, name))
    except OSError as error:
        raise Trouble(f"{error.filename or directory} cannot be written: {error.strerror}") from error
    return (*paths, write_manifest(directory, _rows_of(history), paths))


def _rows_of(history: History) -> dict[str, int]:
    return {name: history.tables[name].rows for name in TABLES}


def _line(item: object) -> str:
    text = json.dumps(item, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    # What UTF-8 has no form for (half a surrogate, out of somebody's log) becomes its JSON escape.
    return text if text.isascii() else text.encode("utf-8", errors="backslashreplace").decode()


def _reader(column: Column, words: tuple[str, ...]) -> Callable[[Array], list[Any]]:
    if column.unit == "word":
        return lambda values: [words[number] for number in values.tolist()]
    if column.unit == "0/1":
        return lambda values: [bool(value) for value in values.tolist()]
    if column.unit in ENUMS:
        names = dict(names_of(column))
        return lambda values: [names.get(value, value) for value in values.tolist()]
    if nullable(column):
        return lambda values: [None if value == NEVER else value for value in values.tolist()]
    return lambda values: list(values.tolist())
