"""What is one client, seen from the harness? Its process, its journal, and what it can be told.

The harness reads the head of its journal while it works, and writes the control words there.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.clients.spec import ClientSpec
from harness.history.join import Words, read_journal
from harness.history.journal import CRASH, Head
from harness.operation import Conduct, Crash, CrashPoint, Role, Stage
from harness.runner.sockets import remotes
from harness.system.system import Counters


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
