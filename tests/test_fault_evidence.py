"""Does a fault that was disarmed say that it did not bite? Whole runs on the memory broker: once as it is, once with
the one call that breaks something taken out, while all that is read back stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.brokers.memory.configuration import Memory
from harness.engines.link import ProxyLink
from harness.engines.process_node import ProcessNode
from harness.faults.blackhole import AcknowledgementLoss, Blackhole, ConsumerAcknowledgementLoss
from harness.faults.client import KillClient
from harness.faults.conduct import DoubleAcknowledgement, Hoard, SlowConsumer, WrongOrder
from harness.faults.fault import Fault
from harness.faults.network import Disconnect, Latency, Stall
from harness.faults.node import Kill, Pause, Stop
from harness.faults.restart import CrashLoop, Restart
from harness.faults.standstill import AbruptClose, PauseClient
from harness.guarantee import Status
from harness.history.terms import InjectionTerms
from harness.operation import CrashPoint, Role
from harness.run import Run
from harness.runner.client import ClientProcess
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.topology import Direction
from tests.runs import run_cell

CONFIRMED = Memory("confirmed")
UNCONFIRMED = Memory("unconfirmed", confirms=False, acknowledge="automatic")

Disarm = Callable[[pytest.MonkeyPatch], None]


def without(owner: type, verb: str) -> Disarm:
    """The verb does nothing."""
    return lambda patch: patch.setattr(owner, verb, lambda *_, **__: None)


def outlives_the_first(patch: pytest.MonkeyPatch) -> None:
    """The first SIGKILL goes nowhere; the one that mends does not."""
    kill, calls = ClientProcess.kill, [0]

    def late(self: ClientProcess) -> None:
        calls[0] += 1
        if calls[0] > 1:
            kill(self)

    patch.setattr(ClientProcess, "kill", late)


def cuts_nothing(patch: pytest.MonkeyPatch) -> None:
    """Links stay up; what `cut` needs of it to count is not called here."""
    patch.setattr(ProxyLink, "disconnect", lambda self: None)


def starts_late(patch: pytest.MonkeyPatch) -> None:
    """The first start goes nowhere; the one that mends does not."""
    start, calls = ProcessNode.start, [0]

    def late(self: ProcessNode) -> None:
        calls[0] += 1
        if calls[0] > 1:
            start(self)

    patch.setattr(ProcessNode, "start", late)


def survives_the_second(patch: pytest.MonkeyPatch) -> None:
    """Of several SIGKILLs of a node the second goes nowhere."""
    kill, calls = ProcessNode.kill, [0]

    def skip(self: ProcessNode) -> None:
        calls[0] += 1
        if calls[0] != 2:
            kill(self)

    patch.setattr(ProcessNode, "kill", skip)


FAULTS: dict[str, tuple[Fault, Memory, Disarm]] = {
    "latency": (Latency(), CONFIRMED, without(ProxyLink, "latency")),
    "latency of producers that nobody answers": (
        Latency(Role.PRODUCER),
        UNCONFIRMED,
        without(ProxyLink, "latency"),
    ),
    "latency of consumers": (Latency(Role.CONSUMER), CONFIRMED, without(ProxyLink, "latency")),
    "blackhole": (Blackhole(), CONFIRMED, without(ProxyLink, "blackhole")),
    "blackhole without confirms": (Blackhole(), UNCONFIRMED, without(ProxyLink, "blackhole")),
    "blackhole of producers that nobody answers": (
        Blackhole(Role.PRODUCER),
        UNCONFIRMED,
        without(ProxyLink, "blackhole"),
    ),
    "blackhole up": (Blackhole(direction=Direction.UP), CONFIRMED, without(ProxyLink, "blackhole")),
    "blackhole down": (Blackhole(direction=Direction.DOWN), CONFIRMED, without(ProxyLink, "blackhole")),
    "acknowledgement loss": (AcknowledgementLoss(), CONFIRMED, without(ProxyLink, "blackhole")),
    "consumer acknowledgement loss": (ConsumerAcknowledgementLoss(), CONFIRMED, without(ProxyLink, "blackhole")),
    "stall": (Stall(), CONFIRMED, without(ProxyLink, "stall")),
    "stall of producers that nobody answers": (Stall(Role.PRODUCER), UNCONFIRMED, without(ProxyLink, "stall")),
    "disconnect": (Disconnect(), CONFIRMED, cuts_nothing),
    "disconnect under backlog": (Disconnect(Role.CONSUMER, backlog_ms=80), CONFIRMED, cuts_nothing),
    "kill of a node": (Kill(), CONFIRMED, without(ProcessNode, "kill")),
    "stop of a node": (Stop(), CONFIRMED, without(ProcessNode, "stop")),
    "pause of a node": (Pause(), CONFIRMED, without(ProcessNode, "pause")),
    "kill of a client's node": (Kill(Role.CLIENT_NODE), CONFIRMED, without(ProcessNode, "kill")),
    "restart of a node": (Restart(), CONFIRMED, without(ProcessNode, "kill")),
    "restart of a node that is never started again": (Restart(), CONFIRMED, starts_late),
    "restart of a node in order": (Restart(how="stop"), CONFIRMED, without(ProcessNode, "stop")),
    "crash loop": (CrashLoop(lives_ms=100), CONFIRMED, survives_the_second),
    "kill of a consumer": (KillClient(Role.CONSUMER), CONFIRMED, outlives_the_first),
    "kill of a producer": (KillClient(Role.PRODUCER), CONFIRMED, outlives_the_first),
    "crash point": (
        KillClient(Role.CONSUMER, at=CrashPoint.AFTER_RECEIVE),
        CONFIRMED,
        without(ClientProcess, "arm"),
    ),
    "pause of a consumer": (PauseClient(Role.CONSUMER, hold_s=3.0), CONFIRMED, without(ClientProcess, "pause")),
    "pause of a producer": (PauseClient(Role.PRODUCER, hold_s=3.0), CONFIRMED, without(ClientProcess, "pause")),
    "pause that nobody notices": (
        PauseClient(Role.CONSUMER, given_up=False, hold_s=0.6),
        CONFIRMED,
        without(ClientProcess, "pause"),
    ),
    "abrupt close of a consumer": (AbruptClose(Role.CONSUMER), CONFIRMED, without(ClientProcess, "cut")),
    "abrupt close of a producer": (AbruptClose(Role.PRODUCER), CONFIRMED, without(ClientProcess, "cut")),
    "slow consumer": (SlowConsumer(), CONFIRMED, without(ClientProcess, "slow_down")),
    "slow consumer that acknowledges nothing": (SlowConsumer(), UNCONFIRMED, without(ClientProcess, "slow_down")),
    "hoard": (Hoard(), CONFIRMED, without(ClientProcess, "behave")),
    "wrong order": (WrongOrder(), CONFIRMED, without(ClientProcess, "behave")),
    "double acknowledgement": (DoubleAcknowledgement(), CONFIRMED, without(ClientProcess, "behave")),
}


def injected(fault: Fault, configuration: Memory, directory: Path) -> tuple[InjectionTerms, Run]:
    scenario = Scenario(
        configuration=configuration,
        schedule=Repeat(fault),
        workload=Steady(rate_hz=500, quiet_s=0.4, producers=2, consumers=2),
    )
    run = run_cell(scenario, directory)
    (injection,) = run.history.terms.injections
    return injection, run


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_is_armed_bites(fault: str, tmp_path: Path) -> None:
    value, configuration, _ = FAULTS[fault]
    injection, run = injected(value, configuration, tmp_path / "run")
    assert injection.why_not is None
    assert injection.bit_ns is not None
    assert injection.recovered_ns is not None, run.judgement.trial


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_is_disarmed_did_not_bite_and_nothing_is_held(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, configuration, disarm = FAULTS[fault]
    disarm(monkeypatch)
    injection, run = injected(value, configuration, tmp_path / "run")
    assert injection.bit_ns is None, dict(injection.facts)
    assert injection.why_not
    statuses: dict[str, Any] = {name: verdict.status for name, verdict in run.judgement.verdicts.items()}
    assert Status.HELD not in statuses.values(), statuses
