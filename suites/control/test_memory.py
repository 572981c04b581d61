"""Does every fault of memory bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import LEADER, MemoryAlarm, OutOfMemory, Run
from suites.control.brokers import CLASSIC, QUORUM, R1, R3, must_bite_and_recover, tried


@tried([R1], [OutOfMemory(LEADER)])
@tried([CLASSIC, R3], [OutOfMemory(LEADER)], tier="standard")
@tried([CLASSIC, QUORUM], [MemoryAlarm(LEADER)], tier="standard")
def test_every_fault_of_memory_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
