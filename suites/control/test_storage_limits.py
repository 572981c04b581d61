"""Does every limit of what is stored bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import Run, StorageLimit
from suites.control.brokers import R1, R1_MEMORY, R3, R3_MEMORY, must_bite_and_recover, tried


@tried([R1], [StorageLimit("file")])
@tried([R3], [StorageLimit("file")], tier="standard")
@tried([R1_MEMORY, R3_MEMORY], [StorageLimit("memory")], tier="standard")
def test_every_limit_of_what_is_stored_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
