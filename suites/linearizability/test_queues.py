"""Is a queue linearizable, first in first out, while its leader dies, is cut off, or its consumers are?

Consumers pull one message at a time, and each pull is recorded with its answer, a message or "nothing there". No
documentation claims it; each test demands what was seen.
"""

from harness import (
    CONSUMER,
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
    Run,
    Steady,
    matrix,
)

CLASSIC = RabbitMQ("classic-pulled", queue=Classic())
QUORUM = RabbitMQ("quorum-pulled", members=3, queue=Quorum())
WORK_QUEUE_R1 = Nats("work-queue-r1-pulled", jetstream=JetStream(retention="workqueue"))
WORK_QUEUE_R3 = Nats("work-queue-r3-pulled", members=3, jetstream=JetStream(replicas=3, retention="workqueue"))

PULLED = Steady(rate_hz=100, consumers=3, pull_one=True)


@matrix([CLASSIC, QUORUM, WORK_QUEUE_R1, WORK_QUEUE_R3], [Nothing()], workload=PULLED)
@matrix(
    [CLASSIC, QUORUM, WORK_QUEUE_R1, WORK_QUEUE_R3],
    [Disconnect(CONSUMER), KillClient(CONSUMER), Kill(LEADER)],
    workload=PULLED,
    tier="standard",
)
@matrix([QUORUM, WORK_QUEUE_R3], [Isolate(LEADER)], workload=PULLED, tier="standard")
def test_is_linearizable(run: Run) -> None:
    run.must_keep(LINEARIZABLE_FIFO)
