"""How does a history lie on a disk? The run directory: JSON files, one numpy file a table, the journals beside them.

*Frozen*: `format.json` is there. It is written last, so a directory that has it is whole, and one that has only
journals and proceedings belongs to a run that goes on, or whose harness ended first. Nothing in it is a pickle.

How a table lies in its file is said in harness/history/tables.py. Runs of format 1 are still read.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from harness.errors import Refused, Trouble
from harness.history import proceedings, seal
from harness.history.columns import SINCE_FORMAT_1, TABLES
from harness.history.history import CHUNK_ROWS, History, Table
from harness.history.rows import DEPTH_MAX, OBJECT_BYTES_MAX, depth
from harness.history.tables import CHUNK_ROWS_MAX, FREEZE_AGAIN, damaged, read_table, read_table_1, write_table
from harness.history.terms import Terms
from harness.plain import from_plain, to_plain

FORMAT = 2
FORMAT_FILE, TERMS_FILE, WORDS_FILE = "format.json", "terms.json", "words.json"
SCENARIO_FILE, PLAN_FILE, PROGRESS_FILE = "scenario.json", "plan.json", "progress.json"
JOURNALS, TABLES_FOLDER = "journals", "tables"
_HEAD = {"format", "assay", "rows", "chunk_rows", "sha256", "sum"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_history(directory: Path, history: History) -> None:
    """Write a history into a run directory; what else lies there stays. Raises Trouble where the disk is full."""
    (directory / FORMAT_FILE).unlink(missing_ok=True)
    with _or_trouble(directory):
        (directory / TABLES_FOLDER).mkdir(parents=True, exist_ok=True)
    for name, table in history.tables.items():
        _write(directory / TABLES_FOLDER / f"{name}.npz", functools.partial(write_table, table))
    write_json(directory / WORDS_FILE, list(history.words))
    write_json(directory / TERMS_FILE, to_plain(history.terms))
    rows = {name: history.tables[name].rows for name in TABLES}
    sums = seal.sums_of(directory, _sealed(directory, rows))
    head = {"format": FORMAT, "assay": version(), "rows": rows, "chunk_rows": CHUNK_ROWS, "sha256": sums}
    write_json(directory / FORMAT_FILE, {**head, "sum": seal.sum_of(head)})


def read_history(directory: Path) -> History:
    """The history of a frozen run directory.

    Raises Refused for what is no run directory, was not frozen, is damaged, or was written by a newer Assay: with the
    file and the cure.
    """
    head = _head(directory)
    terms = _read_terms(directory / TERMS_FILE)
    words = read_json(directory / WORDS_FILE)
    if not isinstance(words, list) or not words or words[0] != "" or not all(isinstance(word, str) for word in words):
        raise damaged(directory / WORDS_FILE, "it is not a list of words that begins with the empty one")
    tables = {name: _read_table(directory, name, head, len(words)) for name in TABLES}
    # What makes no sense was refused by its own words; here is what does, and is not what was written.
    sealed = _sealed(directory, [name for name in TABLES if name in head["rows"]])
    if "sha256" in head and (wrong := seal.changed(directory, sealed, head["sha256"])):
        raise damaged(*wrong)
    # Where all columns are even, how many rows there are stands in no other file.
    if "sum" in head and head["sum"] != seal.sum_of({name: head[name] for name in head if name != "sum"}):
        raise damaged(directory / FORMAT_FILE, "its own SHA-256 is not the one that it was written with")
    return History(tables, terms, tuple(words))


def _sealed(directory: Path, tables: Iterable[str]) -> list[Path]:
    """The files that hold a history of these tables."""
    paths = [directory / TABLES_FOLDER / f"{name}.npz" for name in tables]
    return [directory / TERMS_FILE, directory / WORDS_FILE, *paths]


def _read_table(directory: Path, name: str, head: Mapping[str, Any], words: int) -> Table:
    path, rows = directory / TABLES_FOLDER / f"{name}.npz", head["rows"].get(name)
    if name in SINCE_FORMAT_1 and rows is None:
        return Table.empty(name)
    if not isinstance(rows, int) or rows < 0:
        raise damaged(path, f"it is there, and of its rows {FORMAT_FILE} says {rows}")
    if head["format"] > 1:
        chunk_rows = head.get("chunk_rows")
        if not isinstance(chunk_rows, int) or not 1 <= chunk_rows <= CHUNK_ROWS_MAX:
            raise damaged(directory / FORMAT_FILE, f"a chunk cannot have {chunk_rows} rows")
        return read_table(path, name, rows, chunk_rows, words)
    table = read_table_1(path, name, rows)
    for column, meaning in TABLES[name].items():
        if meaning.unit == "word" and rows and (number := int(table[column].max())) >= words:
            raise damaged(path, f"{name}.{column} names word {number}, and {WORDS_FILE} has {words}")
    return table


def is_frozen(directory: Path) -> bool:
    """Whether a history was written there, whole."""
    return (directory / FORMAT_FILE).is_file()


def is_run(directory: Path) -> bool:
    """Whether this is the directory of a run, frozen or not."""
    return is_frozen(directory) or any(
        (directory / trace).exists() for trace in (proceedings.FILE, PROGRESS_FILE, JOURNALS)
    )


def read_scenario(directory: Path) -> Mapping[str, Any]:
    """What was run, as plain data; empty for a history that came from elsewhere."""
    return _read_object(directory / SCENARIO_FILE)


def read_plan(directory: Path) -> Mapping[str, Any]:
    """The plan that was carried out, as plain data; empty for a history that came from elsewhere."""
    return _read_object(directory / PLAN_FILE)


def write_json(path: Path, data: object) -> None:
    """Write plain data: indented, keys sorted, so that equal data makes equal files. The file is whole or absent."""
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    # What UTF-8 has no form for (half a surrogate, out of somebody's log) becomes its JSON escape.
    _write(path, lambda file: file.write(text.encode("utf-8", errors="backslashreplace")))


def read_json(path: Path) -> Any:
    """Plain data from a file. Raises Refused, naming it."""
    try:
        if (size := path.stat().st_size) > OBJECT_BYTES_MAX:
            raise damaged(path, f"it has {size:,} bytes; at most {OBJECT_BYTES_MAX:,} are read")
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_finite, parse_float=_finite)
        if depth(data) > DEPTH_MAX:
            raise damaged(path, "it is nested too deeply")
        return data
    except FileNotFoundError:
        raise Refused(f"{path} is missing", cure=FREEZE_AGAIN) from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is no JSON: {error}") from error
    except OSError as error:
        raise Trouble(f"{path} cannot be read: {error.strerror}") from error


def _finite(word: str) -> float:
    """NaN and Infinity are no numbers of JSON, but Python's reader takes them, and makes one of 1e999."""
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is no finite number")
    return number


def version() -> str:
    """Which Assay this is."""
    try:
        return metadata.version("broker-assay")
    except metadata.PackageNotFoundError:
        return "unknown"


def describe_columns() -> str:
    """Every table and column, as Markdown: the part of docs/run-format.md that is made from the code."""
    lines = []
    for name, columns in TABLES.items():
        lines += [f"### {name}", "", "| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| `{column}` | {m.type} | {m.unit} | {m.says} |" for column, m in columns.items()]
        lines.append("")
    return "\n".join(lines)


# ---- files ---------------------------------------------------------------------------------------------------------


def _head(directory: Path) -> Mapping[str, Any]:
    if not directory.is_dir():
        raise Refused(f"no such run directory: {directory}", cure="name a directory reports/<session>/runs/<cell>")
    if not is_frozen(directory):
        if is_run(directory):
            raise Refused(
                f"{directory} holds a run that was not frozen: it goes on, or its harness ended first",
                cure=f"`assay recheck {directory}` freezes and judges what was recorded",
            )
        raise Refused(
            f"{directory} is not a run directory: it has no {FORMAT_FILE}",
            cure="name a directory reports/<session>/runs/<cell>",
        )
    head = read_json(directory / FORMAT_FILE)
    if not isinstance(head, dict) or not isinstance(head.get("format"), int) or not isinstance(head.get("rows"), dict):
        raise damaged(directory / FORMAT_FILE, "it does not say which format the run has")
    if not 1 <= head["format"] <= FORMAT:
        raise Refused(
            f"{directory} has format {head['format']}, written by Assay {head.get('assay', '?')}; "
            f"this is {version()}, which reads formats 1 to {FORMAT}",
            cure="open it with a newer broker-assay",
        )
    if strange := sorted(set(head) - _HEAD):
        raise damaged(directory / FORMAT_FILE, f"it has the unknown field {strange[0][:60]!r}")
    if not isinstance(head.get("sha256", {}), dict):
        raise damaged(directory / FORMAT_FILE, "its sums are no object")
    return head


def _read_terms(path: Path) -> Terms:
    data = read_json(path)
    try:
        return from_plain(Terms, data)
    except Refused as refusal:
        raise damaged(path, refusal.message) from refusal


def _read_object(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    data = read_json(path)
    if not isinstance(data, dict):
        raise damaged(path, "it holds no object")
    return data


def _write(path: Path, content: Callable[[IO[bytes]], object]) -> None:
    """Write a file that is whole or absent: into a temporary one, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _or_trouble(path):
        try:
            with open(temporary, "wb") as file:
                content(file)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _or_trouble(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Trouble(
                f"no space left on device while writing {path}; what was recorded stays in its {JOURNALS}/",
                cure="make room, then `assay recheck` the run",
            ) from error
        raise Trouble(f"{path} cannot be written: {error.strerror or error}") from error
