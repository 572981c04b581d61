"""What is an anomaly of delivery, and what only looks like one? Small histories whose keys say it in English."""

from __future__ import annotations

import pytest

from harness.checkers import delivery
from harness.checkers.facts import gather
from harness.checkers.judge import judge
from harness.guarantee import Status
from harness.history.history import History
from harness.operation import AckKind, AcknowledgedBy
from tests.histories import (
    MS,
    Event,
    client,
    deliver,
    dropped,
    effect,
    history,
    left,
    note,
    packed,
    phase,
    publish,
    terms,
)

Case = tuple[list[Event], dict[str, int]]

ANOMALIES = {
    "lost", "lost_unconfirmed", "dropped_acked", "swallowed", "stranded", "visible_failure", "duplicate_publish",
    "duplicate_delivery", "again_after_confirmed_ack", "again_after_late_ack", "unflagged_redelivery", "phantom",
    "corrupt", "foreign",
}  # fmt: skip

CASES: dict[str, Case] = {
    "acked, delivered, acknowledged: nothing": ([publish(1).acked(), deliver(1).acknowledged()], {}),
    "acked and nowhere: lost": ([publish(1).acked()], {"lost": 1, "lost_never_delivered": 1, "lost_suffix": 1}),
    "acked, delivered, never settled, gone: lost after delivery": (
        [publish(1).acked(), deliver(1)],
        {"lost": 1, "lost_after_delivery": 1, "lost_suffix": 1},
    ),
    "acked, delivered by automatic acknowledgement, never handled: discharged, not lost": (
        [publish(1).acked(), deliver(1).automatic()],
        {},
    ),
    "acknowledged, and the answer was lost: discharged, not lost": (
        [publish(1).acked(), deliver(1).unconfirmed()],
        {},
    ),
    "acked and still owed after a delivery that was not settled: not lost": (
        [publish(1).acked(), deliver(1), left(1)],
        {},
    ),
    "acked and in a dead-letter queue: found": ([publish(1).acked(), left(1, "dead-letter")], {}),
    "kept by a stream and owed to nobody: that is no excuse": (
        [publish(1).acked(5), left(1, "stored", 5)],
        {"lost": 1, "lost_never_delivered": 1, "lost_suffix": 1},
    ),
    "kept by a stream, settled by its group: nothing": (
        [publish(1).acked(5), deliver(1).as_sequence(5).acknowledged(), left(1, "stored", 5)],
        {},
    ),
    "lost before, between and after what was delivered": (
        [
            *(publish(number).acked() for number in range(1, 6)),
            deliver(2).acknowledged(),
            deliver(4).acknowledged(),
        ],
        {"lost": 3, "lost_never_delivered": 3, "lost_prefix": 1, "lost_middle": 1, "lost_suffix": 1},
    ),
    "prefix and suffix are of the message's own producer": (
        [publish((1, 5)).acked(), publish((2, 1)).acked(), deliver((2, 1)).acknowledged()],
        {"lost": 1, "lost_never_delivered": 1, "lost_suffix": 1},
    ),
    "never answered and never seen: nothing is promised": ([publish(1)], {}),
    "never answered, delivered: recovered, no duplicate": (
        [publish(1), deliver(1).acknowledged()],
        {"recovered": 1},
    ),
    "sent without confirms and nowhere: lost unconfirmed": (
        [publish(1).sent()],
        {"lost_unconfirmed": 1, "lost_never_delivered": 1, "lost_suffix": 1},
    ),
    "a message dropped by a policy is not lost, and was acked all the same": (
        [publish(1).acked(), dropped(1, "ttl")],
        {"dropped_by_policy": 1, "dropped_acked": 1},
    ),
    "dropped by a policy, never answered: counted, and breaks nothing": (
        [publish(1), dropped(1, "ttl")],
        {"dropped_by_policy": 1},
    ),
    "dropped from one queue and found in the dead-letter queue: not dropped": (
        [publish(1).acked(), dropped(1, "ttl"), left(1, "dead-letter")],
        {},
    ),
    "still in the broker and never delivered: stranded": ([publish(1).acked(), left(1)], {"stranded": 1}),
    "left in a queue by another name: stranded too": ([publish(1).acked(), left(1, "orders")], {"stranded": 1}),
    "refused, and delivered all the same": (
        [publish(1).refused(), deliver(1).acknowledged()],
        {"visible_failure": 1},
    ),
    "refused once, acked at the second attempt: no failure": (
        [publish(1).refused(), publish(1).retry(2).acked(), deliver(1).of_attempt(2).acknowledged()],
        {},
    ),
    "never sent for want of a connection, and delivered: a failure of the books or the broker": (
        [publish(1).never_sent(), deliver(1).acknowledged()],
        {"phantom": 1},
    ),
    "delivered, and nobody published it": ([deliver(1).acknowledged()], {"phantom": 1}),
    "a hole in a producer's sequence, delivered: phantom": (
        [publish(1).acked(), publish(3).acked(), *(deliver(number).acknowledged() for number in (1, 2, 3))],
        {"phantom": 1},
    ),
    "a damaged payload discharges nothing": (
        [publish(1).acked(), deliver(1).damaged().acknowledged()],
        {"corrupt": 1, "lost": 1, "lost_never_delivered": 1, "lost_suffix": 1},
    ),
    "a message of another run has our id: it is foreign, and no duplicate": (
        [publish(1).acked(), deliver(1).acknowledged(), deliver(1).of_another_run()],
        {"foreign": 1},
    ),
    "one attempt twice to one group: duplicate delivery": (
        [publish(1).acked(), deliver(1), deliver(1).again().acknowledged()],
        {"duplicate_delivery": 1},
    ),
    "one attempt to two groups: fan-out, no duplicate": (
        [publish(1).acked(), deliver(1).acknowledged(), deliver(1).within("other").acknowledged()],
        {},
    ),
    "a successor consumer shares its group: the second copy is a duplicate": (
        [publish(1).acked(), deliver(1).to(101), deliver(1).to(102).again().acknowledged()],
        {"duplicate_delivery": 1},
    ),
    "a consumer died holding messages, and another got them: duplicates, none lost": (
        [
            *(publish(number).acked() for number in (1, 2, 3)),
            *(deliver(number).to(101) for number in (1, 2)),
            *(deliver(number).to(102).again().acknowledged() for number in (1, 2)),
            deliver(3).to(102).acknowledged(),
        ],
        {"duplicate_delivery": 2},
    ),
    "two attempts both delivered: stored twice, not delivered twice": (
        [publish(1), publish(1).retry(2).acked(), deliver(1).acknowledged(), deliver(1).of_attempt(2).acknowledged()],
        {"duplicate_publish": 1},
    ),
    "two attempts of which one arrived: no duplicate": (
        [publish(1), publish(1).retry(2).acked(), deliver(1).of_attempt(2).acknowledged()],
        {},
    ),
    "two attempts to two groups, one each: neither got it twice": (
        [
            publish(1),
            publish(1).retry(2).acked(),
            deliver(1).acknowledged(),
            deliver(1).of_attempt(2).within("other").acknowledged(),
        ],
        {},
    ),
    "one attempt under two sequences: stored twice, and delivered twice": (
        [
            publish(1).acked(5),
            deliver(1).as_sequence(5).acknowledged(),
            deliver(1).as_sequence(6).acknowledged(),
        ],
        {"duplicate_publish": 1, "duplicate_delivery": 1, "unflagged_redelivery": 1},
    ),
    "a retry answered as a duplicate names the original's sequence: stored once": (
        [
            publish(1),
            publish(1).retry(2).acked(5, duplicate=True),
            deliver(1).as_sequence(5).acknowledged(),
        ],
        {},
    ),
    "a retry answered as a duplicate under a number of its own is no second copy": (
        [
            publish(1).acked(5),
            publish(1).retry(2).acked(6, duplicate=True),
            deliver(1).as_sequence(5).acknowledged(),
        ],
        {},
    ),
    "two answers with two sequences, neither a duplicate: stored twice": (
        [
            publish(1).acked(5),
            publish(1).retry(2).acked(6),
            deliver(1).as_sequence(5).acknowledged(),
            left(1, "owed", 6),
        ],
        {"duplicate_publish": 1},
    ),
    "the auditor finds a second copy under another sequence: stored twice": (
        [publish(1).acked(5), deliver(1).as_sequence(5).acknowledged(), left(1, "stored", 9)],
        {"duplicate_publish": 1},
    ),
    "numbered at its first delivery alone, and otherwise by the auditor: stored twice": (
        [
            publish(1).acked(),
            deliver(1).as_sequence(7).acknowledged(),
            deliver(1).as_sequence(0).again().acknowledged(),
            left(1, "stored", 9),
        ],
        {"duplicate_publish": 1, "duplicate_delivery": 1},
    ),
    "two streams number on their own: fan-out is not stored twice": (
        [
            publish(1).acked(5),
            deliver(1).as_sequence(5).acknowledged(),
            deliver(1).as_sequence(70).within("other").acknowledged(),
        ],
        {},
    ),
    "acked as a duplicate, and no copy was ever stored: swallowed, and lost": (
        [publish(1).acked(5, duplicate=True)],
        {"swallowed": 1, "lost": 1, "lost_never_delivered": 1, "lost_suffix": 1},
    ),
    "acked as a duplicate of an attempt that was lost after its own ack: lost, not swallowed": (
        [publish(1).acked(5), publish(1).retry(2).acked(5, duplicate=True)],
        {"lost": 1, "lost_never_delivered": 1, "lost_suffix": 1},
    ),
    "acked as a duplicate, and the stream keeps a copy it owes to nobody: lost, not swallowed": (
        [publish(1).acked(5, duplicate=True), left(1, "stored", 5)],
        {"lost": 1, "lost_never_delivered": 1, "lost_suffix": 1},
    ),
    "never flagged, in whatever order: one of two must be": (
        [publish(1).acked(), deliver(1).again(), deliver(1).acknowledged()],
        {"duplicate_delivery": 1},
    ),
    "two of three copies unflagged": (
        [publish(1).acked(), deliver(1), deliver(1).again(), deliver(1).acknowledged()],
        {"duplicate_delivery": 1, "unflagged_redelivery": 1},
    ),
    "fetched again after the confirmed acknowledgement": (
        [
            publish(1).acked(5).at(1),
            deliver(1).as_sequence(5).fetched(1).at(2).confirmed(10),
            deliver(1).as_sequence(5).again().fetched(11).at(12).confirmed(13),
        ],
        {"duplicate_delivery": 1, "again_after_confirmed_ack": 1},
    ),
    "fetched before the acknowledgement was confirmed: a duplicate only": (
        [
            publish(1).acked(5).at(1),
            deliver(1).as_sequence(5).fetched(1).at(2).confirmed(10),
            deliver(1).as_sequence(5).again().fetched(9).at(12).confirmed(13),
        ],
        {"duplicate_delivery": 1},
    ),
    "pushed after the acknowledgement was confirmed: not shown": (
        [
            publish(1).acked(5).at(1),
            deliver(1).as_sequence(5).at(2).confirmed(10),
            deliver(1).as_sequence(5).again().at(12).confirmed(13),
        ],
        {"duplicate_delivery": 1},
    ),
    "fetched after an acknowledgement whose answer was lost: a duplicate only": (
        [
            publish(1).acked(5).at(1),
            deliver(1).as_sequence(5).fetched(1).at(2).unconfirmed(),
            deliver(1).as_sequence(5).again().fetched(11).at(12).confirmed(13),
        ],
        {"duplicate_delivery": 1},
    ),
    "a second copy that was stored is no redelivery of the first": (
        [
            publish(1).acked(5).at(1),
            publish(1).retry(2).acked(6).at(2),
            deliver(1).as_sequence(5).fetched(1).at(3).confirmed(10),
            deliver(1).of_attempt(2).as_sequence(6).fetched(11).at(12).confirmed(13),
        ],
        {"duplicate_publish": 1},
    ),
    "the client itself exceeded ack_wait: a duplicate, and not the broker's doing": (
        [
            publish(1).acked(5).at(1),
            deliver(1).as_sequence(5).fetched(1).at(2).confirmed(3000, asked_ms=2990),
            deliver(1).as_sequence(5).again().fetched(3001).at(3002).confirmed(3003),
        ],
        {"duplicate_delivery": 1, "ack_wait_exceeded": 1, "again_after_late_ack": 1},
    ),
    "one producer's ids far apart are messages like any other": (
        [publish((3, 1)).acked(), publish((3, 900_000)).acked(), deliver((3, 900_000)).acknowledged()],
        {"lost": 1, "lost_never_delivered": 1, "lost_prefix": 1},
    ),
    "no event at all": ([], {}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_history_shows_exactly_its_anomalies(case: str) -> None:
    events, expected = CASES[case]
    findings = delivery.check(gather(history(*events, terms=terms(ack_wait_s=2.0))))
    counted = {name: anomaly.count for name, anomaly in findings.anomalies.items()}
    assert set(counted) == ANOMALIES
    names = (
        "recovered", "dropped_by_policy", "ack_wait_exceeded", "lost_never_delivered", "lost_after_delivery",
        "lost_prefix", "lost_middle", "lost_suffix",
    )  # fmt: skip
    counted |= {name: findings.counts[name] for name in names}
    assert {name: count for name, count in counted.items() if count} == expected


def test_with_two_groups_a_copy_is_due_to_each() -> None:
    events = [publish(1).acked(), deliver(1).acknowledged(), deliver(1).within("other").acknowledged()]
    only_one = [publish(2).acked(), deliver(2).acknowledged()]
    past = history(*events, *only_one, terms=terms(groups=("group", "other")))
    assert list(delivery.check(gather(past)).anomalies["lost"].ids) == [packed(2)]


def test_messages_partition_by_what_their_producer_knows() -> None:
    past = history(
        publish(1).acked(),
        publish(2).sent(),
        publish(3),
        publish(4).refused(),
        publish(5).refused(),
        publish(5).retry(2),
    )
    counts = delivery.check(gather(past)).counts
    assert {name: counts[name] for name in ("attempted", "acked", "sent", "indeterminate", "failed", "attempts")} == {
        "attempted": 5, "acked": 1, "sent": 1, "indeterminate": 2, "failed": 1, "attempts": 6,
    }  # fmt: skip


def test_policies_are_named() -> None:
    past = history(publish(1).acked(), publish(2).acked(), dropped(1, "ttl"), dropped(2, "max-length"))
    assert delivery.check(gather(past)).dropped == {"ttl": 1, "max-length": 1}


def test_witnesses_are_the_smallest_ids_and_tell_their_story() -> None:
    past = history(*(publish(number).acked(number) for number in range(9, 0, -1)))
    witnesses = delivery.check(gather(past)).anomalies["lost"].witnesses
    assert [witness.message for witness in witnesses] == [packed(number) for number in range(1, 6)]
    assert witnesses[0].story.startswith("message 1:1: attempt 1 at 0.009 s acked, sequence 1: never delivered")


@pytest.mark.parametrize(("acked_ms", "late"), [(2001, 0), (2002, 1)])
def test_ack_wait_is_exceeded_only_beyond_it(acked_ms: int, late: int) -> None:
    first = deliver(1).at(1).acknowledged(acked_ms)
    findings = delivery.check(gather(history(publish(1), first, deliver(1).again(), terms=terms(ack_wait_s=2.0))))
    assert findings.counts["ack_wait_exceeded"] == late


def story(past: History) -> str:
    """What is told of the first message that was delivered twice, without why it is told."""
    witnesses = delivery.check(gather(past)).anomalies["duplicate_delivery"].witnesses
    return witnesses[0].story.rpartition(": ")[0]


def test_a_story_tells_all_that_happened_in_order() -> None:
    past = history(
        publish(1).acked(7, duplicate=True).at(1),
        publish(1).retry(2).at(10),
        publish(1).retry(3).refused("nack").at(12),
        publish(1).retry(4).sent().at(14),
        deliver(1).as_sequence(7).at(20).confirmed(26, asked_ms=25),
        deliver(1).again().at(30),
        deliver(1).of_attempt(2).automatic().at(40),
        left(1, "dead-letter"),
        effect(1, 2),
    )
    assert story(past) == (
        "message 1:1: attempt 1 at 0.001 s acked as a duplicate, sequence 7; attempt 2 at 0.010 s never answered; "
        "attempt 3 at 0.012 s refused (nack); attempt 4 at 0.014 s sent, unconfirmed; "
        "delivered to client 101 at 0.020 s (attempt 1, sequence 7), acknowledged at 0.025 s, confirmed at 0.026 s; "
        "delivered to client 101 at 0.030 s (attempt 1, flagged redelivered), never acknowledged; "
        "delivered to client 101 at 0.040 s (attempt 2), settled as it was sent; "
        "in a dead-letter queue; effect in the sink x2"
    )


def test_a_long_story_is_cut_and_says_how_much_is_left_out() -> None:
    past = history(publish(1).acked(), *[deliver(1).again()] * 9, left(1), left(1, "stored"))
    *told, more, owed, stored = story(past).split("; ")
    assert (len(told), more) == (8, "and 2 more")
    assert "more" not in story(history(publish(1).acked(), *[deliver(1).again()] * 7))
    assert (owed, stored) == ("still owed by the broker at the end", "kept by the stream, owed to nobody")


def test_the_witness_of_what_is_not_ours_names_its_delivery() -> None:
    past = history(publish(1), deliver(9).at(5), *[deliver(1).damaged()] * 6, terms=terms(census_foreign=2))
    anomalies = delivery.check(gather(past)).anomalies
    (phantom,) = anomalies["phantom"].witnesses
    assert (phantom.message, phantom.story) == (
        packed(9),
        "delivery 1 to client 101 at 0.005 s: nobody ever published it",
    )
    assert [witness.message for witness in anomalies["corrupt"].witnesses] == [None] * 5
    (foreign,) = anomalies["foreign"].witnesses
    assert (foreign.message, foreign.story) == (None, "2 read by the auditor: it is of another run")


# ---- what the read must have been ------------------------------------------------------------------------------------

LOST = [publish(1).acked(), deliver(1).acknowledged(), publish(2).acked()]

NO_COMPLETE_READ = {
    "the auditor did not read to the end": {"exhaustive": False, "exhaustive_why_not": "the queue does not answer"},
    "a broker was down": {"brokers_up": False},
    "the system was not drained": {"drained": False, "drained_why_not": "3 messages are left"},
    "the run was interrupted": {"interrupted": "KeyboardInterrupt"},
    "the silence was shorter than the horizon": {
        "silence_needed": True,
        "silence_s": 0.5,
        "redelivery_horizon_s": 2.0,
    },
    "a journal was cut off": {"truncated_journals": ("consumer-1.1",)},
}


@pytest.mark.parametrize("lack", NO_COMPLETE_READ)
def test_not_found_is_only_lost_after_a_complete_read(lack: str) -> None:
    judgement = judge(history(*LOST, terms=terms(**NO_COMPLETE_READ[lack])))
    verdict = judgement.verdicts["at_least_once"]
    assert verdict.status is Status.UNKNOWN
    assert "1 of 2 acked messages not found so far" in verdict.sentence
    assert judgement.counts["lost"] == judgement.counts["lost_suffix"] == 0
    assert judgement.counts["lost_so_far"] == 1


def test_a_loss_after_a_complete_read_is_a_violation_however_unfair_the_trial() -> None:
    judgement = judge(history(*LOST))
    assert judgement.trial.reasons
    verdict = judgement.verdicts["at_least_once"]
    assert verdict.sentence == (
        "at_least_once VIOLATED: 1 of 2 acked messages lost (1 never delivered, 0 vanished after delivery)"
    )
    assert judgement.verdicts["exactly_once"].status is Status.VIOLATED
    assert judgement.verdicts["at_most_once"].status is Status.UNKNOWN


def test_a_stream_that_no_longer_exists_was_read_to_its_end() -> None:
    past = history(publish(1).acked(1), publish(2).acked(2), terms=terms(exhaustive=True))
    assert judge(past).counts["lost"] == 2


def test_a_silent_drain_counts_once_it_was_silent_for_longer_than_the_horizon() -> None:
    silent = {"drain": "silence", "silence_needed": True, "redelivery_horizon_s": 2.0}
    assert judge(history(*LOST, terms=terms(**silent, silence_s=2.1))).counts["lost"] == 1
    assert judge(history(*LOST, terms=terms(**silent, silence_s=1.9))).counts["lost"] == 0


def test_lost_unconfirmed_breaks_at_least_once_of_a_configuration_without_confirms() -> None:
    past = history(
        publish(1).sent(),
        deliver(1).automatic(),
        publish(2).sent(),
        terms=terms(acknowledged_by=AcknowledgedBy.NONE, ack=AckKind.AUTOMATIC),
    )
    verdict = judge(past).verdicts["at_least_once"]
    assert verdict.sentence.startswith("at_least_once VIOLATED: 1 of 2 messages sent without confirms lost")


def test_a_policy_that_drops_what_was_acked_breaks_at_least_once() -> None:
    verdict = judge(history(publish(1).acked(), dropped(1, "max-length"))).verdicts["at_least_once"]
    assert verdict.status is Status.VIOLATED
    assert verdict.counts == {"dropped_acked": 1}


STRANDED = [publish(1).acked(), deliver(1).acknowledged(), publish(2).acked(), left(2)]


def test_stranded_is_found_though_the_drain_did_not_end() -> None:
    judgement = judge(history(*STRANDED, terms=terms(drained=False, drained_why_not="1 message is left")))
    assert judgement.verdicts["at_least_once"].status is Status.VIOLATED
    assert judgement.verdicts["at_least_once"].counts == {"stranded": 1}


@pytest.mark.parametrize(
    "doubt",
    [{"silence_s": 0.5}, {"interrupted": "KeyboardInterrupt"}, {"brokers_up": False}],
    ids=["consumers were not idle for the horizon", "the run was interrupted", "a broker was down"],
)
def test_stranded_needs_idle_consumers_and_brokers_that_answer(doubt: dict[str, object]) -> None:
    judgement = judge(history(*STRANDED, terms=terms(drained=False, **doubt)))
    assert judgement.verdicts["at_least_once"].status is Status.UNKNOWN
    assert judgement.counts["stranded"] == 0
    assert judgement.counts["stranded_so_far"] == 1


@pytest.mark.parametrize(
    "doubt",
    [
        note("ticker-gap", 9, client=101, value=900 * MS),
        note("basic.cancel", 9, client=101),
        client(101, "consumer", planned=False, exit=70),
        client(101, "consumer", end_ms=5),
    ],
    ids=["it stalled", "it was cancelled", "it died", "it had ended before the drain"],
)
def test_stranded_needs_a_consumer_that_was_well(doubt: Event) -> None:
    drain = phase("drain", -1, 10, 5000)
    assert judge(history(*STRANDED, drain)).counts["stranded"] == 1
    assert judge(history(*STRANDED, drain, doubt)).verdicts["at_least_once"].status is Status.UNKNOWN


@pytest.mark.parametrize(
    "strange",
    [deliver(9).acknowledged(), deliver(1).damaged(), deliver(1).of_another_run()],
    ids=["phantom", "corrupt", "foreign"],
)
def test_what_this_run_never_published_breaks_every_guarantee(strange: Event) -> None:
    past = history(publish(1).acked(), deliver(1).acknowledged(), strange)
    assert {verdict.status for verdict in judge(past).verdicts.values()} == {Status.VIOLATED}


def test_a_refused_message_that_is_delivered_breaks_only_genuine() -> None:
    verdicts = judge(history(publish(1).refused(), deliver(1).acknowledged())).verdicts
    assert [name for name, verdict in verdicts.items() if verdict.status is Status.VIOLATED] == ["genuine"]


def test_what_the_auditor_read_of_another_run_counts_too() -> None:
    counts = judge(history(publish(1).acked(), terms=terms(census_foreign=2, census_corrupt=1))).counts
    assert (counts["foreign"], counts["corrupt"]) == (2, 1)
