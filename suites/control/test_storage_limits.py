"""Does every limit of what is stored bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import Run, StorageLimit, matrix
from suites.control.brokers import LOAD, R1, R1_MEMORY, R3, R3_MEMORY, must_bite_and_recover


@matrix([R1], [StorageLimit("file")], workload=LOAD, times=1)
@matrix([R3], [StorageLimit("file")], workload=LOAD, tier="standard", times=1)
@matrix([R1_MEMORY, R3_MEMORY], [StorageLimit("memory")], workload=LOAD, tier="standard", times=1)
def test_every_limit_of_what_is_stored_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
