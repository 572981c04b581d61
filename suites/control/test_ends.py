"""Does every fault that ends connections in an unusual way bite, and is it mended? Nothing else is asked here."""

from harness import CONSUMER, PRODUCER, CutAfter, Direction, Flapping, ResetNew, Run, SlowClose, matrix
from suites.control.brokers import CLASSIC, LOAD, QUORUM, R1, R3, must_bite_and_recover

DOWN = Direction.DOWN
ENDS = [CutAfter(), ResetNew(), Flapping(), SlowClose()]


@matrix([CLASSIC], [CutAfter(), SlowClose()], workload=LOAD, times=1)
@matrix([R1], [ResetNew()], workload=LOAD, times=1)
@matrix([CLASSIC], [ResetNew(), Flapping()], workload=LOAD, tier="standard", times=1)
@matrix([R1], [CutAfter(), Flapping(), SlowClose()], workload=LOAD, tier="standard", times=1)
@matrix([R3, QUORUM], ENDS, workload=LOAD, tier="standard", times=1)
@matrix([R1, R3, CLASSIC, QUORUM], [CutAfter(direction=DOWN)], workload=LOAD, tier="standard", times=1)
@matrix(
    [CLASSIC],
    [CutAfter(PRODUCER), CutAfter(PRODUCER, direction=DOWN), ResetNew(PRODUCER), Flapping(PRODUCER)],
    workload=LOAD,
    tier="standard",
    times=1,
)
@matrix(
    [R3],
    [CutAfter(CONSUMER), CutAfter(CONSUMER, direction=DOWN), ResetNew(CONSUMER), Flapping(CONSUMER)],
    workload=LOAD,
    tier="standard",
    times=1,
)
@matrix([R1, QUORUM], [SlowClose(PRODUCER)], workload=LOAD, tier="standard", times=1)
def test_every_fault_of_ends_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
