"""Was the trial fair? Only then may a guarantee be called HELD; a violation needs no more than its own witness.

A *trial* is one injection (overlapping ones are one) with its own quiet phase before, and another after recovery: the
fault must have bitten, something must have been at risk when it did, and the load must have been at its floor before,
while it held, and after. With no fault the whole run is one trial. Every reason is one sentence with its figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.checkers.books import Books, audit
from harness.checkers.facts import Facts
from harness.checkers.health import TICKER_GAP, underloaded, unhealthy
from harness.checkers.idle import broken_record, not_idle, too_short
from harness.checkers.load import Load, Window, phase_windows, quiet_windows
from harness.checkers.risk import Risks
from harness.history.columns import NEVER
from harness.history.history import Array, History
from harness.history.terms import InjectionTerms
from harness.operation import UNANSWERED_END

NO_FAULT = "nothing"
"""The fault that breaks nothing: a run with no other has no injection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial. `number` counts from 0. `at_risk`: operations under way when it bit. Rates: attempts a second, and
    good answers a second. `reasons`: why it was not fair, empty if it was."""

    number: int
    faults: tuple[str, ...]
    begin_ns: int
    end_ns: int
    at_risk: int = 0
    before_hz: float = 0.0
    during_hz: float = 0.0
    after_hz: float = 0.0
    good_before_hz: float = 0.0
    good_after_hz: float = 0.0
    reasons: tuple[str, ...] = ()

    @property
    def fair(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """Whether a run may call anything HELD.

    `run`: reasons that concern the run as a whole. `unread`: why "not found" does not mean lost. `not_idle`: why
    "never delivered" does not mean stranded. `books`: the broker's counters against the history.
    """

    trials: tuple[Trial, ...]
    run: tuple[str, ...]
    unread: tuple[str, ...]
    not_idle: tuple[str, ...]
    books: Books = field(default_factory=lambda: Books(mismatches=(), covers=()))

    @property
    def reasons(self) -> tuple[str, ...]:
        """Everything that speaks against HELD, each once."""
        return tuple(dict.fromkeys([*self.run, *(reason for trial in self.trials for reason in trial.reasons)]))

    @property
    def fair(self) -> bool:
        """Whether nothing speaks against HELD."""
        return not self.reasons


def check(facts: Facts) -> Fairness:
    """Look at everything that a fair trial needs."""
    history = facts.history
    if history.terms.recorded_by:
        return _recorded_elsewhere(facts)
    load = Load.of(history)
    injections = tuple(one for one in history.terms.injections if one.fault != NO_FAULT)
    windows = [_fault_window(history, together) for together in _by_trial(injections)]
    ill = unhealthy(history, windows)
    books = audit(facts)
    unread = tuple(_unread(history))
    if injections:
        trials = tuple(_trials(facts, load, injections))
        extra = tuple(_disturbed(history))
    else:
        trials = (_undisturbed(history, load),)
        extra = ()
    extra = (*extra, *_never_injected(history))
    run = (
        *unread,
        *_left_over(facts),
        *extra,
        *ill,
        *underloaded(history, load),
        *_floorless(history),
        *books.mismatches,
    )
    return Fairness(
        trials=trials,
        run=tuple(dict.fromkeys(run)),
        unread=unread,
        not_idle=(*not_idle(history), *ill),
        books=books,
    )


def _recorded_elsewhere(facts: Facts) -> Fairness:
    """What its terms say else of such a history is its recorder's word: no trial is in it, so nothing can be HELD."""
    history = facts.history
    books, unread = audit(facts), tuple(_unread(history))
    reason = (
        f"the history was recorded by {history.terms.recorded_by}, not by Assay: nothing shows which faults bit, or "
        "that all was written down"
    )
    return Fairness(
        trials=(),
        run=tuple(dict.fromkeys([reason, *unread, *books.mismatches])),
        unread=unread,
        not_idle=tuple(not_idle(history)),
        books=books,
    )


# ---- the run as a whole ----------------------------------------------------------------------------------------------


def _unread(history: History) -> Iterable[str]:
    """Why the system was not read to its end."""
    terms = history.terms
    yield from broken_record(history)
    yield from _cut_off(history)
    if not terms.brokers_up:
        yield "not every broker answered while the system was drained and read"
    if not terms.drained:
        yield f"the system was not drained: {terms.drained_why_not or 'nobody knows why'}"
    if not terms.exhaustive:
        yield f"the auditor did not read to the end: {terms.exhaustive_why_not or 'nobody knows why'}"
    if (terms.silence_needed or terms.drain == "silence") and terms.silence_s < terms.redelivery_horizon_s:
        yield too_short(history)


def _cut_off(history: History) -> Iterable[str]:
    """Clients whose goodbye was not answered: what was on its way then was lost by them, not by the broker."""
    drains = phase_windows(history, "drain")
    health = history.health
    noted = health.state == history.word_number(UNANSWERED_END)
    late = noted & (health.time_ns >= (drains[0].begin_ns if drains else 0))
    for member in dict.fromkeys(history.word(word) for word in health.member[late]):
        yield f"{member} ended without an answer to its goodbye, so what was on its way then may have been cut off"


def _left_over(facts: Facts) -> Iterable[str]:
    """What contradicts the drain: it is no reason to doubt a loss, and one not to call anything kept."""
    terms = facts.history.terms
    if not terms.drained:
        return
    if owed := facts.owed.sum():
        yield f"the system was called drained, and then the auditor found {owed} messages that it still owes"
    for counter in terms.counters:
        if counter.name in ("undelivered", "unsettled") and counter.value:
            yield f"the system was called drained, and then the broker counted {counter.value} {counter.name}"


def _disturbed(history: History) -> Iterable[str]:
    """What a run with faults needs besides."""
    terms = history.terms
    if not terms.whole:
        yield f"the cluster was not whole at the end: {terms.whole_why_not or 'nobody knows why'}"
    if terms.peers_all_proxy is None:
        yield "nobody asked the broker whether every client came through the proxy"
    elif not terms.peers_all_proxy:
        yield "a client reached the broker without the proxy, past its faults"
    if terms.proxy_trouble:
        yield f"the proxy was in trouble: {terms.proxy_trouble}"


def _never_injected(history: History) -> Iterable[str]:
    injected = {injection.fault for injection in history.terms.injections}
    if missing := [fault for fault in history.terms.faults if fault != NO_FAULT and fault not in injected]:
        yield f"{', '.join(missing)} was planned, and no injection of it is on record"


def _floorless(history: History) -> Iterable[str]:
    if history.terms.floor_hz <= 0:
        yield "the terms name no floor for the load"


# ---- one trial -------------------------------------------------------------------------------------------------------


def _by_trial(injections: Sequence[InjectionTerms]) -> list[list[InjectionTerms]]:
    """Injections that are one trial: of one number, or overlapping."""
    numbered: dict[int, list[InjectionTerms]] = {}
    for injection in sorted(injections, key=lambda one: one.asked_ns):
        numbered.setdefault(injection.trial, []).append(injection)
    groups: list[list[InjectionTerms]] = []
    for together in numbered.values():
        before = groups[-1] if groups else []
        if before and together[0].asked_ns <= max(_mended_ns(one) for one in before):
            before.extend(together)
        else:
            groups.append(together)
    return groups


def _mended_ns(injection: InjectionTerms) -> int:
    return injection.asked_ns if injection.mended_ns is None else injection.mended_ns


def _fault_window(history: History, together: Sequence[InjectionTerms]) -> Window:
    """From the asking to the recovery of all; to the end of the run where there was none."""
    ends = [injection.recovered_ns for injection in together]
    known = [end for end in ends if end is not None]
    end_ns = max(known) if len(known) == len(ends) else _end_ns(history)
    return Window(min(injection.asked_ns for injection in together), end_ns)


def _end_ns(history: History) -> int:
    return int(history.phases.end_ns.max()) if history.phases.rows else np.iinfo(np.int64).max


def _trials(facts: Facts, load: Load, injections: Sequence[InjectionTerms]) -> Iterable[Trial]:
    groups = _by_trial(injections)
    risks = Risks(facts)
    for place, together in enumerate(groups):
        next_ns = groups[place + 1][0].asked_ns if place + 1 < len(groups) else _end_ns(facts.history)
        yield _trial(facts, load, risks, together, next_ns)


def _trial(facts: Facts, load: Load, risks: Risks, together: Sequence[InjectionTerms], next_ns: int) -> Trial:
    history, terms = facts.history, facts.history.terms
    window = _fault_window(history, together)
    number = together[0].trial
    called = f"trial {number + 1}"
    reasons: list[str] = []
    for injection in together:
        reasons.extend(_bite(injection, called, terms.recovery_limit_s))
    at_risk = 0
    for injection in together:
        endangered = risks.at(injection).total
        at_risk += endangered
        if injection.bit_ns is not None and endangered < (needed := max(terms.at_risk_min, 1)):
            reasons.append(
                f"{endangered} operations were at risk when {injection.fault} bit in {called}; "
                f"at least {needed} are needed"
            )
    quiet = quiet_windows(history)
    mended_ns = max(_mended_ns(one) for one in together)
    before = [one for one in quiet if one.begin_ns < window.begin_ns]
    after = [one for one in quiet if one.begin_ns >= mended_ns and one.begin_ns < next_ns]
    rates: dict[str, float] = {}
    if before:
        phase = Window(before[-1].begin_ns, min(before[-1].end_ns, window.begin_ns))
        # The first quiet phase has nothing to recover from: it is judged by all of its time.
        rate = load.rate if len(before) == 1 else load.best_rate
        rates["before_hz"] = rate(load.attempts, phase)
        rates["good_before_hz"] = rate(load.good, phase)
    else:
        reasons.append(f"no quiet phase came before {called}")
    if after:
        recovered = all(one.recovered_ns is not None for one in together)
        begin_ns = max(after[0].begin_ns, window.end_ns) if recovered else after[0].begin_ns
        phase = Window(begin_ns, after[0].end_ns)
        rates["after_hz"] = load.best_rate(load.attempts, phase)
        rates["good_after_hz"] = load.best_rate(load.good, phase)
    else:
        reasons.append(f"no quiet phase came after {called}")
    held = Window(window.begin_ns, mended_ns)
    rates["during_hz"] = load.rate(load.attempts, held)
    floors = dict.fromkeys(rates, terms.floor_hz)
    floors["during_hz"] *= _producers_alive(history, held)
    reasons.extend(_below_floor(rates, floors, called))
    return Trial(
        number=number,
        faults=tuple(one.fault for one in together),
        begin_ns=window.begin_ns,
        end_ns=window.end_ns,
        at_risk=at_risk,
        reasons=tuple(reasons),
        **rates,
    )


def _bite(injection: InjectionTerms, called: str, limit_s: float) -> Iterable[str]:
    if injection.bit_ns is None:
        yield f"{injection.fault} did not bite in {called}: {injection.why_not or 'there is no evidence that it did'}"
    if injection.mended_ns is None:
        yield f"{injection.fault} was never mended in {called}"
    if injection.recovered_ns is None:
        yield f"the system did not recover from {injection.fault} in {called} within {limit_s:g} s"


_WHERE = {
    "before_hz": ("load fell to", "in the quiet phase before"),
    "during_hz": ("load fell to", "while the fault held in"),
    "after_hz": ("load fell to", "in the quiet phase after"),
    "good_before_hz": ("publishes that ended well fell to", "in the quiet phase before"),
    "good_after_hz": ("publishes that ended well fell to", "in the quiet phase after"),
}


def _below_floor(rates: dict[str, float], floors: dict[str, float], called: str) -> Iterable[str]:
    for name, rate in rates.items():
        if rate < floors[name]:
            what, where = _WHERE[name]
            yield f"{what} {rate:.0f}/s {where} {called}; floor {floors[name]:.0f}/s"


def _producers_alive(history: History, window: Window) -> float:
    """Which part of the producers' time in a window their processes lived, and did not stand still: a killed one cannot
    publish, nor one that was stopped.

    Only what the plan wanted excuses it.
    """
    clients = history.clients
    rows = np.flatnonzero(clients.role == history.word_number("producer"))
    slots = len(np.unique(clients.slot[rows]))
    if not slots or not window.seconds:
        return 1.0
    begin_ns = np.maximum(clients.start_ns[rows], window.begin_ns)
    lives_on = (clients.end_ns[rows] == NEVER) | (clients.planned[rows] == 0)
    end_ns = np.where(lives_on, window.end_ns, np.minimum(clients.end_ns[rows], window.end_ns))
    lived_s = float(np.maximum(end_ns - begin_ns, 0).sum()) / 1e9 - _stood_still_s(
        history, clients.client[rows], window
    )
    return min(lived_s / (slots * window.seconds), 1.0)


def _stood_still_s(history: History, clients: Array, window: Window) -> float:
    """For how long of a window these clients' processes were stopped, as the plan wanted, all together."""
    health = history.health
    rows = np.flatnonzero((health.state == history.word_number(TICKER_GAP)) & (health.planned != 0))
    rows = rows[np.isin(health.client[rows], clients)]
    end_ns = np.minimum(health.time_ns[rows], window.end_ns)
    begin_ns = np.maximum(health.time_ns[rows] - health.value[rows], window.begin_ns)
    return float(np.maximum(end_ns - begin_ns, 0).sum()) / 1e9


def _undisturbed(history: History, load: Load) -> Trial:
    """The one trial of a run in which nothing was broken."""
    quiet = quiet_windows(history)
    if not quiet:
        return Trial(number=0, faults=(), begin_ns=0, end_ns=_end_ns(history), reasons=("the run has no quiet phase",))
    reasons: list[str] = []
    slowest = slowest_good = float("inf")
    for phase in quiet:
        slowest = min(slowest, load.rate(load.attempts, phase))
        slowest_good = min(slowest_good, load.rate(load.good, phase))
    for what, rate in (("load fell to", slowest), ("publishes that ended well fell to", slowest_good)):
        if rate < history.terms.floor_hz:
            reasons.append(f"{what} {rate:.0f}/s in a quiet phase; floor {history.terms.floor_hz:.0f}/s")
    return Trial(
        number=0,
        faults=(),
        begin_ns=quiet[0].begin_ns,
        end_ns=_end_ns(history),
        before_hz=slowest,
        good_before_hz=slowest_good,
        reasons=tuple(reasons),
    )
