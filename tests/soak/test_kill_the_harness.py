"""Does the soak of killed sessions know what it looks for? What it does itself takes an engine, and half an hour."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import kill_the_harness as soak
import pytest

from harness.clock import until
from harness.ledger import MARK, PROCESS, Ledger


def test_its_help_says_what_it_does() -> None:
    done = subprocess.run([sys.executable, soak.__file__, "--help"], capture_output=True, text=True, cwd=soak.ROOT)
    assert done.returncode == 0, done.stderr
    assert "--signal" in done.stdout


def test_every_cell_is_one_of_the_control_suite() -> None:
    command = soak.assay("verify", "suites/control", "--tier", "standard", "--list")
    listed = subprocess.run(command, capture_output=True, text=True, cwd=soak.ROOT, check=True).stdout
    cells = [f"[{configuration}-{fault}]" for configuration, fault, _ in soak.CELLS]
    assert [cell for cell in cells if cell not in listed] == []
    assert len(set(cells)) == len(cells)


def test_marks_are_read_from_ledgers_also_those_that_were_struck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = soak.Session(tmp_path)
    ledger = Ledger.open(session.state / "ledger")
    kept = ledger.add(PROCESS, name="kept", mark="abc1")
    ledger.strike(ledger.add(PROCESS, mark="abc2"))
    ledger.amend(kept, pid=7, started=8)
    session.note_marks()
    ledger.strike(kept)
    session.note_marks()
    assert session.marks == {"abc1", "abc2"}


def test_a_process_is_known_by_its_state_directory_or_by_its_mark() -> None:
    state = Path("/tmp/assay-killed-x/state")
    assert soak.is_ours(b"A=1\0ASSAY_STATE=/tmp/assay-killed-x/state\0B=2\0", state, ())
    assert soak.is_ours(f"A=1\0{MARK}=abc1\0".encode(), state, {"abc1", "abc2"})
    assert not soak.is_ours(f"A=1\0{MARK}=abc12\0".encode(), state, {"abc1"})
    assert not soak.is_ours(b"ASSAY_STATE=/tmp/assay-killed-x/state2\0", state, {"abc1"})
    assert not soak.is_ours(b"", state, ())


def test_a_process_that_stands_still_is_seen_as_that(tmp_path: Path) -> None:
    session = soak.Session(tmp_path)
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "ASSAY_STATE": str(session.state)}) as process:
        until(lambda: soak.processes(session) == [process.pid], within_s=2, what="it to be seen")
        assert not soak.stands_still(process.pid)
        process.send_signal(signal.SIGSTOP)
        until(lambda: soak.stands_still(process.pid), within_s=2, what="it to stand still")
        assert soak.processes(session) == [process.pid]
        process.kill()
    assert not soak.stands_still(process.pid)
    assert soak.processes(session) == []
    assert soak.state_in("7 (a) T) S 1 7") == "S"


def test_an_orphan_is_a_new_cgroup_without_its_container() -> None:
    assert soak.orphans({"old"}, {"old", "new", "left"}, {"new"}) == {"left"}


def test_what_a_sweep_says_of_others_is_not_counted() -> None:
    said = (
        "removed container a, left by dead owner 71\nremoved container b, left by dead owner 712\n"
        "could not undo volume c of dead owner 71: stuck\nexit 0: 2 things undone; -\n"
    )
    assert soak.undone_for("71:99:", said) == [said.splitlines()[0], said.splitlines()[2]]


def test_what_is_left_in_the_session_s_directories_is_found(tmp_path: Path) -> None:
    session = soak.Session(tmp_path)
    (session.state / "disks").mkdir(parents=True)
    (session.state / "sweep.lock").touch()
    session.temporary.mkdir()
    assert list(soak.left_over(session, None)) == []
    (session.state / "disks" / "assay-a.img").touch()
    (session.temporary / "assay-b").mkdir()
    (session.temporary / "pytest-of-root").mkdir()
    assert list(soak.left_over(session, None)) == [
        f"file {session.state}/disks/assay-a.img",
        f"temporary {session.temporary}/assay-b",
    ]


def test_a_session_that_ends_before_its_run_was_not_ended_in_time(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        assert not soak.begun(process, tmp_path)
    run = tmp_path / "session" / "runs" / "cell"
    run.mkdir(parents=True)
    (run / "progress.json").write_text("")
    assert soak.phase_of(tmp_path) == "?"
    (run / "progress.json").write_text('{"phase": "quiet"}\n')
    with subprocess.Popen(["true"]) as process:
        assert soak.begun(process, tmp_path)
    assert soak.phase_of(tmp_path) == "quiet"
