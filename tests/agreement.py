"""Do the checkers say of a history what a slow judge in plain Python says? Every verdict, count, reason and witness."""

from __future__ import annotations

import dataclasses
import functools
import json
import re

import pytest

from harness.checkers.judge import BREAKS, Judgement, judge
from harness.guarantee import LINEARIZABLE_FIFO, LOG_CONSISTENT
from harness.history.history import History
from tests import reference_verdicts
from tests.reference_trial import RATES, Reason

SENTENCES = {
    "interrupted": r"the run was interrupted: (.*)",
    "journals cut off": r"journals were cut off: (.*)",
    "too short a silence": r"the system was silent for (.*) s before its drain ended; .* redeliver after (.*) s",
    "goodbye unanswered": r"(.*) ended without an answer to its goodbye, .*",
    "brokers not up": r"not every broker answered while the system was drained and read",
    "not drained": r"the system was not drained: (.*)",
    "not read to the end": r"the auditor did not read to the end: (.*)",
    "owed after the drain": r"the system was called drained, and then the auditor found (\d+) messages that it .*",
    "counted after the drain": r"the system was called drained, and then the broker counted (\d+) (\w+)",
    "not whole": r"the cluster was not whole at the end: (.*)",
    "peers not asked for": r"nobody asked the broker whether every client came through the proxy",
    "a peer is no proxy": r"a client reached the broker without the proxy, past its faults",
    "proxy in trouble": r"the proxy was in trouble: (.*)",
    "never ended": r"(.*) was never seen to end",
    "ended unplanned": r"(.*) ended unplanned with exit code (-?\d+)",
    "more ended unplanned": r"clients that ended unplanned",
    "stalled": r"(.*) stalled for (\d+) ms at [\d.]+ s; limit \d+ ms",
    "stalls in all": r"(\d+) stalls in all",
    "noted": r"(.*) noted '(.*)' at [\d.]+ s, outside every fault window",
    "notes in all": r"(\d+) such notes in all",
    "nothing offered": r"the terms do not say what load was offered",
    "no quiet phase to measure the load": r"the run has no quiet phase, so nothing shows that the load was as offered",
    "underloaded": r"the producers published (\d+)/s in the quiet phases; (\d+)/s were offered, .*",
    "no recovery from every fault": r"the system did not recover from every fault",
    "no consumer there": r"no consumer was there while the system was drained",
    "no consumer connected": r"no consumer was connected while the system was drained",
    "every consumer full": r"every consumer held as many unsettled deliveries as it may",
    "recorded elsewhere": r"the history was recorded by (.*), not by Assay: .*",
    "no floor": r"the terms name no floor for the load",
    "never injected": r"(.*) was planned, and no injection of it is on record",
    "published less than confirmed": r"harness or broker miscounts: .* counted (\d+) publishes, (\d+) were confirmed",
    "published more than made": r"harness or broker miscounts: .* counted (\d+) publishes, the clients made (\d+)",
    "delivered less than received": r"harness or broker miscounts: .* counted (\d+) deliveries, (\d+) were received",
    "delivered more than received": r"harness or broker miscounts: .* counted (\d+) deliveries, (\d+) were received "
    "over connections that never broke",
    "acknowledgements": r"harness or broker miscounts: .* (\d+) acknowledgements; (\d+) were made and (\d+) confirmed",
    "effects of nobody's": r"harness or sink miscounts: the sink holds effects of (\d+) messages that nobody published",
    "effects of what was not received": r"harness or sink miscounts: .* of (\d+) messages that no consumer received",
    "did not bite": r"(\w+) did not bite in trial (\d+): .*",
    "never mended": r"(\w+) was never mended in trial (\d+)",
    "did not recover": r"the system did not recover from (\w+) in trial (\d+) within .* s",
    "too little at risk": r"(\d+) operations were at risk when (\w+) bit in trial (\d+); at least (\d+) are needed",
    "no quiet phase": r"no quiet phase came (\w+) trial (\d+)",
    "the run has no quiet phase": r"the run has no quiet phase",
    "claimed, not shown": r"it is claimed, and nothing that this configuration records can show it",
    "sink not read": r"the sink was not read, so nobody knows which effects there are",
    "again after a late acknowledgement": r"(\d+) messages came again after a confirmed acknowledgement that .*",
    "nothing at stake": r"nothing was at stake: 0 .*",
}
LOG = BREAKS[LOG_CONSISTENT]
ELSEWHERE = {LOG_CONSISTENT.name, *LOG, *(f"{name}_so_far" for name in LOG), LINEARIZABLE_FIFO.name}
"""What is compared with slow references of its own: the log in test_checkers_streams.py, and in test_checkers_fifo.py
queues, of which the runs here have no pulls."""

LOAD = {"load": "load fell to", "good": "publishes that ended well fell to"}
WHEN = {
    "quiet before": "in the quiet phase before trial",
    "during": "while the fault held in trial",
    "quiet after": "in the quiet phase after trial",
    "in a quiet phase": "in a quiet phase",
}


@functools.cache
def reason(sentence: str) -> Reason:
    """A reason as the reference gives it."""
    for what, begins in LOAD.items():
        for when, words in WHEN.items():
            if match := re.fullmatch(rf"{begins} (\d+)/s {words}(?: (\d+))?; floor (\d+)/s", sentence):
                return (what, when, *(figure for figure in match.groups() if figure is not None))
    found = [(kind, *match.groups()) for kind, form in SENTENCES.items() if (match := re.fullmatch(form, sentence))]
    assert len(found) == 1, f"{sentence!r} reads as {found}"
    return found[0]


def reasons(sentences: tuple[str, ...]) -> set[Reason]:
    return {reason(sentence) for sentence in sentences}


def compare(past: History) -> Judgement:
    """Judge a history by both; they must agree on all that is not wording, and has no reference of its own."""
    mine, theirs = judge(past), reference_verdicts.judge(past)
    json.dumps([dataclasses.asdict(verdict) for verdict in mine.verdicts.values()])  # so says every report
    json.dumps(
        [dict(mine.counts), *(dataclasses.asdict(part) for part in (mine.trial, mine.availability, mine.latency))]
    )
    fair, theirs_fair = mine.trial, theirs.fairness
    assert reasons(fair.unread) == theirs_fair.unread
    assert reasons(fair.not_idle) == theirs_fair.not_idle
    assert reasons(fair.books.mismatches) == {reason for reason, _ in theirs_fair.books}
    assert reasons(fair.run) == theirs_fair.run
    assert [
        (trial.number, sorted(trial.faults), (trial.begin_ns, trial.end_ns), trial.at_risk, reasons(trial.reasons))
        for trial in fair.trials
    ] == [
        (trial.number, sorted(trial.faults), trial.window, trial.at_risk, trial.reasons) for trial in theirs_fair.trials
    ]  # fmt: skip
    for trial, expected_trial in zip(fair.trials, theirs_fair.trials, strict=True):
        rates = {name: getattr(trial, name) for name in RATES.values()}
        assert rates == pytest.approx({**dict.fromkeys(rates, 0.0), **expected_trial.rates})
    assert {name: count for name, count in mine.counts.items() if name not in ELSEWHERE} == theirs.counts
    assert dict(mine.dropped) == theirs.dropped
    verdicts = {name: verdict for name, verdict in mine.verdicts.items() if name not in ELSEWHERE}
    assert verdicts.keys() == theirs.verdicts.keys()
    for name, verdict in verdicts.items():
        expected = theirs.verdicts[name]
        assert verdict.status == expected.status, name
        assert reasons(verdict.reasons) == expected.reasons, name
        assert dict(verdict.counts) == expected.counts, name
        assert [(witness.anomaly, witness.message) for witness in verdict.witnesses] == expected.witnesses, name
        said = verdict.exposure, verdict.injections, verdict.violating, verdict.claimed
        assert said == (expected.exposure, expected.trials, expected.violating, expected.claimed), name
        assert verdict.upper_bound == pytest.approx(expected.bound, abs=1e-9), name
    assert mine.observed == theirs.observed
    assert mine.claim_kept is theirs.claim_kept
    return mine
