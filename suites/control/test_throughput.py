"""Does every fault that slows links, or crumbles what comes, bite, and is it mended? Nothing else is asked here."""

from harness import CONSUMER, PRODUCER, Bandwidth, Fragment, Run, matrix
from suites.control.brokers import CLASSIC, LOAD, QUORUM, R1, R3, must_bite_and_recover


@matrix([CLASSIC], [Bandwidth()], workload=LOAD, times=1)
@matrix([R1, R3, QUORUM], [Bandwidth()], workload=LOAD, tier="standard", times=1)
@matrix([R1, R3, CLASSIC, QUORUM], [Fragment()], workload=LOAD, tier="standard", times=1)
@matrix([CLASSIC], [Bandwidth(PRODUCER), Fragment(PRODUCER)], workload=LOAD, tier="standard", times=1)
@matrix([R3], [Bandwidth(CONSUMER), Fragment(CONSUMER)], workload=LOAD, tier="standard", times=1)
def test_every_fault_of_throughput_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
