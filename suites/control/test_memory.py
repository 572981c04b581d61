"""Does every fault of memory bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import LEADER, MemoryAlarm, OutOfMemory, Run, matrix
from suites.control.brokers import CLASSIC, LOAD, QUORUM, R1, R3, must_bite_and_recover


@matrix([R1], [OutOfMemory(LEADER)], workload=LOAD, times=1)
@matrix([CLASSIC, R3], [OutOfMemory(LEADER)], workload=LOAD, tier="standard", times=1)
@matrix([CLASSIC, QUORUM], [MemoryAlarm(LEADER)], workload=LOAD, tier="standard", times=1)
def test_every_fault_of_memory_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
