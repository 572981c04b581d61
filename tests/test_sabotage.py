"""Is each lie of a client noticed? The table of suites/control/test_sabotage.py on the memory broker, in whole runs.

Honest clients keep the same guarantees in tests/test_planted_bugs.py and tests/test_client_faults.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.brokers.memory.configuration import Memory
from harness.clients.sabotage import SABOTAGES, sabotaged
from harness.clients.spec import ClientSpec
from harness.errors import Refused
from harness.faults.blackhole import AcknowledgementLoss
from harness.faults.client import KillClient
from harness.faults.fault import Fault
from harness.faults.node import Kill
from harness.faults.nothing import Nothing
from harness.guarantee import Status
from harness.operation import CrashPoint, Role
from harness.processing.ack_after import AckAfterEffect
from harness.run import Run
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.sinks.sqlite import SQLite
from tests.runs import run_cell

PLAIN = Memory("plain", acknowledge="confirmed")
DEDUPLICATED = Memory("same-id", retry="same-id", deduplicate=True)
FAR = Steady(rate_hz=500, quiet_s=0.4, distance_ms=20, confirm_timeout_s=1.0)
NEAR = Steady(rate_hz=500, quiet_s=0.5, confirm_timeout_s=1.0)
PROCESSING = Steady(rate_hz=100, quiet_s=0.5, distance_ms=1, service_ms=1, prefetch=20)

TABLE: dict[str, tuple[Memory, Fault, Steady, str, Status]] = {
    "answers-itself": (PLAIN, Kill(), FAR, "at_least_once", Status.VIOLATED),
    "acknowledges-first": (
        PLAIN,
        KillClient(Role.CONSUMER, at=CrashPoint.BETWEEN_ACK_AND_EFFECT),
        PROCESSING,
        "at_least_once_processed",
        Status.VIOLATED,
    ),
    "drops-msg-id": (DEDUPLICATED, AcknowledgementLoss(), NEAR, "publish_once", Status.VIOLATED),
    "discards": (PLAIN, Nothing(), NEAR, "at_least_once", Status.VIOLATED),
    "omits-a-delivery": (PLAIN, Nothing(), NEAR, "at_least_once", Status.UNKNOWN),
    "records-twice": (PLAIN, Nothing(), NEAR, "at_most_once", Status.UNKNOWN),
}


def run(lie: str, directory: Path) -> Run:
    configuration, fault, workload, _, _ = TABLE[lie]
    processed = lie == "acknowledges-first"
    return run_cell(
        Scenario(
            configuration=configuration,
            schedule=Repeat(fault),
            workload=workload,
            processing=AckAfterEffect() if processed else None,
            sink=SQLite() if processed else None,
            sabotage=lie,
        ),
        directory,
    )


def test_every_lie_is_told() -> None:
    assert set(TABLE) == set(SABOTAGES)


@pytest.mark.parametrize("lie", TABLE)
def test_a_lie_changes_the_verdict(lie: str, tmp_path: Path) -> None:
    guarantee, expected = TABLE[lie][3:]
    lied = run(lie, tmp_path / "run")
    verdict = lied.verdict(guarantee)
    assert verdict.status is expected, verdict.sentence
    if expected is Status.UNKNOWN:
        assert any("miscounts" in reason for reason in verdict.reasons)
        found = {"omits-a-delivery": "lost_so_far", "records-twice": "duplicate_delivery_so_far"}[lie]
        assert lied.judgement.counts[found] == 1
        assert Status.HELD not in {one.status for one in lied.judgement.verdicts.values()}


def test_an_unknown_lie_is_refused() -> None:
    spec = ClientSpec(
        number=1, name="c", slot="c", role=Role.CONSUMER, group="g", run=1, family="memory", orders={}, addresses=(),
        journal="", origin_ns=0, deadline_ns=0, options={"sabotage": "omits-deliveries"},
    )  # fmt: skip
    with pytest.raises(Refused, match="unknown sabotage"):
        sabotaged(spec)
