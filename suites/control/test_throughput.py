"""Does every fault that slows links, or crumbles what comes, bite, and is it mended? Nothing else is asked here."""

from harness import CONSUMER, PRODUCER, Bandwidth, Fragment, Run
from suites.control.brokers import CLASSIC, QUORUM, R1, R3, must_bite_and_recover, tried


@tried([CLASSIC], [Bandwidth()])
@tried([R1, R3, QUORUM], [Bandwidth()], tier="standard")
@tried([R1, R3, CLASSIC, QUORUM], [Fragment()], tier="standard")
@tried([CLASSIC], [Bandwidth(PRODUCER), Fragment(PRODUCER)], tier="standard")
@tried([R3], [Bandwidth(CONSUMER), Fragment(CONSUMER)], tier="standard")
def test_every_fault_of_throughput_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
