"""What does one client write down, as it does it, so that a SIGKILL loses nothing? Its journal.

One memory-mapped file: a head of 4096 bytes, then records of 48 bytes, little-endian. The kernel keeps what a killed
process has stored, so a record exists from the moment its kind, its last byte, is not 0. An operation is written
before the library is called; its end is a record of its own, joined at freeze. So a killed client leaves INFO behind.

    record   x0 u64 | x1 u64 | x2 u64 | x3 u64 | x4 u64 | epoch u16 | attempt u16 | code u16 | a u8 | kind u8

    kind       a                 attempt    code              x0        x1           x2            x3            x4
    PUBLISH    native_id 0/1     attempt    route word        message   intended     invoked       tag           -
    UNSENT     native_id 0/1     attempt    error word        message   intended     due           -             route
    CONFIRM    outcome+dup<<4    -          error word        tag_first tag_last     completed     sequence      -
    WRITTEN    -                 -          -                 tag_last  time         -             -             -
    DELIVER    flags             attempt    delivery_count    message   sequence     received      fetch_invoked number
    HANDLED    -                 -          -                 number    time         -             -             -
    ACK        kind              -          -                 number    time         -             -             -
    SETTLED    outcome           -          -                 number    time         -             -             -
    STATE      -                 -          state word        time      value        -             -             -
    CRASH      point             -          stage word        time      message      -             -             -
    WORD       length            -          number            40 bytes of UTF-8 in place of x0 to x4
    DEQUEUE    -                 -          -                 invoked   -            -             -             -
    EMPTY      outcome           -          -                 invoked   completed    -             -             -

Times are raw CLOCK_MONOTONIC ns; the head holds the run's origin. Flags of DELIVER: 1 redelivered, 2 corrupt,
4 foreign, 8 pulled. A dequeue (a pull of one message) is named by when it was invoked, which no other of its client is:
it was answered by the DELIVER with that time as fetch_invoked, or by its EMPTY (outcome OK: nothing was there; FAIL: it
was refused). The head's live words (counters, control) are what the harness reads and writes while it runs.
Standard library only: a client process starts with it.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from pathlib import Path

MAGIC = b"ASSAYJ02"
HEAD_SIZE = 4096
RECORD_SIZE = 48
_NATIVE = struct.Struct("@5L3H2B")
"""Used where it is the same layout: CPython packs a native long faster than a number of stated size."""
RECORD = _NATIVE if _NATIVE.size == RECORD_SIZE and sys.byteorder == "little" else struct.Struct("<5Q3H2B")
_KIND_AT = RECORD_SIZE - 1
_pack_into = RECORD.pack_into
_GROW_RECORDS = 65_536
_WORD_BYTES_MAX = 40

PUBLISH, UNSENT, CONFIRM, WRITTEN, DELIVER, HANDLED, ACK, SETTLED, STATE, CRASH, WORD = range(1, 12)
DEQUEUE, EMPTY = 12, 13
KIND_MAX = EMPTY
REDELIVERED, CORRUPT, FOREIGN, PULLED = 1, 2, 4, 8

# ---- head: magic, then u64 words ---------------------------------------------------------------------------------
# Each live word has one writer: the client writes counters; the harness writes control_*, stop, pause_publishing,
# conduct, slow_us and cut (how often the client was told to cut its connection; `cuts_done`: how many it lost by that).
_WORDS = (
    "magic",
    "origin_ns",
    "client",
    "pid",
    "records",
    "control_point",
    "control_after",
    "stop",
    "attempted",
    "handed",
    "answered",
    "acked",
    "received",
    "settled",
    "connections",
    "lost",
    "lost_ns",
    "answered_ns",
    "received_ns",
    "connected",
    "crash_ns",
    "ticker_ns",
    "ended",
    "unsent",
    "buffered",
    "pause_publishing",
    "control_stage",
    "conduct",
    "slow_us",
    "cut",
    "holding",
    "worked",
    "odd",
    "cuts_done",
)
AT = {word: 8 * place for place, word in enumerate(_WORDS)}
PLACE = {word: place for place, word in enumerate(_WORDS)}
_U64 = struct.Struct("<Q")


class Journal:
    """The writing end, in the client's process. One thread only."""

    def __init__(self, path: Path, *, client: int, origin_ns: int) -> None:
        self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 - lives as long as the process
        self._capacity = _GROW_RECORDS
        self._file.truncate(HEAD_SIZE + self._capacity * RECORD_SIZE)
        self._map = mmap.mmap(self._file.fileno(), 0)
        self._next = HEAD_SIZE
        self._end = HEAD_SIZE + self._capacity * RECORD_SIZE
        self._words: dict[str, int] = {"": 0}
        self._store = _U64.pack_into
        self._load = _U64.unpack_from
        self.set("origin_ns", origin_ns)
        self.set("client", client)
        self.set("pid", os.getpid())
        self._map[0:8] = MAGIC
        # A second mapping of the head: the first one grows, which it cannot while a view of it is held.
        self._head = mmap.mmap(self._file.fileno(), HEAD_SIZE)
        self.live: memoryview[int] = memoryview(self._head).cast("Q")
        """The head's words by PLACE, for those who touch one with every message."""

    @property
    def records(self) -> int:
        """Records written so far."""
        return (self._next - HEAD_SIZE) // RECORD_SIZE

    def set(self, word: str, value: int) -> None:
        """Store a live word of the head."""
        self._store(self._map, AT[word], value)

    def get(self, word: str) -> int:
        """Read a live word of the head."""
        return int(self._load(self._map, AT[word])[0])

    def add(self, word: str, by: int = 1) -> None:
        """Add to a live word of which this process is the only writer."""
        at = AT[word]
        self._store(self._map, at, self._load(self._map, at)[0] + by)

    def write(
        self,
        kind: int,
        a: int = 0,
        epoch: int = 0,
        attempt: int = 0,
        code: int = 0,
        x0: int = 0,
        x1: int = 0,
        x2: int = 0,
        x3: int = 0,
        x4: int = 0,
    ) -> None:
        """Append one record. Fields are stored in their order, the kind last: so a record that exists is whole."""
        at = self._next
        if at >= self._end:
            self._grow()
        _pack_into(self._map, at, x0, x1, x2, x3, x4, epoch, attempt, code, a, kind)
        self._next = at + RECORD_SIZE

    def take_back(self) -> None:
        """Unwrite the last record: what it announced was not done, and never will be."""
        self._next -= RECORD_SIZE
        self._map[self._next + _KIND_AT] = 0

    def word(self, text: str) -> int:
        """Number of a word, written down at its first use. Longer than 40 bytes: cut."""
        number = self._words.get(text)
        if number is None:
            number = self._words[text] = len(self._words)
            data = text.encode()[:_WORD_BYTES_MAX]
            at = self._next
            if at >= self._end:
                self._grow()
            _pack_into(self._map, at, 0, 0, 0, 0, 0, 0, 0, number, len(data), 0)
            self._map[at : at + len(data)] = data
            self._map[at + _KIND_AT] = WORD
            self._next = at + RECORD_SIZE
        return number

    def state(self, what: str, value: int = 0, epoch: int = 0) -> None:
        """Something that a judge must know of this client's health, now."""
        self.write(STATE, epoch=epoch, code=self.word(what), x0=time.monotonic_ns(), x1=value)

    def close(self) -> None:
        """Cut the file to what was written."""
        size = self._next
        self.live.release()
        self._head.close()
        self._map.close()
        self._file.truncate(size)
        self._file.close()

    def _grow(self) -> None:
        self._capacity *= 2
        size = HEAD_SIZE + self._capacity * RECORD_SIZE
        self._file.truncate(size)
        self._map.resize(size)
        self._end = size


class Head:
    """The harness's view of a living client's journal: reads its counters, writes its control words."""

    def __init__(self, path: Path) -> None:
        with open(path, "r+b") as file:
            if os.fstat(file.fileno()).st_size < HEAD_SIZE:
                file.truncate(HEAD_SIZE)
            self._map = mmap.mmap(file.fileno(), HEAD_SIZE)

    def get(self, word: str) -> int:
        """Read a word of the head."""
        return int(_U64.unpack_from(self._map, AT[word])[0])

    def set(self, word: str, value: int) -> None:
        """Write a control word."""
        _U64.pack_into(self._map, AT[word], value)

    @property
    def ready(self) -> bool:
        """Whether the client has opened its journal."""
        return bytes(self._map[0:8]) == MAGIC

    def close(self) -> None:
        """Unmap."""
        self._map.close()
