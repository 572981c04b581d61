"""A history: everything that happened in one run, as tables of columns, with the terms under which it may be judged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from harness.history.columns import TABLES
from harness.history.terms import Terms

Array = NDArray[Any]


CHUNK_ROWS = 1 << 18
"""Rows of a table that are looked at together: what several passes leave to one another stays in the cache."""


class Columns(Mapping[str, Array]):
    """Columns of equal length, by name; also readable as attributes. `first`: the number of the first row in its
    table, where these are rows that follow each other."""

    __slots__ = ("_columns", "first", "name", "rows")

    def __init__(self, name: str, columns: Mapping[str, Array], rows: int, first: int = 0) -> None:
        self.name = name
        self.first = first
        self.rows = rows
        self._columns = columns

    def __getitem__(self, column: str) -> Array:
        return self._columns[column]

    def __getattr__(self, column: str) -> Array:
        try:
            return self[column]
        except KeyError:
            raise AttributeError(f"table {self.name} has no column {column!r} here") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def parts(self, starts: Array) -> Iterator[Columns]:
        """The same rows in parts, which begin where `starts` say: numbers that ascend from 0."""
        for begin, end in pairwise([*starts.tolist(), self.rows]):
            part = {name: array[begin:end] for name, array in self.items()}
            yield Columns(self.name, part, end - begin, self.first + begin)


class Table(Columns):
    """A whole table: `history.publications.message`.

    Raises ValueError for unknown, missing or unequal columns, naming them. Columns are read-only.
    """

    __slots__ = ()

    def __init__(self, name: str, columns: Mapping[str, Any]) -> None:
        known = TABLES[name]
        if strange := sorted(set(columns) - set(known)):
            raise ValueError(f"table {name}: unknown columns {strange}")
        if missing := [column for column in known if column not in columns]:
            raise ValueError(f"table {name}: missing columns {missing}")
        whole: dict[str, Array] = {}
        for column, meaning in known.items():
            array = np.ascontiguousarray(columns[column], dtype=meaning.type)
            array.flags.writeable = False
            whole[column] = array
        lengths = {column: len(array) for column, array in whole.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"table {name}: columns of unequal length: {lengths}")
        super().__init__(name, whole, rows=next(iter(lengths.values())))

    def chunks(self, *columns: str) -> Iterator[Columns]:
        """These columns (none named: all) of all rows, in order, a chunk at a time."""
        for number in range(self.chunk_count):
            yield self.chunk(number, *columns)

    @property
    def chunk_rows(self) -> int:
        """Rows of each chunk but the last, which may have fewer."""
        return CHUNK_ROWS

    @property
    def chunk_count(self) -> int:
        """How many chunks it has."""
        return -(-self.rows // self.chunk_rows)

    def chunk(self, number: int, *columns: str) -> Columns:
        """These columns (none named: all) of one chunk."""
        first = number * self.chunk_rows
        end = min(first + self.chunk_rows, self.rows)
        return Columns(self.name, {name: self[name][first:end] for name in columns or self}, end - first, first)

    def select(self, columns: Sequence[str], wanted: Callable[[Columns], Array], told: Sequence[str]) -> Columns:
        """The columns `told` of the rows that `wanted` says: a mask, of a chunk of `columns`. No more is held than a
        chunk and what is selected, and of a chunk without any such row no more is read than `columns`."""
        found: dict[str, list[Array]] = {name: [np.empty(0, TABLES[self.name][name].type)] for name in told}
        for number, chunk in enumerate(self.chunks(*columns)):
            rows = np.flatnonzero(wanted(chunk))
            if len(rows):
                whole = self.chunk(number, *told)
                for name in told:
                    found[name].append(whole[name][rows])
        selected = {name: np.concatenate(parts) for name, parts in found.items()}
        return Columns(self.name, selected, len(selected[told[0]]))

    def pick(self, rows: Array, *columns: str) -> Columns:
        """These columns of the rows with these numbers, which ascend."""
        found: dict[str, list[Array]] = {name: [np.empty(0, TABLES[self.name][name].type)] for name in columns}
        numbers = rows // self.chunk_rows
        for number in np.unique(numbers).tolist():
            chunk = self.chunk(number, *columns)
            for name in columns:
                found[name].append(chunk[name][rows[numbers == number] - chunk.first])
        return Columns(self.name, {name: np.concatenate(parts) for name, parts in found.items()}, len(rows))

    def where(self, mask: Array) -> Table:
        """The rows that a boolean mask (or an index array) selects."""
        return Table(self.name, {column: array[mask] for column, array in self.items()})

    @classmethod
    def empty(cls, name: str) -> Table:
        """The table without rows."""
        return cls(name, {column: np.empty(0, meaning.type) for column, meaning in TABLES[name].items()})


class Source(Protocol):
    """Where the rows of a large table come from: `rows` of them, `chunk_rows` at a time."""

    rows: int
    chunk_rows: int

    def read(self, chunk: int, column: str) -> Array:
        """A column of the chunk with that number, from 0 up."""


class LargeTable(Table):
    """A table that is not held in memory: chunks of it are read when they are asked for.

    A whole column (`table.message`) can be had too, and is laid out in an unlinked temporary file: for who is not
    worried by its size.
    """

    __slots__ = ("_source",)

    def __init__(self, name: str, source: Source) -> None:
        Columns.__init__(self, name, {}, source.rows)
        self._source = source

    @property
    def chunk_rows(self) -> int:
        """As its source has them."""
        return self._source.chunk_rows

    def chunk(self, number: int, *columns: str) -> Columns:
        """As of any table; nothing of it stays in memory."""
        first = number * self.chunk_rows
        read = {column: self._source.read(number, column) for column in columns or self}
        return Columns(self.name, read, min(self.chunk_rows, self.rows - first), first)

    def __getitem__(self, column: str) -> Array:
        known = cast(dict[str, Array], self._columns)
        if column not in known:
            with tempfile.TemporaryFile(prefix="assay-column-") as file:
                whole = np.memmap(file, TABLES[self.name][column].type, "w+", shape=(self.rows,))
            for chunk in self.chunks(column):
                whole[chunk.first : chunk.first + chunk.rows] = chunk[column]
            whole.flags.writeable = False
            known[column] = whole
        return known[column]

    def __iter__(self) -> Iterator[str]:
        return iter(TABLES[self.name])

    def __len__(self) -> int:
        return len(TABLES[self.name])


@dataclass(frozen=True, slots=True)
class History:
    """Tables by name, the terms, and the words that `word` columns index (`words[0]` is the empty word)."""

    tables: Mapping[str, Table]
    terms: Terms
    words: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        if missing := [name for name in TABLES if name not in self.tables]:
            raise ValueError(f"a history needs all its tables; missing: {missing}")
        if not self.words or self.words[0] != "":
            raise ValueError("the first word of a history is the empty word")

    @property
    def publications(self) -> Table:
        """One row a publish call."""
        return self.tables["publications"]

    @property
    def deliveries(self) -> Table:
        """One row a receipt."""
        return self.tables["deliveries"]

    @property
    def dequeues(self) -> Table:
        """One row a pull of one message; none where consumers were pushed their deliveries, or fetched several."""
        return self.tables["dequeues"]

    @property
    def effects(self) -> Table:
        """One row a message that has an effect in the sink."""
        return self.tables["effects"]

    @property
    def clients(self) -> Table:
        """One row a client process."""
        return self.tables["clients"]

    @property
    def phases(self) -> Table:
        """One row a phase."""
        return self.tables["phases"]

    @property
    def health(self) -> Table:
        """One row an observation of the harness or a member."""
        return self.tables["health"]

    @property
    def census(self) -> Table:
        """One row a message that the auditor read."""
        return self.tables["census"]

    @property
    def dropped(self) -> Table:
        """One row a message dropped by policy."""
        return self.tables["dropped"]

    def word(self, number: int) -> str:
        """The word with that number."""
        return self.words[int(number)]

    def word_number(self, word: str) -> int:
        """The number of that word; -1 (equal to no row) if the history does not contain it."""
        try:
            return self.words.index(word)
        except ValueError:
            return -1
