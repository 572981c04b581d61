"""Is what is timed really recorded, and is a record that was lost or damaged noticed?"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bodies import records

from harness.bench import record, recorder
from harness.errors import Trouble
from harness.history import journal as j
from harness.history.journal import Journal


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MESSAGES", 500), ("KILLS", 2), ("_PAGE_MESSAGES", 128 * 8)):
        monkeypatch.setattr(record, name, value)


def test_every_figure_is_measured_and_says_its_goal() -> None:
    figures = {figure.name: figure for figure in record.measure()}
    assert all(figure.value is not None and figure.value >= 0 for figure in figures.values())
    assert {name: figure.goal for name, figure in figures.items() if figure.goal is not None} == {
        "record an operation, the mean of both": 350.0,
        "record an operation, against a line of json.dumps into a file": 8.0,
        "memory of an operation": 48.0,
        "a row of the stored history": 8.0,
        "records lost by 2 SIGKILLs of a recording process": 0.0,
    }
    assert figures["memory of an operation"].value == j.RECORD_SIZE
    assert figures["records lost by 2 SIGKILLs of a recording process"].value == 0


@pytest.mark.parametrize(
    ("timed", "kinds"), [(record.publish, [j.PUBLISH, j.CONFIRM]), (record.consume, [j.DELIVER, j.ACK])]
)
def test_what_is_timed_are_two_whole_records_a_message(
    tmp_path: Path, timed: Callable[[Journal, int, int], None], kinds: list[int]
) -> None:
    path = tmp_path / "c.1.journal"
    journal = Journal(path, client=1, origin_ns=0)
    timed(journal, 3, time.monotonic_ns())
    journal.close()
    assert [one.kind for one in records(path)] == kinds * 3


def test_a_killed_recorder_has_lost_nothing_that_it_counted(tmp_path: Path) -> None:
    counted, read = record.killed(tmp_path / "c.1.journal", 0.05)
    assert counted > 0
    assert read in (counted, counted + 1)


def test_a_record_that_is_not_what_was_written_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = recorder.fields
    monkeypatch.setattr(recorder, "fields", lambda number: (*right(number)[:-1], number + 2))
    with pytest.raises(Trouble, match=r"field x4 of a record in c\.1\.journal is not what was written"):
        record.killed(tmp_path / "c.1.journal", 0.01)


def test_a_record_that_was_counted_and_is_gone_counts_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "killed", lambda path, after_s: (10, 7))
    figure = record._killed(tmp_path, lambda what: None)
    assert (figure.value, figure.met) == (6.0, False)
