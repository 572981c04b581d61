"""Does a journal lose anything when its writer is killed, and is every record in it whole?"""

from __future__ import annotations

import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bodies import records, words

from harness.clock import until
from harness.history import journal as j
from harness.history.join import Words, read_journal
from harness.history.journal import Head, Journal

WRITER = """
import sys
from pathlib import Path
from harness.history import journal as j
from harness.history.join import Words, read_journal
journal = j.Journal(Path(sys.argv[1]), client=3, origin_ns=0)
mask, n = (1 << 64) - 1, 0
while True:
    n += 1
    if n % 1000 == 0:
        journal.word(f"word {n}")
    if n % 7 == 0:
        journal.write(j.PUBLISH, x0=n)
        journal.take_back()
    journal.write(j.DELIVER, n & 0xFF, n & 0xFFFF, n & 0xFFFF, n & 0xFFFF, n, n ^ mask, n * 3 & mask, n << 7, n + 1)
    journal.live[j.PLACE["received"]] = n
"""


def new(path: Path) -> Journal:
    return Journal(path, client=3, origin_ns=17)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "c.3.journal"
    journal = new(path)
    journal.write(j.PUBLISH, 1, 2, 3, 4, 2**64 - 1, 6, 7, 8, 9)
    journal.state("lost", value=5, epoch=2)
    journal.state("lost", value=6, epoch=3)
    assert journal.records == 4
    journal.close()
    publish, word, *states = records(path)
    assert publish == (j.PUBLISH, 1, 2, 3, 4, 2**64 - 1, 6, 7, 8, 9)
    assert (word.kind, word.code) == (j.WORD, 1)
    assert [(state.kind, state.epoch, state.code, state.x1) for state in states] == [
        (j.STATE, 2, 1, 5),
        (j.STATE, 3, 1, 6),
    ]
    assert words(path) == ["", "lost"]
    assert path.stat().st_size == j.HEAD_SIZE + 4 * j.RECORD_SIZE


def test_a_journal_of_the_older_layout_is_read_as_it_was(tmp_path: Path) -> None:
    now, before = tmp_path / "now.3.journal", tmp_path / "before.3.journal"
    journal = new(now)
    journal.write(j.PUBLISH, 1, 2, 3, 4, 2**64 - 1, 6, 7, 8, 9)
    journal.state("lost", value=5, epoch=2)
    journal.close()
    body = b""
    for record in records(now):
        word = words(now)[1].encode().ljust(40, b"\0") if record.kind == j.WORD else struct.pack("<5Q", *record[5:])
        body += struct.pack("<BBHHH", *record[:5]) + word
    before.write_bytes(b"ASSAYJ01" + now.read_bytes()[8 : j.HEAD_SIZE] + body)
    words_now, words_before = Words(), Words()
    one, other = read_journal(now, words_now), read_journal(before, words_before)
    assert words_now == words_before
    assert words_now.numbers == {"": 0, "lost": 1}
    assert one.words.tolist() == other.words.tolist()
    for name in one.records.dtype.names or ():
        assert one.records[name].tolist() == other.records[name].tolist()


def test_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "c.3.journal"
    journal = new(path)
    for n in range(200_000):
        journal.write(j.DELIVER, x0=n)
    journal.live[j.PLACE["received"]] = 200_000
    journal.close()
    assert [record.x0 for record in records(path)] == list(range(200_000))
    head = Head(path)
    assert head.get("received") == 200_000
    head.close()


def test_a_word_is_written_once_and_cut_at_forty_bytes(tmp_path: Path) -> None:
    path = tmp_path / "c.3.journal"
    journal = new(path)
    assert journal.word("") == 0
    assert [journal.word(word) for word in ("a", "b" * 50, "a")] == [1, 2, 1]
    journal.close()
    assert words(path) == ["", "a", "b" * 40]


def test_what_is_taken_back_was_never_there(tmp_path: Path) -> None:
    path = tmp_path / "c.3.journal"
    journal = new(path)
    journal.write(j.PUBLISH, x0=1)
    journal.write(j.PUBLISH, x0=2)
    journal.take_back()
    assert [record.x0 for record in records(path)] == [1]
    journal.write(j.UNSENT, x0=2)
    journal.close()
    assert [(record.kind, record.x0) for record in records(path)] == [(j.PUBLISH, 1), (j.UNSENT, 2)]


def test_harness_and_client_share_the_head_and_keep_what_was_set_before(tmp_path: Path) -> None:
    path = tmp_path / "c.3.journal"
    path.write_bytes(b"")
    head = Head(path)
    head.set("pause_publishing", 1)
    head.set("control_point", 4)
    assert not head.ready
    journal = new(path)
    assert head.ready
    assert (head.get("client"), head.get("origin_ns")) == (3, 17)
    assert journal.get("control_point") == journal.live[j.PLACE["control_point"]] == 4
    head.set("stop", 1)
    journal.add("acked", 2)
    journal.live[j.PLACE["acked"]] += 1
    assert (journal.get("stop"), head.get("acked"), head.get("pause_publishing")) == (1, 3, 1)
    journal.close()
    head.close()


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_at_any_time_loses_no_record_and_leaves_none_torn(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "c.3.journal"
    path.write_bytes(bytes(j.HEAD_SIZE))
    head = Head(path)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    until(lambda: head.get("received") > 0, within_s=10, what="the writer", poll_s=0.001)
    time.sleep(random.Random(seed).uniform(0.0, 0.25))
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    received = head.get("received")
    head.close()
    found = [record for record in records(path) if record.kind == j.DELIVER]
    mask = (1 << 64) - 1
    for n, record in enumerate(found, 1):
        small = n & 0xFFFF
        assert record == (j.DELIVER, n & 0xFF, small, small, small, n, n ^ mask, n * 3 & mask, n << 7, n + 1)
    assert received <= len(found) <= received + 1, "every record that the counter knows of is there"
    assert all(record.kind in (j.DELIVER, j.WORD, j.PUBLISH) for record in records(path))
    assert sum(record.kind == j.PUBLISH for record in records(path)) <= 1, "only the one that was to be taken back next"


def test_nothing_of_what_is_taken_back_shows_in_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "c.3.journal"
    journal = new(path)
    journal.write(j.UNSENT, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    journal.take_back()
    journal.write(j.ACK, 1, x0=1, x1=2)
    journal.close()
    assert records(path) == [(j.ACK, 1, 0, 0, 0, 1, 2, 0, 0, 0)]


@pytest.mark.parametrize("last", range(6))
def test_a_record_is_whole_whichever_of_its_fields_are_zero(tmp_path: Path, last: int) -> None:
    path = tmp_path / "c.3.journal"
    fields = [2**64 - 1 if place == last else 0 for place in range(5)]
    journal = new(path)
    journal.write(j.DELIVER, 1, 2, 3, 4, *fields)
    journal.close()
    assert records(path) == [(j.DELIVER, 1, 2, 3, 4, *fields)]
