"""Do faults of disk, files and memory bite, and do they say so when they were disarmed? On real brokers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.brokers.nats.configuration import JetStream, Nats
from harness.brokers.rabbitmq.configuration import Classic, RabbitMQ
from harness.engines.containers import disk as disks
from harness.engines.containers.disk import ContainerDisk
from harness.engines.containers.engine import Containers
from harness.engines.containers.memory import Hog
from harness.engines.containers.node import ContainerNode
from harness.engines.processes import Processes
from harness.errors import Refused
from harness.faults.disk import DiskFull, DiskNearlyFull, SlowDisk
from harness.faults.fault import Fault
from harness.faults.files import FlipBits, Truncate
from harness.faults.memory import MemoryAlarm, OutOfMemory
from harness.guarantee import Status
from harness.operation import Role
from harness.plain import from_plain, to_plain
from harness.scenario.matrix import inapplicable
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from tests.runs import run_cell

R1 = Nats("r1", jetstream=JetStream())
R1_SYNC = Nats("r1-sync", jetstream=JetStream(sync_interval="always"))
CLASSIC = RabbitMQ("classic", queue=Classic())

Disarm = Callable[[pytest.MonkeyPatch], None]


def without(owner: type, verb: str, answer: object = None) -> Disarm:
    """The verb does nothing, and answers so."""
    return lambda patch: patch.setattr(owner, verb, lambda *_, **__: answer)


def edited(program: str, old: str, new: str) -> Disarm:
    """What runs in the sidecar leaves one step out, and still reads back what is there."""
    text = getattr(disks, program)
    assert old in text
    return lambda patch: patch.setattr(disks, program, text.replace(old, new))


FAULTS: dict[str, tuple[Fault, Nats | RabbitMQ, Disarm, str]] = {
    "full disk": (DiskFull(hold_s=1.0), R1, without(ContainerDisk, "fill"), "bytes were free"),
    "nearly full disk": (DiskNearlyFull(hold_s=0.5), R1, without(ContainerDisk, "fill"), "bytes were free"),
    "slow disk": (SlowDisk(hold_s=1.5), R1_SYNC, without(ContainerDisk, "slow"), "was not slowed"),
    "one bit": (FlipBits(), R1, edited("_FLIP", "syswrite($f, $new)", "1"), "is as it was"),
    "torn tail": (Truncate(), R1, edited("_CUT", "truncate($f, $to)", "1"), "is as it was"),
    "no memory left": (OutOfMemory(), R1, without(Hog, "take", 0), "is running after"),
    "memory alarm": (MemoryAlarm(hold_s=1.0), CLASSIC, without(ContainerNode, "execute", ""), "no node reports"),
}


@pytest.mark.engine
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("armed", [True, False], ids=["armed", "disarmed"])
def test_it_bites_or_says_that_it_did_not(
    fault: str, armed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, configuration, disarm, why_not = FAULTS[fault]
    if not armed:
        disarm(monkeypatch)
    scenario = Scenario(
        configuration=configuration, schedule=Repeat(value), workload=Steady(rate_hz=500, quiet_s=0.4, producers=2)
    )
    run = run_cell(scenario, tmp_path / "run", engine=Containers())
    (injection,) = run.history.terms.injections
    assert (injection.bit_ns is not None) is armed, (injection.why_not, dict(injection.facts))
    if not armed:
        assert why_not in str(injection.why_not)
        statuses: dict[str, Any] = {name: verdict.status for name, verdict in run.judgement.verdicts.items()}
        assert Status.HELD not in statuses.values(), statuses


@pytest.mark.parametrize("fault", [row[0] for row in FAULTS.values()], ids=lambda fault: fault.name)
def test_its_json_reads_back_to_the_same_fault(fault: Any) -> None:
    assert from_plain(type(fault), to_plain(fault)) == fault


@pytest.mark.parametrize("kind", [DiskFull, DiskNearlyFull, SlowDisk, FlipBits, Truncate, MemoryAlarm, OutOfMemory])
def test_a_role_of_clients_is_refused(kind: Callable[[Role], Fault]) -> None:
    with pytest.raises(Refused, match="role=consumer"):
        kind(Role.CONSUMER)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: DiskNearlyFull(leave_mb=0), "leave_mb=0"),
        (lambda: SlowDisk(kib_per_s=1), "kib_per_s=1"),
        (lambda: Truncate(bytes_max=0), "bytes_max=0"),
    ],
)
def test_figures_that_mean_nothing_are_refused(wrong: Callable[[], Fault], says: str) -> None:
    with pytest.raises(Refused, match=says):
        wrong()


def test_a_memory_alarm_means_nothing_to_nats_and_it_is_known_beforehand() -> None:
    assert "no memory alarm" in str(inapplicable(R1, MemoryAlarm(), processed=False))
    assert inapplicable(CLASSIC, MemoryAlarm(), processed=False) is None


def test_local_processes_have_no_limit_of_memory_and_it_is_known_beforehand() -> None:
    assert "memory" not in Processes().offers().capabilities
    assert "memory" in Containers().offers().capabilities
    verbs = {"fill", "slow", "flip", "cut", "exhaust_memory"}
    assert not verbs & Processes().offers().verbs
    assert verbs <= Containers().offers().verbs
