"""How does an export become a history again? Row by row, checked, and compared with what its manifest says.

*Whole*: the manifest is there and agrees, so the history is the one that was exported, and judged like it. Without a
manifest the tables are somebody's own: their word is taken for what happened, and never for a fair trial.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import Refused
from harness.history.columns import TABLES
from harness.history.exchange import END_NAME, TERMS_NAME
from harness.history.history import Array, History, Table
from harness.history.join import Words
from harness.history.manifest import MANIFEST_FILE, Manifest, compare, manifest_of, read_manifest
from harness.history.plausible import check, senseless
from harness.history.rows import ROWS_MAX, SUFFIXES, Chunk, bad_row, read_object, read_rows, readable, too_many
from harness.history.store import TERMS_FILE
from harness.history.terms import Terms
from harness.history.values import ColumnReader, Misfit, show, texts
from harness.plain import did_you_mean, from_plain

_NEEDED = ("publications", "deliveries")


def is_export(path: Path) -> bool:
    """Whether this looks like what `assay export` wrote: a folder with terms, or a stream that begins with them."""
    if path.is_dir():
        return (path / TERMS_FILE).exists() or (path / MANIFEST_FILE).exists()
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    first = next(read_rows(path), None)
    return first is not None and first.rows[0].get("table") == TERMS_NAME


def read_export(path: Path) -> History:
    """The history that was exported into a folder, or as a stream of JSON lines into a file.

    Raises Refused for what is damaged, cut, or not an export, naming file, row and cure.
    """
    history = _read_folder(path) if path.is_dir() else _read_stream(path)
    return check(history, path, "correct the row, or what wrote it")


@dataclass(slots=True)
class _Gathered:
    """The columns of one table, part by part. `careful`: nobody vouches for them."""

    name: str
    words: Words
    careful: bool
    parts: dict[str, list[Array]] = field(default_factory=dict)
    rows: int = 0

    def add(self, path: Path, chunk: Chunk) -> None:
        """Add rows. Raises Refused."""
        columns = TABLES[self.name]
        ids = [column for column, meaning in columns.items() if meaning.unit == "packed id"]
        expected = {*columns, *(f"{column}_id" for column in ids)}
        if (rows := self.rows + len(chunk.rows)) > ROWS_MAX:
            raise too_many(path, f"has {rows:,} rows of {self.name}")
        for number, row in zip(chunk.numbers, chunk.rows, strict=True):
            if row.keys() - {"table"} != expected:
                raise _other_fields(path, number, row, expected)
        for column, meaning in columns.items():
            values = [row[column] for row in chunk.rows]
            try:
                array = ColumnReader(meaning, self.words, careful=self.careful).array(values)
            except Misfit as misfit:
                raise bad_row(path, chunk.numbers[misfit.place], f"{self.name}.{column}: {misfit.why}") from misfit
            self.parts.setdefault(column, []).append(array)
            if column in ids:
                self._compare_ids(path, chunk, column, array)
        self.rows = rows
        if self.careful:
            _check_order(path, chunk, self.name)

    def _compare_ids(self, path: Path, chunk: Chunk, column: str, array: Array) -> None:
        for number, row, told in zip(chunk.numbers, chunk.rows, texts(array), strict=True):
            if (said := row[f"{column}_id"]) != told:
                raise bad_row(
                    path,
                    number,
                    f"{column} {row[column]} is {told}, and {column}_id says {show(said)}",
                    "keep all 64 bits of the packed id: a JavaScript number has 53",
                )

    def table(self) -> Table:
        """The table."""
        if not self.parts:
            return Table.empty(self.name)
        return Table(self.name, {column: np.concatenate(parts) for column, parts in self.parts.items()})


def _read_folder(folder: Path) -> History:
    manifest = read_manifest(folder)
    words = Words()
    tables = {}
    paths = {}
    for name in TABLES:
        gathered = _Gathered(name, words, careful=manifest is None)
        path = paths[name] = _table_file(folder, name, needed=name in (_NEEDED if manifest is None else manifest.rows))
        if path is not None:
            for chunk in read_rows(path):
                gathered.add(path, chunk)
            if manifest is not None:
                compare(manifest, path, name, gathered.rows)
            else:
                refuse_repeats(path, gathered.table())
        tables[name] = gathered.table()
    terms = _terms(read_object(folder / TERMS_FILE), folder / TERMS_FILE)
    if manifest is not None:
        compare(manifest, folder / TERMS_FILE)
    return _history(tables, terms, words, manifest, folder)


def _table_file(folder: Path, name: str, *, needed: bool) -> Path | None:
    found = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").exists()]
    if len(found) > 1:
        raise Refused(f"{folder} holds {name} twice: {found[0].name} and {found[1].name}", cure="leave one of them")
    if needed and not found:
        raise Refused(
            f"{folder} lacks {name}{SUFFIXES[0]}, or {name}{SUFFIXES[1]}",
            cure="give the folder as it was written, whole",
        )
    return found[0] if found else None


def _read_stream(path: Path) -> History:
    readable(path)
    words = Words()
    terms: Terms | None = None
    end: Manifest | None = None
    gathered = {name: _Gathered(name, words, careful=False) for name in TABLES}
    for number, name, chunk in _runs(path):
        if end is not None:
            raise bad_row(path, number, "it stands behind the end of the export")
        if name == TERMS_NAME and terms is None:
            terms = _terms(_without_table(chunk.rows[0]), path)
        elif name == END_NAME:
            end = manifest_of(_without_table(chunk.rows[0]), f"{path}, row {number}")
        elif isinstance(name, str) and name in gathered:
            gathered[name].add(path, chunk)
        else:
            raise bad_row(path, number, f"it names no table: {show(name)}{did_you_mean(str(name)[:60], TABLES)}")
    if terms is None or end is None:
        raise Refused(
            f"{path} is cut off: an export {'begins with its terms' if terms is None else 'ends with its end'}",
            cure="export the run again, or give the file whole",
        )
    for name, one in gathered.items():
        if one.rows != (exported := end.rows.get(name, 0)):
            raise Refused(
                f"{path} holds {one.rows} rows of {name}, and {exported} were exported",
                cure="export the run again",
            )
    if _digest_but_last_line(path) != end.sha256.get("stream"):
        raise Refused(f"{path} is not as it was exported: its SHA-256 differs", cure="export the run again")
    return _history({name: one.table() for name, one in gathered.items()}, terms, words, end, path)


def _runs(path: Path) -> Iterator[tuple[int, Any, Chunk]]:
    """(number of the first row, name, rows) of each run of rows that name the same table."""
    for chunk in read_rows(path, ROWS_MAX * 2):
        begin = 0
        names = [row.get("table") for row in chunk.rows]
        for place in range(1, len(names) + 1):
            if place == len(names) or names[place] != names[begin] or names[begin] in (TERMS_NAME, END_NAME):
                part = Chunk(chunk.numbers[begin:place], chunk.rows[begin:place])
                yield chunk.numbers[begin], names[begin], part
                begin = place


def _digest_but_last_line(path: Path) -> str:
    said, last = hashlib.sha256(), b""
    with open(path, "rb") as file:
        for line in file:
            said.update(last)
            last = line
    return said.hexdigest()


def _without_table(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "table"}


def _history(tables: dict[str, Table], terms: Terms, words: Words, manifest: Manifest | None, origin: Path) -> History:
    if manifest is None and not terms.recorded_by:
        terms = replace(terms, recorded_by=f"whoever wrote {show(origin.name)}")
    return History(tables, terms, tuple(words.numbers))


# ---- what nobody vouches for -----------------------------------------------------------------------------------------


def _other_fields(path: Path, number: int, row: Mapping[str, Any], expected: set[str]) -> Refused:
    unknown = [name for name in row if name not in expected and name != "table"]
    if unknown:
        hint = did_you_mean(unknown[0][:60], expected)
        return bad_row(path, number, f"unknown field {show(unknown[0])}{hint}", "docs/run-format.md lists the columns")
    missing = sorted(expected - row.keys())
    return bad_row(path, number, f"field {missing[0]!r} is missing", "docs/run-format.md lists the columns")


def _check_order(path: Path, chunk: Chunk, name: str) -> None:
    """Refuse rows that end before they begin."""
    pairs = {
        "publications": (("invoked_ns", "completed_ns"),),
        "deliveries": (("fetch_invoked_ns", "received_ns"), ("ack_invoked_ns", "settled_ns")),
        "dequeues": (("invoked_ns", "completed_ns"),),
        "phases": (("begin_ns", "end_ns"),),
    }.get(name, ())
    for first, then in pairs:
        for number, row in zip(chunk.numbers, chunk.rows, strict=True):
            if row[first] is not None and row[then] is not None and row[then] < row[first]:
                raise bad_row(path, number, f"{then} {row[then]} comes before {first} {row[first]}")


_IDENTITY = {
    "publications": ("client", "message", "attempt", "invoked_ns"),
    "deliveries": ("client", "number"),
    "dequeues": ("client", "invoked_ns"),
    "effects": ("message",),
    "clients": ("client",),
    "dropped": ("message",),
}


def refuse_repeats(path: Path, table: Table) -> None:
    """Refuse a table in which one thing stands twice. Rows are counted from 1."""
    if (identity := _IDENTITY.get(table.name)) is None or table.rows < 2:
        return
    order = np.lexsort([table[column] for column in identity[::-1]])
    same = np.ones(table.rows - 1, np.bool_)
    for column in identity:
        values = table[column][order]
        same &= values[1:] == values[:-1]
    if same.any():
        place = int(np.flatnonzero(same)[0])
        first, again = sorted(int(row) + 1 for row in order[place : place + 2])
        raise bad_row(path, again, f"it is row {first} again: the same {', '.join(identity)}", "leave one of them")


def _terms(data: Mapping[str, Any], path: Path) -> Terms:
    try:
        terms = from_plain(Terms, data)
    except Refused as refusal:
        raise Refused(
            f"{path}: {refusal.message.splitlines()[0]}", cure="give the terms as they were exported"
        ) from refusal
    if why := senseless(terms):
        raise Refused(f"{path}: {why}", cure="give the terms as they were exported")
    return terms
