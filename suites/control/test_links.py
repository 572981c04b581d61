"""Does every fault of clients' links bite, is it mended, and does the system recover? Nothing else is asked here.

The smoke tier takes a part of the faults, the standard tier all of them, on both brokers, single nodes and clusters.
"""

from harness import (
    BOTH,
    CONSUMER,
    PRODUCER,
    AcknowledgementLoss,
    Blackhole,
    ConsumerAcknowledgementLoss,
    Direction,
    Disconnect,
    Latency,
    Run,
    Stall,
)
from suites.control.brokers import CLASSIC, QUORUM, R1, R3, must_bite_and_recover, tried

LINKS = [Stall(), ConsumerAcknowledgementLoss()]
OTHER_LINKS = [
    *(kind(role) for kind in (Latency, Disconnect, Blackhole) for role in (BOTH, PRODUCER, CONSUMER)),
    *(Blackhole(direction=direction) for direction in Direction),
    Disconnect(CONSUMER, backlog_ms=80),
    AcknowledgementLoss(),
    Stall(PRODUCER),
    Stall(CONSUMER),
]


@tried([R1, CLASSIC], LINKS)
@tried([R3, QUORUM], LINKS, tier="standard")
@tried([R1, R3, CLASSIC, QUORUM], OTHER_LINKS, tier="standard")
def test_every_fault_of_links_bites_and_is_mended(run: Run) -> None:
    must_bite_and_recover(run)
