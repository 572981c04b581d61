"""Which guarantee does NATS keep, from core to "exactly once", when links fail, answers get lost and servers die?

Needs no container engine: `--assay-engine processes` runs all of it.
"""

from harness import (
    AT_LEAST_ONCE,
    CONSUMER,
    LEADER,
    PRODUCER,
    PUBLISH_ONCE,
    AcknowledgementLoss,
    Blackhole,
    Direction,
    Disconnect,
    JetStream,
    Kill,
    KillClient,
    Latency,
    Nats,
    Nothing,
    Run,
    Steady,
    matrix,
)

CORE = Nats("core", jetstream=None, confirms=False, acknowledge="none")
JETSTREAM_R1 = Nats("jetstream-r1", jetstream=JetStream())
JETSTREAM_R1_NEW_ID = Nats("jetstream-r1-new-id", jetstream=JetStream(), retry="new-id", retry_limit=5)
JETSTREAM_R3_EXACTLY_ONCE = Nats(
    "jetstream-r3-exactly-once",
    members=3,
    jetstream=JetStream(replicas=3),
    acknowledge="confirmed",
    retry="same-id",
    retry_limit=5,
)

JETSTREAMS = [JETSTREAM_R1, JETSTREAM_R1_NEW_ID, JETSTREAM_R3_EXACTLY_ONCE]
FAULTS = [Nothing(), Latency(), Blackhole()]
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


@matrix([CORE, *JETSTREAMS], FAULTS, workload=LOAD)
@matrix(JETSTREAMS, LOSES_WHAT_IS_UNDER_WAY, workload=LOAD)
@matrix([CORE, JETSTREAM_R1, JETSTREAM_R3_EXACTLY_ONCE], [AcknowledgementLoss()], workload=LOAD)
@matrix([CORE, *JETSTREAMS], ONE_SIDE, workload=LOAD, tier="standard")
@matrix([CORE, *JETSTREAMS], [KillClient(PRODUCER)], workload=MANY, tier="standard")
def test_keeps_what_its_documentation_claims(run: Run) -> None:
    run.must_keep()


@matrix([CORE], LOSES_WHAT_IS_UNDER_WAY, workload=FAR)
def test_core_loses_what_nobody_confirmed_and_never_repeats_it(run: Run) -> None:
    run.must_keep()
    assert run.judgement.counts["lost_unconfirmed"] > 0


@matrix([JETSTREAM_R1_NEW_ID], [AcknowledgementLoss()], workload=LOAD)
def test_a_retry_under_a_new_id_is_stored_twice(run: Run) -> None:
    run.must_keep(AT_LEAST_ONCE)
    run.must_violate(PUBLISH_ONCE)
