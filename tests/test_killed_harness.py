"""What is left when the harness is killed with SIGKILL in the middle of a run? Nothing that runs, and all it recorded.

Five kills at five phases: client processes end by themselves, the next start sweeps the rest, and what was recorded is
judged, with UNKNOWN where it must be.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.clock import happens, until
from harness.engines.sweep import sweep
from harness.ledger import DIRECTORY, PROCESS, ledger_directory, marked_processes, read

ROOT = Path(__file__).parents[1]
PHASES = ("deploy", "quiet", "break", "recover", "drain")
CELL = "nats-jetstream-r1-kill_leader"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own, so that the sweep sees this dead harness alone."""
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def harness(tmp_path: Path, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "harness.cli.main", "verify", "--configuration", "nats-jetstream-r1"]
    command += ["--fault", "kill_leader", "--assay-engine", "processes", "--assay-reports", str(tmp_path / "reports")]
    with open(tmp_path / "harness.log", "wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def _phase(reports: Path) -> str:
    for path in reports.glob(f"*/runs/{CELL}/progress.json"):
        try:
            return str(json.loads(path.read_text())["phase"])
        except (OSError, ValueError):
            return ""
    return ""


def _left() -> tuple[list[str], list[str]]:
    """(marks of processes, directories) in the ledgers of this test's state directory."""
    marks, directories = [], []
    for path in ledger_directory().glob("*.jsonl"):
        known = read(path)
        for entry in known[1] if known is not None else ():
            if entry.kind == PROCESS:
                marks.append(str(entry.identity["mark"]))
            elif entry.kind == DIRECTORY:
                directories.append(str(entry.identity["path"]))
    return marks, directories


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_harness_leaves_nothing_running_and_loses_nothing(
    phase: str, harness: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    reports = tmp_path / "reports"
    until(
        lambda: _phase(reports) == phase,
        within_s=60,
        what=f"phase {phase}",
        last_seen=lambda: (tmp_path / "harness.log").read_text()[-2000:],
        poll_s=0.005,
    )
    clients = [pid for mark in _left()[0] for pid in marked_processes(mark) if _is_client(pid)]
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    marks, directories = _left()
    assert clients or phase == "deploy"
    assert happens(lambda: not any(map(_is_client, clients)), within_s=5.0), f"clients outlived the harness: {clients}"

    sweep()

    assert [pid for mark in marks for pid in marked_processes(mark)] == []
    assert [path for path in directories if Path(path).exists()] == []
    assert list(ledger_directory().glob("*.jsonl")) == []
    run = next(reports.glob(f"*/runs/{CELL}"))
    recheck = subprocess.run(
        [sys.executable, "-m", "harness.cli.main", "recheck", str(run)], cwd=ROOT, capture_output=True, text=True
    )
    assert recheck.returncode in (1, 2), recheck.stdout + recheck.stderr
    assert "HELD " not in recheck.stdout, "an interrupted run was called HELD"


def _is_client(pid: int) -> bool:
    try:
        return b"harness.clients.body" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_harness_that_is_told_to_end_cleans_up_and_says_so(harness: subprocess.Popen[bytes], tmp_path: Path) -> None:
    until(lambda: _phase(tmp_path / "reports") == "quiet", within_s=60, what="load", poll_s=0.005)
    marks, directories = _left()
    harness.send_signal(signal.SIGTERM)
    assert harness.wait(timeout=30) == 143
    assert [pid for mark in marks for pid in marked_processes(mark)] == []
    assert [path for path in directories if os.path.exists(path)] == []
    assert "exit 143" in (tmp_path / "harness.log").read_text()
