"""Does every fault of clients bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import CONSUMER, PRODUCER, KillClient, Run, matrix
from suites.control.brokers import CLASSIC, LOAD, QUORUM, R1, R3, must_bite_and_recover

CLIENTS = [KillClient(CONSUMER), KillClient(PRODUCER)]


@matrix([R1, R3, CLASSIC, QUORUM], CLIENTS, workload=LOAD, tier="standard", times=1)
def test_every_fault_of_clients_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
