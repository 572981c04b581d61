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
)
from suites.control.brokers import QUORUM, R3, must_bite_and_recover, tried

OLD_R3 = Nats("control-r3-2-12", members=3, version="2.12", jetstream=JetStream(replicas=3), acknowledge="confirmed")


@tried([R3, QUORUM], [LeaderTransfer()])
@tried([R3], [ReplicaRemoved(FOLLOWER)], tier="standard")
@tried([QUORUM], [ReplicaRemoved(FOLLOWER), ReplicaRemoved(LEADER)], tier="standard")
@tried([R3, QUORUM], [NodeLeaves(FOLLOWER), NodeLeaves(LEADER)], tier="standard")
@tried([OLD_R3], [RollingUpgrade()], tier="standard")
def test_every_change_of_membership_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
