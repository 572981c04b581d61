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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.clients.spec import ClientSpec
from harness.clock import RunClock, until
from harness.errors import Trouble
from harness.history.journal import HEAD_SIZE, Head
from harness.history.proceedings import Proceedings
from harness.ledger import MARK, PROCESS, Ledger, new_mark, started_ticks
from harness.operation import Role
from harness.runner.client import ClientProcess
from harness.runner.passages import deliveries_ns, publishes_ns
from harness.system.system import Client

WATCH_S = 0.003


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

    def quickest_ns(self, role: Role, since_ns: int, until_ns: int, least: int = 1) -> Mapping[str, int]:
        """Of each producer its quickest publish, of each consumer its quickest delivery, published and over between."""
        journals = {client.name: Path(client.spec.journal) for client in self.all() if client.role is role}
        if role is Role.PRODUCER:
            return publishes_ns(journals, since_ns, until_ns, least)
        producers = [Path(client.spec.journal) for client in self.all() if client.role is Role.PRODUCER]
        return deliveries_ns(journals, producers, since_ns, until_ns, least)

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
