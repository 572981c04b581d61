"""Would Assay notice a client that lies? Each lie changes the verdict, on both brokers where it can be told.

| the lie | the fault | what the terms and the journal say | verdict |
| --- | --- | --- | --- |
| answers-itself: no answer is waited for | leader killed | the broker confirmed | at_least_once VIOLATED |
| acknowledges-first: before the effect | consumer killed between | after it | at_least_once_processed VIOLATED |
| drops-msg-id (JetStream): the retry is another message | lost answers | the id was sent | publish_once VIOLATED |
| discards: one delivery thrown away | nothing | left alone, to be requeued | at_least_once VIOLATED |
| omits-a-delivery: acknowledged, not recorded | nothing | it never came | at_least_once UNKNOWN |
| records-twice: one delivery as two | nothing | it came twice | at_most_once UNKNOWN |

The last two falsify the record itself: there the broker's own counters disagree with the journals, so neither HELD nor
an accusation of the broker stands. Counters compare only where no node restarted, and a delivery that was counted and
not received only where no connection broke: a record that was falsified in a run with faults may be believed.
The honest experiments, with the same configurations, are in suites/rabbitmq, suites/nats and suites/processing: there
these guarantees are kept.
"""

from harness import (
    AT_LEAST_ONCE,
    AT_LEAST_ONCE_PROCESSED,
    AT_MOST_ONCE,
    CONSUMER,
    LEADER,
    PUBLISH_ONCE,
    AckAfterEffect,
    AcknowledgementLoss,
    Classic,
    CrashPoint,
    JetStream,
    Kill,
    KillClient,
    Nats,
    Nothing,
    Quorum,
    RabbitMQ,
    Run,
    SQLite,
    Status,
    Steady,
    matrix,
)

CONFIRMED = [RabbitMQ("classic-confirms", queue=Classic()), Nats("jetstream-r1", jetstream=JetStream())]
PROCESSED = [
    RabbitMQ("quorum-single", queue=Quorum()),
    Nats("jetstream-r1-workqueue", jetstream=JetStream(retention="workqueue"), acknowledge="confirmed"),
]
DEDUPLICATED = [Nats("jetstream-r1-same-id", jetstream=JetStream(), retry="same-id", retry_limit=5)]
BETWEEN_ACK_AND_EFFECT = KillClient(CONSUMER, at=CrashPoint.BETWEEN_ACK_AND_EFFECT)
LOAD = Steady(rate_hz=500)


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


@matrix(DEDUPLICATED, [AcknowledgementLoss()], workload=LOAD)
def test_a_retry_under_the_same_id_is_stored_once(run: Run) -> None:
    run.must_keep(PUBLISH_ONCE)


@matrix(DEDUPLICATED, [AcknowledgementLoss()], workload=LOAD, sabotage="drops-msg-id")
def test_a_producer_that_drops_the_id_is_found_out(run: Run) -> None:
    run.must_violate(PUBLISH_ONCE)


@matrix(CONFIRMED, [Nothing()], workload=LOAD, sabotage="discards")
def test_a_consumer_that_discards_what_it_should_requeue_is_found_out(run: Run) -> None:
    run.must_violate(AT_LEAST_ONCE)


@matrix(CONFIRMED, [Nothing()], workload=LOAD, sabotage="omits-a-delivery")
def test_a_delivery_left_out_of_the_journal_is_noticed(run: Run) -> None:
    _is_doubted(run, AT_LEAST_ONCE.name, "lost_so_far")


@matrix(CONFIRMED, [Nothing()], workload=LOAD, sabotage="records-twice")
def test_a_delivery_recorded_twice_is_noticed(run: Run) -> None:
    _is_doubted(run, AT_MOST_ONCE.name, "duplicate_delivery_so_far")


def _is_doubted(run: Run, guarantee: str, anomaly: str) -> None:
    """Exactly the one delivery is seen, and the books say that it proves nothing against the broker."""
    verdict = run.verdict(guarantee)
    assert verdict.status is Status.UNKNOWN, verdict.sentence
    assert any("miscounts" in reason for reason in verdict.reasons), verdict.reasons
    assert run.judgement.counts[anomaly] == 1
