"""Are faults of clients refused where they mean nothing, mended on every way out, and recorded as what they were?"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from bodies import RUN
from bodies import stage as memory_stage

from harness.brokers.memory.configuration import Memory
from harness.clock import happens, until
from harness.engines.sweep import sweep
from harness.errors import Refused
from harness.faults.client import KillClient
from harness.faults.conduct import DoubleAcknowledgement, Hoard, SlowConsumer, WrongOrder
from harness.faults.fault import Fault
from harness.faults.standstill import AbruptClose, PauseClient
from harness.history.freeze import _stood_still
from harness.ledger import PROCESS, Ledger, ledger_directory, marked_processes, new_mark, read, started_ticks
from harness.operation import OUT_OF_ORDER, TWICE, Conduct, CrashPoint, Role, Stage
from harness.plain import from_plain, to_plain
from harness.run import Run
from harness.scenario.matrix import inapplicable
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.system import System
from tests.runs import run_cell

ROOT = Path(__file__).parents[1]
PUBLISHED = CrashPoint.BETWEEN_PUBLISH_AND_CONFIRM

NONSENSE: dict[str, tuple[type, dict[str, Any], str]] = {
    "pause of a node": (PauseClient, {"role": Role.LEADER}, "role=leader"),
    "close of both": (AbruptClose, {"role": Role.BOTH}, "role=both"),
    "close without time": (AbruptClose, {"hold_s": 0.0}, "hold_s=0"),
    "slow by nothing": (SlowConsumer, {"slow_ms": 0.0}, "slow_ms=0"),
    "too short to be slow": (SlowConsumer, {"slow_ms": 500.0, "hold_s": 1.0}, "hold_s=1"),
    "a stage of no point": (KillClient, {"stage": Stage.HANDED}, "without a crash point"),
    "a stage that no publish has": (
        KillClient,
        {"role": Role.PRODUCER, "at": PUBLISHED, "stage": Stage.ANSWERED},
        "stage=answered",
    ),
    "a stage where nothing is sent": (
        KillClient,
        {"role": Role.CONSUMER, "at": CrashPoint.AFTER_RECEIVE, "stage": Stage.HANDED},
        "stage=handed",
    ),
    "a point of the other role": (KillClient, {"role": Role.CONSUMER, "at": PUBLISHED}, "no consumer passes"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_what_means_nothing_is_refused_with_a_cure(case: str) -> None:
    kind, fields, says = NONSENSE[case]
    with pytest.raises(Refused, match=says) as refused:
        kind(**fields)
    assert refused.value.cure


FAULTS: list[Fault] = [
    PauseClient(Role.PRODUCER, given_up=False, hold_s=2.0),
    AbruptClose(Role.PRODUCER),
    SlowConsumer(slow_ms=20.0),
    Hoard(hold_s=0.3),
    WrongOrder(),
    DoubleAcknowledgement(),
    KillClient(Role.PRODUCER, at=PUBLISHED, stage=Stage.HANDED),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_its_json_reads_back_to_the_same_fault(fault: Any) -> None:
    assert from_plain(type(fault), to_plain(fault)) == fault


def test_the_stage_that_counts_unasked_is_a_send_that_left_the_process() -> None:
    unasked = KillClient(Role.PRODUCER, at=PUBLISHED)
    assert unasked.counts is Stage.WRITTEN
    assert unasked.name == "crash_producer_between_publish_and_confirm"
    assert KillClient(Role.PRODUCER, at=PUBLISHED, stage=Stage.WRITTEN).name == unasked.name
    assert KillClient(Role.PRODUCER, at=PUBLISHED, stage=Stage.HANDED).name == f"{unasked.name}_handed"
    assert KillClient(Role.CONSUMER, at=CrashPoint.BETWEEN_ACK_AND_EFFECT).counts is None


@pytest.mark.parametrize("fault", [Hoard(), WrongOrder(), DoubleAcknowledgement()], ids=lambda fault: fault.name)
def test_who_acknowledges_nothing_cannot_do_it_wrongly(fault: Fault) -> None:
    automatic = Memory("automatic", acknowledge="automatic")
    assert inapplicable(automatic, fault, processed=False) is not None
    assert inapplicable(Memory("manual"), fault, processed=False) is None


# ---- crash points: only the stage that was asked for -----------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("asked", [Stage.HANDED, Stage.WRITTEN])
def test_a_producer_dies_at_the_stage_that_was_asked_for(tmp_path: Path, asked: Stage, after: int) -> None:
    with memory_stage(tmp_path) as at:
        producer = at.producer(rate_hz=100.0).connected().go().reached("acked", 5)
        producer.head.set("control_stage", asked.number)
        producer.arm(PUBLISHED.number, after)
        assert producer.popen.wait(10) == -signal.SIGKILL
        _, word, message = producer.crash()
        assert word == asked
        assert (message in at.broker.census(RUN).found) is (asked is Stage.WRITTEN)


# ---- mending ---------------------------------------------------------------------------------------------------------


class Patient:
    """A client that remembers what was done to it."""

    name, pid, prefetch = "consumer-1.1", 1, 10

    def __init__(self) -> None:
        self.done: list[object] = []

    def state(self) -> str:
        return "S"

    def counters(self) -> Any:
        raise RuntimeError("nobody can be asked")

    def pause(self) -> None:
        self.done.append("pause")
        raise OSError("halfway")

    def resume(self) -> None:
        self.done.append("resume")

    def behave(self, conduct: Conduct) -> None:
        self.done.append(conduct)

    def slow_down(self, slow_ms: float) -> None:
        self.done.append(slow_ms)


MENDED: dict[str, tuple[Fault, object]] = {
    "a pause that failed halfway": (PauseClient(), "resume"),
    "a hoard whose watch failed": (Hoard(), Conduct.USUAL),
}


@pytest.mark.parametrize("case", MENDED)
def test_half_an_injection_is_mended(case: str) -> None:
    fault, mend = MENDED[case]
    patient = Patient()

    class Ward:
        crew = SimpleNamespace(living=lambda _role: [patient])

        def client(self, role: Role, choice: int) -> Patient:
            return patient

        def watch(self, condition: Any, within_s: float) -> int | None:
            return cast(int | None, condition())

    with pytest.raises((OSError, RuntimeError)), fault.inject(cast(System, Ward()), 0):
        pass
    assert patient.done[-1] == mend


def test_a_stopped_client_of_a_dead_harness_is_ended_by_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, it reads no end of file: it outlives its harness until the next start."""
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "state"))
    command = [sys.executable, "-m", "harness.cli.main", "verify", "suites/control/test_clients.py"]
    command += ["--configuration", "nats-control-r1"]
    command += ["--fault", "pause_consumer", "--assay-engine", "processes", "--assay-reports", str(tmp_path / "out")]
    with open(tmp_path / "harness.log", "wb") as log:
        harness = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until(
            _stopped,
            within_s=60,
            what="a client that stands still",
            last_seen=lambda: (tmp_path / "harness.log").read_text()[-2000:],
            poll_s=0.01,
        )
        (stopped,) = _stopped()
    finally:
        harness.kill()
        harness.wait()
    assert not happens(lambda: started_ticks(stopped) is None, within_s=1.0), "then the sweep has nothing to do"
    sweep()
    assert started_ticks(stopped) is None
    assert [pid for mark in _marks() for pid in marked_processes(mark)] == []
    assert list(ledger_directory().glob("*.jsonl")) == []


def _marks() -> list[str]:
    known = [read(path) for path in ledger_directory().glob("*.jsonl")]
    entries = [entry for one in known if one is not None for entry in one[1]]
    return [str(entry.identity["mark"]) for entry in entries if entry.kind == PROCESS]


def _stopped() -> list[int]:
    """Client processes in the ledgers that stand still."""
    pids = [pid for mark in _marks() for pid in marked_processes(mark)]
    return [pid for pid in pids if _state(pid) == "T"]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_a_stopped_process_of_the_ledger_ends(tmp_path: Path) -> None:
    mark = new_mark()
    child = subprocess.Popen(["sleep", "60"], env={"ASSAY_MARK": mark, "PATH": "/usr/bin:/bin"})
    child.send_signal(signal.SIGSTOP)
    until(lambda: _state(child.pid) == "T", within_s=5, what="a stopped child")
    ledger = Ledger(tmp_path / "1-1-none.jsonl", Ledger.open(tmp_path / "mine").owner)
    ledger.add(PROCESS, mark=mark, pid=child.pid, started=started_ticks(child.pid), group=child.pid)
    text = ledger.path.read_text()
    ledger.path.write_text(text.replace(str(ledger.owner), f"1:1:{ledger.owner.boot}:{ledger.owner.place}"))
    try:
        said = sweep(directory=tmp_path)
    finally:
        child.kill()
        code = child.wait()
    assert code == -signal.SIGKILL
    assert any(str(child.pid) in sentence for sentence in said)


# ---- what is recorded ------------------------------------------------------------------------------------------------


def run_with(fault: Fault, directory: Path) -> Run:
    return run_cell(
        Scenario(
            configuration=Memory("recorded"),
            schedule=Repeat(fault),
            workload=Steady(rate_hz=500, quiet_s=0.4, producers=1, consumers=2),
        ),
        directory / "run",
    )


@pytest.mark.parametrize(
    ("fault", "what", "word"),
    [(WrongOrder(), "acknowledged_out_of_order", OUT_OF_ORDER), (DoubleAcknowledgement(), "acknowledged_twice", TWICE)],
    ids=["out of order", "twice"],
)
def test_every_odd_acknowledgement_is_noted(fault: Fault, what: str, word: str, tmp_path: Path) -> None:
    run = run_with(fault, tmp_path)
    (injection,) = run.history.terms.injections
    health = run.history.health
    noted = health.value[health.state == run.history.word_number(word)]
    counted = cast(int, injection.facts[what])
    assert counted > 10
    assert counted <= len(noted), "what is done between measuring and mending is noted, too"
    times_ns = health.time_ns[health.state == run.history.word_number(word)]
    assert injection.asked_ns <= times_ns.min()
    assert injection.recovered_ns is not None
    assert times_ns.max() <= injection.recovered_ns
    assert len(set(noted.tolist())) == len(noted)
    assert not [reason for reason in run.judgement.trial.reasons if word in reason or "miscounts" in reason]


def test_a_pause_that_was_asked_for_explains_the_gap_of_its_ticker(tmp_path: Path) -> None:
    run = run_with(PauseClient(given_up=False, hold_s=0.8), tmp_path)
    health = run.history.health
    gaps = np.flatnonzero((health.state == run.history.word_number("ticker-gap")) & (health.value > 700_000_000))
    assert len(gaps) == 1
    assert health.planned[gaps[0]] == 1
    name = history_name(run, int(health.client[gaps[0]]))
    length = f"{name} stalled for {health.value[gaps[0]] / 1e6:.0f} ms"
    assert not [reason for reason in run.judgement.trial.reasons if length in reason]


def history_name(run: Run, client: int) -> str:
    clients = run.history.clients
    return run.history.word(int(clients["name"][clients.client == client][0]))


PAUSE = [{"number": 3, "begin_ns": 1_000, "end_ns": 2_000}]
GAPS = {
    "the pause itself": (3, 995, 2_010, True),
    "the pause and what is allowed anyway": (3, 1_000, 2_100, True),
    "more than the pause explains": (3, 1_000, 2_101, False),
    "another client": (4, 995, 2_010, False),
    "another time": (3, 3_000, 4_000, False),
}


@pytest.mark.parametrize("case", GAPS)
def test_a_gap_is_planned_as_far_as_a_pause_explains_it(case: str) -> None:
    client, begin_ns, end_ns, planned = GAPS[case]
    assert _stood_still(PAUSE, client, begin_ns, end_ns, limit_ns=100) is planned
