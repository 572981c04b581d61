"""Does every change of membership bite, is it mended, and does the cluster recover? Nothing else is asked here.

Upgrades need the images of other versions: `make versions`.
"""

from harness import (
    FOLLOWER,
    LEADER,
    JetStream,
    LeaderTransfer,
    Nats,
    NodeLeaves,
    ReplicaRemoved,
    RollingUpgrade,
    Run,
    matrix,
)
from suites.control.brokers import LOAD, QUORUM, R3, must_bite_and_recover

OLD_R3 = Nats("control-r3-2-12", members=3, version="2.12", jetstream=JetStream(replicas=3), acknowledge="confirmed")


@matrix([R3, QUORUM], [LeaderTransfer()], workload=LOAD, times=1)
@matrix([R3], [ReplicaRemoved(FOLLOWER)], workload=LOAD, tier="standard", times=1)
@matrix([QUORUM], [ReplicaRemoved(FOLLOWER), ReplicaRemoved(LEADER)], workload=LOAD, tier="standard", times=1)
@matrix([R3, QUORUM], [NodeLeaves(FOLLOWER), NodeLeaves(LEADER)], workload=LOAD, tier="standard", times=1)
@matrix([OLD_R3], [RollingUpgrade()], workload=LOAD, tier="standard", times=1)
def test_every_change_of_membership_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
