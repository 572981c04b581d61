"""Assay: which delivery and processing guarantee does a RabbitMQ or NATS configuration actually keep under faults?

The public names, imported when they are first asked for: importing this loads no driver. Nothing inside the package
imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.brokers.memory.configuration import Memory as Memory
    from harness.brokers.memory.queue import Bugs as Bugs
    from harness.brokers.nats.configuration import JetStream as JetStream
    from harness.brokers.nats.configuration import Nats as Nats
    from harness.brokers.rabbitmq.configuration import Classic as Classic
    from harness.brokers.rabbitmq.configuration import Quorum as Quorum
    from harness.brokers.rabbitmq.configuration import RabbitMQ as RabbitMQ
    from harness.errors import AssayError as AssayError
    from harness.errors import Refused as Refused
    from harness.errors import Trouble as Trouble
    from harness.errors import Undecided as Undecided
    from harness.errors import Violated as Violated
    from harness.faults.blackhole import AcknowledgementLoss as AcknowledgementLoss
    from harness.faults.blackhole import Blackhole as Blackhole
    from harness.faults.blackhole import ConsumerAcknowledgementLoss as ConsumerAcknowledgementLoss
    from harness.faults.client import KillClient as KillClient
    from harness.faults.clock import ClockDrift as ClockDrift
    from harness.faults.clock import ClockStep as ClockStep
    from harness.faults.conduct import DoubleAcknowledgement as DoubleAcknowledgement
    from harness.faults.conduct import Hoard as Hoard
    from harness.faults.conduct import SlowConsumer as SlowConsumer
    from harness.faults.conduct import WrongOrder as WrongOrder
    from harness.faults.disk import DiskFull as DiskFull
    from harness.faults.disk import DiskNearlyFull as DiskNearlyFull
    from harness.faults.disk import SlowDisk as SlowDisk
    from harness.faults.ends import CutAfter as CutAfter
    from harness.faults.ends import ResetNew as ResetNew
    from harness.faults.files import FlipBits as FlipBits
    from harness.faults.files import Truncate as Truncate
    from harness.faults.flapping import Flapping as Flapping
    from harness.faults.late_end import SlowClose as SlowClose
    from harness.faults.membership import LeaderTransfer as LeaderTransfer
    from harness.faults.membership import NodeLeaves as NodeLeaves
    from harness.faults.membership import ReplicaRemoved as ReplicaRemoved
    from harness.faults.memory import MemoryAlarm as MemoryAlarm
    from harness.faults.memory import OutOfMemory as OutOfMemory
    from harness.faults.network import Disconnect as Disconnect
    from harness.faults.network import Latency as Latency
    from harness.faults.network import Stall as Stall
    from harness.faults.node import Kill as Kill
    from harness.faults.node import KillAll as KillAll
    from harness.faults.node import Pause as Pause
    from harness.faults.node import Stop as Stop
    from harness.faults.nothing import Nothing as Nothing
    from harness.faults.partition import Bridge as Bridge
    from harness.faults.partition import Halves as Halves
    from harness.faults.partition import Isolate as Isolate
    from harness.faults.partition import RandomPartition as RandomPartition
    from harness.faults.partition import Ring as Ring
    from harness.faults.power import PowerLoss as PowerLoss
    from harness.faults.power import PowerLossOfSeveral as PowerLossOfSeveral
    from harness.faults.power import RollingPowerLoss as RollingPowerLoss
    from harness.faults.restart import CrashLoop as CrashLoop
    from harness.faults.restart import Restart as Restart
    from harness.faults.restart import Rolling as Rolling
    from harness.faults.routes import RouteLatency as RouteLatency
    from harness.faults.standstill import AbruptClose as AbruptClose
    from harness.faults.standstill import PauseClient as PauseClient
    from harness.faults.storage import StorageLimit as StorageLimit
    from harness.faults.throughput import Bandwidth as Bandwidth
    from harness.faults.throughput import Fragment as Fragment
    from harness.faults.upgrade import RollingUpgrade as RollingUpgrade
    from harness.guarantee import AT_LEAST_ONCE as AT_LEAST_ONCE
    from harness.guarantee import AT_LEAST_ONCE_PROCESSED as AT_LEAST_ONCE_PROCESSED
    from harness.guarantee import AT_MOST_ONCE as AT_MOST_ONCE
    from harness.guarantee import AT_MOST_ONCE_PROCESSED as AT_MOST_ONCE_PROCESSED
    from harness.guarantee import EXACTLY_ONCE as EXACTLY_ONCE
    from harness.guarantee import EXACTLY_ONCE_PROCESSED as EXACTLY_ONCE_PROCESSED
    from harness.guarantee import GENUINE as GENUINE
    from harness.guarantee import LINEARIZABLE_FIFO as LINEARIZABLE_FIFO
    from harness.guarantee import LOG_CONSISTENT as LOG_CONSISTENT
    from harness.guarantee import NEVER_AGAIN as NEVER_AGAIN
    from harness.guarantee import ORDERED as ORDERED
    from harness.guarantee import PUBLISH_ONCE as PUBLISH_ONCE
    from harness.guarantee import Guarantee as Guarantee
    from harness.guarantee import Status as Status
    from harness.operation import CrashPoint as CrashPoint
    from harness.operation import Role as Role
    from harness.operation import Stage as Stage
    from harness.processing.ack_after import AckAfterEffect as AckAfterEffect
    from harness.processing.ack_before import AckBeforeEffect as AckBeforeEffect
    from harness.processing.ack_before import AckBeforeEffectUnflushed as AckBeforeEffectUnflushed
    from harness.processing.transaction import Transaction as Transaction
    from harness.run import Run as Run
    from harness.scenario.matrix import matrix as matrix
    from harness.scenario.moment import Acked as Acked
    from harness.scenario.moment import Elected as Elected
    from harness.scenario.moment import Holding as Holding
    from harness.scenario.scenario import Cell as Cell
    from harness.scenario.scenario import Scenario as Scenario
    from harness.scenario.schedule import At as At
    from harness.scenario.schedule import InTurn as InTurn
    from harness.scenario.schedule import Overlap as Overlap
    from harness.scenario.schedule import Randomly as Randomly
    from harness.scenario.schedule import Repeat as Repeat
    from harness.scenario.workload import Steady as Steady
    from harness.sinks.sqlite import SQLite as SQLite
    from harness.system.topology import Direction as Direction

    PRODUCER = Role.PRODUCER
    CONSUMER = Role.CONSUMER
    BOTH = Role.BOTH
    LEADER = Role.LEADER
    FOLLOWER = Role.FOLLOWER
    ANY_NODE = Role.ANY_NODE
    CLIENT_NODE = Role.CLIENT_NODE

_MODULES = {
    "harness.brokers.memory.configuration": ("Memory",),
    "harness.brokers.memory.queue": ("Bugs",),
    "harness.brokers.nats.configuration": ("JetStream", "Nats"),
    "harness.brokers.rabbitmq.configuration": ("Classic", "Quorum", "RabbitMQ"),
    "harness.errors": ("AssayError", "Refused", "Trouble", "Undecided", "Violated"),
    "harness.faults.blackhole": ("AcknowledgementLoss", "Blackhole", "ConsumerAcknowledgementLoss"),
    "harness.faults.client": ("KillClient",),
    "harness.faults.ends": ("CutAfter", "ResetNew"),
    "harness.faults.flapping": ("Flapping",),
    "harness.faults.late_end": ("SlowClose",),
    "harness.faults.conduct": ("DoubleAcknowledgement", "Hoard", "SlowConsumer", "WrongOrder"),
    "harness.faults.disk": ("DiskFull", "DiskNearlyFull", "SlowDisk"),
    "harness.faults.files": ("FlipBits", "Truncate"),
    "harness.faults.memory": ("MemoryAlarm", "OutOfMemory"),
    "harness.faults.clock": ("ClockDrift", "ClockStep"),
    "harness.faults.membership": ("LeaderTransfer", "NodeLeaves", "ReplicaRemoved"),
    "harness.faults.network": ("Disconnect", "Latency", "Stall"),
    "harness.faults.node": ("Kill", "KillAll", "Pause", "Stop"),
    "harness.faults.partition": ("Bridge", "Halves", "Isolate", "RandomPartition", "Ring"),
    "harness.faults.restart": ("CrashLoop", "Restart", "Rolling"),
    "harness.faults.routes": ("RouteLatency",),
    "harness.faults.nothing": ("Nothing",),
    "harness.faults.throughput": ("Bandwidth", "Fragment"),
    "harness.faults.storage": ("StorageLimit",),
    "harness.faults.standstill": ("AbruptClose", "PauseClient"),
    "harness.faults.power": ("PowerLoss", "PowerLossOfSeveral", "RollingPowerLoss"),
    "harness.faults.upgrade": ("RollingUpgrade",),
    "harness.guarantee": (
        "AT_LEAST_ONCE",
        "AT_LEAST_ONCE_PROCESSED",
        "AT_MOST_ONCE",
        "AT_MOST_ONCE_PROCESSED",
        "EXACTLY_ONCE",
        "EXACTLY_ONCE_PROCESSED",
        "GENUINE",
        "LINEARIZABLE_FIFO",
        "LOG_CONSISTENT",
        "NEVER_AGAIN",
        "ORDERED",
        "PUBLISH_ONCE",
        "Guarantee",
        "Status",
    ),
    "harness.operation": ("CrashPoint", "Role", "Stage"),
    "harness.processing.ack_after": ("AckAfterEffect",),
    "harness.processing.ack_before": ("AckBeforeEffect", "AckBeforeEffectUnflushed"),
    "harness.processing.transaction": ("Transaction",),
    "harness.run": ("Run",),
    "harness.scenario.matrix": ("matrix",),
    "harness.scenario.scenario": ("Cell", "Scenario"),
    "harness.scenario.moment": ("Acked", "Elected", "Holding"),
    "harness.scenario.schedule": ("At", "InTurn", "Overlap", "Randomly", "Repeat"),
    "harness.scenario.workload": ("Steady",),
    "harness.sinks.sqlite": ("SQLite",),
    "harness.system.topology": ("Direction",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
_ROLES = ("PRODUCER", "CONSUMER", "BOTH", "LEADER", "FOLLOWER", "ANY_NODE", "CLIENT_NODE")

__all__ = sorted([*_HOMES, *_ROLES])


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _ROLES:
        value = getattr(import_module("harness.operation").Role, name)
    else:
        raise AttributeError(f"module 'harness' has no public name {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
