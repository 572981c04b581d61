"""How does a table lie in its file? A zip of `.npy` members: `frames`, and `<column>.<chunk>` where a chunk needs one.

`frames` has one row a chunk and one field a column: (first, step) as harness/history/coding.py means them, as 64-bit
numbers. Planes are a member of their own, so that a chunk is read without its neighbours, and one that is damaged is
named. Nothing that a file declares is believed: sizes follow from the number of rows, and what is larger is refused
before it is read. Format 1 had one member a column, whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.errors import Refused, Trouble
from harness.history.coding import WIDTHS, decode, encode
from harness.history.columns import TABLES
from harness.history.history import Array, LargeTable, Table

PLAIN_ROWS_MAX = 1 << 20
"""A table of more rows is not held in memory, but read from its file chunk by chunk."""

CHUNK_ROWS_MAX = 1 << 22
"""Rows of a chunk: what is more is not read."""

FREEZE_AGAIN = "delete its format.json; the next `assay recheck` freezes it anew from its journals"
_FRAMES = "frames"
_DELTA = ".delta"
_HEAD_BYTES_MAX = 1 << 14
_LOCAL_HEAD = struct.Struct("<26xHH")  # of a zip's member, as far as its name (APPNOTE 4.3.7)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h, of mallopt(3)
_KEPT_BYTES_MAX = 1 << 25
_FRAMES_BYTES_MAX = 1 << 25
_WHOLE_BYTES_MAX = 1 << 31
_DEFLATE_LEVEL = 1  # level 6 takes five times as long for a tenth less
_DEFLATED_MAX = 0.7  # of its size; what shrinks less is stored as it is, for every pass unpacks it anew
_DEFLATE_RATIO_MAX = 1032  # what a byte can stand for; no clock makes all times of a large table even


def damaged(path: Path, why: str) -> Refused:
    """The refusal of a file that is not as Assay wrote it."""
    return Refused(f"{path} is damaged or foreign: {why}", cure=FREEZE_AGAIN)


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_table(table: Table, file: IO[bytes]) -> None:
    """Write a table, a chunk at a time. Equal tables make equal files."""
    columns = TABLES[table.name]
    frames = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, chunk in enumerate(table.chunks()):
            frame = []
            for column in columns:
                first, step, planes = encode(chunk[column])
                frame.append((first, step))
                if planes is not None:
                    _add(archive, f"{column}.{number}", planes)
            frames.append(tuple(frame))
        _add(archive, _FRAMES, np.array(frames, _frame_type(table.name)))


def _frame_type(name: str) -> np.dtype[Any]:
    return np.dtype([(column, "<u8", (2,)) for column in TABLES[name]])


def _add(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    member = io.BytesIO()
    np.lib.format.write_array(member, array, allow_pickle=False)
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))  # a fixed date, for equal files
    data = member.getbuffer()
    shrinks = len(zlib.compress(data, _DEFLATE_LEVEL)) <= _DEFLATED_MAX * len(data)
    info.compress_type = zipfile.ZIP_DEFLATED if shrinks else zipfile.ZIP_STORED
    archive.writestr(info, data, compresslevel=_DEFLATE_LEVEL)


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_table(path: Path, name: str, rows: int, chunk_rows: int, words: int) -> Table:
    """A table of `rows` rows, in chunks of `chunk_rows`. Raises Refused for what is missing or not as it was written.

    `words`: how many words the run has. A large table stays in its file, so damage may only show when a chunk is read.
    """
    source = _Chunks(path, name, rows, chunk_rows, words)
    if rows > PLAIN_ROWS_MAX:
        _have_freed_memory_kept()
        return LargeTable(name, source)
    with source:
        columns = {}
        for column, meaning in TABLES[name].items():
            parts = [source.read(number, column) for number in range(source.count)]
            columns[column] = np.concatenate(parts) if parts else np.empty(0, meaning.type)
    return Table(name, columns)


@functools.cache
def _have_freed_memory_kept() -> None:
    """Let the C library keep what a chunk's arrays leave for the next one's: else the kernel takes each back and
    clears it anew, a fifth of the time of a recheck. Where the library is not glibc, nothing is done."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # no mallopt, or no library to ask by this way
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES_MAX)
        mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES_MAX)


class _Chunks:
    """The chunks of one table's file, which stays open."""

    def __init__(self, path: Path, name: str, rows: int, chunk_rows: int, words: int) -> None:
        self.rows = rows
        self.chunk_rows = chunk_rows
        self.count = -(-rows // chunk_rows)
        self._name = name
        self._path = path
        self._words = words
        type_ = _frame_type(name)
        with _or_damaged(path):
            if self.count * type_.itemsize > _FRAMES_BYTES_MAX or (
                rows > PLAIN_ROWS_MAX and rows > path.stat().st_size * _DEFLATE_RATIO_MAX
            ):
                raise ValueError(f"it is too small for {rows:,} rows in chunks of {chunk_rows:,}")
            self._archive = zipfile.ZipFile(path)
            self._seen: dict[str, int] = {}
            try:
                self._members = self._known()
                self._frames = self._member(_FRAMES, type_, [(self.count,)])
            except BaseException:
                self._archive.close()
                raise

    def __enter__(self) -> _Chunks:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def read(self, chunk: int, column: str) -> Array:
        """A column of one chunk. Raises Refused, naming both, where it is damaged."""
        meaning = TABLES[self._name][column]
        begin = chunk * self.chunk_rows
        rows = min(self.chunk_rows, self.rows - begin)
        with _or_damaged(self._path, f"{self._name}.{column}, rows {begin} to {begin + rows - 1}: "):
            first, step = (int(number) for number in self._frames[column][chunk])
            member, planes = f"{column}.{chunk}", None
            if member in self._members:
                planes = self._member(member, np.dtype("u1"), [(width, rows - 1) for width in WIDTHS])
            values = decode(first, step, planes, rows, meaning.type)
            if meaning.unit == "word" and (number := int(values.max())) >= self._words:
                raise ValueError(f"it names word {number}, and words.json has {self._words}")
        return values

    def _known(self) -> Mapping[str, zipfile.ZipInfo]:
        """The members by name. Raises ValueError for one that no such table has."""
        numbers = {str(number) for number in range(self.count)}
        members: dict[str, zipfile.ZipInfo] = {}
        for info in self._archive.infolist():
            name = info.filename.removesuffix(".npy")
            column, _, number = name.partition(".")
            known = name == _FRAMES or (column in TABLES[self._name] and number in numbers)
            if not known or name == info.filename or name in members:
                raise ValueError(f"it has the member {info.filename[:80]!a}, which no table of {self.rows} rows has")
            members[name] = info
        return members

    def _member(self, name: str, type_: np.dtype[Any], shapes: list[tuple[int, ...]]) -> Array:
        if name not in self._members:
            raise ValueError(f"the member {name} is missing")
        info = self._members[name]
        _limit(info, type_, shapes)
        if (begin := self._seen.get(name)) is not None:
            return _array(info, os.pread(self._file, info.file_size, begin), type_, shapes)
        with self._archive.open(info) as member:
            array = _array(info, member.read(info.file_size), type_, shapes)
        if info.compress_type == zipfile.ZIP_STORED:
            # Its checksum was right. What passes are yet to come need not sum it up again.
            self._seen[name] = self._begin_of(info)
        return array

    def _begin_of(self, info: zipfile.ZipInfo) -> int:
        """Where the data of a member begin in the file."""
        head = os.pread(self._file, _LOCAL_HEAD.size, info.header_offset)
        name_bytes, extra_bytes = _LOCAL_HEAD.unpack(head)
        return info.header_offset + _LOCAL_HEAD.size + int(name_bytes) + int(extra_bytes)

    @property
    def _file(self) -> int:
        file = self._archive.fp
        assert file is not None, f"{self._path} is closed"
        return file.fileno()


def _limit(info: zipfile.ZipInfo, type_: np.dtype[Any], shapes: list[tuple[int, ...]]) -> None:
    """Raise ValueError for a member that declares more than an array of this type and one of these shapes has."""
    largest = max(math.prod(shape) for shape in shapes) * type_.itemsize
    if info.file_size > largest + _HEAD_BYTES_MAX:
        raise ValueError(f"{info.filename} declares {info.file_size:,} bytes, and {largest:,} are all it can hold")


def _array(info: zipfile.ZipInfo, data: bytes, type_: np.dtype[Any], shapes: list[tuple[int, ...]]) -> Array:
    """The array of one member, which must have this type and one of these shapes."""
    opened = io.BytesIO(data)
    if np.lib.format.read_magic(opened) != (1, 0):
        raise ValueError(f"{info.filename} has a head of another version of .npy")
    shape, fortran, said = np.lib.format.read_array_header_1_0(opened)
    if said != type_ or shape not in shapes or fortran:
        raise ValueError(f"{info.filename} is {said}{list(shape)}, not {type_}{list(shapes[0])}")
    if len(data) - opened.tell() != math.prod(shape) * type_.itemsize:
        raise ValueError(f"{info.filename} is cut off")
    return np.frombuffer(data, type_, offset=opened.tell()).reshape(shape)


@contextlib.contextmanager
def _or_damaged(path: Path, where: str = "") -> Iterator[None]:
    """Everything that a file may throw, as a refusal that names it."""
    try:
        yield
    except FileNotFoundError:
        raise Refused(f"{path} is missing", cure=FREEZE_AGAIN) from None
    except MemoryError:
        raise Trouble(f"{path} does not fit into this machine's memory") from None
    except (ValueError, EOFError, KeyError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(path, f"{where}{error.args[0] if isinstance(error, KeyError) else error}") from error


# ---- format 1 --------------------------------------------------------------------------------------------------------


def read_table_1(path: Path, name: str, rows: int) -> Table:
    """A table as format 1 had it: one member a column; an 8-byte one as differences. Raises as `read_table`."""
    columns: dict[str, Array] = {}
    with _or_damaged(path), zipfile.ZipFile(path) as archive:
        for column, meaning in TABLES[name].items():
            type_, wide = np.dtype(meaning.type), meaning.type.endswith("8")
            if rows * type_.itemsize > min(_WHOLE_BYTES_MAX, path.stat().st_size * _DEFLATE_RATIO_MAX):
                raise ValueError(f"it is too small, or its {rows:,} rows are too many for format 1")
            info = archive.getinfo(f"{column}{_DELTA if wide else ''}.npy")
            _limit(info, type_, [(rows,)])
            array = _array(info, archive.read(info), type_, [(rows,)])
            columns[column] = np.cumsum(array.view("u8"), dtype="u8").view(array.dtype) if wide else array
    return Table(name, columns)
