"""Carries out the plan: waits out the quiet, injects, measures, mends, and waits until the system has recovered."""

from __future__ import annotations

import time
from dataclasses import dataclass

from harness.clock import happens
from harness.errors import Trouble
from harness.history.proceedings import Proceedings
from harness.history.terms import InjectionTerms
from harness.operation import AckKind, Evidence, Role
from harness.runner.crew import Crew
from harness.runner.peers import Peers
from harness.runner.progress import Progress
from harness.scenario.plan import Plan, Step
from harness.system.service import Broker, Promise
from harness.system.system import Client, System

RECOVERY_LIMIT_S = 40.0
FLOOR_LIMIT_S = 15.0
AT_RISK_WAIT_S = 0.1


@dataclass(slots=True)
class Load:
    """How fast the clients work now, from their live counters."""

    crew: Crew
    confirms: bool
    astray: int = 0
    """Messages handed over that will not be received any more, as far as the last quiet phase shows."""

    def totals(self) -> tuple[int, int]:
        """(good publications, deliveries) of all clients so far: confirmed ones where the broker confirms."""
        good = received = 0
        for client in self.crew.all():
            good += self.good_of(client)
            received += client.counters().received
        return good, received

    def good_of(self, client: Client) -> int:
        """Good publications of one client so far."""
        counters = client.counters()
        return counters.acked if self.confirms else counters.handed

    def unreceived(self) -> int:
        """Messages handed over less deliveries, of all clients so far."""
        return sum(client.counters().handed - client.counters().received for client in self.crew.all())

    def at_risk(self, touches: str, ack: AckKind) -> int:
        """Operations under way now, as far as a fault that touches that role can endanger them."""
        unanswered = unsettled = handed = received = 0
        for client in self.crew.all():
            counters = client.counters()
            handed += counters.handed
            received += counters.received
            if client.alive():
                if client.role is Role.PRODUCER and self.confirms:
                    unanswered += max(counters.handed - counters.answered, 0)
                if client.role is Role.CONSUMER and ack is not AckKind.AUTOMATIC:
                    unsettled += max(counters.received - counters.settled, 0)
        if not self.confirms or ack is AckKind.AUTOMATIC:
            unsettled += max(handed - received - self.astray, 0)
        if touches == "producer":
            return unanswered
        if touches == "consumer":
            return unsettled
        return unanswered + unsettled if touches == "both" else 0


class Nemesis:
    """Breaks one system by one plan."""

    def __init__(
        self,
        system: System,
        broker: Broker,
        crew: Crew,
        promise: Promise,
        floor_hz: float,
        progress: Progress,
        proceedings: Proceedings,
        peers: Peers,
    ) -> None:
        self._system = system
        self._broker = broker
        self._crew = crew
        self._ack = promise.ack
        self._load = Load(crew, promise.confirms)
        self._floor_hz = floor_hz
        self._progress = progress
        self._proceedings = proceedings
        self._peers = peers

    def carry_out(self, plan: Plan) -> None:
        """Every step of the plan, then the last quiet phase."""
        for step in plan.steps:
            self._quiet(step.quiet_s, step.trial)
            self._trial(step)
        self._quiet(plan.quiet_after_s, len(plan.steps))

    def _quiet(self, quiet_s: float, trial: int) -> None:
        """Load without a fault: as long as planned, and on until it was at its floor for a slice of time."""
        self._progress.phase("quiet", trial)
        end = time.monotonic() + quiet_s
        started, before = time.monotonic(), self._load.totals()
        unreceived = [self._load.unreceived()]

        def over() -> bool:
            unreceived.append(self._load.unreceived())
            return time.monotonic() >= end

        happens(over, within_s=quiet_s)
        self._load.astray = max(0, min(unreceived))
        elapsed = time.monotonic() - started
        enough = self._floor_hz * elapsed
        if min(after - prior for after, prior in zip(self._load.totals(), before, strict=True)) >= enough:
            return
        if gone := self._system.topology.proxy_alive():
            raise Trouble(f"nothing reaches the brokers: {gone}")
        window = [(time.monotonic(), self._load.totals())]

        def at_floor() -> bool:
            now, (good, received) = time.monotonic(), self._load.totals()
            window.append((now, (good, received)))
            while len(window) > 2 and now - window[1][0] >= quiet_s:
                window.pop(0)
            then, (good_then, received_then) = window[0]
            enough = self._floor_hz * (now - then)
            return now - then >= quiet_s and min(good - good_then, received - received_then) >= enough

        happens(at_floor, within_s=FLOOR_LIMIT_S)

    def _trial(self, step: Step) -> None:
        planned_ns = self._system.now_ns()
        self._progress.phase("break", step.trial)
        at_risk = self._until_at_risk(step.fault.touches)
        asked_ns = self._system.now_ns()
        evidence = Evidence((), None, why_not="the injection itself failed")
        mended_ns: int | None = None
        recovered_ns: int | None = None
        try:
            with step.fault.inject(self._system, step.choice) as measure:
                held_from = time.monotonic()
                happens(lambda: time.monotonic() - held_from >= step.hold_s, within_s=step.hold_s)
                evidence = measure()
                self._progress.phase("mend", step.trial)
            mended_ns = self._system.now_ns()
            self._progress.phase("recover", step.trial)
            recovered_ns = self._recover(mended_ns)
        finally:
            self._proceedings.write(
                "injection",
                InjectionTerms(
                    fault=step.fault.name,
                    number=step.trial,
                    trial=step.trial,
                    targets=evidence.targets,
                    planned_ns=planned_ns,
                    asked_ns=asked_ns,
                    bit_ns=evidence.bit_ns,
                    mended_ns=mended_ns,
                    recovered_ns=recovered_ns,
                    at_risk=at_risk,
                    touches=step.fault.touches,
                    facts=evidence.facts,
                    why_not=evidence.why_not,
                ),
            )

    def _until_at_risk(self, touches: str) -> int:
        """Operations under way that the fault can touch; where there are none, wait a moment for the next."""
        if touches == "none":
            return 0
        happens(lambda: self._load.at_risk(touches, self._ack) > 0, within_s=AT_RISK_WAIT_S, poll_s=0.001)
        return self._load.at_risk(touches, self._ack)

    def _recover(self, mended_ns: int) -> int | None:
        """When members, leader, replicas and clients were all back and messages flowed again; None if never."""
        _, received = self._load.totals()
        served = {client.number: self._load.good_of(client) for client in self._crew.living(Role.PRODUCER)}

        def back() -> bool:
            if self._crew.connected() is not None:
                return False
            producers = self._crew.living(Role.PRODUCER)
            if any(self._load.good_of(client) <= served.get(client.number, 0) for client in producers):
                return False
            if self._load.totals()[1] <= received:
                return False
            return self._broker.whole() is None and self._broker.ready() is None

        if not happens(back, within_s=RECOVERY_LIMIT_S):
            return None
        recovered_ns = self._system.now_ns()
        self._peers.check()
        return max(recovered_ns, mended_ns)
