"""What have we made on this machine that must be undone, even if we are killed before we can?

*Owner*: one process of ours, named so that a recycled pid is not mistaken for it. *Ledger*: the owner's file of
entries, each written before the thing is made and struck after it is gone. What a dead owner's file still holds is the
sweep's.

A line is one JSON object, appended with one write: `{"owner": ...}` first, then `{"add": 3, "kind": ..., "identity":
{...}}`, `{"amend": 3, "identity": {...}}` and `{"strike": 3}`. A write that reached the kernel survives SIGKILL of the
writer, which is all that is asked: after a power loss the things themselves are gone too.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from harness.clock import boot_id
from harness.errors import Trouble

Plain = str | int | None
Identity = Mapping[str, Plain]

PROCESS = "process"  # pid, started (ticks), group, mark: a local process that leads a group of its own
DIRECTORY = "directory"  # path: a directory of ours with all that is in it
CONTAINER = "container"  # name: a container, labelled with its owner
NETWORK = "network"  # name: a container network, labelled with its owner
VOLUME = "volume"  # name: a volume of the container engine, labelled with its owner
LOOP = "loop"  # path: the file of ours that is attached to a loop device
IMAGE = "image"  # path: a file of ours, the image of a disk

MARK = "ASSAY_MARK"
"""Environment variable that a process of ours carries, so that it is known even if its pid was never written down."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One process: `pid`, `started` (ticks since boot, so that a recycled pid differs), the boot, and the place (host
    and pid namespace) where that pid means something."""

    pid: int
    started: int
    boot: str
    place: str

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(pid, started_ticks(pid) or 0, boot_id(), _place())

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner that `str(owner)` wrote; None if it is none."""
        match = re.fullmatch(r"(\d+):(\d+):([^:]+):(.+)", text)
        return cls(int(match[1]), int(match[2]), match[3], match[4]) if match else None

    def __str__(self) -> str:
        return f"{self.pid}:{self.started}:{self.boot}:{self.place}"


def _place() -> str:
    """Host and pid namespace: elsewhere our pids name other processes, so nobody there may judge them."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = "pid"
    return f"{socket.gethostname()}/{namespace.removeprefix('pid:').strip('[]')}"


def started_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the command, in parentheses, may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def owner_alive(owner: Owner) -> bool:
    """Whether that process still runs, as far as we can tell: an owner of another host, or of another pid namespace of
    this boot, counts as alive, because its things are not ours to judge."""
    here = Owner.here()
    if owner.boot != here.boot:
        return owner.place.partition("/")[0] != here.place.partition("/")[0]
    if owner.place != here.place:
        return True
    ticks = started_ticks(owner.pid)
    if ticks is None and not os.access(f"/proc/{owner.pid}/stat", os.R_OK):
        return _answers(owner.pid)
    return ticks == owner.started


def _answers(pid: int) -> bool:
    """Whether there is such a process, where /proc does not say so: it may hide those of other users (hidepid)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def marked_processes(mark: str) -> list[int]:
    """Pids of all processes whose environment carries MARK=`mark`: also those that left their process group."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:  # gone meanwhile, or another user's
                continue
            if wanted in environment.split(b"\0"):
                found.append(int(entry.name))
    return found


def new_mark() -> str:
    """A mark that no other process carries."""
    return secrets.token_hex(8)


def state_directory() -> Path:
    """What outlives a session is here: $ASSAY_STATE, else $XDG_STATE_HOME/assay, else ~/.local/state/assay.

    Absolute, and without symbolic links: a ledger is read from another directory, and the kernel tells the real path of
    what a loop device is attached to."""
    if own := os.environ.get("ASSAY_STATE"):
        return Path(own).resolve()
    base = os.environ.get("XDG_STATE_HOME")
    return ((Path(base) if base else Path.home() / ".local" / "state") / "assay").resolve()


def ledger_directory() -> Path:
    """Where the ledgers of all owners are, a file each."""
    return state_directory() / "ledger"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was made, or was about to be."""

    key: int
    kind: str
    identity: Identity = field(default_factory=dict)


@dataclass(slots=True)
class Ledger:
    """The entries of this process. Thread-safe; one per process and directory, got from `open`.

    A forked child that opens it gets a ledger of its own. The file is there only while it holds entries.
    """

    path: Path
    owner: Owner
    _entries: dict[int, Entry] = field(default_factory=dict)
    _next: int = 1
    _lock: threading.Lock = field(default_factory=threading.Lock)

    _opened: ClassVar[dict[tuple[int, Path], Ledger]] = {}
    _opening: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def open(cls, directory: Path | None = None) -> Ledger:
        """The ledger of this process in `directory` (default: `ledger_directory()`). Raises Trouble if it cannot be
        written: nothing may be made that could not be undone."""
        where = (directory or ledger_directory()).absolute()
        with cls._opening:
            ledger = cls._opened.get((os.getpid(), where))
            if ledger is None:
                try:
                    where.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise _unwritable(where, error) from error
                owner = Owner.here()
                name = f"{owner.pid}-{owner.started}-{owner.boot[:8]}.jsonl"
                ledger = cls._opened[os.getpid(), where] = cls(where / name, owner)
            return ledger

    def add(self, kind: str, **identity: Plain) -> int:
        """Write an entry, before the thing is made. Returns the key to strike it with."""
        with self._lock:
            entry = Entry(self._next, kind, identity)
            self._write({"add": entry.key, "kind": kind, "identity": identity})
            self._next += 1
            self._entries[entry.key] = entry
            return entry.key

    def amend(self, key: int, **identity: Plain) -> None:
        """Write down what could only be known once the thing was made, such as a pid."""
        with self._lock:
            entry = self._entries[key]
            self._write({"amend": key, "identity": identity})
            self._entries[key] = Entry(key, entry.kind, {**entry.identity, **identity})

    def strike(self, key: int | None) -> None:
        """Strike an entry, after its thing is gone. Idempotent."""
        with self._lock:
            if key is None or self._entries.pop(key, None) is None:
                return
            if self._entries:
                self._write({"strike": key})
            else:
                self.path.unlink(missing_ok=True)

    @contextmanager
    def entry(self, kind: str, **identity: Plain) -> Iterator[int]:
        """An entry for as long as the body runs; the body has undone its thing when it leaves without an error."""
        key = self.add(kind, **identity)
        yield key
        self.strike(key)

    def entries(self) -> tuple[Entry, ...]:
        """What is not struck, oldest first."""
        with self._lock:
            return tuple(self._entries.values())

    def _write(self, line: Mapping[str, object]) -> None:
        text = json.dumps(line) + "\n"
        if not self._entries:
            text = json.dumps({"owner": str(self.owner)}) + "\n" + text
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _append(descriptor, text.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._entries:
                self.path.unlink(missing_ok=True)
            raise _unwritable(self.path, error) from error


def _append(descriptor: int, line: bytes) -> None:
    """Write all of it or nothing: the line that came after half of one would be lost with it."""
    before = os.fstat(descriptor).st_size
    if os.write(descriptor, line) < len(line):
        os.ftruncate(descriptor, before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read(path: Path) -> tuple[Owner, tuple[Entry, ...]] | None:
    """Owner and open entries of a ledger's file; None if it cannot be understood. A last line cut short is ignored."""
    owner: Owner | None = None
    entries: dict[int, Entry] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if not isinstance(line, dict):
            continue
        if "owner" in line:
            owner = Owner.parse(str(line["owner"]))
        elif "add" in line:
            entries[line["add"]] = Entry(line["add"], line["kind"], line["identity"])
        elif "amend" in line and line["amend"] in entries:
            old = entries[line["amend"]]
            entries[old.key] = Entry(old.key, old.kind, {**old.identity, **line["identity"]})
        elif "strike" in line:
            entries.pop(line["strike"], None)
    return None if owner is None else (owner, tuple(entries.values()))


def _unwritable(path: Path, error: OSError) -> Trouble:
    return Trouble(
        f"cannot write the ledger of what must be undone, {path}: {error}",
        cure="set ASSAY_STATE to a directory that can be written",
    )
