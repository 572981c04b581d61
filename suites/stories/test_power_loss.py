"""What does a power failure take? What was acknowledged before it had been flushed; where it is flushed first, nothing.

Consumers are slower than producers, so that at any time some messages have been acknowledged, stored, and not delivered
yet: only those can be lost. Needs containers, and root for the loop devices under the brokers' data.
"""

from harness import (
    AT_LEAST_ONCE,
    LEADER,
    Classic,
    JetStream,
    Nats,
    PowerLoss,
    Quorum,
    RabbitMQ,
    Run,
    Steady,
    matrix,
)

FLUSHED_LATER = [
    Nats("jetstream-r1-as-shipped", jetstream=JetStream()),
    RabbitMQ("classic-durable-confirms", queue=Classic()),
]
FLUSHED_FIRST = [
    Nats("jetstream-r1-sync-always", jetstream=JetStream(sync_interval="always")),
    RabbitMQ("quorum-single", queue=Quorum()),
]
BACKLOG = Steady(rate_hz=300, producers=2, prefetch=10, service_ms=40, floor=0.3)


@matrix(FLUSHED_LATER, [PowerLoss(LEADER)], workload=BACKLOG, tier="standard", times=1)
def test_what_was_acknowledged_before_it_was_flushed_is_lost(run: Run) -> None:
    run.must_violate(AT_LEAST_ONCE)
    assert run.judgement.counts["lost"] > 0


@matrix(FLUSHED_FIRST, [PowerLoss(LEADER)], workload=BACKLOG, tier="standard", times=1)
def test_what_is_flushed_before_it_is_acknowledged_is_kept(run: Run) -> None:
    run.must_keep(AT_LEAST_ONCE)
