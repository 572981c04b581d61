"""What did owners that are dead leave behind, and is it undone now?

By their ledgers, for every engine; and, where asked, by the labels in the container engine. Nothing else is touched:
a process only if pid and start (or its mark) are those written down, a directory or the image of a disk only if it is
one of ours by name, a container, network or volume only if its label or a dead owner's ledger names it. Idempotent; two
sweeps at once do no harm.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from harness.clock import happens
from harness.engines import loops
from harness.errors import AssayError
from harness.ledger import (
    CONTAINER,
    DIRECTORY,
    IMAGE,
    LOOP,
    NETWORK,
    PROCESS,
    VOLUME,
    Entry,
    Owner,
    ledger_directory,
    marked_processes,
    owner_alive,
    read,
    started_ticks,
)

_END_WITHIN_S = 5.0
_APPEARS_WITHIN_S = 5.0
"""How long after an owner's last word the container engine may still make what it was asked for."""
_LOOK_S = 0.1
_LEFTOVERS = "harness.engines.containers.leftovers"  # by name: without containers to undo, docker is never loaded


def sweep(*, labels: bool = False, directory: Path | None = None) -> list[str]:
    """Undo it, and say what was undone, one sentence each.

    `labels`: also ask the container engine for what carries the label of a dead owner (for when ledgers were lost, or
    kept elsewhere); without it the engine is asked only if a dead owner's ledger names something in it.
    """
    said: list[str] = []
    for path in sorted((directory or ledger_directory()).glob("*.jsonl")):
        said += _sweep_ledger(path)
    if labels:
        said += _containers().sweep_labels()
    return said


def _sweep_ledger(path: Path) -> list[str]:
    found = read(path)
    if found is None or owner_alive(found[0]):
        return []
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # another sweep was faster
        return []
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _undo_all(path, *found)
    except BlockingIOError:  # another sweep is at it
        return []
    finally:
        os.close(descriptor)


def _undo_all(path: Path, owner: Owner, entries: Sequence[Entry]) -> list[str]:
    said, failed = [], False
    # Processes first: they write into the directories. Networks and volumes after the containers that are in them or
    # have them, and what is under a volume after it. Within a kind the newest first: what came later lives in what was
    # there before, a sidecar in its anchor's namespace, say.
    order = {PROCESS: 0, CONTAINER: 1, DIRECTORY: 2, NETWORK: 3, VOLUME: 4, LOOP: 5, IMAGE: 6}
    appears_until = time.monotonic() + _may_appear_s(path)
    for entry in sorted(entries, key=lambda entry: (order.get(entry.kind, 9), -entry.key)):
        try:
            undone = _undo(entry, appears_until)
        except (AssayError, OSError) as error:
            failed = True
            said.append(f"could not undo {entry.kind} {_named(entry)} of dead owner {owner.pid}: {error}")
        else:
            if undone:
                said.append(f"{undone}, left by dead owner {owner.pid}")
    if not failed:
        path.unlink(missing_ok=True)
    return said


def _may_appear_s(path: Path) -> float:
    """For how long what a ledger names may still appear: its owner may have been killed while the container engine was
    making it. Nothing for a ledger that is older."""
    try:
        silent_s = time.time() - path.stat().st_mtime
    except OSError:  # another sweep has undone all of it
        return 0.0
    return min(max(_APPEARS_WITHIN_S - silent_s, 0.0), _APPEARS_WITHIN_S)


def _undo(entry: Entry, appears_until: float) -> str | None:
    """What was undone; None if it was gone already. Raises AssayError or OSError."""
    if entry.kind == PROCESS:
        return _end(entry)
    if entry.kind == DIRECTORY:
        return _delete(Path(str(entry.identity["path"])))
    if entry.kind == LOOP:
        path = _ours(Path(str(entry.identity["path"])), "file")
        return f"detached {path} from its loop device" if loops.detach(path) else None
    if entry.kind == IMAGE:
        return _delete_image(Path(str(entry.identity["path"])))
    if entry.kind in (CONTAINER, NETWORK, VOLUME):
        return _undo_in_engine(entry.kind, str(entry.identity["name"]), appears_until)
    raise AssayError(f"an entry of the unknown kind {entry.kind!r}: a newer Assay wrote it")


def _undo_in_engine(kind: str, name: str, appears_until: float) -> str | None:
    undone: str | None = None

    def found() -> bool:
        nonlocal undone
        undone = _containers().undo(kind, name)
        return undone is not None

    happens(found, within_s=appears_until - time.monotonic(), poll_s=_LOOK_S)
    return undone


def _end(entry: Entry) -> str | None:
    pid, mark = entry.identity.get("pid"), entry.identity.get("mark")
    pids = set(marked_processes(str(mark))) if mark else set()
    if isinstance(pid, int) and started_ticks(pid) is not None and started_ticks(pid) == entry.identity.get("started"):
        pids.add(pid)
    pids.discard(os.getpid())
    if not pids:
        return None
    for one in pids:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if not happens(lambda: all(started_ticks(one) is None for one in pids), within_s=_END_WITHIN_S, poll_s=0.005):
        raise AssayError(f"pids {sorted(pids)} survived SIGKILL for {_END_WITHIN_S:g} s")
    return f"ended {_named(entry)} (pid {', '.join(map(str, sorted(pids)))})"


def _delete(path: Path) -> str | None:
    _ours(path, "directory")
    if path.is_symlink() or not path.exists():
        return None
    shutil.rmtree(path)
    return f"deleted {path}"


def _delete_image(path: Path) -> str | None:
    _ours(path, "file")
    if devices := loops.attached(path):
        raise AssayError(f"{path} is still attached to {', '.join(devices)}")
    if path.is_symlink() or not path.exists():
        return None
    path.unlink()
    return f"deleted {path}"


def _ours(path: Path, what: str) -> Path:
    if not path.is_absolute() or not path.name.startswith("assay-"):
        raise AssayError(f"{path} is no {what} of ours: they are absolute, and named assay-...")
    return path


def _named(entry: Entry) -> str:
    identity = entry.identity
    return str(identity.get("name") or identity.get("path") or identity.get("pid") or identity.get("mark") or entry.key)


def _containers() -> ModuleType:
    return importlib.import_module(_LEFTOVERS)
