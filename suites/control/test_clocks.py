"""Does every fault of clocks bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import FOLLOWER, LEADER, ClockDrift, ClockStep, Run, matrix
from suites.control.brokers import CLASSIC, LOAD, QUORUM, must_bite_and_recover


@matrix(
    [CLASSIC, QUORUM], [ClockStep(LEADER), ClockStep(LEADER, step_s=-60.0)], workload=LOAD, tier="standard", times=1
)
@matrix([CLASSIC, QUORUM], [ClockDrift(LEADER)], workload=LOAD, tier="standard", times=1)
@matrix([QUORUM], [ClockDrift(FOLLOWER)], workload=LOAD, tier="standard", times=1)
@matrix([QUORUM], [ClockStep(FOLLOWER), ClockStep(FOLLOWER, step_s=-60.0)], workload=LOAD, tier="standard", times=1)
def test_every_fault_of_clocks_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
