"""Is what a node had not flushed really gone after its power failed, is that seen, and is nothing left of its disk?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nats_nodes import greeted, nats_nodes

import docker
from harness.brokers.nats.configuration import JetStream, Nats
from harness.clock import until
from harness.engines import loops
from harness.engines.containers import api
from harness.engines.containers.disk import ContainerDisk, images_directory
from harness.engines.containers.engine import Containers, ContainerTopology
from harness.engines.processes import Processes
from harness.engines.sweep import sweep
from harness.errors import Refused
from harness.faults.power import DISK_MB, PowerLoss, PowerLossOfSeveral, RollingPowerLoss
from harness.guarantee import Status
from harness.ledger import IMAGE, LOOP, Owner, ledger_directory
from harness.operation import Role
from harness.plain import from_plain, to_plain
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.needs import Equipment
from tests.runs import needs, run_cell

ROOT = Path(__file__).parents[1]
RUN = "test-power-loss"
CELL = "nats-jetstream-r1-as-shipped-power_loss_leader"
SLOW_CONSUMERS = Steady(rate_hz=500, quiet_s=0.5, prefetch=10, service_ms=20)


def test_what_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="power_loss: role=consumer"):
        PowerLoss(Role.CONSUMER)
    with pytest.raises(Refused, match="power_loss: which='few'"):
        PowerLossOfSeveral("few")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fault",
    [PowerLoss(Role.FOLLOWER), PowerLossOfSeveral("majority"), RollingPowerLoss(hold_s=1.0)],
    ids=lambda fault: fault.name,
)
def test_its_json_reads_back_to_the_same_fault(fault: PowerLoss | PowerLossOfSeveral | RollingPowerLoss) -> None:
    assert from_plain(type(fault), to_plain(fault)) == fault


def test_every_node_of_its_cell_has_a_disk_and_of_other_cells_none() -> None:
    configuration = Nats("r1")
    with_power, without = (
        Scenario(configuration=configuration, schedule=Repeat(fault)).nodes()
        for fault in (PowerLoss(), PowerLoss(Role.ANY_NODE))
    )
    assert {node.equipment for node in with_power} == {Equipment(disk_mb=DISK_MB)}
    assert with_power == without
    assert configuration.nodes()[0].equipment == Equipment()


def test_local_processes_have_no_disks_and_it_is_known_beforehand() -> None:
    assert "disk" not in Processes().offers().capabilities
    assert "lose_power" not in Processes().offers().verbs
    assert {"disk"} <= Containers().offers().capabilities


def test_without_loop_devices_it_is_said_beforehand_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "CONTROL", "/dev/no-such-control")
    assert "cure: run as root" in str(loops.unavailable())
    monkeypatch.setattr(loops, "executable", lambda _: None)
    assert "cure: apt-get install" in str(loops.unavailable())


def test_an_image_says_whether_it_was_unmounted_in_order(tmp_path: Path) -> None:
    needs(loops.unavailable())
    image = tmp_path / "assay-test.img"
    loops.make_image(image, 64)
    assert not loops.needs_recovery(image)
    with open(image, "r+b") as disk:  # the flag that ext4 sets while it is mounted
        disk.seek(1024 + 0x60)
        flags = int.from_bytes(disk.read(4), "little")
        disk.seek(1024 + 0x60)
        disk.write((flags | 0x4).to_bytes(4, "little"))
    assert loops.needs_recovery(image)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own, so that images and ledgers are its own, too."""
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def _left(directory: Path) -> list[str]:
    """What is left of disks whose images were in a directory: loop devices, mounts, volumes, images."""
    devices = {}
    for told in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            devices[f"/dev/{told.parts[3]}"] = told.read_text().strip()
        except OSError:  # somebody else's, detached meanwhile
            continue
    ours = {device for device, file in devices.items() if file.startswith(str(directory))}
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if line.split()[0] in ours]
    client = docker.from_env()
    try:
        volumes = [
            str(volume.name)
            for volume in client.volumes.list(filters={"label": api.LABEL})
            if (volume.attrs["Labels"] or {}).get("assay.image", "").startswith(str(directory))
        ]
    finally:
        client.close()
    return [*sorted(ours), *mounts, *volumes, *map(str, directory.glob("*"))]


@pytest.fixture
def topology(state: Path) -> Iterator[ContainerTopology]:
    made = Containers().create([replace(spec, equipment=Equipment(disk_mb=64)) for spec in nats_nodes(1)], run=RUN)
    try:
        yield made
    finally:
        made.remove()
    assert _left(images_directory()) == []
    assert list(ledger_directory().glob("*.jsonl")) == []


@pytest.mark.engine
def test_what_was_flushed_is_there_after_it_and_what_was_not_is_gone(topology: ContainerTopology) -> None:
    topology.prepare(frozenset({"lose_power"}))
    node, disk = topology.nodes["nats-1"], topology.disk("nats-1")
    greeted(topology.link("harness", "nats-1", "client"))
    disk._tell(("sh", "-c", "echo kept >/disk/flushed; sync /disk/flushed; echo lost >/disk/unflushed"))
    assert disk.probe() == ""
    assert disk.lose_power() == "ok"
    assert disk.probe() == "Input/output error"
    node.kill()
    disk.release()
    disk.release()
    assert not loops.mounted(disk.device)
    assert disk.needs_recovery()
    node.start()
    greeted(topology.link("harness", "nats-1", "client"))
    assert disk._tell(("sh", "-c", "cat /disk/flushed; ls /disk")).split() == [
        "kept",
        "flushed",
        "jetstream",
        "lost+found",
    ]
    assert topology.dirty


@pytest.mark.engine
def test_a_disk_that_is_let_go_of_in_order_needs_no_recovery(topology: ContainerTopology) -> None:
    topology.prepare(frozenset({"lose_power"}))
    node, disk = topology.nodes["nats-1"], topology.disk("nats-1")
    disk._tell(("sh", "-c", "echo there >/disk/unflushed"))
    node.kill()
    disk.release()
    assert not disk.needs_recovery()
    node.start()
    assert disk._tell(("cat", "/disk/unflushed")) == "there\n"


@pytest.mark.engine
def test_its_sidecar_has_one_capability_and_the_broker_none(topology: ContainerTopology) -> None:
    topology.prepare(frozenset({"lose_power"}))
    topology.prepare(frozenset({"lose_power"}))
    client = docker.from_env()
    try:
        ours = client.containers.list(filters={"label": f"{api.RUN_LABEL}={RUN}"})
        powers = {str(one.name): one.attrs["HostConfig"] for one in ours}
    finally:
        client.close()
    assert [power["CapAdd"] for name, power in powers.items() if "-disk-" in name] == [["SYS_ADMIN"]]
    assert not any(power["CapAdd"] for name, power in powers.items() if "-disk-" not in name)
    assert not any(power["Privileged"] for power in powers.values())


def _lies(self: ContainerDisk) -> str:
    """Says that it did it."""
    return "ok"


@pytest.mark.engine
@pytest.mark.parametrize("armed", [True, False], ids=["armed", "disarmed"])
def test_a_loss_of_power_bites_or_says_that_it_did_not(
    armed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not armed:
        monkeypatch.setattr(ContainerDisk, "lose_power", _lies)
    scenario = Scenario(
        configuration=Nats("r1", jetstream=JetStream()),
        schedule=Repeat(PowerLoss(Role.LEADER)),
        workload=SLOW_CONSUMERS,
    )
    run = run_cell(scenario, tmp_path / "run", engine=Containers())
    (injection,) = run.history.terms.injections
    assert (injection.bit_ns is not None) is armed, injection
    assert (injection.why_not is None) is armed
    assert injection.recovered_ns is not None
    statuses = {name: verdict.status for name, verdict in run.judgement.verdicts.items()}
    if armed:
        assert injection.facts["needs_recovery"] == {"nats-1": True}
        assert injection.facts["write_afterwards"] == {"nats-1": "Input/output error"}
        assert statuses["at_least_once"] is Status.VIOLATED
    else:
        assert "a file was written after the loss" in str(injection.why_not)
        assert "its disk was unmounted in order" in str(injection.why_not)
        assert Status.HELD not in statuses.values()


LIED_TO = {  # what of it was disarmed; each alone is proved to bite by the control suite
    "majority": PowerLossOfSeveral("majority"),
    "one after another": RollingPowerLoss(),
}


@pytest.mark.engine
@pytest.mark.parametrize("case", LIED_TO)
def test_a_loss_of_power_of_several_that_one_node_did_not_suffer_did_not_bite(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose, told = ContainerDisk.lose_power, list[ContainerDisk]()

    def first_lies(self: ContainerDisk) -> str:
        told.append(self)
        return _lies(self) if self is told[0] else lose(self)

    monkeypatch.setattr(ContainerDisk, "lose_power", first_lies)
    scenario = Scenario(
        configuration=Nats("r3", members=3, jetstream=JetStream(replicas=3)),
        schedule=Repeat(LIED_TO[case]),
        workload=SLOW_CONSUMERS,
        recovery_limit_s=2.0,
    )
    run = run_cell(scenario, tmp_path / "run", engine=Containers())
    (injection,) = run.history.terms.injections
    assert len(told) > 1
    assert injection.bit_ns is None, dict(injection.facts)
    assert "a file was written after the loss" in str(injection.why_not)
    assert Status.HELD not in {verdict.status for verdict in run.judgement.verdicts.values()}


# ---- a harness that is killed ----------------------------------------------------------------------------------------


def _phase(reports: Path) -> str:
    for path in reports.glob(f"*/runs/{CELL}/progress.json"):
        try:
            return str(json.loads(path.read_text())["phase"])
        except (OSError, ValueError):
            return ""
    return ""


@pytest.mark.engine
@pytest.mark.parametrize("phase", ["quiet", "break"])
def test_of_a_killed_harness_no_disk_is_left_after_the_next_sweep(phase: str, state: Path, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    command = [sys.executable, "-m", "harness.cli.main", "verify", "suites/stories/test_power_loss.py"]
    command += ["--assay-tier", "standard", "--configuration", "nats-jetstream-r1-as-shipped"]
    command += ["--assay-engine", "containers", "--assay-reports", str(reports)]
    with open(tmp_path / "harness.log", "wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until(
            lambda: _phase(reports) == phase,
            within_s=60,
            what=f"phase {phase}",
            last_seen=lambda: (tmp_path / "harness.log").read_text()[-2000:],
            poll_s=0.005,
        )
        if phase == "break":
            time.sleep(0.25)  # frozen, shut down, or killed by then: whichever, it was in the middle of it
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert any(device.startswith("/dev/loop") for device in _left(images_directory()))
    sweep()
    assert _left(images_directory()) == []
    assert list(ledger_directory().glob("*.jsonl")) == []


_HARNESS = """
import sys, time
sys.path.insert(0, {tests!r})
from dataclasses import replace
from nats_nodes import nats_nodes
from harness.engines.containers.engine import Containers
from harness.system.needs import Equipment
specs = [replace(spec, equipment=Equipment(disk_mb=64)) for spec in nats_nodes(1)]
topology = Containers().create(specs, run="test-power-loss")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.engine
def test_a_disk_whose_ledger_was_lost_is_found_by_the_label_of_its_volume(state: Path) -> None:
    code = _HARNESS.format(tests=str(Path(__file__).parent))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        before = _left(images_directory())
        sweep(labels=True)
        assert _left(images_directory()) == before  # its owner lives
        process.kill()
    assert len(before) == 4  # device, mount, volume, image
    for path in ledger_directory().glob("*.jsonl"):
        path.unlink()
    sweep(labels=True)
    assert _left(images_directory()) == []


def test_an_image_goes_only_if_it_is_ours_by_name_and_after_its_loop_device(state: Path, tmp_path: Path) -> None:
    ours, foreign = tmp_path / "assay-ours.img", tmp_path / "precious.img"
    for one in (ours, foreign):
        one.write_bytes(b"")
    with subprocess.Popen(["true"]) as process:
        process.wait()
    owner = replace(Owner.here(), pid=process.pid, started=1)
    ledger_directory().mkdir(parents=True)
    entries = [(LOOP, ours), (IMAGE, ours), (LOOP, foreign), (IMAGE, foreign), (IMAGE, tmp_path / "assay-gone.img")]
    lines = [json.dumps({"owner": str(owner)})]
    lines += [
        json.dumps({"add": key, "kind": kind, "identity": {"path": str(path)}})
        for key, (kind, path) in enumerate(entries, 1)
    ]
    ledger = ledger_directory() / "dead.jsonl"
    ledger.write_text("\n".join(lines) + "\n")
    said = sweep()
    assert not ours.exists()
    assert foreign.exists()
    assert sum("no file of ours" in sentence for sentence in said) == 2
    assert ledger.exists()
