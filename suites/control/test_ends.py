"""Does every fault that ends connections in an unusual way bite, and is it mended? Nothing else is asked here."""

from harness import CONSUMER, PRODUCER, CutAfter, Direction, Flapping, ResetNew, Run, SlowClose
from suites.control.brokers import CLASSIC, QUORUM, R1, R3, must_bite_and_recover, tried

DOWN = Direction.DOWN
ENDS = [CutAfter(), ResetNew(), Flapping(), SlowClose()]


@tried([CLASSIC], [CutAfter(), SlowClose()])
@tried([R1], [ResetNew()])
@tried([CLASSIC], [ResetNew(), Flapping()], tier="standard")
@tried([R1], [CutAfter(), Flapping(), SlowClose()], tier="standard")
@tried([R3, QUORUM], ENDS, tier="standard")
@tried([R1, R3, CLASSIC, QUORUM], [CutAfter(direction=DOWN)], tier="standard")
@tried(
    [CLASSIC],
    [CutAfter(PRODUCER), CutAfter(PRODUCER, direction=DOWN), ResetNew(PRODUCER), Flapping(PRODUCER)],
    tier="standard",
)
@tried(
    [R3],
    [CutAfter(CONSUMER), CutAfter(CONSUMER, direction=DOWN), ResetNew(CONSUMER), Flapping(CONSUMER)],
    tier="standard",
)
@tried([R1, QUORUM], [SlowClose(PRODUCER)], tier="standard")
def test_every_fault_of_ends_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
