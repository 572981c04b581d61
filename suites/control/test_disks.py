"""Does every fault of disks bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import FOLLOWER, LEADER, PowerLoss, PowerLossOfSeveral, RollingPowerLoss, Run, matrix
from suites.control.brokers import CLASSIC, LOAD, QUORUM, R1, R3, must_bite_and_recover

SEVERAL = [PowerLoss(FOLLOWER), PowerLossOfSeveral("majority"), PowerLossOfSeveral("all"), RollingPowerLoss()]


@matrix([R1], [PowerLoss(LEADER)], workload=LOAD, times=1)
@matrix([CLASSIC, R3, QUORUM], [PowerLoss(LEADER)], workload=LOAD, tier="standard", times=1)
@matrix([R3], SEVERAL, workload=LOAD, tier="standard", times=1)
@matrix([QUORUM], [PowerLossOfSeveral("all")], workload=LOAD, tier="standard", times=1)
def test_every_loss_of_power_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
