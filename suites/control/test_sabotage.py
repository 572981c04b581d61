"""Would Assay notice a client that lies? Each lie changes the verdict, on both brokers.

The honest experiments, with the same configurations, are in suites/rabbitmq, suites/nats and suites/processing: there
these guarantees are kept.
"""

from harness import (
    AT_LEAST_ONCE,
    AT_LEAST_ONCE_PROCESSED,
    CONSUMER,
    LEADER,
    AckAfterEffect,
    Classic,
    CrashPoint,
    JetStream,
    Kill,
    KillClient,
    Nats,
    Quorum,
    RabbitMQ,
    Run,
    SQLite,
    Steady,
    matrix,
)

CONFIRMED = [RabbitMQ("classic-confirms", queue=Classic()), Nats("jetstream-r1", jetstream=JetStream())]
PROCESSED = [
    RabbitMQ("quorum-single", queue=Quorum()),
    Nats("jetstream-r1-workqueue", jetstream=JetStream(retention="workqueue"), acknowledge="confirmed"),
]
BETWEEN_ACK_AND_EFFECT = KillClient(CONSUMER, at=CrashPoint.BETWEEN_ACK_AND_EFFECT)


@matrix(CONFIRMED, [Kill(LEADER)], workload=Steady(rate_hz=500, distance_ms=20), sabotage="answers-itself")
def test_a_producer_that_answers_itself_is_found_out(run: Run) -> None:
    run.must_violate(AT_LEAST_ONCE)


@matrix(
    PROCESSED,
    [BETWEEN_ACK_AND_EFFECT],
    processing=AckAfterEffect(),
    sink=SQLite(),
    workload=Steady(rate_hz=100, quiet_s=0.5, distance_ms=1, service_ms=1, prefetch=20),
    sabotage="acknowledges-first",
)
def test_a_consumer_that_acknowledges_first_is_found_out(run: Run) -> None:
    run.must_violate(AT_LEAST_ONCE_PROCESSED)
