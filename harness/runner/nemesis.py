"""Carries out the plan: waits out the quiet, injects, measures, mends, and waits until the system has recovered.

The parts of one trial hold side by side, each in a thread of its own: what breaks one thing must not wait for what
breaks another. One that fails, or Ctrl-C, ends them all early, and each mends what it broke.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from harness.clock import happens
from harness.errors import Trouble
from harness.faults.fault import Fault
from harness.history.proceedings import Proceedings
from harness.history.terms import InjectionTerms
from harness.operation import Evidence, Role
from harness.runner.crew import Crew
from harness.runner.load import Load
from harness.runner.peers import Peers
from harness.runner.progress import Progress
from harness.scenario.moment import Come
from harness.scenario.plan import Part, Plan, Step
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import quarrel
from harness.system.service import Broker, Promise
from harness.system.system import System

FLOOR_LIMIT_S = 15.0
AT_RISK_WAIT_S = 0.1
MOMENT_LIMIT_S = 15.0
"""How long a moment of the plan is waited for."""
_POLL_S = 0.001


_FAILED = Evidence((), None, why_not="the injection itself failed")


@dataclass(slots=True)
class _Injected:
    """What became of one part of a trial. Times in ns of the run."""

    part: Part
    trial: int
    alone: bool
    planned_ns: int
    asked_ns: int
    come: Come | None = None
    at_risk: int = 0
    evidence: Evidence = _FAILED
    mended_ns: int | None = None
    error: BaseException | None = None


class Nemesis:
    """Breaks one system by one plan."""

    def __init__(
        self,
        system: System,
        broker: Broker,
        crew: Crew,
        promise: Promise,
        scenario: Scenario,
        progress: Progress,
        proceedings: Proceedings,
        peers: Peers,
    ) -> None:
        self._system = system
        self._broker = broker
        self._crew = crew
        self._ack = promise.ack
        self._load = Load(crew, promise.confirms)
        self._floor_hz = scenario.workload.floor_hz
        self._recovery_limit_s = scenario.recovery_limit_s
        self._progress = progress
        self._proceedings = proceedings
        self._peers = peers
        self._injections = 0
        self._holding: list[Fault] = []
        self._holding_changed = threading.Condition()

    def carry_out(self, plan: Plan) -> None:
        """Every step of the plan, then the last quiet phase."""
        for step in plan.steps:
            planned_ns = self._system.now_ns() + int(step.quiet_s * 1e9)  # a quiet phase that grows longer is late
            self._quiet(step.quiet_s, step.trial)
            self._trial(step, planned_ns)
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

    def _trial(self, step: Step, planned_ns: int) -> None:
        """Inject every part when it is due, mend each, and wait until the system is back."""
        self._progress.phase("break", step.trial)
        began_ns = self._system.now_ns()
        aborted = threading.Event()
        parts = [
            _Injected(part, step.trial, len(step.parts) == 1, planned_ns + int(part.at_s * 1e9), began_ns)
            for part in step.parts
        ]
        for one in parts:  # before any of them breaks anything: who led when the trial began?
            one.come = one.part.moment.watch(self._system) if one.part.moment is not None else None
        threads = [
            threading.Thread(target=self._inject, args=(one, began_ns, aborted), name=f"assay-{one.part.fault.name}")
            for one in parts[1:]
        ]
        recovered_ns: int | None = None
        try:
            try:
                for thread in threads:
                    thread.start()
                self._inject(parts[0], began_ns, aborted)
            except BaseException:
                aborted.set()
                raise
            finally:
                _join(threads, aborted)
            for one in parts:
                if one.error is not None:
                    raise one.error
            self._progress.phase("recover", step.trial)
            recovered_ns = self._recover(max(one.mended_ns or began_ns for one in parts))
        finally:
            for one in parts:
                self._write(one, recovered_ns)

    def _inject(self, one: _Injected, began_ns: int, aborted: threading.Event) -> None:
        """Wait until a part is due, break, hold, measure, mend. What goes wrong is kept in it, and ends the others."""
        try:
            self._break(one, began_ns, aborted)
        except BaseException as error:
            one.error = error
            aborted.set()
            if threading.current_thread() is threading.main_thread():
                raise

    def _break(self, one: _Injected, began_ns: int, aborted: threading.Event) -> None:
        part, system = one.part, self._system
        due_ns = began_ns + int(part.at_s * 1e9)
        come = one.come
        aborted.wait(max(due_ns - system.now_ns(), 0) / 1e9)
        if come is not None:
            missed: str | None = ""

            def over() -> bool:  # a moment may pass: it has come when it was seen
                nonlocal missed
                missed = come()
                return missed is None or aborted.is_set()

            happens(over, within_s=MOMENT_LIMIT_S, poll_s=_POLL_S)
            one.planned_ns = one.asked_ns = system.now_ns()
            if missed is not None and not aborted.is_set():
                one.evidence = Evidence((), None, why_not=f"its moment did not come: {missed}")
                one.mended_ns = one.asked_ns
                return
        with self._alone(part.fault, aborted) as mine:
            if mine:
                self._hold(one, aborted)

    @contextmanager
    def _alone(self, fault: Fault, aborted: threading.Event) -> Iterator[bool]:
        """Wait until no fault holds any more whose mending would mend this one, or that this one would mend; false
        where the trial was given up meanwhile. A plan keeps them apart by their lengths, and injecting takes time."""
        with self._holding_changed:
            while not aborted.is_set() and any(quarrel(fault, other) for other in self._holding):
                self._holding_changed.wait(0.01)
            if mine := not aborted.is_set():
                self._holding.append(fault)
        try:
            yield mine
        finally:
            if mine:
                with self._holding_changed:
                    self._holding.remove(fault)
                    self._holding_changed.notify_all()

    def _hold(self, one: _Injected, aborted: threading.Event) -> None:
        part, system = one.part, self._system
        one.at_risk = self._until_at_risk(part.fault.touches)
        one.asked_ns = system.now_ns()
        with part.fault.inject(system, part.choice) as measure:
            aborted.wait(part.hold_s)
            one.evidence = measure()
            if one.alone:
                self._progress.phase("mend", one.trial)
        one.mended_ns = system.now_ns()

    def _write(self, one: _Injected, recovered_ns: int | None) -> None:
        self._injections += 1
        fault, evidence = one.part.fault, one.evidence
        self._proceedings.write(
            "injection",
            InjectionTerms(
                fault=fault.name,
                number=self._injections - 1,
                trial=one.trial,
                targets=evidence.targets,
                planned_ns=one.planned_ns,
                asked_ns=one.asked_ns,
                bit_ns=evidence.bit_ns,
                mended_ns=one.mended_ns,
                recovered_ns=recovered_ns,
                at_risk=one.at_risk,
                touches=fault.touches,
                facts=evidence.facts,
                why_not=evidence.why_not,
            ),
        )

    def _until_at_risk(self, touches: str) -> int:
        """Operations under way that the fault can touch; where there are none, wait a moment for the next."""
        if touches == "none":
            return 0
        happens(lambda: self._load.at_risk(touches, self._ack) > 0, within_s=AT_RISK_WAIT_S, poll_s=_POLL_S)
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

        if not happens(back, within_s=self._recovery_limit_s):
            return None
        recovered_ns = self._system.now_ns()
        self._peers.check()
        return max(recovered_ns, mended_ns)


def _join(threads: Sequence[threading.Thread], aborted: threading.Event) -> None:
    """Wait until each has ended, having mended what it broke: also if Ctrl-C comes meanwhile, which ends them early."""
    interrupted: BaseException | None = None
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join()
            except KeyboardInterrupt as interrupt:
                interrupted = interrupt
                aborted.set()
    if interrupted is not None:
        raise interrupted
