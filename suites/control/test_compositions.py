"""Do faults that are composed each bite, are they mended, and does the system recover? Nothing else is asked here."""

from harness import (
    CONSUMER,
    FOLLOWER,
    LEADER,
    PRODUCER,
    Acked,
    AcknowledgementLoss,
    At,
    Blackhole,
    Elected,
    Holding,
    InTurn,
    Kill,
    KillClient,
    Latency,
    Overlap,
    Pause,
    Randomly,
    Run,
    Stall,
    matrix,
)
from suites.control.brokers import CLASSIC, LOAD, QUORUM, R1, R3, must_bite_and_recover

LINKS_AND_CLIENTS = [
    Overlap((Latency(CONSUMER), AcknowledgementLoss()), apart_s=0.2),
    At(Acked(200), KillClient(CONSUMER)),
    InTurn((Stall(PRODUCER), KillClient(PRODUCER))),
    Randomly(
        (Latency(PRODUCER), Blackhole(CONSUMER), KillClient(PRODUCER)),
        during_s=4,
        density=0.8,
        label="links_and_clients",
    ),
]
CLUSTERS = [
    Overlap((Kill(LEADER, hold_s=12.0), At(Elected(), Kill(LEADER)))),
    Overlap((Pause(FOLLOWER), KillClient(CONSUMER)), apart_s=0.2),
]


@matrix([R1, CLASSIC], LINKS_AND_CLIENTS[:1], workload=LOAD, times=1)
@matrix([R1], [At(Holding(5), Kill(LEADER))], workload=LOAD, times=1)
# Two of three nodes have to come back, one after the other.
@matrix([R3, QUORUM], CLUSTERS, workload=LOAD, tier="standard", times=1, recovery_limit_s=120.0)
@matrix([R1, CLASSIC], LINKS_AND_CLIENTS[1:], workload=LOAD, tier="standard", times=1)
def test_every_composed_fault_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
