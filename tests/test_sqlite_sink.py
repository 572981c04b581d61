"""Does the SQLite sink keep every effect that it said it kept, once or as often as it was left?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.operation import PRODUCER_MAX, SEQUENCE_MAX, MessageId
from harness.sinks.sqlite import SQLite, audit, open_store

WRITER = """
import os, signal, sys
from harness.sinks.sqlite import open_store
store, first, last, once = open_store(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "once"
for message in range(first, last):
    (store.effect_once if once else store.effect)(message, message)
os.kill(os.getpid(), signal.SIGKILL)
"""


def write(path: Path, first: int, last: int, once: bool = False) -> subprocess.Popen[bytes]:
    arguments = [str(path), str(first), str(last), "once" if once else "each"]
    return subprocess.Popen([sys.executable, "-c", WRITER, *arguments])


def test_it_is_a_record_without_nodes() -> None:
    assert SQLite() == SQLite()
    assert (SQLite().name, SQLite().nodes()) == ("sqlite", ())


def test_audit_counts_in_the_order_of_first_writing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "sink.sqlite")
    for message, at_ns in ((5, 10), (3, 11), (5, 12), (9, 13), (5, 14)):
        store.effect(message, at_ns)
    assert audit(tmp_path / "sink.sqlite") == [(5, 3, 10, 14), (3, 1, 11, 11), (9, 1, 13, 13)]
    store.close()


def test_an_effect_once_is_there_once(tmp_path: Path) -> None:
    store = open_store(tmp_path / "sink.sqlite")
    assert [store.effect_once(message, message) for message in (1, 2, 1, 3, 2)] == [True, True, False, True, False]
    store.close()
    assert audit(tmp_path / "sink.sqlite") == [(1, 1, 1, 1), (2, 1, 2, 2), (3, 1, 3, 3)]


@pytest.mark.parametrize("message", [0, 1, (1 << 63) - 1, 1 << 63, MessageId(PRODUCER_MAX, SEQUENCE_MAX).packed])
def test_every_packed_id_comes_back(tmp_path: Path, message: int) -> None:
    store = open_store(tmp_path / "sink.sqlite")
    store.effect(message, 1)
    assert store.effect_once(message, 2)
    assert not store.effect_once(message, 3)
    store.close()
    assert audit(tmp_path / "sink.sqlite") == [(message, 2, 1, 2)]


def test_an_empty_store_has_no_effects(tmp_path: Path) -> None:
    assert audit(tmp_path / "sink.sqlite") == []


def test_processes_that_come_at_once_and_are_killed_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sink.sqlite"
    writers = [write(path, 100 * place, 100 * (place + 1)) for place in range(4)]
    assert [writer.wait(30) for writer in writers] == [-9] * 4
    assert sorted(audit(path)) == [(message, 1, message, message) for message in range(400)]


def test_processes_that_do_the_same_do_it_once(tmp_path: Path) -> None:
    path = tmp_path / "sink.sqlite"
    writers = [write(path, 0, 150, once=True) for _ in range(3)]
    assert [writer.wait(30) for writer in writers] == [-9] * 3
    assert [(message, count) for message, count, _, _ in sorted(audit(path))] == [(one, 1) for one in range(150)]
