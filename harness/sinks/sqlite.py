"""Where does processing leave its effects? In an SQLite file: one committed row each, on disk when the call returns.

Several consumer processes share one file. `effects` has a row for each effect, in the order of their commits; `ids`
holds the messages whose effect was done by `effect_once`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.clock import until
from harness.system.topology import NodeSpec

BUSY_S = 5.0
_SIGN = 1 << 63
_SCHEMA = """
CREATE TABLE IF NOT EXISTS effects (message INTEGER NOT NULL, at_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ids (message INTEGER PRIMARY KEY) WITHOUT ROWID;
"""
_AUDIT = "SELECT message, count(*), min(at_ns), max(at_ns) FROM effects GROUP BY message ORDER BY min(rowid)"


@dataclass(frozen=True, slots=True)
class SQLite:
    """Effects in a file of the run directory, in WAL mode with synchronous=FULL: no nodes of its own."""

    name: ClassVar[str] = "sqlite"

    def nodes(self) -> tuple[NodeSpec, ...]:
        """None: it is a library, not a server."""
        return ()


class Store:
    """One process's connection to the file."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        # Several processes may come at once, and turning WAL on does not wait for another that does the same.
        until(self._prepared, within_s=BUSY_S, what=f"the store {path} to be free", poll_s=0.005)

    def _prepared(self) -> bool:
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                return False
            raise
        return True

    def effect(self, message: int, at_ns: int) -> None:
        """Leave one effect of a message (packed id), committed. Raises sqlite3.Error where it is not."""
        self._database.execute("INSERT INTO effects VALUES (?, ?)", (_signed(message), at_ns))

    def effect_once(self, message: int, at_ns: int) -> bool:
        """Leave the effect and the id in one transaction; False, and nothing done, when the id was there already."""
        run = self._database.execute
        run("BEGIN IMMEDIATE")
        try:
            added = run("INSERT OR IGNORE INTO ids VALUES (?)", (_signed(message),)).rowcount == 1
            if added:
                run("INSERT INTO effects VALUES (?, ?)", (_signed(message), at_ns))
        except BaseException:
            run("ROLLBACK")
            raise
        run("COMMIT")
        return added

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def open_store(path: str | Path) -> Store:
    """The store at `path`, made if it is not there."""
    return Store(Path(path))


def audit(path: str | Path) -> list[tuple[int, int, int, int]]:
    """Every message with an effect, in the order of first writing: (packed id, count, first_ns, last_ns).

    Times are those handed to `effect`. Opened anew, so it sees what was committed and nothing else.
    """
    store = open_store(path)
    try:
        rows = store._database.execute(_AUDIT).fetchall()
    finally:
        store.close()
    return [(_unsigned(message), count, first_ns, last_ns) for message, count, first_ns, last_ns in rows]


def _signed(message: int) -> int:
    """SQLite's integers are signed; ids are not."""
    return message - (_SIGN << 1) if message >= _SIGN else message


def _unsigned(stored: int) -> int:
    return stored + (_SIGN << 1) if stored < 0 else stored
