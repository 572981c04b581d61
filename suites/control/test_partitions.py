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
)
from suites.control.brokers import QUORUM, R3, R5, must_bite_and_recover, tried

OTHER_PARTITIONS = [Isolate(FOLLOWER), Isolate(LEADER, way="outbound"), Isolate(LEADER, way="inbound"), Bridge()]
DRAWN = [Isolate(CLIENT_NODE), RandomPartition()]
DELAYED = [RouteLatency(FOLLOWER), RouteLatency(ANY_NODE), RouteLatency(CLIENT_NODE, delay_ms=400)]
OF_FIVE = [Halves(), Halves(leader_in="majority"), Bridge(), Ring()]


@tried([R3], [Isolate(LEADER), Ring()])
@tried([QUORUM], [Isolate(LEADER)])
@tried([QUORUM], [Ring()], tier="standard")
@tried([QUORUM], DRAWN, tier="standard")
@tried([R3], [RandomPartition()])
@tried([R3], [Isolate(CLIENT_NODE), Halves()], tier="standard")
@tried([R5], OF_FIVE, tier="standard")
@tried([R3, QUORUM], OTHER_PARTITIONS, tier="standard")
def test_every_partition_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)


@tried([R3], [RouteLatency(LEADER)])
@tried([R3], DELAYED, tier="standard")
@tried([R5], [RouteLatency(LEADER)], tier="standard")
def test_every_delay_of_routes_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
