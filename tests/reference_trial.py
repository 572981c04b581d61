"""Was the trial fair? In plain Python from the definitions, sharing no code with the checkers.

A *reason* is a tuple: its kind in English, and the figures that its sentence gives, as text. Times are in ns, windows
are pairs, closed; what never happened is None here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.history.history import History
from harness.history.terms import InjectionTerms
from tests import reference
from tests.reference import Row

INFO, OK, FAIL = 0, 1, 2
AUTOMATIC, SENT, CONFIRMED = 0, 1, 2
FOREVER = 2**63 - 1
SECOND = 1_000_000_000
TICKER_GAP = "ticker-gap"
HARMLESS = ("connected", "local-port", "told-to-stop", "cpu-steal")
GONE = ("lost", "unreachable", "basic.cancel")
MADE_UP = "lost", "lost_unconfirmed", "swallowed", "unprocessed", "never_processed", "stranded"
NEVER_SENT = ("duplicate_delivery", "again_after_confirmed_ack", "unflagged_redelivery")
TOO_MANY = "phantom", "duplicate_publish"

RATES: dict[tuple[str, ...], str] = {
    ("load", "quiet before"): "before_hz",
    ("load", "during"): "during_hz",
    ("load", "quiet after"): "after_hz",
    ("good", "quiet before"): "good_before_hz",
    ("good", "quiet after"): "good_after_hz",
}

Reason = tuple[str, ...]
Span = tuple[int, int]


@dataclass
class Trial:
    """`window`: from the asking of its first injection to the recovery of its last. `rates`: of attempts and of good
    answers, in 1/s, where there was a phase to measure them in."""

    number: int
    faults: tuple[str, ...]
    window: Span
    at_risk: int = 0
    reasons: set[Reason] = field(default_factory=set)
    rates: dict[str, float] = field(default_factory=dict)


@dataclass
class Fairness:
    """`books`: each mismatch with the anomalies that it takes the ground from."""

    trials: list[Trial]
    run: set[Reason]
    unread: set[Reason]
    not_idle: set[Reason]
    books: list[tuple[Reason, tuple[str, ...]]]

    @property
    def reasons(self) -> set[Reason]:
        return self.run.union(*(trial.reasons for trial in self.trials))


@dataclass
class Past:
    """A history as lists of rows, with None for what never happened and words as text."""

    history: History
    tables: dict[str, list[Row]]
    sets: dict[str, set[int]]
    received: list[Row]

    @property
    def terms(self) -> Any:
        return self.history.terms

    def __getattr__(self, name: str) -> list[Row]:
        return self.tables[name]

    def phases_called(self, name: str) -> list[Span]:
        return sorted((row["begin_ns"], row["end_ns"]) for row in self.phases if row["phase"] == name)

    @property
    def end_ns(self) -> int:
        return max((row["end_ns"] for row in self.phases), default=FOREVER)

    @property
    def injections(self) -> list[InjectionTerms]:
        return [one for one in self.terms.injections if one.fault != "nothing"]


def past(history: History) -> Past:
    tables = {name: reference.worded(history, name) for name in history.tables}
    for rows in tables.values():
        for row in rows:
            for column, value in row.items():
                if column.endswith("_ns") and value == -1:
                    row[column] = None
    sets = reference.anomalies(history)
    invoked = {row["message"] for row in tables["publications"] if not unsent(row)}
    received = [
        row for row in tables["deliveries"] if not row["corrupt"] and not row["foreign"] and row["message"] in invoked
    ]
    return Past(history, tables, sets, received)


def unsent(publication: Row) -> bool:
    """There was no connection or no room for it: refused in the instant in which it fell due."""
    return bool(publication["outcome"] == FAIL and publication["completed_ns"] == publication["invoked_ns"])


def fairness(past: Past) -> Fairness:
    terms = past.terms
    books, unread, idle = list(_books(past)), set(_unread(past)), set(_not_idle(past))
    run = unread | {reason for reason, _ in books}
    if terms.recorded_by:
        return Fairness([], run | {("recorded elsewhere", terms.recorded_by)}, unread, idle, books)
    groups = _grouped(past.injections)
    windows = [_window(past, group) for group in groups]
    ill = set(_exits(past)) | set(_states(past, windows))
    run |= set(_left_over(past)) | ill | set(_underloaded(past))
    if terms.floor_hz <= 0:
        run.add(("no floor",))
    injected = {one.fault for one in past.injections}
    if never := [fault for fault in terms.faults if fault != "nothing" and fault not in injected]:
        run.add(("never injected", ", ".join(never)))
    if past.injections:
        run |= set(_disturbed(past))
        trials = [_trial(past, groups, place) for place in range(len(groups))]
    else:
        trials = [_quiet_trial(past)]
    return Fairness(trials, run, unread, idle | ill, books)


# ---- the run as a whole ----------------------------------------------------------------------------------------------


def _broken_record(past: Past) -> Iterator[Reason]:
    if past.terms.interrupted:
        yield "interrupted", past.terms.interrupted
    if past.terms.truncated_journals:
        yield "journals cut off", ", ".join(past.terms.truncated_journals)


def _too_short(past: Past) -> Iterator[Reason]:
    if past.terms.silence_s < past.terms.redelivery_horizon_s:
        yield "too short a silence", f"{past.terms.silence_s:.1f}", f"{past.terms.redelivery_horizon_s:.1f}"


def _unread(past: Past) -> Iterator[Reason]:
    terms = past.terms
    yield from _broken_record(past)
    drains = past.phases_called("drain")
    for note in past.health:
        if note["state"] == "unanswered-end" and (not drains or note["time_ns"] >= drains[0][0]):
            yield "goodbye unanswered", note["member"]
    if not terms.brokers_up:
        yield ("brokers not up",)
    if not terms.drained:
        yield "not drained", terms.drained_why_not or "nobody knows why"
    if not terms.exhaustive:
        yield "not read to the end", terms.exhaustive_why_not or "nobody knows why"
    if terms.silence_needed or terms.drain == "silence":
        yield from _too_short(past)


def _left_over(past: Past) -> Iterator[Reason]:
    if past.terms.drained:
        if past.sets["owed"]:
            yield "owed after the drain", str(len(past.sets["owed"]))
        for counter in past.terms.counters:
            if counter.name in ("undelivered", "unsettled") and counter.value != 0:
                yield "counted after the drain", str(counter.value), counter.name


def _disturbed(past: Past) -> Iterator[Reason]:
    terms = past.terms
    if not terms.whole:
        yield "not whole", terms.whole_why_not or "nobody knows why"
    if terms.peers_all_proxy is not True:
        yield ("peers not asked for",) if terms.peers_all_proxy is None else ("a peer is no proxy",)
    if terms.proxy_trouble:
        yield "proxy in trouble", terms.proxy_trouble


def _exits(past: Past) -> Iterator[Reason]:
    unplanned = [row for row in past.clients if not row["planned"]]
    for row in unplanned[:3]:
        name = row["name"] or f"client {row['client']}"
        yield ("never ended", name) if row["end_ns"] is None else ("ended unplanned", name, str(row["exit"]))
    if len(unplanned) > 3:
        yield ("more ended unplanned",)


def _states(past: Past, windows: list[Span]) -> Iterator[Reason]:
    """Stalls while anything is judged by time, whatever explains them; other notes outside every fault window."""
    quiet, drain = past.phases_called("quiet"), past.phases_called("drain")
    begin_ns = quiet[0][0] if quiet else 0
    end_ns = drain[-1][1] if drain else FOREVER
    stalls, notes = [], []
    for row in past.health:
        if row["planned"]:
            continue
        if row["state"] == TICKER_GAP:
            too_long = row["value"] > past.terms.ticker_limit_ms * 1e6
            if too_long and row["time_ns"] >= begin_ns and row["time_ns"] - row["value"] <= end_ns:
                stalls.append(("stalled", row["member"] or "a member", f"{row['value'] / 1e6:.0f}"))
        elif row["state"].split(":")[0] not in HARMLESS and not any(b <= row["time_ns"] <= e for b, e in windows):
            notes.append(("noted", row["member"] or "a member", row["state"]))
    for found, rest in ((stalls, "stalls in all"), (notes, "notes in all")):
        yield from found[:3]
        if len(found) > 3:
            yield rest, str(len(found))


def _underloaded(past: Past) -> Iterator[Reason]:
    quiet, offered_hz = past.phases_called("quiet"), past.terms.offered_hz
    if offered_hz <= 0:
        yield ("nothing offered",)
        return
    if not quiet:
        yield ("no quiet phase to measure the load",)
        return
    firsts = [_due(row) for row in past.publications if row["attempt"] == 1 and not unsent(row)]
    if firsts:  # clients begin to publish up to a quarter of a second after they are told to
        begin_ns, end_ns = quiet[0]
        quiet[0] = min(end_ns, begin_ns + SECOND // 4, max(begin_ns, min(firsts))), end_ns
    length_s = sum(_seconds(window) for window in quiet)
    published = sum(_within(firsts, window) for window in quiet)
    producers = {row["slot"] for row in past.clients if row["role"] == "producer"}
    slack = 1 + max(1, len(producers)) * len(quiet)
    if published < 0.98 * offered_hz * length_s - slack:
        yield "underloaded", f"{published / length_s if length_s else 0:.0f}", f"{offered_hz:.0f}"


def _not_idle(past: Past) -> Iterator[Reason]:
    terms = past.terms
    yield from _broken_record(past)
    if not terms.brokers_up:
        yield ("brokers not up",)
    if not terms.whole:
        yield "not whole", terms.whole_why_not or "nobody knows why"
    if any(one.bit_ns is not None and one.recovered_ns is None for one in terms.injections):
        yield ("no recovery from every fault",)
    yield from _too_short(past)
    drains = past.phases_called("drain")
    there = [
        row["client"]
        for row in past.clients
        if row["role"] == "consumer" and (not drains or row["end_ns"] is None or row["end_ns"] > drains[0][0])
    ]
    connected = [client for client in there if _connected(past, client)]
    if not there:
        yield ("no consumer there",)
    elif not connected:
        yield ("no consumer connected",)
    elif all(_full(past, client) for client in connected):
        yield ("every consumer full",)


def _connected(past: Past, client: int) -> bool:
    connected, when = True, -1
    for row in past.health:
        word = row["state"].split(":")[0]
        if row["client"] == client and (word == "connected" or word in GONE) and row["time_ns"] >= when:
            connected, when = word == "connected", row["time_ns"]
    return connected


def _full(past: Past, client: int) -> bool:
    room = past.terms.settings.get("prefetch")
    mine = [row for row in past.deliveries if row["client"] == client]
    if past.terms.ack == AUTOMATIC or not isinstance(room, int) or not mine:
        return False
    latest = max(row["epoch"] for row in mine)
    return sum(row["epoch"] == latest and row["ack_invoked_ns"] is None for row in mine) >= room


# ---- the books -------------------------------------------------------------------------------------------------------


def _books(past: Past) -> Iterator[tuple[Reason, tuple[str, ...]]]:
    terms = past.terms
    counters = {counter.name: counter.value for counter in terms.counters if counter.comparable}
    if (published := counters.get("published")) is not None:
        confirmed = [row for row in past.publications if row["outcome"] == OK and not row["duplicate"]]
        least = len(confirmed) if terms.acknowledged_by == 1 else 0
        most = sum(not unsent(row) for row in past.publications)
        if published < least:
            yield ("published less than confirmed", str(published), str(least)), ()
        elif published > most:
            yield ("published more than made", str(published), str(most)), TOO_MANY
    if (delivered := counters.get("delivered")) is not None:
        received = len(past.deliveries)
        disturbed = any(row["state"] == "lost" for row in past.health) or any(
            one.bit_ns is not None for one in terms.injections
        )
        if delivered < received:
            yield ("delivered less than received", str(delivered), str(received)), NEVER_SENT
        elif delivered > received and not disturbed:
            yield ("delivered more than received", str(delivered), str(received)), MADE_UP
    if (acked := counters.get("acked")) is not None and terms.ack != AUTOMATIC:
        made = sum(row["ack_invoked_ns"] is not None for row in past.deliveries)
        confirmed_acks = sum(row["ack_kind"] == CONFIRMED and row["settlement"] == OK for row in past.deliveries)
        if acked > made or acked < confirmed_acks:
            yield ("acknowledgements", str(acked), str(made), str(confirmed_acks)), ()
    invoked = {row["message"] for row in past.publications if not unsent(row)}
    if strangers := sum(row["message"] not in invoked for row in past.effects):
        yield ("effects of nobody's", str(strangers)), TOO_MANY
    if unseen := len(past.sets["effects"] - past.sets["delivered"]):
        yield ("effects of what was not received", str(unseen)), MADE_UP


# ---- trials ----------------------------------------------------------------------------------------------------------


def _due(publication: Row) -> int:
    invoked_ns = publication["invoked_ns"]
    return int(publication["intended_ns"] if invoked_ns is None else invoked_ns)


def _seconds(window: Span) -> float:
    return max(0, window[1] - window[0]) / 1e9


def _within(times: list[int], window: Span) -> int:
    return sum(window[0] <= time <= window[1] for time in times)


def _rate(times: list[int], window: Span) -> float:
    return _within(times, window) / _seconds(window) if window[1] > window[0] else 0.0


def _best_rate(times: list[int], window: Span) -> float:
    """Of the window, or of its last second: it goes on until the load is back."""
    return max(_rate(times, window), _rate(times, (max(window[0], window[1] - SECOND), window[1])))


def _over(injection: InjectionTerms) -> int:
    return injection.asked_ns if injection.mended_ns is None else injection.mended_ns


def _grouped(injections: list[InjectionTerms]) -> list[list[InjectionTerms]]:
    """Joined until no two trials share a number, or a moment between their first asking and their last mending."""
    groups = [[one] for one in sorted(injections, key=lambda one: one.asked_ns)]

    def joined() -> bool:
        for place, one in enumerate(groups):
            for other in groups[place + 1 :]:
                same = {i.trial for i in one} & {i.trial for i in other}
                mine, theirs = (
                    (min(i.asked_ns for i in group), max(_over(i) for i in group)) for group in (one, other)
                )
                if same or (mine[0] <= theirs[1] and theirs[0] <= mine[1]):
                    groups.remove(other)
                    one.extend(other)
                    one.sort(key=lambda i: i.asked_ns)
                    return True
        return False

    while joined():
        pass
    return sorted(groups, key=lambda group: group[0].asked_ns)


def _window(past: Past, group: list[InjectionTerms]) -> Span:
    recovered = [one.recovered_ns for one in group if one.recovered_ns is not None]
    end_ns = max(recovered) if len(recovered) == len(group) else past.end_ns
    return min(one.asked_ns for one in group), end_ns


def _trial(past: Past, groups: list[list[InjectionTerms]], place: int) -> Trial:
    group, terms = groups[place], past.terms
    window = _window(past, group)
    trial = Trial(group[0].trial, tuple(one.fault for one in group), window)
    called = str(trial.number + 1)
    for one in group:
        if one.bit_ns is None:
            trial.reasons.add(("did not bite", one.fault, called))
        if one.mended_ns is None:
            trial.reasons.add(("never mended", one.fault, called))
        if one.recovered_ns is None:
            trial.reasons.add(("did not recover", one.fault, called))
        risk = at_risk(past, one)
        trial.at_risk += risk
        needed = max(1, terms.at_risk_min)
        if one.bit_ns is not None and risk < needed:
            trial.reasons.add(("too little at risk", str(risk), one.fault, called, str(needed)))
    attempts = [_due(row) for row in past.publications]
    good = [row["completed_ns"] for row in past.publications if row["outcome"] == OK]
    quiet = past.phases_called("quiet")
    mended_ns = max(_over(one) for one in group)
    next_ns = groups[place + 1][0].asked_ns if place + 1 < len(groups) else past.end_ns
    measured: list[tuple[Reason, float, float]] = []
    before = [phase for phase in quiet if phase[0] < window[0]]
    if before:
        phase = before[-1][0], min(before[-1][1], window[0])
        rate = _rate if len(before) == 1 else _best_rate
        measured.append((("load", "quiet before"), rate(attempts, phase), terms.floor_hz))
        measured.append((("good", "quiet before"), rate(good, phase), terms.floor_hz))
    else:
        trial.reasons.add(("no quiet phase", "before", called))
    after = [phase for phase in quiet if mended_ns <= phase[0] < next_ns]
    if after:
        begin_ns = after[0][0]
        if all(one.recovered_ns is not None for one in group):
            begin_ns = max(begin_ns, window[1])
        phase = begin_ns, after[0][1]
        measured.append((("load", "quiet after"), _best_rate(attempts, phase), terms.floor_hz))
        measured.append((("good", "quiet after"), _best_rate(good, phase), terms.floor_hz))
    else:
        trial.reasons.add(("no quiet phase", "after", called))
    held = window[0], mended_ns
    measured.append((("load", "during"), _rate(attempts, held), terms.floor_hz * _alive(past, held)))
    for name, rate_hz, floor_hz in measured:
        trial.rates[RATES[name]] = rate_hz
        if rate_hz < floor_hz:
            trial.reasons.add((*name, f"{rate_hz:.0f}", called, f"{floor_hz:.0f}"))
    return trial


def _alive(past: Past, window: Span) -> float:
    """The part of the producers' time in which their processes lived, and were not stopped, as the plan wanted."""
    producers = [row for row in past.clients if row["role"] == "producer"]
    if not producers or window[1] <= window[0]:
        return 1.0
    lived_ns = 0
    for row in producers:
        died_ns = row["end_ns"] if row["planned"] and row["end_ns"] is not None else window[1]
        lived_ns += max(0, min(died_ns, window[1]) - max(row["start_ns"], window[0]))
    numbers = {row["client"] for row in producers}
    for note in past.health:
        if note["state"] == TICKER_GAP and note["planned"] and note["client"] in numbers:
            began_ns = note["time_ns"] - note["value"]
            lived_ns -= max(0, min(note["time_ns"], window[1]) - max(began_ns, window[0]))
    slots = len({row["slot"] for row in producers})
    return min(1.0, lived_ns / 1e9 / (slots * _seconds(window)))


def _quiet_trial(past: Past) -> Trial:
    quiet = past.phases_called("quiet")
    if not quiet:
        return Trial(0, (), (0, past.end_ns), reasons={("the run has no quiet phase",)})
    trial = Trial(0, (), (quiet[0][0], past.end_ns))
    attempts = [_due(row) for row in past.publications]
    good = [row["completed_ns"] for row in past.publications if row["outcome"] == OK]
    for name, times in (("load", attempts), ("good", good)):
        slowest = min(_rate(times, phase) for phase in quiet)
        trial.rates[RATES[name, "quiet before"]] = slowest
        if slowest < past.terms.floor_hz:
            trial.reasons.add((name, "in a quiet phase", f"{slowest:.0f}", f"{past.terms.floor_hz:.0f}"))
    return trial


# ---- at risk ---------------------------------------------------------------------------------------------------------


def at_risk(past: Past, injection: InjectionTerms) -> int:
    """Operations under way when it bit, on connections that lived until it was asked for, as far as it touches them."""
    if injection.bit_ns is None:
        return 0
    terms, touches = past.terms, injection.touches
    confirms, automatic = terms.acknowledged_by == 1, terms.ack == AUTOMATIC
    hit = _hit(past, injection)
    unreceived = _unreceived(past, injection, hit)
    count = 0
    if touches in ("producer", "both"):
        count += _unanswered(past, injection, hit) if confirms else unreceived
    if touches in ("consumer", "both"):
        if not automatic:
            count += _unsettled(past, injection, hit)
        elif touches == "consumer" or confirms:  # else they are counted on the producers' side
            count += unreceived
    return count


def _hit(past: Past, injection: InjectionTerms) -> set[int]:
    named = {target.split("->")[0] for target in injection.targets}
    hit = {row["client"] for row in past.clients if row["name"] in named or row["slot"] in named}
    return hit or {row["client"] for row in past.clients}


def _given_up_ns(past: Past) -> int:
    told = past.terms.settings.get("confirm_timeout_s")
    return int((told if isinstance(told, int | float) else 5.0) * 1e9)


def _lives(past: Past, table: str, began: str, row: Row, asked_ns: int) -> bool:
    """Whether its client, and the connection that it was made on, were there when the fault was asked for."""
    client = row["client"]
    used = [other["epoch"] for other in past.tables[table] if other["client"] == client and other[began] <= asked_ns]
    if row["epoch"] < max(used, default=0):
        return False
    for note in past.health:
        lost = note["client"] == client and note["state"] == "lost" and note["time_ns"] < asked_ns
        if lost and row[began] <= note["time_ns"]:
            return False
    ended_ns = next((other["end_ns"] for other in past.clients if other["client"] == client), None)
    return ended_ns is None or ended_ns >= asked_ns


def _unanswered(past: Past, injection: InjectionTerms, hit: set[int]) -> int:
    bit_ns, asked_ns = injection.bit_ns, injection.asked_ns
    assert bit_ns is not None
    latest: dict[int, int] = defaultdict(int)
    for row in past.publications:
        if row["invoked_ns"] <= bit_ns:
            latest[row["message"]] = max(latest[row["message"]], row["attempt"])
    count = 0
    for row in past.publications:
        invoked_ns, completed_ns = row["invoked_ns"], row["completed_ns"]
        waits = completed_ns >= bit_ns if completed_ns is not None else invoked_ns >= bit_ns - _given_up_ns(past)
        count += (
            row["client"] in hit
            and row["outcome"] != FAIL
            and invoked_ns <= bit_ns
            and waits
            and row["attempt"] == latest[row["message"]]
            and _lives(past, "publications", "invoked_ns", row, asked_ns)
        )
    return count


def _unsettled(past: Past, injection: InjectionTerms, hit: set[int]) -> int:
    bit_ns, asked_ns = injection.bit_ns, injection.asked_ns
    assert bit_ns is not None
    count = 0
    for row in past.deliveries:
        settled_ns = row["settled_ns"] if row["ack_kind"] == CONFIRMED else row["ack_invoked_ns"]
        waits = settled_ns is None or settled_ns >= bit_ns
        if past.terms.mechanism and not waits:
            handled_ns, recent = row["handled_ns"], row["received_ns"] >= bit_ns - _given_up_ns(past)
            waits = recent if handled_ns is None else handled_ns >= bit_ns
        count += (
            row["client"] in hit
            and row["received_ns"] <= bit_ns
            and waits
            and _lives(past, "deliveries", "received_ns", row, asked_ns)
        )
    return count


def _unreceived(past: Past, injection: InjectionTerms, hit: set[int]) -> int:
    """Messages on their way. What was never received although a later one had been is lost already."""
    bit_ns, asked_ns = injection.bit_ns, injection.asked_ns
    assert bit_ns is not None
    producers = {row["client"] for row in past.publications} & hit
    tried = [
        row
        for row in past.publications
        if row["invoked_ns"] <= bit_ns and row["outcome"] != FAIL and (not producers or row["client"] in producers)
    ]
    receipt: dict[int, int] = {}
    for row in past.received:
        receipt[row["message"]] = min(receipt.get(row["message"], FOREVER), row["received_ns"])
    there = [row["invoked_ns"] for row in tried if receipt.get(row["message"], FOREVER) <= bit_ns]
    newest_ns = max(there, default=-1)
    return len(
        {
            row["message"]
            for row in tried
            if receipt.get(row["message"], FOREVER) > bit_ns
            and (row["message"] in receipt or row["invoked_ns"] > newest_ns)
            and _lives(past, "publications", "invoked_ns", row, asked_ns)
        }
    )
