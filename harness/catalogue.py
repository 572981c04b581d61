"""Which class stands behind a name? The only place where names become implementations, imported when asked for.

A family ("rabbitmq", "nats", "memory") is the folder of that name in harness/brokers/; a sink's name is its module in
harness/sinks/; a record's type name stands in RECORDS, a fault's name in FAULTS, an engine's in ENGINES. Everything
stands here as text, so that importing the catalogue imports nothing of what it lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, TypeVar, cast

from harness.errors import Refused
from harness.plain import did_you_mean, from_plain

T = TypeVar("T")

FAMILIES = ("nats", "rabbitmq")
"""Families whose configurations are listed; "memory", the harness's own broker, is there to prove the harness."""

RECORDS: Mapping[str, str] = {
    "RabbitMQ": "harness.brokers.rabbitmq.configuration",
    "Quorum": "harness.brokers.rabbitmq.configuration",
    "Classic": "harness.brokers.rabbitmq.configuration",
    "Nats": "harness.brokers.nats.configuration",
    "JetStream": "harness.brokers.nats.configuration",
    "Memory": "harness.brokers.memory.configuration",
    "Bugs": "harness.brokers.memory.queue",
    "Nothing": "harness.faults.nothing",
    "Latency": "harness.faults.network",
    "Disconnect": "harness.faults.network",
    "Stall": "harness.faults.network",
    "Blackhole": "harness.faults.blackhole",
    "AcknowledgementLoss": "harness.faults.blackhole",
    "ConsumerAcknowledgementLoss": "harness.faults.blackhole",
    "Bandwidth": "harness.faults.throughput",
    "Fragment": "harness.faults.throughput",
    "CutAfter": "harness.faults.ends",
    "ResetNew": "harness.faults.ends",
    "Flapping": "harness.faults.flapping",
    "SlowClose": "harness.faults.late_end",
    "Kill": "harness.faults.node",
    "KillAll": "harness.faults.node",
    "Stop": "harness.faults.node",
    "Pause": "harness.faults.node",
    "Isolate": "harness.faults.partition",
    "Bridge": "harness.faults.partition",
    "Ring": "harness.faults.partition",
    "RouteLatency": "harness.faults.routes",
    "PowerLoss": "harness.faults.power",
    "PowerLossOfSeveral": "harness.faults.power",
    "RollingPowerLoss": "harness.faults.power",
    "DiskFull": "harness.faults.disk",
    "DiskNearlyFull": "harness.faults.disk",
    "SlowDisk": "harness.faults.disk",
    "FlipBits": "harness.faults.files",
    "Truncate": "harness.faults.files",
    "MemoryAlarm": "harness.faults.memory",
    "OutOfMemory": "harness.faults.memory",
    "StorageLimit": "harness.faults.storage",
    "Halves": "harness.faults.partition",
    "RandomPartition": "harness.faults.partition",
    "Restart": "harness.faults.restart",
    "CrashLoop": "harness.faults.restart",
    "Rolling": "harness.faults.restart",
    "LeaderTransfer": "harness.faults.membership",
    "ReplicaRemoved": "harness.faults.membership",
    "NodeLeaves": "harness.faults.membership",
    "RollingUpgrade": "harness.faults.upgrade",
    "ClockStep": "harness.faults.clock",
    "ClockDrift": "harness.faults.clock",
    "KillClient": "harness.faults.client",
    "PauseClient": "harness.faults.standstill",
    "AbruptClose": "harness.faults.standstill",
    "SlowConsumer": "harness.faults.conduct",
    "Hoard": "harness.faults.conduct",
    "WrongOrder": "harness.faults.conduct",
    "DoubleAcknowledgement": "harness.faults.conduct",
    "AckBeforeEffect": "harness.processing.ack_before",
    "AckBeforeEffectUnflushed": "harness.processing.ack_before",
    "AckAfterEffect": "harness.processing.ack_after",
    "Transaction": "harness.processing.transaction",
    "SQLite": "harness.sinks.sqlite",
    "Repeat": "harness.scenario.schedule",
    "InTurn": "harness.scenario.schedule",
    "Overlap": "harness.scenario.schedule",
    "Randomly": "harness.scenario.schedule",
    "At": "harness.scenario.schedule",
    "Acked": "harness.scenario.moment",
    "Elected": "harness.scenario.moment",
    "Holding": "harness.scenario.moment",
    "Steady": "harness.scenario.workload",
    "Scenario": "harness.scenario.scenario",
}
"""Name of a record's class -> the module that defines it."""

FAULTS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "nothing": ("Nothing", {}),
    "latency_clients": ("Latency", {"role": "both"}),
    "latency_consumers": ("Latency", {"role": "consumer"}),
    "latency_producers": ("Latency", {"role": "producer"}),
    "disconnect_clients": ("Disconnect", {"role": "both"}),
    "disconnect_consumers": ("Disconnect", {"role": "consumer"}),
    "disconnect_producers": ("Disconnect", {"role": "producer"}),
    "disconnect_clients_under_backlog": ("Disconnect", {"role": "both", "backlog_ms": 300}),
    "disconnect_consumers_under_backlog": ("Disconnect", {"role": "consumer", "backlog_ms": 300}),
    "disconnect_producers_under_backlog": ("Disconnect", {"role": "producer", "backlog_ms": 300}),
    "stall_clients": ("Stall", {"role": "both"}),
    "stall_consumers": ("Stall", {"role": "consumer"}),
    "stall_producers": ("Stall", {"role": "producer"}),
    "blackhole_clients": ("Blackhole", {"role": "both"}),
    "blackhole_consumers": ("Blackhole", {"role": "consumer"}),
    "blackhole_producers": ("Blackhole", {"role": "producer"}),
    "blackhole_up_clients": ("Blackhole", {"role": "both", "direction": "upstream"}),
    "blackhole_down_clients": ("Blackhole", {"role": "both", "direction": "downstream"}),
    "acknowledgement_loss": ("AcknowledgementLoss", {}),
    "consumer_acknowledgement_loss": ("ConsumerAcknowledgementLoss", {}),
    "bandwidth_clients": ("Bandwidth", {"role": "both"}),
    "bandwidth_consumers": ("Bandwidth", {"role": "consumer"}),
    "bandwidth_producers": ("Bandwidth", {"role": "producer"}),
    "fragment_clients": ("Fragment", {"role": "both"}),
    "fragment_consumers": ("Fragment", {"role": "consumer"}),
    "fragment_producers": ("Fragment", {"role": "producer"}),
    "cut_after_up_clients": ("CutAfter", {"role": "both"}),
    "cut_after_up_consumers": ("CutAfter", {"role": "consumer"}),
    "cut_after_up_producers": ("CutAfter", {"role": "producer"}),
    "cut_after_down_clients": ("CutAfter", {"role": "both", "direction": "downstream"}),
    "cut_after_down_consumers": ("CutAfter", {"role": "consumer", "direction": "downstream"}),
    "cut_after_down_producers": ("CutAfter", {"role": "producer", "direction": "downstream"}),
    "reset_new_clients": ("ResetNew", {"role": "both"}),
    "reset_new_consumers": ("ResetNew", {"role": "consumer"}),
    "reset_new_producers": ("ResetNew", {"role": "producer"}),
    "flapping_clients": ("Flapping", {"role": "both"}),
    "flapping_consumers": ("Flapping", {"role": "consumer"}),
    "flapping_producers": ("Flapping", {"role": "producer"}),
    "slow_close_consumer": ("SlowClose", {"role": "consumer"}),
    "slow_close_producer": ("SlowClose", {"role": "producer"}),
    "kill_leader": ("Kill", {"role": "leader"}),
    "kill_follower": ("Kill", {"role": "follower"}),
    "kill_node": ("Kill", {"role": "any_node"}),
    "kill_client_node": ("Kill", {"role": "client_node"}),
    "kill_all_nodes": ("KillAll", {}),
    "stop_leader": ("Stop", {"role": "leader"}),
    "stop_follower": ("Stop", {"role": "follower"}),
    "stop_node": ("Stop", {"role": "any_node"}),
    "stop_client_node": ("Stop", {"role": "client_node"}),
    "pause_leader": ("Pause", {"role": "leader"}),
    "pause_follower": ("Pause", {"role": "follower"}),
    "pause_node": ("Pause", {"role": "any_node"}),
    "pause_client_node": ("Pause", {"role": "client_node"}),
    "restart_leader": ("Restart", {"role": "leader"}),
    "restart_leader_in_order": ("Restart", {"role": "leader", "how": "stop"}),
    "restart_follower": ("Restart", {"role": "follower"}),
    "restart_client_node": ("Restart", {"role": "client_node"}),
    "crash_loop_leader": ("CrashLoop", {"role": "leader"}),
    "crash_loop_follower": ("CrashLoop", {"role": "follower"}),
    "rolling_stop": ("Rolling", {}),
    "rolling_kill": ("Rolling", {"how": "kill"}),
    "isolate_leader": ("Isolate", {"role": "leader"}),
    "isolate_leader_outbound": ("Isolate", {"role": "leader", "way": "outbound"}),
    "isolate_leader_inbound": ("Isolate", {"role": "leader", "way": "inbound"}),
    "isolate_follower": ("Isolate", {"role": "follower"}),
    "isolate_node": ("Isolate", {"role": "any_node"}),
    "isolate_client_node": ("Isolate", {"role": "client_node"}),
    "halves_leader_in_minority": ("Halves", {}),
    "halves_leader_in_majority": ("Halves", {"leader_in": "majority"}),
    "random_partition": ("RandomPartition", {}),
    "bridge": ("Bridge", {}),
    "ring": ("Ring", {}),
    "route_latency_leader": ("RouteLatency", {"role": "leader"}),
    "route_latency_follower": ("RouteLatency", {"role": "follower"}),
    "route_latency_node": ("RouteLatency", {"role": "any_node"}),
    "route_latency_client_node": ("RouteLatency", {"role": "client_node"}),
    "power_loss_leader": ("PowerLoss", {"role": "leader"}),
    "power_loss_follower": ("PowerLoss", {"role": "follower"}),
    "power_loss_node": ("PowerLoss", {"role": "any_node"}),
    "power_loss_majority": ("PowerLossOfSeveral", {"which": "majority"}),
    "power_loss_all_nodes": ("PowerLossOfSeveral", {"which": "all"}),
    "power_loss_one_after_another": ("RollingPowerLoss", {}),
    "disk_full_leader": ("DiskFull", {"role": "leader"}),
    "disk_full_leader_left_running": ("DiskFull", {"role": "leader", "restart": False}),
    "disk_full_follower": ("DiskFull", {"role": "follower"}),
    "disk_nearly_full_leader": ("DiskNearlyFull", {"role": "leader"}),
    "slow_disk_leader": ("SlowDisk", {"role": "leader"}),
    "slow_disk_follower": ("SlowDisk", {"role": "follower"}),
    "flip_bits_leader": ("FlipBits", {"role": "leader"}),
    "flip_bits_follower": ("FlipBits", {"role": "follower"}),
    "truncate_leader": ("Truncate", {"role": "leader"}),
    "truncate_follower": ("Truncate", {"role": "follower"}),
    "memory_alarm_leader": ("MemoryAlarm", {"role": "leader"}),
    "out_of_memory_leader": ("OutOfMemory", {"role": "leader"}),
    "out_of_memory_follower": ("OutOfMemory", {"role": "follower"}),
    "jetstream_file_limit": ("StorageLimit", {}),
    "jetstream_memory_limit": ("StorageLimit", {"storage": "memory"}),
    "leader_transfer": ("LeaderTransfer", {}),
    "replica_removed_leader": ("ReplicaRemoved", {"role": "leader"}),
    "replica_removed_follower": ("ReplicaRemoved", {"role": "follower"}),
    "leader_leaves": ("NodeLeaves", {"role": "leader"}),
    "follower_leaves": ("NodeLeaves", {"role": "follower"}),
    "rolling_upgrade": ("RollingUpgrade", {}),
    "clock_forwards_leader": ("ClockStep", {"role": "leader"}),
    "clock_forwards_follower": ("ClockStep", {"role": "follower"}),
    "clock_backwards_leader": ("ClockStep", {"role": "leader", "step_s": -60.0}),
    "clock_backwards_follower": ("ClockStep", {"role": "follower", "step_s": -60.0}),
    "clock_fast_leader": ("ClockDrift", {"role": "leader"}),
    "clock_fast_follower": ("ClockDrift", {"role": "follower"}),
    "kill_consumer": ("KillClient", {"role": "consumer"}),
    "kill_producer": ("KillClient", {"role": "producer"}),
    "crash_producer_before_publish": ("KillClient", {"role": "producer", "at": "before-publish"}),
    "crash_producer_between_publish_and_confirm": (
        "KillClient",
        {"role": "producer", "at": "between-publish-and-confirm"},
    ),
    "crash_producer_between_publish_and_confirm_handed": (
        "KillClient",
        {"role": "producer", "at": "between-publish-and-confirm", "stage": "handed"},
    ),
    "crash_consumer_after_receive": ("KillClient", {"role": "consumer", "at": "after-receive"}),
    "crash_consumer_between_ack_and_effect": ("KillClient", {"role": "consumer", "at": "between-ack-and-effect"}),
    "crash_consumer_between_effect_and_ack": ("KillClient", {"role": "consumer", "at": "between-effect-and-ack"}),
    "crash_consumer_between_ack_and_confirm": ("KillClient", {"role": "consumer", "at": "between-ack-and-confirm"}),
    "crash_consumer_between_ack_and_confirm_handed": (
        "KillClient",
        {"role": "consumer", "at": "between-ack-and-confirm", "stage": "handed"},
    ),
    "pause_consumer": ("PauseClient", {"role": "consumer"}),
    "pause_producer": ("PauseClient", {"role": "producer"}),
    "pause_consumer_unnoticed": ("PauseClient", {"role": "consumer", "given_up": False, "hold_s": 1.0}),
    "pause_producer_unnoticed": ("PauseClient", {"role": "producer", "given_up": False, "hold_s": 1.0}),
    "abrupt_close_consumer": ("AbruptClose", {"role": "consumer"}),
    "abrupt_close_producer": ("AbruptClose", {"role": "producer"}),
    "slow_consumer": ("SlowConsumer", {}),
    "hoard": ("Hoard", {}),
    "wrong_order": ("WrongOrder", {}),
    "double_acknowledgement": ("DoubleAcknowledgement", {}),
}
"""Name of a fault -> the class and the fields that have that name."""

SCHEDULES = ("Repeat", "InTurn", "Overlap", "Randomly", "At")
"""Classes of what composes faults, and below of the moments at which one may come."""

MOMENTS = ("Acked", "Elected", "Holding")

MECHANISMS: Mapping[str, str] = {
    "ack_before_effect": "AckBeforeEffect",
    "ack_before_effect_unflushed": "AckBeforeEffectUnflushed",
    "ack_after_effect": "AckAfterEffect",
    "transaction": "Transaction",
}
"""Name of a processing mechanism -> its class."""

SINKS: Mapping[str, str] = {"sqlite": "SQLite"}
"""Name of a sink -> its class."""

ENGINES: Mapping[str, tuple[str, str]] = {
    "containers": ("harness.engines.containers.engine", "Containers"),
    "processes": ("harness.engines.processes", "Processes"),
}
"""Name of an engine -> where its class is. The first one that can serve a cell is what "auto" takes."""


# ---- records ---------------------------------------------------------------------------------------------------------


def lookup(type_name: str) -> type:
    """The record class of that name, for plain.from_plain. Raises Refused for a name that is not known."""
    return cast(type, getattr(import_module(known(type_name, RECORDS, "a record")), type_name))


def record(type_name: str) -> Any:
    """The record class of that name. Raises Refused for a name that is not known."""
    return lookup(type_name)


def named(plain: Mapping[str, Any]) -> Any:
    """The record that `{"type": class, field: value, ...}` stands for."""
    return record(plain["type"])(**{name: value for name, value in plain.items() if name != "type"})


def faults() -> Mapping[str, Any]:
    """Every fault by its name."""
    return {name: fault(name) for name in FAULTS}


def fault(name: str) -> Any:
    """The fault of that name. Raises Refused for a name that is not known."""
    type_name, fields = known(name, FAULTS, "a fault")
    return from_plain(lookup(type_name), dict(fields))


def mechanism(name: str) -> Any:
    """The processing mechanism of that name. Raises Refused for a name that is not known."""
    return lookup(known(name, MECHANISMS, "a processing mechanism"))()


def sink(name: str) -> Any:
    """The sink of that name. Raises Refused for a name that is not known."""
    return lookup(known(name, SINKS, "a sink"))()


def configurations() -> Mapping[str, Any]:
    """The configurations of the default matrix of every family, by name; each family lists its weakest first."""
    found: dict[str, Any] = {}
    for family in FAMILIES:
        defaults = _attribute(f"harness.brokers.{family}.configuration", "defaults")
        found.update((configuration.name, configuration) for configuration in defaults())
    return found


# ---- implementations -------------------------------------------------------------------------------------------------


def engine(name: str) -> Any:
    """The engine of that name, ready to make topologies. Raises Refused for a name that is not known."""
    module, class_name = known(name, ENGINES, "an engine")
    return _attribute(module, class_name)()


def broker(family: str) -> Callable[..., Any]:
    """The class that is our end of a broker of that family."""
    return _attribute(f"harness.brokers.{family}.broker", "Broker")


def connection(family: str) -> Callable[..., Any]:
    """The class that is a client's end of a broker of that family."""
    return _attribute(f"harness.brokers.{family}.connection", "Connection")


def open_store(sink: str) -> Callable[..., Any]:
    """The function that opens the store of the sink of that name at a path."""
    return _attribute(f"harness.sinks.{sink}", "open_store")


def audit(sink: str) -> Callable[..., Any]:
    """The function that reads the effects in a store of the sink of that name."""
    return _attribute(f"harness.sinks.{sink}", "audit")


# ---- names -----------------------------------------------------------------------------------------------------------


def known(name: str, table: Mapping[str, T], what: str) -> T:
    """The entry of that name. Raises Refused, with the closest name, where there is none."""
    if name not in table:
        raise Refused(f'"{name}" is not {what}{did_you_mean(name, table)}', cure=f"use one of {listed(table)}")
    return table[name]


def listed(names: Iterable[str]) -> str:
    """Names for a reader, sorted."""
    return ", ".join(sorted(names))


def _attribute(module: str, name: str) -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except ModuleNotFoundError as missing:
        if missing.name is None or not module.startswith(missing.name):
            raise
        raise Refused(f"there is no {module}", cure="check the name of the family or sink") from missing
    return found
