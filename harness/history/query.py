"""What does a history say to a question in SQL? DuckDB answers, over views of its tables, and of nothing else.

The views have the columns of the JSON lines; `injections`, `claims`, `counters` and `terms` are made of the terms. A
query can neither read another file nor write one, load an extension, or change a setting: it may come from anybody.
The extra `sql` brings DuckDB.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import Refused
from harness.history.columns import TABLES
from harness.history.history import History
from harness.history.parquet import arrow, arrow_table
from harness.history.terms import Claimed, Counter, InjectionTerms
from harness.plain import to_plain

ROWS_MAX = 100_000
"""Rows of an answer: what is more is for an export."""

VIEWS = (*TABLES, "injections", "claims", "counters", "terms")
_LOCKED_UP = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "allow_community_extensions": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "temp_directory": "",
    "memory_limit": "2GB",
}
_CURE = f"""the views are {", ".join(VIEWS)}; `assay sql RUN "describe deliveries"` lists columns, and words of SQL \
such as "group" and "order" stand in double quotes"""


@dataclass(frozen=True, slots=True)
class Answer:
    """Names of columns, each once, and rows of plain values. `cut`: there were more than ROWS_MAX rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    cut: bool


def ask(history: History, query: str) -> Answer:
    """The answer of a history to one SELECT (or DESCRIBE, SUMMARIZE, EXPLAIN). Raises Refused for what is none, what
    is wrong in it, or without DuckDB."""
    duckdb = _duckdb()
    try:
        statements = duckdb.extract_statements(query)
        if len(statements) != 1 or statements[0].type.name not in ("SELECT", "EXPLAIN"):
            raise Refused("a query is one SELECT: a run is read, and never written", cure=_CURE)
        with duckdb.connect(":memory:", config=_LOCKED_UP) as connection:
            for name, table in _views(history):
                connection.register(name, table)
            connection.execute("set lock_configuration = true")
            connection.execute(query)
            columns = _each_once([column[0] for column in connection.description])
            rows = connection.fetchmany(ROWS_MAX + 1)
    except duckdb.Error as error:
        raise Refused(f"the query cannot be answered: {error}".rstrip(), cure=_CURE) from error
    told = tuple(tuple(_plain(value) for value in row) for row in rows[:ROWS_MAX])
    return Answer(columns, told, cut=len(rows) > ROWS_MAX)


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise Refused("SQL needs DuckDB, which is not installed", cure="pip install 'broker-assay[sql]'") from None
    return duckdb


def _views(history: History) -> Iterator[tuple[str, Any]]:
    pa = arrow()
    for name in TABLES:
        yield name, arrow_table(history, name)
    terms = history.terms
    records: tuple[tuple[str, type, Sequence[object]], ...] = (
        ("injections", InjectionTerms, terms.injections),
        ("claims", Claimed, terms.claims),
        ("counters", Counter, terms.counters),
    )
    for name, kind, several in records:
        rows = [to_plain(one) for one in several]
        columns = [one.name for one in fields(kind)]
        yield (
            name,
            pa.table({column: pa.array([_cell(row[column]) for row in rows], _type(pa, column)) for column in columns}),
        )
    plain = to_plain(terms)
    yield "terms", pa.table({"name": list(plain), "value": [_text(value) for value in plain.values()]})


_WHOLE = {"number", "trial", "at_risk", "value"}


def _type(pa: Any, column: str) -> Any:
    """Of a column of injections, claims or counters; stated, for a table without rows does not show it."""
    if column in _WHOLE or column.endswith("_ns"):
        return pa.int64()
    return pa.bool_() if column == "comparable" else pa.string()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return _text(value) if isinstance(value, Mapping) else _encodable(value)


def _text(value: Any) -> str:
    return str(_encodable(value)) if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", errors="backslashreplace").decode() if isinstance(value, str) else value


def _each_once(names: Sequence[str]) -> tuple[str, ...]:
    """The names, a second `count` as `count_2`."""
    told: list[str] = []
    for name in names:
        chosen, number = name, 1
        while chosen in told:
            number += 1
            chosen = f"{name}_{number}"
        told.append(chosen)
    return tuple(told)


def _plain(value: Any) -> Any:
    """A value of DuckDB's as JSON can hold it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)
