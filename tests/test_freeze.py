"""Does a freeze notice what is missing from journals? What was not recorded must not look like what did not happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.checkers.judge import judge
from harness.guarantee import Status
from harness.history.freeze import freeze
from harness.history.history import History
from harness.history.journal import (
    ACK,
    CONFIRM,
    DELIVER,
    DEQUEUE,
    EMPTY,
    FOREIGN,
    HEAD_SIZE,
    PUBLISH,
    PULLED,
    RECORD_SIZE,
    REDELIVERED,
    Journal,
)
from harness.history.proceedings import Proceedings
from harness.history.terms import InjectionTerms
from harness.operation import AckKind, AcknowledgedBy, MessageId, Outcome

COUNT = 40
MS = 1_000_000
PRODUCER, CONSUMER = 1, 2


def client(proceedings: Proceedings, number: int, role: str) -> None:
    name = f"{role}-1.{number}"
    proceedings.write("client", number=number, name=name, slot=f"{role}-1", role=role, group="group", start_ns=0)
    proceedings.write("end", number=number, end_ns=4_000 * MS, exit=0, planned=True)


def recorded(directory: Path, peers: tuple[bool | None, ...] = (True,)) -> Path:
    """A run of COUNT messages that were published, acked, received and acknowledged; its two journals were closed."""
    (directory / "journals").mkdir(parents=True)
    proceedings = Proceedings(directory)
    proceedings.write(
        "terms",
        cell="cell",
        seed=7,
        run=1,
        configuration="memory-correct",
        family="memory",
        broker_version="1",
        faults=[],
        acknowledged_by=int(AcknowledgedBy.BROKER),
        ack=int(AckKind.SENT),
        clock_pairs=[[0, 0]],
        drained=True,
        exhaustive=True,
        brokers_up=True,
        whole=True,
        silence_s=5.0,
        floor_hz=1.0,
        offered_hz=20.0,
    )
    proceedings.write("phase", phase="quiet", trial=0, begin_ns=0, end_ns=2_000 * MS)
    proceedings.write("phase", phase="drain", trial=-1, begin_ns=2_000 * MS, end_ns=3_000 * MS)
    client(proceedings, PRODUCER, "producer")
    client(proceedings, CONSUMER, "consumer")
    for ok in peers:
        proceedings.write("peers", ok=ok, strangers=[], seen=[])
    proceedings.close()
    producer = Journal(directory / "journals" / f"producer-1.{PRODUCER}.journal", client=PRODUCER, origin_ns=0)
    consumer = Journal(directory / "journals" / f"consumer-1.{CONSUMER}.journal", client=CONSUMER, origin_ns=0)
    for number in range(1, COUNT + 1):
        message, at_ns = MessageId(PRODUCER, number).packed, number * 50 * MS
        producer.add("attempted")
        producer.write(PUBLISH, 0, 1, 1, 0, message, at_ns, at_ns, number)
        producer.write(CONFIRM, Outcome.OK, 1, 0, 0, number, number, at_ns + MS)
        producer.add("answered")
        consumer.write(DELIVER, 0, 1, 1, 1, message, 0, at_ns + 2 * MS, 0, number)
        consumer.add("received")
        consumer.write(ACK, AckKind.SENT, x0=number, x1=at_ns + 3 * MS)
    producer.close()
    consumer.close()
    return directory


def journal(directory: Path, role: str) -> Path:
    (found,) = (directory / "journals").glob(f"{role}-*.journal")
    return found


def cut(path: Path, records: int) -> None:
    """Take whole records off its end."""
    path.write_bytes(path.read_bytes()[: -records * RECORD_SIZE])


def blank(path: Path, records: int) -> None:
    """Overwrite the last records with nothing, as a copy of a sparse file may."""
    data = bytearray(path.read_bytes())
    data[-records * RECORD_SIZE :] = bytes(records * RECORD_SIZE)
    path.write_bytes(bytes(data))


def statuses(past: History) -> Mapping[str, Status]:
    return {name: verdict.status for name, verdict in judge(past).verdicts.items()}


def test_whole_journals_are_a_whole_history(tmp_path: Path) -> None:
    past = freeze(recorded(tmp_path / "run"))
    assert past.terms.truncated_journals == ()
    assert past.publications.rows == past.deliveries.rows == COUNT
    assert statuses(past)["at_least_once"] is Status.HELD


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a consumer's journal cut short": (lambda run: cut(journal(run, "consumer"), 6), "consumer-1.2"),
    "a consumer's journal that is blank at its end": (lambda run: blank(journal(run, "consumer"), 6), "consumer-1.2"),
    "a consumer's journal that is gone": (lambda run: journal(run, "consumer").unlink(), "consumer-1.2"),
    "a producer's journal cut short": (lambda run: cut(journal(run, "producer"), 6), "producer-1.1"),
    "a producer's journal without its last answer": (lambda run: cut(journal(run, "producer"), 1), "producer-1.1"),
    "a producer's journal that is gone": (lambda run: journal(run, "producer").unlink(), "producer-1.1"),
    "a journal of which only the head is left": (
        lambda run: journal(run, "consumer").write_bytes(journal(run, "consumer").read_bytes()[:HEAD_SIZE]) and None,
        "consumer-1.2",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_journal_is_named_and_accuses_and_acquits_nobody(damage: str, tmp_path: Path) -> None:
    spoil, name = DAMAGE[damage]
    run = recorded(tmp_path / "run")
    spoil(run)
    past = freeze(run)
    assert past.terms.truncated_journals == (name,)
    assert set(statuses(past).values()) == {Status.UNKNOWN}


def test_a_pull_is_joined_with_what_answered_it(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run")
    whole, foreign = MessageId(PRODUCER, 1).packed, MessageId(PRODUCER, 2).packed
    path = run / "journals" / "consumer-2.3.journal"
    proceedings = Proceedings(run)
    client(proceedings, 3, "consumer")
    proceedings.close()
    consumer = Journal(path, client=3, origin_ns=0)
    consumer.write(DEQUEUE, epoch=1, x0=10)
    consumer.write(DELIVER, PULLED | REDELIVERED, 1, 1, 1, whole, 0, 20, 10, 1)
    consumer.write(DEQUEUE, epoch=1, x0=30)
    consumer.write(EMPTY, Outcome.OK, 1, x0=30, x1=40)
    consumer.write(DEQUEUE, epoch=1, x0=50)
    consumer.write(EMPTY, Outcome.FAIL, 1, x0=50, x1=60)
    consumer.write(DEQUEUE, epoch=1, x0=70)
    consumer.write(DEQUEUE, epoch=2, x0=90)
    consumer.write(DELIVER, PULLED | FOREIGN, 2, 1, 1, foreign, 0, 100, 90, 2)
    consumer.write(DELIVER, PULLED, 1, 1, 1, whole, 0, 110, 70, 3)  # an answer that comes late
    consumer.write(DELIVER, PULLED, 2, 1, 1, whole, 0, 120, 115, 4)  # of a fetch that is none of these
    consumer.write(DEQUEUE, epoch=2, x0=130)
    consumer.close()
    table = freeze(run).dequeues
    rows = [tuple(int(table[column][row]) for column in table) for row in range(table.rows)]
    group = int(table.group[0])
    ok, info, fail = Outcome.OK, Outcome.INFO, Outcome.FAIL
    assert rows == [
        (3, 1, group, whole, 1, 1, 0, 10, 20, ok),
        (3, 1, group, 0, 0, 0, 1, 30, 40, ok),
        (3, 1, group, 0, 0, 0, 0, 50, 60, fail),
        (3, 1, group, whole, 3, 0, 0, 70, 110, ok),
        (3, 2, group, 0, 2, 0, 0, 90, 100, ok),
        (3, 2, group, 0, 0, 0, 0, 130, -1, info),
    ]


@pytest.mark.parametrize(
    ("asked", "proved"),
    [((True, True), True), ((True, None), None), ((True, None, False), False), ((), None)],
    ids=["always", "not every time", "a stranger", "never"],
)
def test_that_all_came_through_the_proxy_must_have_been_seen_every_time(
    asked: tuple[bool | None, ...], proved: bool | None, tmp_path: Path
) -> None:
    assert freeze(recorded(tmp_path / "run", asked)).terms.peers_all_proxy is proved


def test_what_members_said_after_recovery_stands_with_the_injection_that_they_recovered_from(tmp_path: Path) -> None:
    directory = recorded(tmp_path / "run", peers=())
    proceedings = Proceedings(directory)

    def told(said: str, number: int, recovered_ns: int | None) -> None:
        if recovered_ns is not None:
            proceedings.write("peers", ok=True, strangers=[], seen=[], members={"node-1": said})
        proceedings.write("injection", injection(number, recovered_ns))

    proceedings.write("peers", ok=True, strangers=[], seen=[], members={"node-1": "at the start"})
    told("after the first", 0, 2_000 * MS)
    told("never", 1, None)
    told("after the third", 2, 3_000 * MS)
    proceedings.close()
    facts = [dict(one.facts) for one in freeze(directory).terms.injections]
    assert [one.get("members_after_recovery") for one in facts] == [
        {"node-1": "after the first"},
        None,
        {"node-1": "after the third"},
    ]
    assert [one["measured"] for one in facts] == [0, 1, 2]


def injection(number: int, recovered_ns: int | None) -> InjectionTerms:
    return InjectionTerms(
        fault="ring",
        number=number,
        trial=number,
        targets=("node-1->node-2",),
        planned_ns=0,
        asked_ns=0,
        bit_ns=MS,
        mended_ns=2 * MS,
        recovered_ns=recovered_ns,
        at_risk=1,
        touches="both",
        facts={"measured": number},
    )
