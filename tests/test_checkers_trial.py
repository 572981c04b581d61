"""What makes a trial unfair? A fair run in which everything is HELD, and then one thing after another goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.checkers.judge import judge
from harness.guarantee import Status
from harness.history.history import History
from harness.operation import AckKind, AcknowledgedBy
from tests.histories import (
    MS,
    Deliver,
    Event,
    Phase,
    Publish,
    client,
    counter,
    deliver,
    effect,
    fair_events,
    fair_history,
    history,
    injection,
    left,
    note,
    phase,
    publish,
    terms,
)


def reasons(past: History) -> tuple[str, ...]:
    return judge(past).trial.reasons


def without(events: list[Event], begin_ms: float, end_ms: float) -> list[Event]:
    """No publish and no delivery begins in that interval."""
    return [
        event
        for event in events
        if not (isinstance(event, Publish | Deliver) and begin_ms <= (event.at_ms or 0) < end_ms)
    ]


def only(changed: Callable[[Publish], Publish], begin_ms: float, end_ms: float) -> list[Event]:
    """Publishes of an interval, changed."""
    return [
        changed(event) if isinstance(event, Publish) and begin_ms <= (event.at_ms or 0) < end_ms else event
        for event in fair_events()
    ]


def without_phase(name: str, trial: int) -> list[Event]:
    return [
        event
        for event in fair_events()
        if (getattr(event, "phase", None), getattr(event, "trial", None)) != (name, trial)
    ]


def test_in_a_fair_run_everything_is_held() -> None:
    judgement = judge(fair_history())
    assert judgement.trial.reasons == ()
    assert {verdict.status for verdict in judgement.verdicts.values()} == {Status.HELD}
    assert judgement.observed == "exactly once"
    trial = judgement.trial.trials[0]
    assert (trial.at_risk, round(trial.before_hz), round(trial.during_hz), round(trial.after_hz)) == (1, 100, 100, 100)


UNFAIR: dict[str, tuple[Callable[[], History], str]] = {
    "the fault did not bite": (
        lambda: fair_history(injections=(injection(bit_ns=None, why_not="the process lived on"),)),
        "kill_leader did not bite in trial 1: the process lived on",
    ),
    "the fault did not bite, and nobody said why": (
        lambda: fair_history(injections=(injection(bit_ns=None),)),
        "kill_leader did not bite in trial 1: there is no evidence that it did",
    ),
    "a fault that endangers nothing needs its evidence too": (
        lambda: fair_history(injections=(injection(fault="latency", touches="none", bit_ns=None, why_not="no delay"),)),
        "latency did not bite in trial 1: no delay",
    ),
    "the fault was never mended": (
        lambda: fair_history(injections=(injection(mended_ns=None, recovered_ns=None),)),
        "kill_leader was never mended in trial 1",
    ),
    "the system did not recover": (
        lambda: fair_history(injections=(injection(recovered_ns=None),)),
        "the system did not recover from kill_leader in trial 1 within 40 s",
    ),
    "a planned fault was never injected": (
        lambda: fair_history(injections=()),
        "kill_leader was planned, and no injection of it is on record",
    ),
    "nothing was under way when it bit": (
        lambda: fair_history(injections=(injection(bit_ns=1011 * MS),)),
        "0 operations were at risk when kill_leader bit in trial 1; at least 1 are needed",
    ),
    "less was under way than the terms want": (
        lambda: fair_history(at_risk_min=3),
        "1 operations were at risk when kill_leader bit in trial 1; at least 3 are needed",
    ),
    "the fault hit the side on which nothing was under way": (
        lambda: fair_history(injections=(injection(touches="producer"),)),
        "0 operations were at risk when kill_leader bit in trial 1; at least 1 are needed",
    ),
    "a delay that found nothing to delay": (
        lambda: fair_history(injections=(injection(fault="latency", touches="producer", bit_ns=1011 * MS),)),
        "0 operations were at risk when latency bit in trial 1; at least 1 are needed",
    ),
    "one of two overlapping faults found nothing at risk": (
        lambda: fair_history(
            faults=("kill_leader", "kill_consumer"),
            injections=(injection(), injection(fault="kill_consumer", number=1, bit_ns=1011 * MS)),
        ),
        "0 operations were at risk when kill_consumer bit in trial 1; at least 1 are needed",
    ),
    "one of two planned faults was never injected": (
        lambda: fair_history(faults=("kill_consumer", "kill_leader")),
        "kill_consumer was planned, and no injection of it is on record",
    ),
    "publishes ended well only at the end of the first quiet phase": (
        lambda: fair_history(
            faults=("nothing",),
            injections=(),
            events=only(lambda one: publish(one.message).at(one.at_ms or 0), 2490, 3900),
        ),
        "publishes that ended well fell to 7/s in a quiet phase; floor 50/s",
    ),
    "messages were found that are still owed, though all was said to be drained": (
        lambda: fair_history(left(400)),
        "the system was called drained, and then the auditor found 1 messages that it still owes",
    ),
    "the broker counts unsettled ones, though all was said to be drained": (
        lambda: fair_history(counters=(counter("unsettled", 3),)),
        "the system was called drained, and then the broker counted 3 unsettled",
    ),
    "silence is all that tells of an end, and there was none": (
        lambda: fair_history(drain="silence", silence_needed=False, silence_s=0.2),
        "the system was silent for 0.2 s before its drain ended; the broker may redeliver after 1.0 s",
    ),
    "a client cut off what was on its way, for nobody answered its goodbye": (
        lambda: fair_history(note("unanswered-end", 4500)),
        "client-1 ended without an answer to its goodbye, so what was on its way then may have been cut off",
    ),
    "the sink holds what nobody published": (
        lambda: fair_history(effect(9999), mechanism="transaction", effects_audited=True),
        "harness or sink miscounts: the sink holds effects of 1 messages that nobody published",
    ),
    "no load in the quiet phase before": (
        lambda: fair_history(events=without(fair_events(), 200, 1000)),
        "load fell to 20/s in the quiet phase before trial 1; floor 50/s",
    ),
    "no load while the fault held": (
        lambda: fair_history(events=without(fair_events(), 1100, 2000)),
        "load fell to 10/s while the fault held in trial 1; floor 50/s",
    ),
    "no load after recovery": (
        lambda: fair_history(events=without(fair_events(), 2600, 4000)),
        "load fell to 7/s in the quiet phase after trial 1; floor 50/s",
    ),
    "nothing acknowledged before": (
        lambda: fair_history(events=only(lambda publish: publish.refused(), 0, 990)),
        "publishes that ended well fell to 1/s in the quiet phase before trial 1; floor 50/s",
    ),
    "nothing acknowledged after recovery": (
        lambda: fair_history(events=only(lambda publish: publish.refused(), 2495, 4000)),
        "publishes that ended well fell to 0/s in the quiet phase after trial 1; floor 50/s",
    ),
    "no quiet phase before": (
        lambda: fair_history(events=without_phase("quiet", 0)),
        "no quiet phase came before trial 1",
    ),
    "no quiet phase after": (
        lambda: fair_history(events=without_phase("quiet", 1)),
        "no quiet phase came after trial 1",
    ),
    "no floor": (lambda: fair_history(floor_hz=0.0), "the terms name no floor for the load"),
    "nobody knows what was offered": (
        lambda: fair_history(offered_hz=0.0),
        "the terms do not say what load was offered",
    ),
    "the harness did not keep up with what was offered": (
        lambda: fair_history(offered_hz=110.0),
        "the producers published 100/s in the quiet phases; 110/s were offered, and 98% of that are needed",
    ),
    "a producer that died unplanned excuses no missing load": (
        lambda: fair_history(
            client(1, "producer", slot="producer-1", end_ms=1010, exit=-11, planned=False),
            events=without(fair_events(), 1010, 1990),
        ),
        "load fell to 2/s while the fault held in trial 1; floor 50/s",
    ),
    "retries do not make up for messages that were not offered": (
        lambda: fair_history(
            events=[
                event.retry(2) if isinstance(event, Publish) and event.message % 2 and event.at_ms >= 2500 else event
                for event in fair_events()
            ]
        ),
        "the producers published 70/s in the quiet phases; 100/s were offered, and 98% of that are needed",
    ),
    "unsent messages are no load outside fault windows": (
        lambda: fair_history(events=only(lambda publish: publish.never_sent(), 3000, 3200)),
        "the producers published 92/s in the quiet phases; 100/s were offered, and 98% of that are needed",
    ),
    "a client stalled": (
        lambda: fair_history(note("ticker-gap", 700, value=300 * MS)),
        "client-1 stalled for 300 ms at 0.700 s; limit 250 ms",
    ),
    "the runner stalled, even while the fault held": (
        lambda: fair_history(note("ticker-gap", 1500, client=-1, value=900 * MS)),
        "runner stalled for 900 ms at 1.500 s; limit 250 ms",
    ),
    "the runner stalled from the drain on": (
        lambda: fair_history(note("ticker-gap", 6_500, client=-1, value=600 * MS)),
        "runner stalled for 600 ms at 6.500 s; limit 250 ms",
    ),
    "a connection was lost before any fault": (
        lambda: fair_history(note("lost", 500)),
        "client-1 noted 'lost' at 0.500 s, outside every fault window",
    ),
    "the broker cancelled a consumer after recovery": (
        lambda: fair_history(note("basic.cancel", 3000, client=101)),
        "client-101 noted 'basic.cancel' at 3.000 s, outside every fault window",
    ),
    "a client ended unplanned": (
        lambda: fair_history(client(101, "consumer", planned=False, end_ms=3000, exit=70)),
        "consumer-101 ended unplanned with exit code 70",
    ),
    "a client was never seen to end": (
        lambda: fair_history(client(1, "producer", planned=False, end_ms=None)),
        "producer-1 was never seen to end",
    ),
    "not drained": (
        lambda: fair_history(drained=False, drained_why_not="7 messages are left"),
        "the system was not drained: 7 messages are left",
    ),
    "silent for too short a time": (
        lambda: fair_history(silence_needed=True, silence_s=1.5, redelivery_horizon_s=2.0),
        "the system was silent for 1.5 s before its drain ended; the broker may redeliver after 2.0 s",
    ),
    "not read to the end": (
        lambda: fair_history(exhaustive=False, exhaustive_why_not="2 sequences were not answered"),
        "the auditor did not read to the end: 2 sequences were not answered",
    ),
    "a broker was down at the end": (
        lambda: fair_history(brokers_up=False),
        "not every broker answered while the system was drained and read",
    ),
    "the cluster was not whole": (
        lambda: fair_history(whole=False),
        "the cluster was not whole at the end: nobody knows why",
    ),
    "a client went round the proxy": (
        lambda: fair_history(peers_all_proxy=False),
        "a client reached the broker without the proxy, past its faults",
    ),
    "nobody asked for the peers": (
        lambda: fair_history(peers_all_proxy=None),
        "nobody asked the broker whether every client came through the proxy",
    ),
    "the proxy was in trouble": (
        lambda: fair_history(proxy_trouble="it was restarted"),
        "the proxy was in trouble: it was restarted",
    ),
    "the run was interrupted": (
        lambda: fair_history(interrupted="KeyboardInterrupt"),
        "the run was interrupted: KeyboardInterrupt",
    ),
    "a journal was cut off": (
        lambda: fair_history(truncated_journals=("producer-1.1",)),
        "journals were cut off: producer-1.1",
    ),
    "the broker counted fewer publishes than it confirmed": (
        lambda: fair_history(counters=(counter("published", 399),)),
        "harness or broker miscounts: the broker counted 399 publishes, 400 were confirmed",
    ),
    "the broker counted more publishes than there were": (
        lambda: fair_history(counters=(counter("published", 401),)),
        "harness or broker miscounts: the broker counted 401 publishes, the clients made 400",
    ),
    "the broker counted fewer deliveries than were received": (
        lambda: fair_history(counters=(counter("delivered", 10),)),
        "harness or broker miscounts: the broker counted 10 deliveries, 400 were received",
    ),
    "the broker counted more acknowledgements than were made": (
        lambda: fair_history(counters=(counter("acked", 500),)),
        "harness or broker miscounts: the broker counted 500 acknowledgements; 400 were made and 0 confirmed",
    ),
}


@pytest.mark.parametrize("lack", UNFAIR)
def test_an_unfair_trial_holds_nothing_and_says_why(lack: str) -> None:
    make, reason = UNFAIR[lack]
    judgement = judge(make())
    assert reason in judgement.trial.reasons
    assert Status.HELD not in {verdict.status for verdict in judgement.verdicts.values()}
    assert judgement.observed == "unknown" or "lost" in reason or judgement.counts["phantom"]


FAIR: dict[str, Callable[[], History]] = {
    "a lost connection in a fault window is explained": lambda: fair_history(
        note("lost", 1010), note("lost:reset by peer", 1010), note("connected", 2100)
    ),
    "a connection lost in the very instant of the fault, or of the recovery, is explained": lambda: fair_history(
        note("lost", 1000), note("lost", 2500)
    ),
    "a load at its very floor is at it": lambda: fair_history(faults=("nothing",), injections=(), floor_hz=100.0),
    "a stall that the plan wanted is explained": lambda: fair_history(
        note("ticker-gap", 1500, value=900 * MS, planned=True)
    ),
    "a stall of the auditor, after the drain, changes nothing that was read": lambda: fair_history(
        note("ticker-gap", 6_500, client=-1, value=400 * MS)
    ),
    "a stall before any load touches nothing that is judged": lambda: fair_history(
        note("ticker-gap", 350, client=-1, value=300 * MS),
        events=[
            replace(event, begin_ms=400.0)
            if isinstance(event, Phase) and event.phase == "quiet" and not event.trial
            else event
            for event in fair_events()
        ],
    ),
    "a stall below the limit is none": lambda: fair_history(note("ticker-gap", 700, value=200 * MS)),
    "no more was at risk than an attempt that is never answered": lambda: fair_history(
        publish(900).at(1004), injections=(injection(touches="producer"),)
    ),
    "unsent attempts are load while the fault holds": lambda: fair_history(
        events=[
            replace(event.never_sent(), until_ms=None)
            if isinstance(event, Publish) and 1100 <= event.at_ms < 2000
            else event  # type: ignore[operator]
            for event in fair_events()
            if not (isinstance(event, Deliver) and 1100 <= event.at_ms < 2003)  # type: ignore[operator]
        ]
    ),
    "a quiet phase that was prolonged counts by its last second": lambda: fair_history(
        events=[
            *without(
                [event for event in fair_events(until_ms=9000) if getattr(event, "phase", "") != "recover"], 1990, 6500
            ),
            phase("recover", 0, 2000, 2500),
        ],
        offered_hz=35.0,
    ),
    "a killed producer cannot publish, and is not asked to": lambda: fair_history(
        client(1, "producer", slot="producer-1", end_ms=1010, exit=-9),
        client(2, "producer", slot="producer-1", start_ms=1990),
        events=without(fair_events(), 1010, 1990),
    ),
    "counters that a restart has reset are shown, and gate nothing": lambda: fair_history(
        counters=(counter("published", 3, comparable=False), counter("delivered", 1, comparable=False))
    ),
    "more deliveries than were seen may be lost in a connection that broke": lambda: fair_history(
        counters=(counter("delivered", 420),)
    ),
    "a broker may count what it refused": lambda: fair_history(
        publish(900).refused().at(1500), counters=(counter("published", 401),)
    ),
    "counters of unknown meaning are not compared": lambda: fair_history(counters=(counter("segments", 3),)),
}


@pytest.mark.parametrize("case", FAIR)
def test_what_only_looks_unfair(case: str) -> None:
    assert reasons(FAIR[case]()) == ()


def test_without_a_fault_the_run_is_one_trial_and_needs_no_evidence() -> None:
    past = fair_history(faults=("nothing",), injections=(), peers_all_proxy=None)
    judgement = judge(past)
    assert [trial.reasons for trial in judgement.trial.trials] == [()]
    assert judgement.verdicts["at_least_once"].status is Status.HELD
    assert judgement.verdicts["at_least_once"].injections == 1


def test_the_fault_that_breaks_nothing_is_no_injection() -> None:
    idle = injection(fault="nothing", bit_ns=None, touches="none", why_not="nothing was broken, as planned")
    assert reasons(fair_history(faults=("nothing",), injections=(idle,))) == ()


def test_without_a_fault_the_load_must_be_at_its_floor_too() -> None:
    past = fair_history(faults=("nothing",), injections=(), events=without(fair_events(), 2600, 4000))
    assert "load fell to 7/s in a quiet phase; floor 50/s" in reasons(past)


def test_nothing_is_held_of_nothing() -> None:
    for past in (
        history(),
        fair_history(events=[one for one in fair_events() if not isinstance(one, Deliver | Publish)]),
    ):
        judgement = judge(past)
        assert {verdict.status for verdict in judgement.verdicts.values()} == {Status.UNKNOWN}
        assert judgement.observed == "unknown"


def test_a_guarantee_of_which_nothing_was_at_stake_is_not_held() -> None:
    events = [replace(event, redelivered=True) if isinstance(event, Deliver) else event for event in fair_events()]
    verdict = judge(fair_history(events=events)).verdicts["ordered"]
    assert verdict.status is Status.UNKNOWN
    assert verdict.reasons == ("nothing was at stake: 0 deliveries whose order is contracted",)


# ---- at risk ---------------------------------------------------------------------------------------------------------


def at_risk(*events: Event, bit_ms: float = 100, touches: str = "both", **changes: Any) -> int:
    broken = injection(asked_ns=90 * MS, bit_ns=int(bit_ms * MS), touches=touches)
    past = history(*events, terms=terms(injections=(broken,), faults=("kill_leader",), **changes))
    return judge(past).trial.trials[0].at_risk


AT_RISK: dict[str, tuple[list[Event], dict[str, Any], int]] = {
    "a publish that is answered later": ([publish(1).acked().at(95).until(130)], {}, 1),
    "a publish that is never answered": ([publish(1).at(95)], {}, 1),
    "a publish that was answered before": ([publish(1).acked().at(95).until(99)], {}, 0),
    "a publish invoked after the bite": ([publish(1).acked().at(101).until(130)], {}, 0),
    "a publish of an earlier connection": ([publish(1).at(50), publish(2).over(2).acked().at(80).until(85)], {}, 0),
    "a publish whose connection was lost before the fault": ([publish(1).at(50), note("lost", 60)], {}, 0),
    "a publish whose connection the fault itself took": ([publish(1).at(50), note("lost", 95)], {}, 1),
    "a publish of a client that had ended": ([publish(1).at(50), client(1, "producer", end_ms=60)], {}, 0),
    "an attempt that was followed by another": (
        [publish(1).at(50), publish(1).retry(2).acked().at(80).until(85)],
        {},
        0,
    ),
    "a publish given up long ago": ([publish(1).at(50), publish(2).acked().at(60).until(61)], {"bit_ms": 5100}, 0),
    "a publish given up long ago, though another took longer": (
        [publish(1).at(50), publish(2).acked().at(60).until(6000)],
        {"bit_ms": 5100},
        1,
    ),
    "a publish that was never sent": ([publish(1).never_sent().at(95)], {}, 0),
    "a delivery not yet acknowledged": ([deliver(1).at(95).acknowledged(130), publish(1).at(1).acked()], {}, 1),
    "a delivery acknowledged before": ([deliver(1).at(95).acknowledged(99), publish(1).at(1).acked()], {}, 0),
    "a delivery acknowledged and not confirmed": (
        [deliver(1).at(95).confirmed(130, asked_ms=96), publish(1).at(1).acked()],
        {"ack": AckKind.CONFIRMED},
        1,
    ),
    "a delivery of an earlier connection of its consumer": (
        [deliver(1).at(50), deliver(2).over(2).at(80).acknowledged(81), *(publish(n).at(1).acked() for n in (1, 2))],
        {},
        0,
    ),
    "deliveries do not count where only producers are touched": (
        [deliver(1).at(95), publish(1).at(1).acked()],
        {"touches": "producer"},
        0,
    ),
    "publishes do not count where only consumers are touched": ([publish(1).at(95)], {"touches": "consumer"}, 0),
    "without confirms: sent and not received yet": (
        [publish(1).sent().at(95), deliver(1).automatic().at(105)],
        {"acknowledged_by": AcknowledgedBy.NONE, "ack": AckKind.AUTOMATIC},
        1,
    ),
    "without confirms: sent and received": (
        [publish(1).sent().at(95), deliver(1).automatic().at(97)],
        {"acknowledged_by": AcknowledgedBy.NONE, "ack": AckKind.AUTOMATIC},
        0,
    ),
    "without confirms: what was lost long before is not in flight": (
        [publish(1).sent().at(50), publish(2).sent().at(95), deliver(2).automatic().at(97)],
        {"acknowledged_by": AcknowledgedBy.NONE, "ack": AckKind.AUTOMATIC},
        0,
    ),
    "automatic acknowledgement: acked and not received yet": (
        [publish(1).acked().at(95).until(96), deliver(1).automatic().at(105)],
        {"ack": AckKind.AUTOMATIC, "touches": "consumer"},
        1,
    ),
    "processing: acknowledged, and its effect not done": (
        [replace(deliver(1).at(95).acknowledged(96), handled_ms=130), publish(1).at(1).acked()],
        {"mechanism": "ack_before_effect"},
        1,
    ),
}


def test_only_what_its_targets_hold_is_at_risk() -> None:
    events = [
        publish(1).acked().at(1),
        publish((2, 1)).acked().at(95).until(130),
        deliver(1).at(95).to(102).acknowledged(130),
    ]

    def of(*targets: str, touches: str = "both") -> int:
        hit = injection(asked_ns=90 * MS, bit_ns=100 * MS, touches=touches, targets=targets)
        past = history(*events, terms=terms(injections=(hit,), faults=("kill_leader",)))
        return judge(past).trial.trials[0].at_risk

    first, second = (history(*events).word(slot) for slot in history(*events).clients.slot[:2])
    assert of("node-1") == 2
    assert of(f"{second}->node-1", touches="producer") == 1
    assert of(f"{first}->node-1", touches="producer") == 0


@pytest.mark.parametrize("case", AT_RISK)
def test_what_is_at_risk_when_a_fault_bites(case: str) -> None:
    events, changes, expected = AT_RISK[case]
    assert at_risk(*events, **changes) == expected


# ---- several trials --------------------------------------------------------------------------------------------------


def two_trials(*more: Event, events: list[Event] | None = None, **changes: Any) -> History:
    second = injection(
        number=1, trial=1, asked_ns=4000 * MS, bit_ns=4005 * MS, mended_ns=5000 * MS, recovered_ns=5500 * MS
    )
    phases = [
        phase("quiet", 0, 0, 1000),
        phase("break", 0, 1000, 2000),
        phase("recover", 0, 2000, 2500),
        phase("quiet", 1, 2500, 4000),
        phase("break", 1, 4000, 5000),
        phase("recover", 1, 5000, 5500),
        phase("quiet", 2, 5500, 7000),
        phase("drain", -1, 7000, 9000),
    ]
    traffic = [one for one in events or fair_events(until_ms=7000) if isinstance(one, Publish | Deliver)]
    values = {"faults": ("kill_leader",), "injections": (injection(), second), **changes}
    return history(*phases, *traffic, *more, terms=terms(**values))


def test_two_fair_trials_bound_the_probability_more_closely() -> None:
    verdict = judge(two_trials()).verdicts["at_least_once"]
    assert (verdict.status, verdict.injections, verdict.violating) == (Status.HELD, 2, 0)
    assert verdict.upper_bound == pytest.approx(1 - 0.05**0.5)


def test_one_unfair_trial_of_two_holds_nothing() -> None:
    judgement = judge(two_trials(events=without(fair_events(until_ms=7000), 4100, 5000)))
    assert judgement.trial.reasons == ("load fell to 10/s while the fault held in trial 2; floor 50/s",)
    assert [trial.fair for trial in judgement.trial.trials] == [True, False]
    assert judgement.verdicts["at_least_once"].status is Status.UNKNOWN


def test_an_unfair_trial_without_a_violation_does_not_dilute_the_bound() -> None:
    idle = without(fair_events(until_ms=7000), 4100, 5000)
    verdict = judge(two_trials(publish(1_000).acked().at(1500).until(1501), events=idle)).verdicts["at_least_once"]
    assert (verdict.injections, verdict.violating, verdict.upper_bound) == (1, 1, 1.0)


def test_overlapping_injections_are_one_trial() -> None:
    other = injection(
        fault="pause_leader", number=1, trial=1, asked_ns=1500 * MS, bit_ns=1505 * MS, mended_ns=1800 * MS
    )
    trials = judge(fair_history(injections=(injection(), other))).trial.trials
    assert [trial.faults for trial in trials] == [("kill_leader", "pause_leader")]


def test_a_violation_belongs_to_every_trial_that_it_overlaps() -> None:
    early = publish(1_000).acked().at(1500).until(1501)
    verdict = judge(two_trials(early)).verdicts["at_least_once"]
    assert (verdict.status, verdict.injections, verdict.violating) == (Status.VIOLATED, 2, 1)
    assert verdict.upper_bound == pytest.approx(0.9747, abs=1e-4)
    long = [publish(1_000).acked().at(1500).until(1501), deliver(1_000).at(4500)]
    assert judge(two_trials(*long)).verdicts["at_least_once"].violating == 2


def test_a_violation_within_the_horizon_before_a_fault_belongs_to_it() -> None:
    soon, earlier = publish(1_000).acked().at(3500).until(3501), publish(1_000).acked().at(2600).until(2601)
    assert judge(two_trials(soon)).verdicts["at_least_once"].violating == 1
    assert judge(two_trials(earlier)).verdicts["at_least_once"].violating == 0


def test_a_violation_outside_every_fault_window_bounds_nothing() -> None:
    verdict = judge(two_trials(publish(1_000).acked().at(2600).until(2601))).verdicts["at_least_once"]
    assert (verdict.status, verdict.upper_bound) == (Status.VIOLATED, None)


# ---- books -----------------------------------------------------------------------------------------------------------


def test_deliveries_that_the_clients_never_wrote_down_are_no_loss() -> None:
    lost = [publish(1).acked(), publish(2).acked(), deliver(1).acknowledged()]
    agreeing, more = (history(*lost, terms=terms(counters=(counter("delivered", count),))) for count in (1, 2))
    assert judge(agreeing).verdicts["at_least_once"].status is Status.VIOLATED
    verdict = judge(more).verdicts["at_least_once"]
    assert verdict.status is Status.UNKNOWN
    assert verdict.reasons[0].startswith(
        "harness or broker miscounts: the broker counted 2 deliveries, 1 were received"
    )


def test_deliveries_that_the_broker_never_counted_are_no_repeats() -> None:
    twice = [publish(1).acked(), deliver(1).acknowledged(), deliver(1).acknowledged()]
    agreeing, fewer = (history(*twice, terms=terms(counters=(counter("delivered", count),))) for count in (2, 1))
    assert judge(agreeing).verdicts["at_most_once"].status is Status.VIOLATED
    verdict = judge(fewer).verdicts["at_most_once"]
    assert verdict.status is Status.UNKNOWN
    assert verdict.reasons[0].startswith(
        "harness or broker miscounts: the broker counted 1 deliveries, 2 were received"
    )


def test_publishes_that_the_clients_never_wrote_down_are_no_phantom() -> None:
    events = [publish(1).acked(), deliver(1).acknowledged(), deliver(2).acknowledged()]
    verdict = judge(history(*events, terms=terms(counters=(counter("published", 2),)))).verdicts["genuine"]
    assert verdict.status is Status.UNKNOWN


def test_a_producer_that_stood_still_as_planned_need_not_have_published_meanwhile() -> None:
    events = without(fair_events(), 1010, 1900)
    still = note("ticker-gap", 1900, value=890 * MS, planned=True)
    assert judge(fair_history(still, events=events)).trial.fair
    called = "while the fault held in trial 1"
    assert any(called in reason for reason in judge(fair_history(events=events)).trial.reasons)
    unplanned = note("ticker-gap", 1900, value=890 * MS)
    assert any(called in reason for reason in judge(fair_history(unplanned, events=events)).trial.reasons)


def test_three_reasons_of_a_kind_are_told_and_more_are_counted() -> None:
    def stalls(count: int) -> list[str]:
        notes = [note("ticker-gap", 700 + number, value=300 * MS) for number in range(count)]
        return [reason for reason in judge(fair_history(*notes)).trial.run if "stall" in reason]

    assert len(stalls(3)) == 3
    assert stalls(4)[3:] == ["4 stalls in all"]


@pytest.mark.parametrize(
    ("more", "at_risk"),
    [
        ([publish(900).at(990)], 1),
        ([publish(900).at(940)], 0),
        ([publish(900).acked().at(890).until(1100), publish(901).at(900)], 1),
        ([publish(900).at(985), note("lost", 980)], 1),
        ([publish(900).at(975), note("lost", 980)], 0),
        ([publish(900).at(975), note("lost", 970), note("lost", 980)], 0),
        ([publish(900).at(975), note("lost", 1001)], 1),
    ],
    ids=[
        "never answered, and not given up yet",
        "given up",
        "answered after all, which took longer than what is given up",
        "on a connection that was made since",
        "on a connection that was lost before",
        "on the second of two that were lost before",
        "on one that the fault took",
    ],
)
def test_what_is_under_way_when_a_fault_bites(more: list[Event], at_risk: int) -> None:
    """Beside a load of which every publish is answered before the next one."""
    past = fair_history(
        *more, settings={"confirm_timeout_s": 0.05}, injections=(injection(bit_ns=1000 * MS, touches="producer"),)
    )
    assert judge(past).trial.trials[0].at_risk == at_risk


def books(*more: Event, **counted: int) -> tuple[str, ...]:
    """What is wrong with the broker's books of one message that was published, delivered and confirmed."""
    told = terms(ack=AckKind.CONFIRMED, counters=tuple(counter(name, value) for name, value in counted.items()))
    return judge(history(publish(1).acked(), deliver(1).confirmed(), *more, terms=told)).trial.books.mismatches


def test_more_deliveries_than_were_received_are_wrong_only_where_no_connection_was_lost() -> None:
    assert books(delivered=1) == ()
    assert len(books(delivered=3)) == 1
    assert len(books(note("connected", 1), delivered=3)) == 1
    assert books(note("connected", 1), note("lost", 1), delivered=3) == ()


def test_acknowledgements_that_were_confirmed_are_in_the_books() -> None:
    assert books(acked=1) == ()
    assert len(books(acked=0)) == 1
    assert len(books(acked=2)) == 1
