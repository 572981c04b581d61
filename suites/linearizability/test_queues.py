"""Is a queue linearizable, first in first out, while its leader dies, is cut off, or its consumers are?

Consumers pull one message at a time, and each pull is recorded with its answer, a message or "nothing there". No
documentation claims it; each test demands what was seen. Delayed routes need local processes (`--engine processes`).
"""

from harness import (
    CONSUMER,
    FOLLOWER,
    LEADER,
    LINEARIZABLE_FIFO,
    Classic,
    Disconnect,
    Isolate,
    JetStream,
    Kill,
    KillClient,
    Nats,
    Nothing,
    Quorum,
    RabbitMQ,
    RouteLatency,
    Run,
    Status,
    Steady,
    matrix,
)

CLASSIC = RabbitMQ("classic-pulled", queue=Classic())
QUORUM = RabbitMQ("quorum-pulled", members=3, queue=Quorum())
WORK_QUEUE_R1 = Nats("work-queue-r1-pulled", jetstream=JetStream(retention="workqueue"))
WORK_QUEUE_R3 = Nats("work-queue-r3-pulled", members=3, jetstream=JetStream(replicas=3, retention="workqueue"))
QUEUES = [CLASSIC, QUORUM, WORK_QUEUE_R1, WORK_QUEUE_R3]

PULLED = Steady(rate_hz=100, consumers=3, pull_one=True)
SPARSE = Steady(rate_hz=6, consumers=3, pull_one=True)  # the queue is mostly empty


@matrix(QUEUES, [Nothing()], workload=PULLED)
@matrix(QUEUES, [Kill(LEADER)], workload=PULLED, tier="standard")
def test_is_linearizable(run: Run) -> None:
    run.must_keep(LINEARIZABLE_FIFO)


@matrix(QUEUES, [Disconnect(CONSUMER), KillClient(CONSUMER)], workload=PULLED, tier="standard")
@matrix([QUORUM, WORK_QUEUE_R3], [Isolate(LEADER)], workload=PULLED, tier="standard")
def test_was_not_seen_to_be_anything_else(run: Run) -> None:
    """Too few runs to demand that it is HELD: what is not known is reported as such."""
    assert run.verdict(LINEARIZABLE_FIFO).status is not Status.VIOLATED


@matrix([WORK_QUEUE_R3], [RouteLatency(FOLLOWER)], workload=SPARSE, tier="standard", times=5)
def test_says_at_worst_too_early_that_nothing_is_there(run: Run) -> None:
    """A server that leads the consumer and is late to hear of messages does; whether it leads it is not ours to say."""
    assert set(run.verdict(LINEARIZABLE_FIFO).counts) <= {"false_empty"}
