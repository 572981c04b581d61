"""A history: everything that happened in one run, as tables of columns, with the terms under which it may be judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.history.columns import TABLES
from harness.history.terms import Terms

Array = NDArray[Any]


class Table(Mapping[str, Array]):
    """Columns of equal length, by name; also readable as attributes: `history.publications.message`.

    Raises ValueError for unknown, missing or unequal columns, naming them. Columns are read-only.
    """

    __slots__ = ("_columns", "name")

    def __init__(self, name: str, columns: Mapping[str, Any]) -> None:
        known = TABLES[name]
        if strange := sorted(set(columns) - set(known)):
            raise ValueError(f"table {name}: unknown columns {strange}")
        if missing := [column for column in known if column not in columns]:
            raise ValueError(f"table {name}: missing columns {missing}")
        self.name = name
        self._columns: dict[str, Array] = {}
        for column, meaning in known.items():
            array = np.ascontiguousarray(columns[column], dtype=meaning.type)
            array.flags.writeable = False
            self._columns[column] = array
        lengths = {column: len(array) for column, array in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"table {name}: columns of unequal length: {lengths}")

    def __getitem__(self, column: str) -> Array:
        return self._columns[column]

    def __getattr__(self, column: str) -> Array:
        try:
            return self._columns[column]
        except KeyError:
            raise AttributeError(f"table {self.name} has no column {column!r}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self._columns.values())))

    def where(self, mask: Array) -> Table:
        """The rows that a boolean mask (or an index array) selects."""
        return Table(self.name, {column: array[mask] for column, array in self._columns.items()})

    @classmethod
    def empty(cls, name: str) -> Table:
        """The table without rows."""
        return cls(name, {column: np.empty(0, meaning.type) for column, meaning in TABLES[name].items()})


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
