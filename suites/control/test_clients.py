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
)
from suites.control.brokers import CLASSIC, QUORUM, R1, R3, must_bite_and_recover, tried

CLIENTS = [KillClient(CONSUMER), KillClient(PRODUCER)]
IN_A_CLUSTER_TOO = [PauseClient(CONSUMER), AbruptClose(CONSUMER), Hoard(), DoubleAcknowledgement()]
ON_ONE_NODE = [PauseClient(PRODUCER), AbruptClose(PRODUCER), SlowConsumer(), WrongOrder()]


@tried([R1, R3, CLASSIC, QUORUM], CLIENTS, tier="standard")
def test_every_fault_of_clients_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)


@tried([CLASSIC], [DoubleAcknowledgement()])
@tried([R1], [PauseClient(CONSUMER, hold_s=4.0)])
@tried([R1], [AbruptClose(CONSUMER), Hoard(), DoubleAcknowledgement()], tier="standard")
@tried([CLASSIC], [PauseClient(CONSUMER), AbruptClose(CONSUMER), Hoard()], tier="standard")
@tried([R1, CLASSIC], ON_ONE_NODE, tier="standard")
@tried([R3, QUORUM], IN_A_CLUSTER_TOO, tier="standard")
def test_what_a_client_does_or_suffers_without_dying_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
