"""Does every fault of clients bite, is it mended, and does the system recover? Nothing else is asked here."""

from harness import (
    CONSUMER,
    PRODUCER,
    AbruptClose,
    DoubleAcknowledgement,
    Hoard,
    KillClient,
    PauseClient,
    Run,
    SlowConsumer,
    WrongOrder,
    matrix,
)
from suites.control.brokers import CLASSIC, LOAD, QUORUM, R1, R3, must_bite_and_recover

CLIENTS = [KillClient(CONSUMER), KillClient(PRODUCER)]
IN_A_CLUSTER_TOO = [PauseClient(CONSUMER), AbruptClose(CONSUMER), Hoard(), DoubleAcknowledgement()]
ON_ONE_NODE = [PauseClient(PRODUCER), AbruptClose(PRODUCER), SlowConsumer(), WrongOrder()]


@matrix([R1, R3, CLASSIC, QUORUM], CLIENTS, workload=LOAD, tier="standard", times=1)
def test_every_fault_of_clients_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)


@matrix([CLASSIC], [DoubleAcknowledgement()], workload=LOAD, times=1)
@matrix([R1], [PauseClient(CONSUMER, hold_s=4.0)], workload=LOAD, times=1)
@matrix([R1], [AbruptClose(CONSUMER), Hoard(), DoubleAcknowledgement()], workload=LOAD, tier="standard", times=1)
@matrix([CLASSIC], [PauseClient(CONSUMER), AbruptClose(CONSUMER), Hoard()], workload=LOAD, tier="standard", times=1)
@matrix([R1, CLASSIC], ON_ONE_NODE, workload=LOAD, tier="standard", times=1)
@matrix([R3, QUORUM], IN_A_CLUSTER_TOO, workload=LOAD, tier="standard", times=1)
def test_what_a_client_does_or_suffers_without_dying_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
