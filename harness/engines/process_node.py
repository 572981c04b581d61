"""One local process of ours that can be killed, frozen and started again: how is all of it hit, and only it?

*LocalProcess*: leads a process group of its own, carries our mark in its environment, is in the ledger.
*ProcessNode*: a broker's node made of one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.clock import until
from harness.engines.placeholders import Rendered, Site
from harness.engines.references import EXECUTABLES, executable
from harness.errors import Refused, Trouble
from harness.ledger import MARK, PROCESS, Ledger, marked_processes, new_mark, started_ticks
from harness.system.topology import NodeSpec, NodeState, NodeStatus

END_WITHIN_S = 10.0
DATA = "data"
"""Where a node keeps its data, in its directory."""


@dataclass(slots=True)
class LocalProcess:
    """One program, started as often as asked, always the same way; its output is appended to `log`."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    ledger: Ledger
    spreads: bool = False
    """Whether it starts daemons that leave its process group (Erlang's epmd): they are found by our mark."""
    _process: subprocess.Popen[bytes] | None = None
    _entry: int | None = None
    _mark: str = field(default_factory=new_mark)

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._entry is not None:
            self.kill()  # what its last life left behind
        self._entry = self.ledger.add(PROCESS, name=self.name, mark=self._mark)
        try:
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(
                    self.argv,
                    cwd=self.directory,
                    env={**self.environment, MARK: self._mark},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a group of its own, which the terminal's Ctrl-C does not reach
                )
        except OSError as error:
            self.ledger.strike(self._entry)
            raise Trouble(f"{self.name} could not be started ({self.argv[0]}): {error}") from error
        pid = self._process.pid
        self.ledger.amend(self._entry, pid=pid, started=started_ticks(pid), group=pid)

    def kill(self) -> None:
        """SIGKILL of all of it; returns when nothing of it is left. Idempotent."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait until it has exited. Idempotent."""
        if self.state() is NodeState.PAUSED:
            self.send(signal.SIGCONT)  # a frozen process would never see it
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        self._signal_group(how)
        try:
            process.wait(END_WITHIN_S if how is signal.SIGKILL else 3 * END_WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise Trouble(f"{self.name} (pid {process.pid}) still runs after {how.name}") from error
        self._signal_group(signal.SIGKILL)  # what outlived its leader
        what = f"the last process of {self.name} to end"
        until(lambda: not self._left(), within_s=END_WITHIN_S, what=what, poll_s=0.002)
        self.ledger.strike(self._entry)
        self._entry = None

    def send(self, what: signal.Signals) -> None:
        """Send a signal to all of it. Raises Trouble when it does not run."""
        if not self._signal_group(what):
            raise Trouble(f"{self.name} does not run: it cannot be sent {what.name}")

    def _signal_group(self, what: signal.Signals) -> bool:
        """To the group, and to what left it. The group's id is the leader's pid, and stays ours while any member
        lives; once nothing of it is left, its number may name another's group, so it is not touched."""
        if self._process is None or self._entry is None:
            return False
        alive = self._process.poll() is None
        if not alive and not self.spreads:
            return False  # our other programs are one process each
        for pid in marked_processes(self._mark) if self.spreads else (self._process.pid,):
            try:
                if os.getpgid(pid) == self._process.pid == pid:
                    os.killpg(pid, what)
                else:
                    os.kill(pid, what)
            except ProcessLookupError:
                continue
        return alive

    def _left(self) -> bool:
        return self.spreads and any(started_ticks(pid) is not None for pid in marked_processes(self._mark))

    def state(self) -> NodeState:
        """What the kernel says of it now."""
        if self._process is None or self._process.poll() is not None:
            return NodeState.EXITED
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return NodeState.EXITED
        return NodeState.PAUSED if stat.rpartition(")")[2].split()[0] == "T" else NodeState.RUNNING

    def status(self) -> NodeStatus:
        """State, pid and exit code; the start is in clock ticks since boot."""
        state = self.state()
        if self._process is None:
            return NodeStatus(state, None, None)
        pid = self._process.pid
        if state is NodeState.EXITED:
            return NodeStatus(state, None, None, self._process.returncode)
        ticks = started_ticks(pid)
        return NodeStatus(state, pid, ticks, ticks=ticks)

    def last_lines(self, lines: int) -> str:
        """The end of its log, of which it reads at most 64 KiB."""
        try:
            with self.log.open("rb") as output:
                output.seek(max(0, self.log.stat().st_size - 65_536))
                text = output.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


@dataclass(slots=True)
class ProcessNode:
    """A broker's node as a local process. Its ports, data and files stay the same over all its lives."""

    name: str
    spec: NodeSpec
    process: LocalProcess
    used: bool = False
    """Whether a verb was used on it that makes its topology dirty."""

    def start(self) -> None:
        """Start it (again), with its data as it was left."""
        self.process.start()

    def stop(self) -> None:
        """SIGTERM, and wait until it has exited."""
        self.used = True
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL of the whole process group, and wait until it is gone."""
        self.used = True
        self.process.kill()

    def pause(self) -> None:
        """SIGSTOP of the whole process group; returns when the kernel shows it stopped."""
        self.used = True
        self.process.send(signal.SIGSTOP)
        self._await(NodeState.PAUSED)

    def resume(self) -> None:
        """SIGCONT. Idempotent; a node that has exited stays so."""
        if self.process.state() is NodeState.PAUSED:
            self.process.send(signal.SIGCONT)
            self._await(NodeState.RUNNING)

    def renew(self) -> None:
        """SIGTERM, then its directory of data emptied, and the same process again."""
        self.stop()
        data = self.process.directory / DATA
        shutil.rmtree(data)
        data.mkdir()
        self.start()

    def exhaust_memory(self) -> int | None:
        """Local processes share the machine's memory: raises Refused."""
        raise Refused("nodes that are local processes have no limit of memory", cure="use the engine `containers`")

    def _await(self, state: NodeState) -> None:
        until(
            lambda: self.process.state() is state,
            within_s=END_WITHIN_S,
            what=f"node {self.name} to be {state}",
            last_seen=lambda: str(self.process.status()),
            poll_s=0.002,
        )

    def status(self) -> NodeStatus:
        """What it does now, asked of the kernel."""
        return self.process.status()

    def logs(self, lines: int = 20) -> str:
        """Its last log lines, over all its lives."""
        return self.process.last_lines(lines)

    def execute(self, *argv: str, within_s: float = 30.0) -> str:
        """Run a command in the node's directory, with its environment."""
        try:
            done = subprocess.run(
                argv,
                cwd=self.process.directory,
                env=dict(self.process.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=within_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Trouble(f"{' '.join(argv)} beside node {self.name}: {error}") from error
        printed = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise Trouble(f"{' '.join(argv)} beside node {self.name} exited {done.returncode}: {printed}")
        return printed


# ---- programs --------------------------------------------------------------------------------------------------------


def required(program: str) -> str:
    """Path of a program's executable. Raises Refused if there is none."""
    found = executable(program)
    if found is None:
        cure = "install RabbitMQ, or use the engine `containers`" if program == "rabbitmq" else "run `make setup`"
        raise Refused(f"the engine `processes` finds no {EXECUTABLES[program]}", cure=cure)
    return str(found)


Argv = Callable[[Rendered], tuple[str, ...]]
_ARGV: Mapping[str, Argv] = {
    "nats": lambda rendered: (required("nats"), *rendered.arguments),
    "memory": lambda rendered: (sys.executable, "-m", "harness.brokers.memory.server", *rendered.arguments),
    "rabbitmq": lambda rendered: (_rabbitmq_server(), *rendered.arguments),
}


def command(spec: NodeSpec, rendered: Rendered) -> tuple[str, ...]:
    """The command that starts a node. Raises Refused for a program that is not known or not here."""
    if spec.program not in _ARGV:
        raise Refused(
            f"the engine `processes` cannot run {spec.program!r} (node {spec.name!r})",
            cure=f"it runs {', '.join(sorted(_ARGV))}; for others use the engine `containers`",
        )
    return _ARGV[spec.program](rendered)


def _rabbitmq_server() -> str:
    """Debian's wrapper on PATH changes to another user, who could not write our directories: take what it wraps."""
    wrapped = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    return wrapped if os.access(wrapped, os.X_OK) else required("rabbitmq")


def environment(
    spec: NodeSpec, rendered: Rendered, site: Site, directory: Path, epmd_port: int | None
) -> dict[str, str]:
    """The environment of a node: ours, then what its program needs to stay in its directory, then the spec's own."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "NATS_", "ASSAY_"))}
    package = str(Path(__file__).resolve().parents[2])
    own["PYTHONPATH"] = os.pathsep.join(part for part in (package, own.get("PYTHONPATH")) if part)
    if spec.program == "rabbitmq":
        own |= {
            "HOME": str(directory),  # where Erlang looks for its cookie
            "RABBITMQ_NODENAME": f"{spec.name}@localhost",
            "RABBITMQ_MNESIA_BASE": site.data,
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
            "RUNNING_UNDER_SYSTEMD": "true",  # the shell becomes the Erlang machine
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        if epmd_port is not None:
            own |= {"ERL_EPMD_PORT": str(epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1"}
        if "dist" in site.ports:
            own["RABBITMQ_DIST_PORT"] = str(site.ports["dist"])
        if "amqp" in site.ports:
            own["RABBITMQ_NODE_PORT"] = str(site.ports["amqp"])
        for key, path in site.files.items():
            if key.endswith("/rabbitmq.conf"):
                own["RABBITMQ_CONFIG_FILE"] = path
    return own | dict(rendered.environment)
