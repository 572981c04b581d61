"""Is the memory broker's queue right, and does each bug show as itself and nothing else?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.brokers.memory.queue import HELD_BACK_NS, Bugs, Logged, Queue, Sending
from harness.brokers.memory.server import Ledger
from harness.errors import Refused
from harness.operation import MessageId, Outcome, decode_payload, encode_payload

RUN = 7
MS = 1_000_000


def payload(sequence: int, attempt: int = 1) -> bytes:
    return encode_payload(RUN, MessageId(1, sequence).packed, attempt, 64)


@dataclass
class Told:
    """What producers and consumers of one queue have seen."""

    acked: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    sendings: list[Sending] = field(default_factory=list)
    left: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)

    def numbers(self) -> list[int]:
        """Of unflagged deliveries of what was stored, in the order of their receipt."""
        return [sending.number for sending in self.sendings if sending.number and not sending.redelivered]

    def anomalies(self) -> dict[str, list[int]]:
        decoded = [(decode_payload(one.payload), one) for one in self.sendings]
        good = [
            (MessageId.unpack(one.message), sending) for one, sending in decoded if not one.corrupt and one.run == RUN
        ]
        mine = [(message.sequence, sending) for message, sending in good if message.producer == 1]
        delivered = Counter(sequence for sequence, _ in mine)
        fresh = [sequence for sequence, sending in mine if not sending.redelivered]
        first = list(dict.fromkeys(fresh))
        published = {*self.acked, *self.duplicates, *self.refused}
        found = {
            "lost": [one for one in self.acked if one not in delivered and one not in self.left],
            "swallowed": [one for one in self.duplicates if one not in delivered and one not in self.left],
            "stranded": sorted(self.left),
            "duplicate": [one for one, count in delivered.items() if count > 1],
            "unflagged": [one for one, count in Counter(fresh).items() if count > 1],
            "overtaken": [two for one, two in pairwise(first) if two < one],
            "corrupt": [sending.sequence for one, sending in decoded if one.corrupt],
            "foreign": [one.message & 0xFFFF for one, _ in decoded if not one.corrupt and one.run != RUN],
            "phantom": [
                message.sequence for message, _ in good if message.producer != 1 or message.sequence not in published
            ],
            "visible failure": [one for one in self.refused if one in delivered],
            "passed over": sorted(self.kept),
            "shared number": [
                one for one, times in Counter(sending.number for _, sending in mine).items() if times > 1
            ],
            "backwards": [two for one, two in pairwise(self.numbers()) if two < one],
        }
        return {name: ids for name, ids in found.items() if ids}


def run(queue: Queue, first: int = 1, last: int = 100) -> Told:
    """Publish and consume messages first..last, 1 ms apart, acknowledging each at once, then wait for the rest."""
    told = Told()
    queue.subscribe("c", 10, automatic=False)

    def take(now_ns: int) -> None:
        for sending in queue.due(now_ns):
            told.sendings.append(sending)
            queue.settle("c", sending.sequence)

    for sequence in range(first, last + 1):
        answer = queue.publish(payload(sequence), str(sequence), sequence * MS)
        if answer.outcome is Outcome.FAIL:
            told.refused.append(sequence)
        elif answer.outcome is Outcome.OK:
            (told.duplicates if answer.duplicate else told.acked).append(sequence)
        take(sequence * MS)
    now_ns = last * MS
    while (wakes_ns := queue.wakes_ns()) is not None:
        assert wakes_ns > now_ns - MS, "it wants to be woken, and has nothing to do"
        now_ns = max(wakes_ns, now_ns)
        take(now_ns)
    told.left, told.kept = (
        {MessageId.unpack(decode_payload(one).message).sequence for _, one in messages}
        for messages in (queue.left(), queue.kept())
    )
    return told


TENTH = list(range(10, 101, 10))
NINTH = list(range(10, 101, 9))
"""Of every ten numbers one is a copy's."""

SHOWS: dict[str, tuple[Bugs, dict[str, list[int]]]] = {
    "a right queue shows nothing": (Bugs(), {}),
    "lose": (Bugs(lose_every=10), {"lost": TENTH}),
    "lose, another seed": (Bugs(lose_every=10, seed=3), {"lost": [one - 7 for one in TENTH]}),
    "duplicate": (Bugs(duplicate_every=10), {"duplicate": TENTH, "shared number": TENTH}),
    "unflagged": (Bugs(unflagged_every=10), {"duplicate": TENTH, "unflagged": TENTH, "shared number": TENTH}),
    "store twice": (Bugs(store_twice_every=10), {"duplicate": NINTH, "unflagged": NINTH}),
    "return settled": (Bugs(return_settled_every=10), {"duplicate": TENTH, "shared number": TENTH}),
    "reorder": (Bugs(reorder_every=10), {"overtaken": TENTH[:-1], "backwards": TENTH[:-1]}),
    "corrupt": (Bugs(corrupt_every=10), {"corrupt": [0] * 10}),
    "invent": (Bugs(invent_every=10), {"phantom": TENTH}),
    "foreign": (Bugs(foreign_every=10), {"foreign": TENTH}),
    "swallow": (Bugs(swallow_duplicate_every=10), {"swallowed": TENTH}),
    "deliver refused": (Bugs(deliver_refused_every=10), {"visible failure": TENTH}),
    "strand": (Bugs(strand_every=10), {"stranded": TENTH}),
    "skip": (Bugs(skip_every=10), {"passed over": TENTH}),
    "number twice": (Bugs(number_twice_every=10), {"shared number": [one - 1 for one in TENTH]}),
    "backwards, of one producer": (Bugs(backwards_every=10), {}),
    "confirm too early, no restart": (Bugs(confirm_too_early=True), {}),
    "deny, and nobody pulls": (Bugs(deny_every=10), {}),
    "forget on restart, no restart": (Bugs(forget_on_restart=True), {}),
}


@pytest.mark.parametrize("name", SHOWS)
def test_a_bug_shows_as_itself_and_nothing_else(name: str) -> None:
    bugs, expected = SHOWS[name]
    assert run(Queue(bugs)).anomalies() == expected


def test_only_another_producers_message_overtakes_what_is_sent_backwards() -> None:
    queue = Queue(Bugs(backwards_every=2))
    for producer, sequence in ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (1, 5)):
        queue.publish(encode_payload(RUN, MessageId(producer, sequence).packed, 1, 64), "", 0)
    queue.subscribe("c", 10, automatic=True)
    assert [sending.number for sending in queue.due(HELD_BACK_NS)] == [1, 2, 3, 5, 4, 6]


def test_every_bug_is_in_the_table() -> None:
    shown = {field for bugs, _ in SHOWS.values() for field in Bugs.__dataclass_fields__ if getattr(bugs, field)}
    assert shown == set(Bugs.__dataclass_fields__)


def test_the_same_seed_gives_the_same_deliveries() -> None:
    bugs = Bugs(lose_every=7, duplicate_every=5, reorder_every=11, invent_every=13, seed=4)
    assert run(Queue(bugs)) == run(Queue(bugs))
    assert run(Queue(bugs)) != run(Queue(Bugs(lose_every=7, duplicate_every=5, reorder_every=11, seed=5)))


@pytest.mark.parametrize(
    ("bugs", "forgets"),
    [
        (Bugs(), False),
        (Bugs(duplicate_every=3), False),
        (Bugs(confirm_too_early=True), True),
        (Bugs(forget_on_restart=True), True),
    ],
)
def test_what_a_restart_forgets(bugs: Bugs, forgets: bool) -> None:
    queue, log, delivered = Queue(bugs), [], set()
    queue.subscribe("c", 1000, automatic=False)
    for sequence in range(1, 101):
        assert queue.publish(payload(sequence), "", sequence * MS).outcome is Outcome.OK
        delivered |= {sending.payload for sending in queue.due(sequence * MS)}
        log += queue.take_log()
    restarted = Queue.restored(log, bugs)
    lost = {payload(one) for one in range(1, 101)} - delivered - {one for _, one in restarted.left()}
    assert bool(lost) is forgets
    if forgets:
        assert len(lost) == HELD_BACK_NS // MS, "those confirmed and held back, not those delivered before"


def test_after_a_restart_all_is_flagged_and_no_sequence_comes_again() -> None:
    queue = Queue()
    for sequence in range(1, 4):
        queue.publish(payload(sequence), "", 0)
    log = queue.take_log()
    queue = Queue.restored(log)
    assert queue.publish(payload(4), "", 0).sequence > 1000
    log += queue.take_log()
    once_more = Queue.restored(log)
    assert once_more.publish(payload(5), "", 0).sequence > 1_000_001
    once_more.subscribe("c", 10, automatic=True)
    assert [(one.redelivered, one.payload) for one in once_more.due(0)] == [
        *[(True, payload(sequence)) for sequence in range(1, 5)],
        (False, payload(5)),
    ]
    assert Queue.restored(log + once_more.take_log()).left() == []


def test_what_a_lost_consumer_held_comes_again_in_order_flagged_and_before_the_rest() -> None:
    queue = Queue()
    queue.subscribe("a", 3, automatic=False)
    for sequence in range(1, 6):
        queue.publish(payload(sequence), "", 0)
    first = queue.due(0)
    assert [(one.sequence, one.redelivered, one.times) for one in first] == [
        (1, False, 1),
        (2, False, 1),
        (3, False, 1),
    ]
    assert queue.settle("a", 2)
    queue.ended("a")
    queue.subscribe("b", 10, automatic=False)
    again = queue.due(0)
    assert [(one.sequence, one.redelivered, one.times) for one in again] == [
        (1, True, 2),
        (3, True, 2),
        (4, False, 1),
        (5, False, 1),
    ]
    assert not queue.settle("a", 1), "the dead settle nothing"
    assert all(queue.settle("b", one.sequence) for one in again)
    assert queue.left() == []


def test_consumers_take_turns_within_their_prefetch() -> None:
    queue = Queue()
    queue.subscribe("a", 2, automatic=False)
    queue.subscribe("b", 1, automatic=False)
    for sequence in range(1, 6):
        queue.publish(payload(sequence), "", 0)
    assert [one.consumer for one in queue.due(0)] == ["a", "b", "a"]
    assert queue.wakes_ns() is None, "nothing to do before somebody settles"
    queue.settle("b", 2)
    assert [one.consumer for one in queue.due(0)] == ["b"]
    queue.unsubscribe("a")
    queue.settle("a", 1)
    assert queue.due(0) == []
    assert queue.unsettled() == 2


def test_automatic_acknowledgement_leaves_nothing_to_come_again() -> None:
    queue = Queue()
    queue.subscribe("a", 1, automatic=True)
    for sequence in range(1, 6):
        queue.publish(payload(sequence), "", 0)
    assert len(queue.due(0)) == 5
    queue.ended("a")
    assert queue.left() == []


@pytest.mark.parametrize("restart", [False, True])
def test_a_native_id_is_stored_once_if_asked(restart: bool) -> None:
    queue = Queue(deduplicate=True)
    first = queue.publish(payload(1), "1:1", 0)
    if restart:
        queue = Queue.restored(queue.take_log(), deduplicate=True)
    again = queue.publish(payload(1, attempt=2), "1:1", 0)
    assert (again.outcome, again.duplicate, again.sequence) == (Outcome.OK, True, first.sequence)
    assert len(queue.left()) == 1


def test_without_being_asked_a_retry_is_a_second_message() -> None:
    queue = Queue()
    queue.publish(payload(1), "1:1", 0)
    queue.publish(payload(1, attempt=2), "1:1", 0)
    assert len(queue.left()) == 2


def test_counters_count_what_the_queue_said() -> None:
    queue = Queue(Bugs(lose_every=10, duplicate_every=9))
    told = run(queue)
    assert queue.counters == {
        "published": 100,
        "delivered": len(told.sendings),
        "redelivered": sum(sending.redelivered for sending in told.sendings),
        "acked": len({sending.sequence for sending in told.sendings}),  # a second time changes nothing
    }


def test_a_bug_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="lose_every=-1"):
        Bugs(lose_every=-1)


def test_the_file_of_a_queue_is_read_back_and_a_torn_end_is_cut_off(tmp_path: Path) -> None:
    path, log = tmp_path / "q.log", [Logged(1, b"one", "id"), Logged(2, b"", ""), Logged(1, None, "")]
    ledger = Ledger(path)
    ledger.append(log)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        read = list(ledger.read())
        assert read == log[: len(read)]
        ledger.append([Logged(9, b"nine", "")])
        assert list(ledger.read()) == [*read, Logged(9, b"nine", "")]
    ledger.remove()
    assert not path.exists()


def test_left_is_by_identity_wherever_a_message_is() -> None:
    queue: Any = Queue(Bugs(strand_every=5, reorder_every=4, seed=4))
    for sequence in range(1, 5):
        queue.publish(payload(sequence), "", 0)
    queue.subscribe("a", 1, automatic=False)
    queue.due(0)
    assert [sequence for sequence, _ in queue.left()] == [1, 2, 3, 4]


def test_a_pull_takes_the_first_message_or_none() -> None:
    queue = Queue()
    assert queue.pull("a", False, 0) == []
    for number in range(3):
        queue.publish(payload(number), "", 0)
    taken = [one.sequence for name in ("a", "b", "a") for one in queue.pull(name, False, 0)]
    assert (taken, queue.pull("b", False, 0), queue.unsettled()) == ([1, 2, 3], [], 3)
    assert queue.due(0) == [], "who pulls is pushed nothing"
    queue.settle("a", 1)
    queue.ended("a")
    (again,) = queue.pull("b", False, 0)
    assert (again.sequence, again.redelivered) == (3, True)


def test_a_pull_under_automatic_acknowledgement_settles_what_it_takes() -> None:
    queue = Queue()
    queue.publish(payload(1), "", 0)
    assert len(queue.pull("a", True, 0)) == 1
    queue.ended("a")
    assert (queue.left(), queue.pull("b", True, 0)) == ([], [])


def test_a_queue_that_denies_answers_every_nth_pull_as_if_it_were_empty() -> None:
    queue = Queue(Bugs(deny_every=3))
    for number in range(4):
        queue.publish(payload(number), "", 0)
    assert [len(queue.pull("a", False, 0)) for _ in range(6)] == [1, 1, 0, 1, 1, 0]
    assert [one[0] for one in queue.left()] == [1, 2, 3, 4], "a denied pull takes nothing"
