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
from types import SimpleNamespace

import docker.errors
import pytest

from harness import ledger as ledger_module
from harness.clock import until
from harness.engines import loops
from harness.engines import sweep as sweep_module
from harness.engines.containers import box, leftovers
from harness.engines.sweep import sweep
from harness.errors import Trouble
from harness.ledger import (
    CONTAINER,
    DIRECTORY,
    MARK,
    NETWORK,
    PROCESS,
    VOLUME,
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


def test_a_line_that_is_written_by_half_is_taken_back(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, write = Ledger.open(), os.write

    def half(descriptor: int, line: bytes) -> int:
        return write(descriptor, line[: len(line) // 2])

    def add_in_vain() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            with pytest.raises(Trouble, match="No space left"):
                ledger.add(NETWORK, name="lost")

    add_in_vain()
    assert not ledger.path.exists()
    first = ledger.add(NETWORK, name="first")
    add_in_vain()
    second = ledger.add(NETWORK, name="second")
    found = read(ledger.path)
    assert found is not None
    assert [entry.identity["name"] for entry in found[1]] == ["first", "second"]
    ledger.strike(first)
    ledger.strike(second)


def test_an_owner_that_proc_hides_is_alive_if_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = replace(Owner.here(), pid=4_000_000, started=1)
    assert not owner_alive(hidden)

    def refuse(pid: int, number: int) -> None:
        assert (pid, number) == (hidden.pid, 0)
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert owner_alive(hidden)


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
        assert not owner_alive(replace(Owner.here(), pid=process.pid, started=1))
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


class _Engine:
    """A container engine that shows a thing only when it is asked for the third time, and what it was told to undo."""

    def __init__(self, *late: str, there: tuple[str, ...] = ()) -> None:
        self.late, self.there = late, there
        self.asked: list[str] = []

    def undo(self, kind: str, name: str) -> str | None:
        self.asked.append(name)
        shown = name in self.there or (name in self.late and self.asked.count(name) == 3)
        return f"removed {kind} {name}" if shown else None


def test_what_was_being_made_when_its_owner_was_killed_is_waited_for(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "_containers", lambda: engine)
    monkeypatch.setattr(sweep_module, "_LOOK_S", 0.01)
    engine = _Engine("assay-late", "assay-net", "assay-data")
    things = ((CONTAINER, {"name": "assay-late"}), (NETWORK, {"name": "assay-net"}), (VOLUME, {"name": "assay-data"}))
    path = _write(directory, _dead_owner(), *things)
    assert [sentence.partition(",")[0] for sentence in sweep()] == [
        "removed container assay-late",
        "removed network assay-net",
        "removed volume assay-data",
    ]
    assert not path.exists()


def test_all_that_may_still_appear_share_one_limit_and_an_older_ledger_costs_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "_containers", lambda: engine)
    monkeypatch.setattr(sweep_module, "_APPEARS_WITHIN_S", 0.2)
    engine = _Engine()
    gone = [(CONTAINER, {"name": f"assay-{number}"}) for number in range(5)]
    path = _write(directory, _dead_owner(), *gone)
    begun = time.monotonic()
    assert sweep() == []
    assert 0.1 < time.monotonic() - begun < 0.6
    assert not path.exists()
    path = _write(directory, _dead_owner(), *gone)
    os.utime(path, (time.time() - 1, time.time() - 1))
    engine.asked.clear()
    begun = time.monotonic()
    assert sweep() == []
    assert time.monotonic() - begun < 0.1
    assert len(engine.asked) == 5


def test_the_newest_of_a_kind_goes_first(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "_containers", lambda: engine)
    names = ("assay-anchor", "assay-node", "assay-hog")
    engine = _Engine(there=("assay-net", *names))
    _write(directory, _dead_owner(), (NETWORK, {"name": "assay-net"}), *((CONTAINER, {"name": name}) for name in names))
    sweep()
    assert engine.asked == ["assay-hog", "assay-node", "assay-anchor", "assay-net"]


def test_a_loop_device_is_found_by_the_real_path_of_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    devices = tmp_path / "block"
    for number, told in enumerate((f"{real}/assay-a.img", f"{real}/assay-a.img (deleted)", f"{real}/assay-b.img")):
        (devices / f"loop{number}" / "loop").mkdir(parents=True)
        (devices / f"loop{number}" / "loop" / "backing_file").write_text(told + "\n")
    monkeypatch.setattr(loops, "_DEVICES", devices)
    assert loops.attached(link / "assay-a.img") == ["/dev/loop0", "/dev/loop1"]
    monkeypatch.chdir(real)
    assert loops.attached(Path("assay-b.img")) == ["/dev/loop2"]


class _Api:
    """The container engine's interface, with these containers, networks and volumes; `stuck` ones cannot be removed."""

    def __init__(self, stuck: str = "", **things: list[dict[str, object]]) -> None:
        self.things, self.stuck = things, stuck
        self.removed: list[str] = []

    def containers(self, **_: object) -> list[dict[str, object]]:
        return self.things["containers"]

    def networks(self, **_: object) -> list[dict[str, object]]:
        return self.things["networks"]

    def volumes(self, **_: object) -> dict[str, list[dict[str, object]]]:
        return {"Volumes": self.things["volumes"]}

    def inspect_container(self, name: str) -> dict[str, object]:
        if name in self.removed:
            raise docker.errors.NotFound(name)
        return {"Id": f"id-{name}"}

    def remove_container(self, name: str, **_: object) -> None:
        if name == self.stuck:
            raise docker.errors.APIError("it is stuck")
        self.removed.append(name)

    remove_network = remove_volume = remove_container


def _use(api: _Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (box, leftovers, sys.modules["harness.engines.containers.network"]):
        monkeypatch.setattr(module, "client", lambda: SimpleNamespace(api=api))
    monkeypatch.setattr(sys.modules["harness.engines.containers.disk"], "client", lambda: SimpleNamespace(api=api))
    monkeypatch.setattr(leftovers, "silent", lambda **_: None)


def test_by_labels_one_that_cannot_be_removed_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = {"assay": "1", "assay.owner": str(_dead_owner())}
    living = {"assay": "1", "assay.owner": str(Owner.here())}
    api = _Api(
        stuck="stuck",
        containers=[
            {"Names": ["/stuck"], "Id": "1", "Labels": dead},
            {"Names": None, "Id": "nameless", "Labels": dead},
            {"Names": ["/living"], "Id": "3", "Labels": living},
        ],
        networks=[{"Name": "net", "Labels": dead}],
        volumes=[{"Name": "anonymous", "Labels": dead}],
    )
    _use(api, monkeypatch)
    said = leftovers.sweep_labels()
    assert api.removed == ["nameless", "net", "anonymous"]
    assert [sentence.partition(" of dead")[0].partition(",")[0] for sentence in said] == [
        "could not undo container stuck",
        "removed container nameless",
        "removed network net",
        "removed volume anonymous",
    ]


def test_the_empty_cgroups_of_a_container_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = _Api()
    _use(api, monkeypatch)
    monkeypatch.setattr(box, "CGROUPS", tmp_path)
    empty = [tmp_path / place / "id-node" for place in ("memory/docker", "blkio/docker", "docker")]
    others = [tmp_path / "cpu/docker/id-node/id-hog", tmp_path / "memory/docker/id-other"]
    for one in (*empty, *others):
        one.mkdir(parents=True)
    box.remove_container("node")
    box.remove_container("node")
    assert api.removed == ["node"]
    assert not any(one.exists() for one in empty)
    assert all(one.exists() for one in others)


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
    assert ledger_module.ledger_directory() == (Path.home() / ".local" / "state" / "assay" / "ledger").resolve()


def test_the_state_directory_is_absolute_and_real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_STATE", "link/state")
    assert ledger_module.state_directory() == tmp_path.resolve() / "real" / "state"
