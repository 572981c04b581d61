"""Is a message processed at most once, at least once, or exactly once, when its consumer dies between two steps?

What decides is the order of effect and acknowledgement, and whether the acknowledgement has left the process.
"""

from harness import (
    AT_LEAST_ONCE_PROCESSED,
    AT_MOST_ONCE_PROCESSED,
    CONSUMER,
    EXACTLY_ONCE_PROCESSED,
    AckAfterEffect,
    AckBeforeEffect,
    AckBeforeEffectUnflushed,
    CrashPoint,
    JetStream,
    KillClient,
    Nats,
    Quorum,
    RabbitMQ,
    Run,
    SQLite,
    Steady,
    Transaction,
    matrix,
)

QUORUM = RabbitMQ("quorum-single", queue=Quorum())
WORKQUEUE = Nats("jetstream-r1-workqueue", jetstream=JetStream(retention="workqueue"), acknowledge="confirmed")

CONFIGURATIONS = [QUORUM, WORKQUEUE]
BETWEEN_ACK_AND_EFFECT = KillClient(CONSUMER, at=CrashPoint.BETWEEN_ACK_AND_EFFECT)
BETWEEN_EFFECT_AND_ACK = KillClient(CONSUMER, at=CrashPoint.BETWEEN_EFFECT_AND_ACK)

LOAD = Steady(rate_hz=100, quiet_s=0.5, prefetch=20, distance_ms=1, service_ms=1)
TRIALS = 5


@matrix(
    CONFIGURATIONS, [BETWEEN_ACK_AND_EFFECT], processing=AckBeforeEffect(), sink=SQLite(), workload=LOAD, times=TRIALS
)
def test_acknowledging_first_leaves_messages_unprocessed(run: Run) -> None:
    run.must_keep(AT_MOST_ONCE_PROCESSED)
    run.must_violate(AT_LEAST_ONCE_PROCESSED)


@matrix(
    CONFIGURATIONS,
    [BETWEEN_EFFECT_AND_ACK],
    processing=AckBeforeEffectUnflushed(),
    sink=SQLite(),
    workload=LOAD,
    times=TRIALS,
)
def test_an_acknowledgement_that_never_left_repeats_the_effect(run: Run) -> None:
    run.must_violate(AT_MOST_ONCE_PROCESSED)


@matrix(
    CONFIGURATIONS, [BETWEEN_EFFECT_AND_ACK], processing=AckAfterEffect(), sink=SQLite(), workload=LOAD, times=TRIALS
)
def test_acknowledging_last_repeats_the_effect(run: Run) -> None:
    run.must_keep(AT_LEAST_ONCE_PROCESSED)
    run.must_violate(AT_MOST_ONCE_PROCESSED)


@matrix(CONFIGURATIONS, [BETWEEN_EFFECT_AND_ACK], processing=Transaction(), sink=SQLite(), workload=LOAD, times=TRIALS)
def test_effect_and_id_in_one_transaction_is_exactly_once(run: Run) -> None:
    run.must_keep(EXACTLY_ONCE_PROCESSED)
