"""Who are the clients of this run, and do they live? Starts, arms, replaces and reaps them.

Each client is a process of its own with a journal; the harness holds a pipe to its standard input, whose end of file
tells it that the harness is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.clients.spec import ClientSpec
from harness.clock import RunClock, until
from harness.errors import Trouble
from harness.history.join import Words, read_journal
from harness.history.journal import CRASH, HEAD_SIZE, Head
from harness.history.proceedings import Proceedings
from harness.ledger import MARK, PROCESS, Ledger, new_mark, started_ticks
from harness.operation import Conduct, Crash, CrashPoint, Role, Stage
from harness.runner.sockets import remotes
from harness.system.system import Client, Counters

WATCH_S = 0.003
STOP_PRODUCER_GRACE_S = 2.0


@dataclass(slots=True, eq=False)
class ClientProcess:
    """One client process, dead or alive."""

    spec: ClientSpec
    head: Head
    process: subprocess.Popen[bytes]
    key: int | None
    started_ns: int
    planned: bool = False
    armed: bool = False
    ended_ns: int | None = None
    paused_ns: int | None = None
    told: bool = False
    log: Path = field(default_factory=Path)
    record: Callable[..., None] = lambda *_, **__: None

    @property
    def name(self) -> str:
        """As the broker lists it."""
        return self.spec.name

    @property
    def slot(self) -> str:
        """Its links' slot."""
        return self.spec.slot

    @property
    def number(self) -> int:
        """Unique in the run."""
        return self.spec.number

    @property
    def role(self) -> Role:
        """Producer or consumer."""
        return self.spec.role

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def prefetch(self) -> int:
        """Deliveries that it may hold."""
        return self.spec.prefetch

    def node(self) -> str | None:
        """The node whose link the kernel shows it connected to; None while it has no connection."""
        links = {(host, port): node for node, host, port in self.spec.addresses}
        there = [links[far_end] for far_end in remotes(self.pid) if far_end in links] if self.alive() else []
        return there[0] if there and self.counters().connected else None

    def counters(self) -> Counters:
        """Read from the head of its journal."""
        get = self.head.get
        return Counters(
            attempted=get("attempted"),
            handed=get("handed"),
            answered=get("answered"),
            acked=get("acked"),
            received=get("received"),
            settled=get("settled"),
            connections=get("connections"),
            lost=get("lost"),
            lost_ns=get("lost_ns"),
            answered_ns=get("answered_ns"),
            received_ns=get("received_ns"),
            connected=bool(get("connected")),
            crash_ns=get("crash_ns"),
            holding=get("holding"),
            worked=get("worked"),
            odd=get("odd"),
            cuts_done=get("cuts_done"),
        )

    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as planned; one that had ended by itself before was not planned to."""
        if self.alive():
            self.planned = True
            self.process.send_signal(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.paused_ns is None and self.alive():
            self.paused_ns = time.monotonic_ns()
            self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT; from when to when it stood still goes into the proceedings, for its ticker shows a gap."""
        if self.paused_ns is None:
            return
        began_ns, self.paused_ns = self.paused_ns, None
        self.process.send_signal(signal.SIGCONT)
        origin_ns = self.spec.origin_ns
        end_ns = time.monotonic_ns() - origin_ns
        self.record("pause", number=self.number, begin_ns=began_ns - origin_ns, end_ns=end_ns)

    def state(self) -> str:
        """The letter of its process's state; "" where there is none."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return ""
        return stat.rpartition(")")[2].split()[0]

    def behave(self, conduct: Conduct) -> None:
        """Write the control word."""
        self.head.set("conduct", conduct)

    def slow_down(self, slow_ms: float) -> None:
        """Write the control word."""
        self.head.set("slow_us", round(slow_ms * 1e3))

    def cut(self) -> None:
        """Count the control word up; the client looks at it every 10 ms."""
        self.head.set("cut", self.head.get("cut") + 1)

    def arm(self, point: CrashPoint, after: int = 0, stage: Stage | None = None) -> None:
        """Let it kill itself at `point`, after `after` further passes (at `stage`, where that is given)."""
        self.planned = True
        self.armed = True
        self.head.set("control_after", after)
        self.head.set("control_stage", stage.number if stage is not None else 0)
        self.head.set("control_point", point.number)

    def crashed(self) -> Crash | None:
        """What its journal's last record says, if it is of a crash point."""
        if self.alive():
            return None
        words = Words()
        journal = read_journal(Path(self.spec.journal), words)
        if not len(journal.records) or journal.records["kind"][-1] != CRASH:
            return None
        last = journal.records[-1]
        stage = list(words.numbers)[int(journal.words[int(last["code"])])]
        return Crash(CrashPoint.numbered(int(last["a"])), Stage(stage) if stage else None, int(last["x1"]))

    def died_ns(self) -> int | None:
        """Raw monotonic time at which its end was noticed."""
        if self.ended_ns is None and not self.alive():
            self.ended_ns = time.monotonic_ns()
        return self.ended_ns

    def stop(self) -> None:
        """Tell it to finish in order."""
        self.told = True
        self.planned = True
        self.head.set("stop", 1)

    def last_words(self) -> str:
        """The end of what it printed."""
        try:
            return self.log.read_text(errors="replace")[-800:].strip() or "(it printed nothing)"
        except OSError:
            return "(it printed nothing)"


@dataclass(frozen=True, slots=True)
class _Spare:
    """A process that has loaded its driver and waits for orders."""

    process: subprocess.Popen[bytes]
    key: int
    log: Path


class Crew:
    """All clients of a run. A watcher thread notices ends within a few milliseconds."""

    def __init__(
        self,
        directory: Path,
        clock: RunClock,
        proceedings: Proceedings,
        ledger: Ledger,
        family: str,
    ) -> None:
        self._family = family
        self._spares: list[_Spare] = []
        self._made = 0
        self._directory = directory
        self._clock = clock
        self._proceedings = proceedings
        self._ledger = ledger
        self._clients: list[ClientProcess] = []
        self._last = 0
        self._lock = threading.RLock()
        self._closing = threading.Event()
        (directory / "journals").mkdir(exist_ok=True)
        (directory / "clients").mkdir(exist_ok=True)
        self._watcher = threading.Thread(target=self._watch, name="assay-crew", daemon=True)
        self._watcher.start()

    def spare(self, count: int = 1) -> None:
        """Start processes that load their driver and wait to be needed."""
        for _ in range(count):
            with self._lock:
                self._made += 1
                log = self._directory / "clients" / f"process-{self._made}.log"
            mark = new_mark()
            key = self._ledger.add(PROCESS, mark=mark)
            with open(log, "wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "harness.clients.body", "--spare", self._family],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, MARK: mark},
                )
            self._ledger.amend(key, pid=process.pid, started=started_ticks(process.pid), group=process.pid)
            with self._lock:
                self._spares.append(_Spare(process, key, log))

    def start(self, spec: ClientSpec) -> ClientProcess:
        """Start one client. Its journal's head exists before it does, so that it can be told anything."""
        journal = Path(spec.journal)
        with open(journal, "w+b") as file:
            file.truncate(HEAD_SIZE)
        head = Head(journal)
        head.set("pause_publishing", 1)
        orders = self._directory / "clients" / f"{spec.name}.json"
        spec.write(orders)
        with self._lock:
            if not self._spares:
                self.spare()
            spare = self._spares.pop(0)
        client = ClientProcess(
            spec=spec,
            head=head,
            process=spare.process,
            key=spare.key,
            started_ns=self._clock.now_ns(),
            log=spare.log,
            record=self._proceedings.write,
        )
        assert spare.process.stdin is not None
        try:
            spare.process.stdin.write(f"{orders}\n".encode())
            spare.process.stdin.flush()
        except BrokenPipeError as error:
            raise Trouble(f"a client process ended before it was needed: {client.last_words()}") from error
        with self._lock:
            self._clients.append(client)
            self._last = max(self._last, spec.number)
        self._proceedings.write(
            "client",
            number=spec.number,
            name=spec.name,
            slot=spec.slot,
            role=str(spec.role),
            group=spec.group,
            start_ns=client.started_ns,
        )
        return client

    def all(self) -> list[ClientProcess]:
        """Every client there ever was, by number."""
        with self._lock:
            return list(self._clients)

    def living(self, role: Role = Role.BOTH) -> Sequence[ClientProcess]:
        """Those of a role whose process runs."""
        return [client for client in self.all() if role in (Role.BOTH, client.role) and client.alive()]

    def replace(self, client: Client) -> ClientProcess:
        """Start a successor, with a new number, in the slot of a client that has died or is about to."""
        if not isinstance(client, ClientProcess):
            raise TypeError(f"not a client of this crew: {client!r}")
        client.process.wait()
        self._reap(client)
        with self._lock:  # two may die at once
            self._last += 1
            number = self._last
        journal = Path(client.spec.journal).with_name(f"{client.slot}.{number}.journal")
        spec = replace(
            client.spec, number=number, name=f"{client.slot}.{number}", journal=str(journal), sequence_first=0
        )
        successor = self.start(spec)
        if client.head.get("pause_publishing") == 0:
            successor.head.set("pause_publishing", 0)
        if not self._spares:
            self.spare()
        return successor

    def go(self) -> None:
        """Let producers publish."""
        for client in self.living():
            client.head.set("pause_publishing", 0)

    def connected(self) -> str | None:
        """None when every living client has a connection; else who has none."""
        waiting = [client.name for client in self.living() if not client.counters().connected]
        return f"not connected: {', '.join(waiting)}" if waiting else None

    def finish(self, role: Role, within_s: float) -> None:
        """Tell the clients of a role to finish, and wait; those that do not come to an end are killed, unplanned."""
        clients = list(self.living(role))
        for client in clients:
            client.stop()
        try:
            until(lambda: not any(client.alive() for client in clients), within_s=within_s, what=f"{role}s to finish")
        except Trouble:
            for client in clients:
                if client.alive():
                    client.planned = False
                    client.process.send_signal(signal.SIGKILL)
                    client.process.wait()
        for client in clients:
            self._reap(client)

    def close(self) -> None:
        """End every client, whatever state it is in. Idempotent."""
        self._closing.set()
        for client in self.all():
            if client.alive():
                client.planned = client.planned or client.told
                client.process.send_signal(signal.SIGKILL)
                client.process.wait()
            self._reap(client)
        for spare in self._spares:
            if spare.process.stdin is not None:
                spare.process.stdin.close()
            spare.process.kill()
            spare.process.wait()
            self._ledger.strike(spare.key)
        self._spares = []
        self._watcher.join(timeout=1)
        for client in self.all():
            client.head.close()
        with self._lock:
            self._clients = []

    def _reap(self, client: ClientProcess) -> None:
        with self._lock:
            if client.key is None:
                return
            key, client.key = client.key, None
            ended_ns = client.died_ns()
        if client.process.stdin is not None:
            client.process.stdin.close()
        self._ledger.strike(key)
        code = client.process.returncode
        crashed = client.armed and client.head.get("crash_ns") != 0
        planned = client.planned and (not client.armed or crashed or client.told or code == -signal.SIGKILL)
        self._proceedings.write(
            "end",
            number=client.number,
            end_ns=(ended_ns or time.monotonic_ns()) - self._clock.origin_ns,
            exit=code,
            planned=planned and code in (0, -signal.SIGKILL),
            why="" if code in (0, -signal.SIGKILL) else client.last_words(),
        )

    def _watch(self) -> None:
        while not self._closing.wait(WATCH_S):
            for client in self.all():
                if client.key is not None and client.died_ns() is not None:
                    self._reap(client)
