"""Does every fault bite, is it mended, and does the system recover? Nothing else is asked here, so nothing is claimed.

The smoke tier takes a part of the faults, the standard tier all of them, on both brokers, single nodes and clusters.
"""

from harness import (
    BOTH,
    CONSUMER,
    FOLLOWER,
    LEADER,
    PRODUCER,
    AcknowledgementLoss,
    Blackhole,
    Bridge,
    Classic,
    ConsumerAcknowledgementLoss,
    Direction,
    Disconnect,
    Isolate,
    JetStream,
    Kill,
    KillAll,
    KillClient,
    Latency,
    Nats,
    Pause,
    Quorum,
    RabbitMQ,
    Ring,
    Run,
    Stall,
    Steady,
    Stop,
    matrix,
)

CLASSIC = RabbitMQ("control-classic", queue=Classic())
QUORUM = RabbitMQ("control-quorum", members=3, queue=Quorum())
R1 = Nats("control-r1", jetstream=JetStream())
R3 = Nats("control-r3", members=3, jetstream=JetStream(replicas=3), acknowledge="confirmed")

LINKS = [Stall(), ConsumerAcknowledgementLoss()]
OTHER_LINKS = [
    *(kind(role) for kind in (Latency, Disconnect, Blackhole) for role in (BOTH, PRODUCER, CONSUMER)),
    *(Blackhole(direction=direction) for direction in Direction),
    Disconnect(CONSUMER, backlog_ms=80),
    AcknowledgementLoss(),
    Stall(PRODUCER),
    Stall(CONSUMER),
]
CLIENTS = [KillClient(CONSUMER), KillClient(PRODUCER)]
NODES = [Kill(LEADER), Stop(LEADER), Pause(LEADER)]
FOLLOWERS = [Kill(FOLLOWER), Stop(FOLLOWER), Pause(FOLLOWER), KillAll()]
PARTITIONS = [Isolate(LEADER), Ring()]
OTHER_PARTITIONS = [
    Isolate(FOLLOWER),
    Isolate(LEADER, way="outbound"),
    Isolate(LEADER, way="inbound"),
    Bridge(),
]

LOAD = Steady(rate_hz=500, producers=2)


@matrix([R1, CLASSIC], LINKS, workload=LOAD, times=1)
@matrix([R1], [Stop(LEADER), Pause(LEADER)], workload=LOAD, times=1)
@matrix([R3], PARTITIONS, workload=LOAD, times=1)
@matrix([QUORUM], [Isolate(LEADER)], workload=LOAD, times=1)
@matrix([R1, R3, CLASSIC, QUORUM], [*OTHER_LINKS, *CLIENTS], workload=LOAD, tier="standard", times=1)
@matrix([R3, QUORUM], LINKS, workload=LOAD, tier="standard", times=1)
@matrix([CLASSIC, R3, QUORUM], NODES, workload=LOAD, tier="standard", times=1)
@matrix([R1], [Kill(LEADER)], workload=LOAD, tier="standard", times=1)
@matrix([R3, QUORUM], [*FOLLOWERS, *OTHER_PARTITIONS], workload=LOAD, tier="standard", times=1)
@matrix([QUORUM], [Ring()], workload=LOAD, tier="standard", times=1)
def test_every_fault_bites_and_is_mended(run: Run) -> None:
    terms = run.history.terms
    assert len(terms.injections) == 1
    for injection in terms.injections:
        assert injection.bit_ns is not None, injection.why_not
        assert injection.mended_ns is not None
        assert injection.recovered_ns is not None, "the system did not recover within the limit"
    assert terms.whole
    assert not terms.proxy_trouble
