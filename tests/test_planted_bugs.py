"""Does each planted bug of the memory broker, in a whole run with real client processes, make exactly the right
guarantees fail? A harness that finds nothing has proved nothing until it has found what was planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.brokers.memory.configuration import Memory
from harness.brokers.memory.queue import Bugs
from harness.faults.blackhole import AcknowledgementLoss
from harness.faults.fault import Fault
from harness.faults.network import Disconnect
from harness.faults.node import Kill
from harness.faults.nothing import Nothing
from harness.guarantee import Status
from harness.operation import Role
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from tests.runs import run_cell

LOG = {"log_consistent"}
LOSS = {"at_least_once", "exactly_once"}
REPEAT = {"at_most_once", "exactly_once"}
EVERYTHING = {"at_least_once", "at_most_once", "exactly_once", "publish_once", "ordered", "genuine"} | LOG

BUGS: dict[str, tuple[Bugs, Fault, set[str], set[str]]] = {
    # what is planted: (bugs, fault, guarantees that must be violated, anomalies that must be counted)
    "nothing": (Bugs(), Nothing(), set(), set()),
    "a_message_in_fifty_lost": (Bugs(lose_every=50), Nothing(), LOSS | LOG, {"lost", "gap"}),
    "a_message_in_fifty_twice": (Bugs(duplicate_every=50), Nothing(), REPEAT, {"duplicate_delivery"}),
    "a_message_in_fifty_twice_and_not_flagged": (
        Bugs(unflagged_every=50), Nothing(), REPEAT, {"duplicate_delivery", "unflagged_redelivery"},
    ),
    "a_message_in_fifty_stored_twice": (
        Bugs(store_twice_every=50), Nothing(),
        {"publish_once"} | REPEAT | LOG, {"duplicate_publish", "inconsistent_offset"},
    ),
    "two_in_fifty_change_places": (
        Bugs(reorder_every=50), Nothing(), {"ordered"} | LOG, {"reordered", "non_monotonic_read"},
    ),
    "damaged_copies": (Bugs(corrupt_every=50), Nothing(), EVERYTHING, {"corrupt"}),
    "messages_nobody_published": (Bugs(invent_every=50), Nothing(), EVERYTHING, {"phantom"}),
    "messages_of_another_run": (Bugs(foreign_every=50), Nothing(), EVERYTHING, {"foreign"}),
    "first_copies_taken_for_duplicates": (Bugs(swallow_duplicate_every=50), Nothing(), LOSS, {"lost", "swallowed"}),
    "refused_and_delivered": (Bugs(deliver_refused_every=50), Nothing(), {"genuine"}, {"visible_failure"}),
    "stranded": (Bugs(strand_every=50), Nothing(), LOSS, {"stranded"}),
    "confirmed_too_early": (Bugs(confirm_too_early=True), Kill(), LOSS | LOG, {"lost", "gap"}),
    "forgotten_on_restart": (Bugs(forget_on_restart=True), Kill(), LOSS | LOG, {"lost", "gap"}),
    "passed_over": (Bugs(skip_every=50), Nothing(), LOG, {"gap"}),
    "two_under_one_number": (Bugs(number_twice_every=50), Nothing(), LOG, {"inconsistent_offset"}),
    "two_consumers_served_different_ones": (Bugs(number_twice_every=50), Nothing(), LOG, {"divergence"}),
    "two_producers_change_places": (Bugs(backwards_every=50), Nothing(), LOG, {"non_monotonic_read"}),
}  # fmt: skip

WORKLOADS: dict[str, dict[str, Any]] = {
    "passed_over": {"confirm_timeout_s": 1.0},  # what is never answered is waited for at the end
    "two_consumers_served_different_ones": {"consumers": 2},
    "two_producers_change_places": {"producers": 2},
}
"""Of bugs that only show between clients, or hold them up: what the load must be."""


@pytest.mark.parametrize("planted", BUGS)
def test_a_planted_bug_breaks_what_it_should_and_nothing_else(planted: str, tmp_path: Path) -> None:
    bugs, fault, violated, counted = BUGS[planted]
    scenario = Scenario(
        configuration=Memory(planted.replace("_", "-"), bugs=bugs),
        schedule=Repeat(fault),
        workload=Steady(rate_hz=500, quiet_s=0.4, **WORKLOADS.get(planted, {})),
    )
    judgement = run_cell(scenario, tmp_path / "run").judgement
    status = {name: verdict.status for name, verdict in judgement.verdicts.items()}
    restart_repeats = REPEAT if fault.name == "kill_leader" else set()
    # What is stranded was not read to the end: nothing else is broken by it, and nothing else can be vouched for.
    otherwise = Status.UNKNOWN if planted == "stranded" else Status.HELD
    expected = {
        name: Status.VIOLATED if name in violated else otherwise
        for name in status
        if name not in restart_repeats - violated
    }
    assert {name: status[name] for name in expected} == expected, judgement.trial
    for anomaly in counted:
        assert judgement.counts[anomaly] > 0, anomaly


PULLED: dict[str, tuple[Bugs, Fault, set[str], set[str]]] = {
    # as above, of consumers that pull one message at a time: one, that is near, so that no two pulls hide a wrong order
    # by overlapping; two where one is cut off
    "nothing": (Bugs(), Nothing(), set(), set()),
    "nothing_and_consumers_cut_off": (Bugs(), Disconnect(Role.CONSUMER), REPEAT, {"duplicate_delivery"}),
    "brought_again_though_settled": (
        Bugs(return_settled_every=20),
        Nothing(),
        {*REPEAT, "never_again"},
        {"again_after_confirmed_ack", "dequeues_returned"},
    ),
    "empty_though_it_is_not": (Bugs(deny_every=20), Nothing(), {"linearizable_fifo"}, {"false_empty"}),
    "two_in_fifty_change_places": (
        Bugs(reorder_every=50),
        Nothing(),
        {"ordered", "linearizable_fifo"} | LOG,
        {"overtaken"},
    ),
    "a_message_in_fifty_lost": (
        Bugs(lose_every=50),
        Nothing(),
        {*LOSS, *LOG, "linearizable_fifo"},
        {"lost", "passed_over"},
    ),
}


@pytest.mark.parametrize("planted", PULLED)
def test_a_bug_planted_under_pulls_breaks_what_it_should_and_nothing_else(planted: str, tmp_path: Path) -> None:
    bugs, fault, violated, counted = PULLED[planted]
    cut_off = isinstance(fault, Disconnect)
    scenario = Scenario(
        configuration=Memory(planted.replace("_", "-"), bugs=bugs, acknowledge="confirmed"),
        schedule=Repeat(fault),
        workload=Steady(rate_hz=60, quiet_s=1.0, consumers=1 + cut_off, distance_ms=1 + 3 * cut_off, pull_one=True),
    )
    judgement = run_cell(scenario, tmp_path / "run").judgement
    status = {name: verdict.status for name, verdict in judgement.verdicts.items()}
    assert set(status) == {*EVERYTHING, "linearizable_fifo", "never_again"}
    assert status == {name: Status.VIOLATED if name in violated else Status.HELD for name in status}, judgement.trial
    for anomaly in counted:
        assert judgement.counts[anomaly] > 0, anomaly


@pytest.mark.parametrize(
    ("retry", "duplicates"), [("same-id", False), ("new-id", True)], ids=["same_id", "a_new_id_each_time"]
)
def test_retrying_after_lost_answers_duplicates_only_under_a_new_id(
    retry: str, duplicates: bool, tmp_path: Path
) -> None:
    scenario = Scenario(
        configuration=Memory(f"retry-{retry}", retry=retry, deduplicate=True),
        schedule=Repeat(AcknowledgementLoss()),
        workload=Steady(rate_hz=500, quiet_s=0.4, confirm_timeout_s=1.0),
    )
    judgement = run_cell(scenario, tmp_path / "run").judgement
    assert (judgement.counts["duplicate_publish"] > 0) is duplicates
    expected = Status.VIOLATED if duplicates else Status.HELD
    assert judgement.verdicts["publish_once"].status is expected, judgement.trial


def test_automatic_acknowledgement_loses_what_was_under_way(tmp_path: Path) -> None:
    scenario = Scenario(
        configuration=Memory("automatic", confirms=False, acknowledge="automatic"),
        schedule=Repeat(Disconnect(Role.CONSUMER, backlog_ms=100)),
        workload=Steady(rate_hz=500, quiet_s=0.4),
    )
    judgement = run_cell(scenario, tmp_path / "run").judgement
    assert judgement.counts["lost_unconfirmed"] > 0
    assert judgement.verdicts["at_least_once"].status is Status.VIOLATED
    assert judgement.verdicts["at_most_once"].status is Status.HELD, judgement.trial
