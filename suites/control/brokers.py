"""The brokers that every fault is tried on, single and in a cluster, and what is asked of each injection."""

import functools

from harness import Classic, JetStream, Nats, Quorum, RabbitMQ, Run, Steady, matrix

CLASSIC = RabbitMQ("control-classic", queue=Classic())
QUORUM = RabbitMQ("control-quorum", members=3, queue=Quorum())
R1 = Nats("control-r1", jetstream=JetStream())
R1_MEMORY = Nats("control-r1-memory", jetstream=JetStream(storage="memory"))
R3 = Nats("control-r3", members=3, jetstream=JetStream(replicas=3), acknowledge="confirmed")
R3_MEMORY = Nats(
    "control-r3-memory", members=3, jetstream=JetStream(replicas=3, storage="memory"), acknowledge="confirmed"
)
R5 = Nats("control-r5", members=5, jetstream=JetStream(replicas=5), acknowledge="confirmed")

LOAD = Steady(rate_hz=500, producers=2)

tried = functools.partial(matrix, workload=LOAD, times=1, drain=False)
"""Each fault once, on each broker. What became of every message is not asked here."""


def must_bite(run: Run) -> None:
    """Every injection that was planned bit, and was mended."""
    assert run.history.terms.injections
    for injection in run.history.terms.injections:
        assert injection.bit_ns is not None, injection.why_not
        assert injection.mended_ns is not None


def must_bite_and_recover(run: Run) -> None:
    """Every injection that was planned bit, was mended, and the system recovered from it."""
    must_bite(run)
    terms = run.history.terms
    for injection in terms.injections:
        assert injection.recovered_ns is not None, "the system did not recover within the limit"
    assert terms.whole, terms.whole_why_not
    assert not terms.proxy_trouble
