"""Which guarantee does RabbitMQ keep when its links fail, its answers get lost, and its leader dies?"""

from harness import (
    CONSUMER,
    LEADER,
    PRODUCER,
    AcknowledgementLoss,
    Blackhole,
    Classic,
    Direction,
    Disconnect,
    Kill,
    KillClient,
    Latency,
    Nothing,
    Quorum,
    RabbitMQ,
    Run,
    Steady,
    matrix,
)

FIRE_AND_FORGET = RabbitMQ(
    "fire-and-forget", queue=Classic(durable=False), confirms=False, acknowledge="automatic", persistent=False
)
CLASSIC_CONFIRMS = RabbitMQ("classic-confirms", queue=Classic())
QUORUM_CONFIRMS = RabbitMQ("quorum-confirms", members=3, queue=Quorum())

CONFIRMED = [CLASSIC_CONFIRMS, QUORUM_CONFIRMS]
FAULTS = [Nothing(), Latency(), Blackhole(), AcknowledgementLoss()]
LOSES_WHAT_IS_UNDER_WAY = [Disconnect(CONSUMER, backlog_ms=80), Kill(LEADER)]

ONE_SIDE = [
    Latency(PRODUCER),
    Latency(CONSUMER),
    Disconnect(PRODUCER),
    Disconnect(CONSUMER),
    Blackhole(PRODUCER),
    Blackhole(CONSUMER),
    Blackhole(direction=Direction.UP),
    Blackhole(direction=Direction.DOWN),
    KillClient(CONSUMER),
]

LOAD = Steady(rate_hz=500)
FAR = Steady(rate_hz=500, distance_ms=20)  # more is under way, and lost with a link or a node
MANY = Steady(rate_hz=500, producers=3)  # while one of them is dead, the others keep up the load


@matrix([FIRE_AND_FORGET, *CONFIRMED], FAULTS, workload=LOAD)
@matrix(CONFIRMED, LOSES_WHAT_IS_UNDER_WAY, workload=LOAD)
@matrix([FIRE_AND_FORGET, *CONFIRMED], ONE_SIDE, workload=LOAD, tier="standard")
@matrix([FIRE_AND_FORGET, *CONFIRMED], [KillClient(PRODUCER)], workload=MANY, tier="standard")
def test_keeps_what_its_documentation_claims(run: Run) -> None:
    run.must_keep()


@matrix([FIRE_AND_FORGET], LOSES_WHAT_IS_UNDER_WAY, workload=FAR)
def test_fire_and_forget_loses_what_nobody_confirmed_and_never_repeats_it(run: Run) -> None:
    run.must_keep()
    assert run.judgement.counts["lost_unconfirmed"] > 0
