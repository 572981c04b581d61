"""Is there, for every fault, a test in which it is disarmed and must not be believed?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from harness.catalogue import RECORDS
from harness.faults.clock import ClockDrift, ClockStep
from harness.faults.membership import LeaderTransfer, NodeLeaves, ReplicaRemoved
from harness.faults.nothing import Nothing
from harness.faults.power import PowerLoss
from harness.faults.routes import RouteLatency
from harness.faults.storage import StorageLimit
from harness.faults.upgrade import RollingUpgrade
from tests import (
    test_clock_faults,
    test_disk_and_memory_faults,
    test_fault_evidence,
    test_link_faults,
    test_membership_faults,
    test_partition,
    test_power_loss,
    test_route_faults,
    test_routes,
    test_storage_limits,
)

IN_TABLES: tuple[type, ...] = (
    *(type(fault) for fault, _, _ in test_fault_evidence.FAULTS.values()),
    *(type(fault) for fault, _, _ in test_link_faults.FAULTS.values()),
    *(type(fault) for fault, *_ in test_disk_and_memory_faults.FAULTS.values()),
    *(type(fault) for fault, disarm in test_routes.CASES.values() if disarm is not None),
    *(type(fault) for fault, _, disarm in test_partition.DISARMED.values() if disarm is not None),
    *(type(fault) for fault in test_power_loss.LIED_TO.values()),
)
IN_TESTS_OF_THEIR_OWN: Mapping[type, Callable[..., None]] = {
    PowerLoss: test_power_loss.test_a_loss_of_power_bites_or_says_that_it_did_not,
    ClockStep: test_clock_faults.test_a_step_is_told_by_the_node_or_nothing_is_held,
    ClockDrift: test_clock_faults.test_a_drift_grows_as_the_node_tells_or_nothing_is_held,
    StorageLimit: test_storage_limits.test_without_ballast_nothing_is_held,
    RouteLatency: test_route_faults.test_other_routes_or_none_are_no_evidence,
    LeaderTransfer: test_membership_faults.test_a_change_that_the_broker_was_never_told_of_did_not_bite,
    ReplicaRemoved: test_membership_faults.test_a_change_that_the_broker_was_never_told_of_did_not_bite,
    NodeLeaves: test_membership_faults.test_a_node_that_leaves_is_missed_by_the_others_or_nothing_is_held,
    RollingUpgrade: test_membership_faults.test_an_upgrade_keeps_the_data_or_did_not_happen,
}


def test_every_fault_is_disarmed_somewhere_but_the_one_that_does_nothing() -> None:
    rooms = {name: module for name, module in RECORDS.items() if module.startswith("harness.faults.")}
    faults = {getattr(import_module(module), name) for name, module in rooms.items()}
    assert faults - set(IN_TABLES) - set(IN_TESTS_OF_THEIR_OWN) == {Nothing}
