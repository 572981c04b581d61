"""Does every fault between nodes bite, is it mended, and does the cluster recover? Nothing else is asked here.

Delays need NATS servers that are local processes: `--assay-engine processes`, or `auto`, which finds that out.
"""

from harness import (
    ANY_NODE,
    CLIENT_NODE,
    FOLLOWER,
    LEADER,
    Bridge,
    Halves,
    Isolate,
    RandomPartition,
    Ring,
    RouteLatency,
    Run,
    matrix,
)
from suites.control.brokers import LOAD, QUORUM, R3, R5, must_bite_and_recover

OTHER_PARTITIONS = [Isolate(FOLLOWER), Isolate(LEADER, way="outbound"), Isolate(LEADER, way="inbound"), Bridge()]
DRAWN = [Isolate(CLIENT_NODE), RandomPartition()]
DELAYED = [RouteLatency(FOLLOWER), RouteLatency(ANY_NODE), RouteLatency(CLIENT_NODE, delay_ms=400)]
OF_FIVE = [Halves(), Halves(leader_in="majority"), Bridge(), Ring()]


@matrix([R3], [Isolate(LEADER), Ring()], workload=LOAD, times=1)
@matrix([QUORUM], [Isolate(LEADER)], workload=LOAD, times=1)
@matrix([QUORUM], [Ring()], workload=LOAD, tier="standard", times=1)
@matrix([QUORUM], DRAWN, workload=LOAD, tier="standard", times=1)
@matrix([R3], [RandomPartition()], workload=LOAD, times=1)
@matrix([R3], [Isolate(CLIENT_NODE), Halves()], workload=LOAD, tier="standard", times=1)
@matrix([R5], OF_FIVE, workload=LOAD, tier="standard", times=1)
@matrix([R3, QUORUM], OTHER_PARTITIONS, workload=LOAD, tier="standard", times=1)
def test_every_partition_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)


@matrix([R3], [RouteLatency(LEADER)], workload=LOAD, times=1)
@matrix([R3], DELAYED, workload=LOAD, tier="standard", times=1)
@matrix([R5], [RouteLatency(LEADER)], workload=LOAD, tier="standard", times=1)
def test_every_delay_of_routes_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
