"""Does a client die exactly where it was told to, and has the broker received what it then had sent?

The soak tier tries each point a hundred times on each broker; the figures are printed (pytest -s). The standard tier
tries the two whose stage only the broker can witness five times, the smoke tier one of them.
"""

from harness import (
    CONSUMER,
    PRODUCER,
    AckAfterEffect,
    AckBeforeEffect,
    AckBeforeEffectUnflushed,
    Classic,
    CrashPoint,
    JetStream,
    KillClient,
    Nats,
    RabbitMQ,
    Role,
    Run,
    SQLite,
    Stage,
    Steady,
    matrix,
)
from suites.control.crashes import must_land

RABBITMQ = RabbitMQ("crash-classic", queue=Classic())
NATS = Nats("crash-r1", jetstream=JetStream(), acknowledge="confirmed")
BROKERS = [RABBITMQ, NATS]

LOAD = Steady(rate_hz=200, quiet_s=0.1)
PROCESSED = Steady(rate_hz=200, quiet_s=0.1, prefetch=20, distance_ms=1, service_ms=1)
HUNDRED, A_FEW = 100, 5


def crash(role: Role, at: CrashPoint, stage: Stage | None = None) -> KillClient:
    """A crash there, mended at once."""
    return KillClient(role, at=at, stage=stage, hold_s=0.02)


WRITTEN = crash(PRODUCER, CrashPoint.BETWEEN_PUBLISH_AND_CONFIRM)
HANDED = crash(PRODUCER, CrashPoint.BETWEEN_PUBLISH_AND_CONFIRM, Stage.HANDED)
BEFORE = crash(PRODUCER, CrashPoint.BEFORE_PUBLISH)
RECEIVED = crash(CONSUMER, CrashPoint.AFTER_RECEIVE)
ACK_EFFECT = crash(CONSUMER, CrashPoint.BETWEEN_ACK_AND_EFFECT)
EFFECT_ACK = crash(CONSUMER, CrashPoint.BETWEEN_EFFECT_AND_ACK)
ACK_CONFIRM = crash(CONSUMER, CrashPoint.BETWEEN_ACK_AND_CONFIRM)
ACK_CONFIRM_HANDED = crash(CONSUMER, CrashPoint.BETWEEN_ACK_AND_CONFIRM, Stage.HANDED)


@matrix([RABBITMQ], [WRITTEN], workload=LOAD, times=A_FEW, label="a_few")
@matrix([NATS], [WRITTEN, ACK_CONFIRM], workload=LOAD, tier="standard", times=A_FEW, label="a_few")
def test_some_crashes_land_at_their_point(run: Run) -> None:
    must_land(run)


@matrix(BROKERS, [BEFORE, HANDED, WRITTEN, RECEIVED], workload=LOAD, tier="soak", times=HUNDRED)
@matrix([NATS], [ACK_CONFIRM, ACK_CONFIRM_HANDED], workload=LOAD, tier="soak", times=HUNDRED)
def test_a_crash_lands_at_its_point(run: Run) -> None:
    must_land(run)


@matrix(
    BROKERS,
    [ACK_EFFECT],
    processing=AckBeforeEffect(),
    sink=SQLite(),
    workload=PROCESSED,
    tier="soak",
    times=HUNDRED,
)
@matrix(
    BROKERS,
    [ACK_EFFECT, EFFECT_ACK],
    processing=AckBeforeEffectUnflushed(),
    sink=SQLite(),
    workload=PROCESSED,
    tier="soak",
    times=HUNDRED,
)
@matrix(
    BROKERS,
    [EFFECT_ACK],
    processing=AckAfterEffect(),
    sink=SQLite(),
    workload=PROCESSED,
    tier="soak",
    times=HUNDRED,
)
def test_a_crash_in_processing_lands_at_its_point(run: Run) -> None:
    must_land(run)
