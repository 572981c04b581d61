"""Does every fault of nodes bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import CLIENT_NODE, FOLLOWER, LEADER, CrashLoop, Kill, KillAll, Pause, Restart, Rolling, Run, Stop, matrix
from suites.control.brokers import CLASSIC, LOAD, QUORUM, R1, R3, must_bite_and_recover

NODES = [Kill(LEADER), Stop(LEADER), Pause(LEADER)]
FOLLOWERS = [Kill(FOLLOWER), Stop(FOLLOWER), Pause(FOLLOWER), KillAll()]

RESTARTS = [Restart(LEADER), CrashLoop(LEADER)]
OF_CLUSTERS = [Restart(FOLLOWER, how="stop"), Rolling(), Kill(CLIENT_NODE), Pause(CLIENT_NODE)]


@matrix([R1], [Stop(LEADER), Pause(LEADER), Restart(LEADER)], workload=LOAD, times=1)
@matrix([R1], [Kill(LEADER)], workload=LOAD, tier="standard", times=1)
@matrix([CLASSIC, R3, QUORUM], NODES, workload=LOAD, tier="standard", times=1)
@matrix([R3, QUORUM], FOLLOWERS, workload=LOAD, tier="standard", times=1)
@matrix([R1], [CrashLoop(LEADER)], workload=LOAD, tier="standard", times=1)
@matrix([CLASSIC, R3, QUORUM], RESTARTS, workload=LOAD, tier="standard", times=1)
@matrix([R3, QUORUM], OF_CLUSTERS, workload=LOAD, tier="standard", times=1)
def test_every_fault_of_nodes_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
