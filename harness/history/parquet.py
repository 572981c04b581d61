"""How does a history leave as Parquet, and how are somebody's Parquet files read? pyarrow has its one room here.

The columns are those of the JSON lines: words are text (dictionary-encoded), 0/1 is bool, outcomes and kinds are their
names, NEVER is null, and beside each packed id stands its text. The extra `parquet` brings pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import Refused, Trouble
from harness.history.columns import NEVER, TABLES, Column
from harness.history.history import Array, History
from harness.history.rows import ROWS_AT_ONCE, Chunk, bad_row, too_many
from harness.history.values import ENUMS, names_of, nullable, texts

BYTES_MAX = 8 << 30
"""Of a file's columns, uncompressed, as its own footer declares them."""

TEXT_BYTES_MAX = 16 << 10
_SHORTER = f"leave long texts out: at most {TEXT_BYTES_MAX:,} bytes are read"
_AS_WRITTEN = "give the file as it was written, whole"


def arrow() -> Any:
    """pyarrow. Raises Refused, with the cure, where it is not installed."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise Refused(
            "Parquet and SQL need pyarrow, which is not installed", cure="pip install 'broker-assay[parquet]'"
        ) from None
    return pyarrow


def arrow_table(history: History, name: str) -> Any:
    """A table of a history as a pyarrow.Table, columns and values as the JSON lines have them."""
    pa = arrow()
    table = history.tables[name]
    columns: dict[str, Any] = {}
    for column, meaning in TABLES[name].items():
        columns[column] = _arrow_column(pa, meaning, table[column], history.words)
        if meaning.unit == "packed id":
            columns[f"{column}_id"] = pa.array(texts(table[column]), pa.string())
    return pa.table(columns)


def write_table(history: History, name: str, path: Path) -> None:
    """Write one table of a history as a Parquet file. Raises Trouble where it cannot be written."""
    pa = arrow()
    try:
        pa.parquet.write_table(arrow_table(history, name), path, compression="zstd")
    except OSError as error:
        raise Trouble(f"{path} cannot be written: {error.strerror or error}") from error


def read_batches(path: Path, rows_max: int) -> Iterator[Chunk]:
    """The rows of a Parquet file, numbered from 1. Raises Refused for what is damaged, or declares too much."""
    pa = arrow()
    try:
        # Opened here: a path would be taken for a URL, a data set or a folder of partitions, by how it looks.
        with open(path, "rb") as opened:
            # A footer is small; these are the limits of what is believed of it.
            file = pa.parquet.ParquetFile(opened)
            head = file.metadata
            if head.num_rows > rows_max:
                raise too_many(path, f"declares {head.num_rows:,} rows", rows_max)
            size = sum(head.row_group(group).total_byte_size for group in range(head.num_row_groups))
            if size > BYTES_MAX:
                raise Refused(f"{path} declares {size:,} bytes of columns", cure=f"at most {BYTES_MAX:,} are read")
            if nested := [field.name for field in file.schema_arrow if pa.types.is_nested(field.type)]:
                raise Refused(
                    f"{path}: column {nested[0]!r} holds lists or structs", cure="give one plain value a row and column"
                )
            # As dictionaries: a text that is stored once, and named by every row, must not be made a million times.
            file = pa.parquet.ParquetFile(opened, read_dictionary=_text_columns(pa, file.schema_arrow))
            number = 1
            for batch in file.iter_batches(ROWS_AT_ONCE):
                if (length := _longest(pa, batch)) > TEXT_BYTES_MAX:
                    raise bad_row(path, number, f"a text here or further on has {length:,} bytes", _SHORTER)
                rows = batch.to_pylist()
                if number + len(rows) - 1 > rows_max:
                    raise bad_row(path, number, f"the file has more rows than it declares ({head.num_rows:,})")
                yield Chunk(range(number, number + len(rows)), rows)
                number += len(rows)
            if number - 1 != head.num_rows:
                raise Refused(
                    f"{path} holds {number - 1} rows and declares {head.num_rows}",
                    cure=_AS_WRITTEN,
                )
    except (pa.ArrowException, ValueError, OverflowError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())[:200]
        raise Refused(f"{path} is no Parquet file, or damaged: {told}", cure=_AS_WRITTEN) from error
    except MemoryError:
        raise Trouble(f"{path} does not fit into this machine's memory") from None
    except OSError as error:
        raise Refused(f"{path} is no Parquet file, or damaged: {error}", cure=_AS_WRITTEN) from error


def _text_columns(pa: Any, schema: Any) -> list[str]:
    types = pa.types
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return [field.name for field in schema if any(fits(field.type) for fits in texts)]


def _longest(pa: Any, batch: Any) -> int:
    """Bytes of the longest text in a batch."""
    dictionaries = [column.dictionary for column in batch.columns if pa.types.is_dictionary(column.type)]
    lengths = [
        pa.compute.max(pa.compute.binary_length(texts)).as_py()
        for texts in dictionaries
        if _text_columns(pa, pa.schema([("", texts.type)]))
    ]
    return max((length for length in lengths if length is not None), default=0)


def _arrow_column(pa: Any, meaning: Column, values: Array, words: Sequence[str]) -> Any:
    if meaning.unit == "word":
        # What UTF-8 has no form for (half a surrogate, out of somebody's log) is written as its escape.
        told = [word.encode("utf-8", errors="backslashreplace").decode() for word in words]
        return pa.DictionaryArray.from_arrays(pa.array(values.astype(np.int32)), pa.array(told, pa.string()))
    if meaning.unit == "0/1":
        return pa.array(values != 0)
    if meaning.unit in ENUMS:
        names = dict(names_of(meaning))
        known = list(names.values())
        places = np.array([known.index(names[n]) if n in names else -1 for n in range(int(values.max(initial=0)) + 1)])
        chosen = places[values] if len(values) else values.astype(np.int32)
        return pa.DictionaryArray.from_arrays(
            pa.array(chosen.astype(np.int32), mask=chosen < 0), pa.array(known, pa.string())
        )
    if nullable(meaning):
        return pa.array(values, mask=values == NEVER)
    return pa.array(values)
