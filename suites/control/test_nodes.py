"""Does every fault of nodes bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import CLIENT_NODE, FOLLOWER, LEADER, CrashLoop, Kill, KillAll, Pause, Restart, Rolling, Run, Stop
from suites.control.brokers import CLASSIC, QUORUM, R1, R3, must_bite_and_recover, tried

NODES = [Kill(LEADER), Stop(LEADER), Pause(LEADER)]
FOLLOWERS = [Kill(FOLLOWER), Stop(FOLLOWER), Pause(FOLLOWER), KillAll()]

RESTARTS = [Restart(LEADER), CrashLoop(LEADER)]
OF_CLUSTERS = [Restart(FOLLOWER, how="stop"), Rolling(), Kill(CLIENT_NODE), Pause(CLIENT_NODE)]


@tried([R1], [Stop(LEADER), Pause(LEADER), Restart(LEADER)])
@tried([R1], [Kill(LEADER)], tier="standard")
@tried([CLASSIC, R3, QUORUM], NODES, tier="standard")
@tried([R3, QUORUM], FOLLOWERS, tier="standard")
@tried([R1], [CrashLoop(LEADER)], tier="standard")
@tried([CLASSIC, R3, QUORUM], RESTARTS, tier="standard")
@tried([R3, QUORUM], OF_CLUSTERS, tier="standard")
def test_every_fault_of_nodes_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
