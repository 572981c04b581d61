"""Does every fault of disks and files bite, is it mended, and does the system recover? Nothing else is asked here.

A broker whose files were changed may never recover, nor may one that lost what it had acknowledged on a majority of its
nodes; that it bit and was mended is all that is asked then.
"""

from harness import (
    FOLLOWER,
    LEADER,
    DiskFull,
    DiskNearlyFull,
    FlipBits,
    JetStream,
    Nats,
    PowerLoss,
    PowerLossOfSeveral,
    Quorum,
    RabbitMQ,
    RollingPowerLoss,
    Run,
    SlowDisk,
    Truncate,
)
from suites.control.brokers import CLASSIC, QUORUM, R1, R3, must_bite, must_bite_and_recover, tried

R1_SYNC = Nats("control-r1-sync", jetstream=JetStream(sync_interval="always"))
R3_SYNC = Nats(
    "control-r3-sync", members=3, jetstream=JetStream(replicas=3, sync_interval="always"), acknowledge="confirmed"
)
QUORUM_SINGLE = RabbitMQ("control-quorum-single", queue=Quorum())
SEVERAL = [PowerLossOfSeveral("majority"), PowerLossOfSeveral("all"), RollingPowerLoss()]


@tried([R1], [PowerLoss(LEADER)])
@tried([CLASSIC, R3, QUORUM], [PowerLoss(LEADER)], tier="standard")
@tried([R3], [PowerLoss(FOLLOWER)], tier="standard")
@tried([R3_SYNC], SEVERAL, tier="standard")
@tried([QUORUM], [PowerLossOfSeveral("all")], tier="standard")
def test_every_loss_of_power_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)


@tried([R3], SEVERAL, tier="standard")
def test_every_loss_of_power_of_several_that_do_not_sync_bites_and_is_mended(run: Run) -> None:
    must_bite(run)


@tried([R1], [DiskFull(LEADER)])
@tried([CLASSIC, R3], [DiskFull(LEADER)], tier="standard")
@tried([R1, CLASSIC], [DiskNearlyFull(LEADER)], tier="standard")
@tried([R1_SYNC, QUORUM_SINGLE], [SlowDisk(LEADER)], tier="standard")
def test_every_fault_of_disks_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)


@tried([R1, CLASSIC], [FlipBits(LEADER), Truncate(LEADER)], tier="standard")
@tried([R3], [FlipBits(FOLLOWER), Truncate(FOLLOWER)], tier="standard")
def test_every_change_of_files_bites_and_is_mended(run: Run) -> None:
    must_bite(run)
