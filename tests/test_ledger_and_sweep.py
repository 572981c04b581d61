"""Is what a killed owner left undone by the next sweep, and nothing else touched?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness import ledger as ledger_module
from harness.clock import until
from harness.engines.sweep import sweep
from harness.errors import Trouble
from harness.ledger import (
    CONTAINER,
    DIRECTORY,
    MARK,
    NETWORK,
    PROCESS,
    Ledger,
    Owner,
    marked_processes,
    new_mark,
    owner_alive,
    read,
    started_ticks,
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path))
    return tmp_path / "ledger"


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


def _dead_owner() -> Owner:
    """An owner as this process would be, had it been another that is dead."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return replace(Owner.here(), pid=process.pid, started=1)


def _write(directory: Path, owner: Owner, *entries: tuple[str, dict[str, object]]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{owner.pid}-{owner.started}-test.jsonl"
    lines: list[object] = [{"owner": str(owner)}]
    lines += [{"add": key, "kind": kind, "identity": identity} for key, (kind, identity) in enumerate(entries, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


# ---- the ledger ------------------------------------------------------------------------------------------------------


def test_what_is_added_is_in_the_file_and_what_is_struck_is_not(directory: Path) -> None:
    ledger = Ledger.open()
    first = ledger.add(DIRECTORY, path="/tmp/assay-a")
    second = ledger.add(PROCESS, mark="m")
    ledger.amend(second, pid=7, started=8)
    ledger.strike(first)
    ledger.strike(first)
    found = read(ledger.path)
    assert found is not None
    assert found[0] == Owner.here()
    assert [(entry.kind, entry.identity) for entry in found[1]] == [(PROCESS, {"mark": "m", "pid": 7, "started": 8})]
    assert found[1] == ledger.entries()
    ledger.strike(second)
    assert not ledger.path.exists()
    with ledger.entry(NETWORK, name="n"):
        assert ledger.path.exists()
    assert not ledger.path.exists()


def test_an_entry_whose_body_failed_stays(directory: Path) -> None:
    ledger = Ledger.open()
    with pytest.raises(OSError, match="half"), ledger.entry(NETWORK, name="n") as key:
        raise OSError("half a removal")
    assert [entry.key for entry in ledger.entries()] == [key]
    ledger.strike(key)


def test_one_ledger_for_a_process_and_directory(directory: Path, tmp_path: Path) -> None:
    assert Ledger.open() is Ledger.open()
    assert Ledger.open(tmp_path / "other") is not Ledger.open()


def test_many_threads_write_whole_lines(directory: Path) -> None:
    ledger = Ledger.open()
    keep = ledger.add(DIRECTORY, path="/tmp/assay-keep")

    def work() -> None:
        for _ in range(50):
            ledger.strike(ledger.add(PROCESS, mark="x" * 100))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(ledger.path) == (Owner.here(), ledger.entries())
    assert [entry.key for entry in ledger.entries()] == [keep]
    ledger.strike(keep)


def test_a_last_line_cut_short_is_ignored_and_a_file_without_owner_is_nobodys(directory: Path) -> None:
    path = _write(directory, Owner.here(), (DIRECTORY, {"path": "/tmp/assay-a"}))
    path.write_text(path.read_text() + '{"add": 2, "ki')
    found = read(path)
    assert found is not None
    assert len(found[1]) == 1
    path.write_text("nonsense\n[1]\n")
    assert read(path) is None
    assert sweep() == []


def test_a_ledger_that_cannot_be_written_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Trouble, match="ASSAY_STATE"):
        Ledger.open(tmp_path / "file" / "ledger")


def test_owners_are_told_apart() -> None:
    here = Owner.here()
    assert Owner.parse(str(here)) == here
    assert Owner.parse("7:8") is None
    assert owner_alive(here)
    assert not owner_alive(replace(here, started=here.started + 1))  # the pid was recycled
    assert not owner_alive(replace(here, boot="another-boot"))
    # Not ours to judge: another host, or another pid namespace of this boot.
    assert owner_alive(replace(here, boot="another-boot", place="elsewhere/1"))
    assert owner_alive(replace(here, started=1, place=here.place + "1"))


def test_a_zombie_is_dead() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert started_ticks(process.pid) is None
    assert started_ticks(os.getpid()) is not None


# ---- the sweep -------------------------------------------------------------------------------------------------------


def test_nothing_to_do_is_quick_and_loads_no_driver(directory: Path) -> None:
    living = _write(directory, Owner.here(), (CONTAINER, {"name": "assay-living"}))
    sweep()
    begun = time.monotonic()
    assert sweep() == []
    assert time.monotonic() - begun < 0.1
    assert living.exists()
    code = "import sys; from harness.engines.sweep import sweep; print(sweep(), 'docker' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]


def test_a_living_owners_things_are_left_alone(directory: Path, bystander: subprocess.Popen[bytes]) -> None:
    pid = bystander.pid
    _write(directory, Owner.here(), (PROCESS, {"pid": pid, "started": started_ticks(pid), "group": pid}))
    assert sweep() == []
    assert bystander.poll() is None


def test_a_dead_owners_process_is_ended_and_a_recycled_pid_is_not(
    directory: Path, bystander: subprocess.Popen[bytes]
) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as left:
        path = _write(
            directory,
            _dead_owner(),
            (PROCESS, {"name": "left", "pid": left.pid, "started": started_ticks(left.pid), "group": left.pid}),
            (PROCESS, {"name": "recycled", "pid": bystander.pid, "started": 1, "group": bystander.pid}),
        )
        said = sweep()
        assert left.wait(2) == -signal.SIGKILL
    assert len(said) == 1
    assert said[0].startswith(f"ended left (pid {left.pid}), left by dead owner")
    assert bystander.poll() is None
    assert not path.exists()
    assert sweep() == []


def test_a_process_whose_pid_was_never_written_down_is_found_by_its_mark(directory: Path) -> None:
    mark = new_mark()
    with subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: mark}, start_new_session=True) as left:
        until(lambda: marked_processes(mark) == [left.pid], within_s=2, what="the mark to show")
        _write(directory, _dead_owner(), (PROCESS, {"name": "left", "mark": mark}))
        assert len(sweep()) == 1
        assert left.wait(2) == -signal.SIGKILL


def test_directories_go_only_if_they_are_ours_by_name(directory: Path, tmp_path: Path) -> None:
    ours, foreign, linked = tmp_path / "assay-ours", tmp_path / "precious", tmp_path / "assay-linked"
    for one in (ours, foreign):
        one.mkdir()
        (one / "file").write_text("")
    linked.symlink_to(foreign)
    path = _write(
        directory,
        _dead_owner(),
        (DIRECTORY, {"path": str(ours)}),
        (DIRECTORY, {"path": str(foreign)}),
        (DIRECTORY, {"path": str(linked)}),
        (DIRECTORY, {"path": str(tmp_path / "assay-gone")}),
    )
    said = sweep()
    assert not ours.exists()
    assert (foreign / "file").exists()
    assert any("no directory of ours" in sentence for sentence in said)
    assert path.exists()  # what could not be undone stays written down


def test_a_container_engine_that_does_not_answer_keeps_the_entry(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/socket")
    path = _write(directory, _dead_owner(), (CONTAINER, {"name": "assay-left"}))
    (sentence,) = sweep()
    assert "could not undo container assay-left" in sentence
    assert path.exists()
    assert sweep(labels=True)


_HARNESS = """
import sys, time
sys.path.insert(0, {tests!r})
from nats_nodes import nats_nodes
from harness.engines.{module} import {engine}
topology = {engine}().create(nats_nodes(1), run="test-sweep")
print("ready", flush=True)
time.sleep(60)
"""


def _killed_harness(module: str, engine: str) -> None:
    """A harness that made a topology and was then killed."""
    code = _HARNESS.format(tests=str(Path(__file__).parent), module=module, engine=engine)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == b"ready\n"
        said = sweep(labels=engine == "Containers")
        assert not [sentence for sentence in said if "test-sweep" in sentence]  # it lives: nothing of it is touched
        harness.kill()


def test_a_killed_harness_of_local_processes_is_swept(directory: Path) -> None:
    _killed_harness("processes", "Processes")
    found = read(next(directory.glob("*.jsonl")))
    assert found is not None
    pids = [entry.identity["pid"] for entry in found[1] if entry.kind == PROCESS]
    places = [Path(str(entry.identity["path"])) for entry in found[1] if entry.kind == DIRECTORY]
    assert len(pids) == 2
    assert all(isinstance(pid, int) and started_ticks(pid) for pid in pids)
    assert all(place.exists() for place in places)
    said = sweep()
    assert len(said) == 3
    assert not any(isinstance(pid, int) and started_ticks(pid) for pid in pids)
    assert not any(place.exists() for place in places)
    assert not list(directory.glob("*.jsonl"))


@pytest.mark.engine
@pytest.mark.parametrize("by_labels", [False, True], ids=["by ledger", "by labels"])
def test_a_killed_harness_of_containers_is_swept(directory: Path, by_labels: bool) -> None:
    _killed_harness("containers.engine", "Containers")
    if by_labels:
        for path in directory.glob("*.jsonl"):
            path.unlink()
    said = sweep(labels=by_labels)
    assert sum("removed container" in sentence and "test-sweep" in sentence for sentence in said) == 3
    assert sum("removed network" in sentence and "test-sweep" in sentence for sentence in said) == 1
    assert not [sentence for sentence in sweep(labels=True) if "test-sweep" in sentence]


def test_the_state_directory_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "a"))
    assert ledger_module.ledger_directory() == tmp_path / "a" / "ledger"
    monkeypatch.delenv("ASSAY_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "b"))
    assert ledger_module.ledger_directory() == tmp_path / "b" / "assay" / "ledger"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert ledger_module.ledger_directory() == Path.home() / ".local" / "state" / "assay" / "ledger"
