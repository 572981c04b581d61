"""Does every partition bite, is it mended, and does the cluster recover? Nothing else is asked here."""

from harness import FOLLOWER, LEADER, Bridge, Isolate, Ring, Run, matrix
from suites.control.brokers import LOAD, QUORUM, R3, must_bite_and_recover

OTHER_PARTITIONS = [Isolate(FOLLOWER), Isolate(LEADER, way="outbound"), Isolate(LEADER, way="inbound"), Bridge()]


@matrix([R3], [Isolate(LEADER), Ring()], workload=LOAD, times=1)
@matrix([QUORUM], [Isolate(LEADER)], workload=LOAD, times=1)
@matrix([QUORUM], [Ring()], workload=LOAD, tier="standard", times=1)
@matrix([R3, QUORUM], OTHER_PARTITIONS, workload=LOAD, tier="standard", times=1)
def test_every_partition_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
