"""Is the public surface what it is meant to be, and does importing it load next to nothing?"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness import catalogue

PUBLIC = [
    "ANY_NODE",
    "AT_LEAST_ONCE",
    "AT_LEAST_ONCE_PROCESSED",
    "AT_MOST_ONCE",
    "AT_MOST_ONCE_PROCESSED",
    "AbruptClose",
    "AckAfterEffect",
    "AckBeforeEffect",
    "AckBeforeEffectUnflushed",
    "Acked",
    "AcknowledgementLoss",
    "AssayError",
    "At",
    "BOTH",
    "Bandwidth",
    "Blackhole",
    "Bridge",
    "Bugs",
    "CLIENT_NODE",
    "CONSUMER",
    "Cell",
    "Classic",
    "ClockDrift",
    "ClockStep",
    "ConsumerAcknowledgementLoss",
    "CrashLoop",
    "CrashPoint",
    "CutAfter",
    "Direction",
    "Disconnect",
    "DiskFull",
    "DiskNearlyFull",
    "DoubleAcknowledgement",
    "EXACTLY_ONCE",
    "EXACTLY_ONCE_PROCESSED",
    "Elected",
    "FOLLOWER",
    "Flapping",
    "FlipBits",
    "Fragment",
    "GENUINE",
    "Guarantee",
    "Halves",
    "Hoard",
    "Holding",
    "InTurn",
    "Isolate",
    "JetStream",
    "Kill",
    "KillAll",
    "KillClient",
    "LEADER",
    "LINEARIZABLE_FIFO",
    "Latency",
    "LeaderTransfer",
    "Memory",
    "MemoryAlarm",
    "NEVER_AGAIN",
    "Nats",
    "NodeLeaves",
    "Nothing",
    "LOG_CONSISTENT",
    "ORDERED",
    "OutOfMemory",
    "Overlap",
    "PRODUCER",
    "PUBLISH_ONCE",
    "Pause",
    "PauseClient",
    "PowerLoss",
    "PowerLossOfSeveral",
    "Quorum",
    "RabbitMQ",
    "RandomPartition",
    "Randomly",
    "Refused",
    "Repeat",
    "ReplicaRemoved",
    "ResetNew",
    "Restart",
    "Ring",
    "Role",
    "Rolling",
    "RollingPowerLoss",
    "RollingUpgrade",
    "RouteLatency",
    "Run",
    "SQLite",
    "Scenario",
    "SlowClose",
    "SlowConsumer",
    "SlowDisk",
    "Stage",
    "Stall",
    "Status",
    "Steady",
    "Stop",
    "StorageLimit",
    "Transaction",
    "Trouble",
    "Truncate",
    "Undecided",
    "Violated",
    "WrongOrder",
    "matrix",
]

HEAVY = ("pika", "nats", "docker", "testcontainers", "toxiproxy", "numpy", "pydantic", "jinja2", "rich", "requests")


def test_the_public_names_are_these_and_no_others() -> None:
    assert sorted(harness.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(harness, name) is not None
    assert name in dir(harness)


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Kil"):
        harness.Kil  # noqa: B018 - asking for it is the test


def test_the_type_checker_is_told_the_same_names() -> None:
    tree = ast.parse(Path(harness.__file__).read_text())
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {alias.asname for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    told |= {target.id for node in guarded.body if isinstance(node, ast.Assign) for target in node.targets}  # type: ignore[attr-defined]
    assert told == set(PUBLIC)


def test_importing_every_public_name_loads_nothing_heavy() -> None:
    code = f"""
import sys, harness
for name in harness.__all__:
    getattr(harness, name)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", catalogue.RECORDS)
def test_every_record_of_the_catalogue_is_where_it_says(name: str) -> None:
    assert catalogue.lookup(name).__name__ == name


@pytest.mark.parametrize("name", catalogue.FAULTS)
def test_every_fault_has_the_name_under_which_it_is_listed(name: str) -> None:
    assert catalogue.fault(name).name == name


@pytest.mark.parametrize("name", catalogue.MECHANISMS)
def test_every_mechanism_has_the_name_under_which_it_is_listed(name: str) -> None:
    assert catalogue.mechanism(name).name == name


@pytest.mark.parametrize("name", catalogue.SINKS)
def test_every_sink_has_the_name_under_which_it_is_listed(name: str) -> None:
    assert catalogue.sink(name).name == name


@pytest.mark.parametrize("name", catalogue.ENGINES)
def test_every_engine_has_the_name_under_which_it_is_listed(name: str) -> None:
    assert catalogue.engine(name).name == name


def test_a_name_that_is_none_is_refused_with_the_closest_one() -> None:
    with pytest.raises(harness.Refused, match='did you mean "kill_leader"'):
        catalogue.fault("kil_leader")


def test_the_suites_speak_of_the_configurations_that_are_listed() -> None:
    from suites.nats import test_guarantees as nats
    from suites.rabbitmq import test_guarantees as rabbitmq

    listed = catalogue.configurations()
    written = [
        *(nats.CORE, nats.JETSTREAM_R1, nats.JETSTREAM_R1_NEW_ID, nats.JETSTREAM_R3_EXACTLY_ONCE),
        *(rabbitmq.FIRE_AND_FORGET, rabbitmq.CLASSIC_CONFIRMS, rabbitmq.QUORUM_CONFIRMS),
    ]
    assert {configuration.name: configuration for configuration in written} == listed
