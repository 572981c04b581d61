"""Does every fault of clocks bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import FOLLOWER, LEADER, ClockDrift, ClockStep, Run
from suites.control.brokers import CLASSIC, QUORUM, must_bite_and_recover, tried


@tried([CLASSIC, QUORUM], [ClockStep(LEADER), ClockStep(LEADER, step_s=-60.0)], tier="standard")
@tried([CLASSIC, QUORUM], [ClockDrift(LEADER)], tier="standard")
@tried([QUORUM], [ClockDrift(FOLLOWER)], tier="standard")
@tried([QUORUM], [ClockStep(FOLLOWER), ClockStep(FOLLOWER, step_s=-60.0)], tier="standard")
def test_every_fault_of_clocks_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
