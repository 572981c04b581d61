"""How does a history lie on a disk? The run directory: JSON files, one numpy file a table, the journals beside them.

*Frozen*: `format.json` is there. It is written last, so a directory that has it is whole, and one that has only
journals and proceedings belongs to a run that goes on, or whose harness ended first. Nothing in it is a pickle.

A table is a zip of `.npy` members, one a column. An 8-byte column is stored as the differences between neighbours
(its member ends in `.delta`; the running sum, wrapping at 64 bits, gives it back): times and ids hardly change from
row to row, and shrink to a few bytes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.errors import Refused, Trouble
from harness.history import proceedings, seal
from harness.history.columns import TABLES, Column
from harness.history.history import Array, History, Table
from harness.history.rows import DEPTH_MAX, OBJECT_BYTES_MAX, depth
from harness.history.terms import Terms
from harness.plain import from_plain, to_plain

FORMAT = 1
FORMAT_FILE, TERMS_FILE, WORDS_FILE = "format.json", "terms.json", "words.json"
SCENARIO_FILE, PLAN_FILE, PROGRESS_FILE = "scenario.json", "plan.json", "progress.json"
JOURNALS, TABLES_FOLDER = "journals", "tables"
DELTA = ".delta"
_MEMBER_HEAD_MAX = 1024
_HEAD = {"format", "assay", "rows", "sha256"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FREEZE_AGAIN = f"delete its {FORMAT_FILE}; the next `assay recheck` freezes it anew from its journals"
_DEFLATE_LEVEL = 1  # level 6 takes five times as long for a tenth less


def write_history(directory: Path, history: History) -> None:
    """Write a history into a run directory; what else lies there stays. Raises Trouble where the disk is full."""
    (directory / FORMAT_FILE).unlink(missing_ok=True)
    with _or_trouble(directory):
        (directory / TABLES_FOLDER).mkdir(parents=True, exist_ok=True)
    for name, table in history.tables.items():
        _write(directory / TABLES_FOLDER / f"{name}.npz", functools.partial(_write_table, table))
    write_json(directory / WORDS_FILE, list(history.words))
    write_json(directory / TERMS_FILE, to_plain(history.terms))
    rows = {name: history.tables[name].rows for name in TABLES}
    sums = seal.sums_of(directory, _sealed(directory))
    write_json(directory / FORMAT_FILE, {"format": FORMAT, "assay": version(), "rows": rows, "sha256": sums})


def read_history(directory: Path) -> History:
    """The history of a frozen run directory.

    Raises Refused for what is no run directory, was not frozen, is damaged, or was written by a newer Assay: with the
    file and the cure.
    """
    head = _head(directory)
    rows = head["rows"]
    terms = _read_terms(directory / TERMS_FILE)
    words = read_json(directory / WORDS_FILE)
    if not isinstance(words, list) or not words or words[0] != "" or not all(isinstance(word, str) for word in words):
        raise _damaged(directory / WORDS_FILE, "it is not a list of words that begins with the empty one")
    tables = {}
    for name in TABLES:
        path = directory / TABLES_FOLDER / f"{name}.npz"
        table = _read_table(path, name, rows.get(name))
        if table.rows != rows.get(name):
            raise _damaged(path, f"it holds {table.rows} rows, and {FORMAT_FILE} says {rows.get(name)}")
        for column, meaning in TABLES[name].items():
            if meaning.unit == "word" and table.rows and int(table[column].max()) >= len(words):
                number = int(table[column].max())
                raise _damaged(directory / WORDS_FILE, f"{name}.{column} names word {number}, and it has {len(words)}")
        tables[name] = table
    # What makes no sense was refused by its own words; here is what does, and is not what was written.
    if "sha256" in head and (wrong := seal.changed(directory, _sealed(directory), head["sha256"])):
        raise _damaged(*wrong)
    return History(tables, terms, tuple(words))


def _sealed(directory: Path) -> list[Path]:
    """The files that hold a history."""
    tables = [directory / TABLES_FOLDER / f"{name}.npz" for name in TABLES]
    return [directory / TERMS_FILE, directory / WORDS_FILE, *tables]


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
            raise _damaged(path, f"it has {size:,} bytes; at most {OBJECT_BYTES_MAX:,} are read")
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_finite, parse_float=_finite)
        if depth(data) > DEPTH_MAX:
            raise _damaged(path, "it is nested too deeply")
        return data
    except FileNotFoundError:
        raise Refused(f"{path} is missing", cure=FREEZE_AGAIN) from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is no JSON: {error}") from error
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


# ---- tables --------------------------------------------------------------------------------------------------------


def _write_table(table: Table, file: IO[bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_DEFLATE_LEVEL) as archive:
        for column, meaning in TABLES[table.name].items():
            array, suffix = (_differences(table[column]), DELTA) if _wide(meaning) else (table[column], "")
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            # A fixed date: equal tables make equal files.
            info = zipfile.ZipInfo(f"{column}{suffix}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getbuffer(), compresslevel=_DEFLATE_LEVEL)


def _read_table(path: Path, name: str, rows: object) -> Table:
    columns: dict[str, Array] = {}
    try:
        # Opened here: numpy leaves a file open that turns out to be no archive.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            _refuse_bombs(path, name, archive.zip, rows)
            for column, meaning in TABLES[name].items():
                array = archive[f"{column}{DELTA}" if _wide(meaning) else column]
                if not isinstance(array, np.ndarray):  # a member that does not begin as one comes as its bytes
                    raise _damaged(path, f"column {column} is no array")
                if array.ndim != 1 or array.dtype != np.dtype(meaning.type):
                    raise _damaged(path, f"column {column} is {array.dtype}{list(array.shape)}, not {meaning.type}")
                columns[column] = _sums(array) if _wide(meaning) else array
        return Table(name, columns)
    except FileNotFoundError:
        raise Refused(f"{path} is missing", cure=FREEZE_AGAIN) from None
    except KeyError as error:
        raise _damaged(path, f"a column is missing: {error.args[0]}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise _damaged(path, str(error)) from error
    except MemoryError:
        raise Trouble(f"{path} does not fit into this machine's memory") from None
    except OSError as error:
        raise _damaged(path, str(error)) from error


def _refuse_bombs(path: Path, name: str, archive: zipfile.ZipFile, rows: object) -> None:
    """Refuse members that would unpack to more than its rows have bytes, and rows that no memory here can hold."""
    types = [np.dtype(meaning.type) for meaning in TABLES[name].values()]
    if not isinstance(rows, int) or not 0 <= rows * sum(one.itemsize for one in types) < _memory_bytes():
        raise _damaged(path, f"{FORMAT_FILE} says {rows} rows, which are none that this machine's memory can hold")
    for member in archive.infolist():
        if member.file_size > rows * max(one.itemsize for one in types) + _MEMBER_HEAD_MAX:
            raise _damaged(path, f"{member.filename[:60]!r} has {member.file_size:,} bytes, too many for {rows} rows")


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _wide(column: Column) -> bool:
    return column.type.endswith("8")


def _differences(array: Array) -> Array:
    raw = array.view("u8")
    shifted = np.zeros_like(raw)
    shifted[1:] = raw[:-1]
    differences: Array = (raw - shifted).view(array.dtype)
    return differences


def _sums(differences: Array) -> Array:
    sums: Array = np.cumsum(differences.view("u8"), dtype="u8").view(differences.dtype)
    return sums


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
        raise _damaged(directory / FORMAT_FILE, "it does not say which format the run has")
    if not 1 <= head["format"] <= FORMAT:
        raise Refused(
            f"{directory} has format {head['format']}, written by Assay {head.get('assay', '?')}; "
            f"this is {version()}, which reads formats 1 to {FORMAT}",
            cure="open it with a newer broker-assay",
        )
    if strange := sorted(set(head) - _HEAD):
        raise _damaged(directory / FORMAT_FILE, f"it has the unknown field {strange[0][:60]!r}")
    if not isinstance(head.get("sha256", {}), dict):
        raise _damaged(directory / FORMAT_FILE, "its sums are no object")
    return head


def _read_terms(path: Path) -> Terms:
    data = read_json(path)
    try:
        return from_plain(Terms, data)
    except Refused as refusal:
        raise _damaged(path, refusal.message) from refusal


def _read_object(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    data = read_json(path)
    if not isinstance(data, dict):
        raise _damaged(path, "it holds no object")
    return data


def _damaged(path: Path, why: str) -> Refused:
    return Refused(f"{path} is damaged or foreign: {why}", cure=FREEZE_AGAIN)


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
