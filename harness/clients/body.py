"""What does one client process do? One role, one connection at a time, one journal, until it is told to stop.

`python -m harness.clients.body SPEC.json`, or `--spare FAMILY`: then it waits for the name of that file on its standard
input. It dials its addresses in turn; each connection is an *epoch* (1, 2, ...).
It stops when the head's word `stop` is 1, at its deadline, or at its message cap; and at once, without a goodbye, when
its standard input ends: then the harness that held the other end is gone. Exit codes: 0 in order, 3 without a harness.
"""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from harness import catalogue
from harness.clients.crash import Trap
from harness.clients.sabotage import connecting, sabotaged
from harness.clients.spec import ClientSpec
from harness.history.journal import CONFIRM, PLACE, Journal
from harness.operation import CUT, Outcome, Role
from harness.system.service import Connection, Received

TICK_S = 0.01
CLOSE_S = 2.0
EXIT_WITHOUT_HARNESS = 3
EXIT_MISTAKE = 70
_AT = PLACE


class Work(Protocol):
    """What a role does with its connections. Calls for an epoch end with `lost`."""

    async def opened(self, connection: Connection, epoch: int) -> None:
        """A connection is there. Raises ConnectionError or TimeoutError where it is of no use."""
        ...

    def lost(self, epoch: int) -> None:
        """It is there no more."""
        ...

    def confirmed(self, epoch: int, first: int, last: int, outcome: Outcome, duplicate: bool) -> None:
        """The broker has answered publishes; the answer is recorded."""
        ...

    def received(self, epoch: int, delivery: Received) -> None:
        """A delivery arrived."""
        ...

    async def run(self) -> None:
        """Work until it is done or told to stop, and finish what is under way."""
        ...


class Ear:
    """Hears one connection; so what a connection says late is still heard as of its own epoch."""

    def __init__(self, body: Body, epoch: int) -> None:
        self._body = body
        self._journal = body.journal
        self._work = body.work
        self._epoch = epoch
        self.ended = asyncio.Event()

    def confirmed(
        self, tag_first: int, tag_last: int, outcome: Outcome, at_ns: int, sequence: int, duplicate: bool, error: str
    ) -> None:
        """Record an answer."""
        try:
            self._confirmed(tag_first, tag_last, outcome, at_ns, sequence, duplicate, error)
        except Exception as mistake:  # drivers swallow what their callbacks raise, and the history would have a hole
            self._body.fail(mistake)

    def _confirmed(
        self, tag_first: int, tag_last: int, outcome: Outcome, at_ns: int, sequence: int, duplicate: bool, error: str
    ) -> None:
        journal = self._journal
        a = outcome | (duplicate << 4)
        code = journal.word(error) if error else 0
        journal.write(CONFIRM, a, self._epoch, 0, code, tag_first, tag_last, at_ns, sequence)
        live, count = journal.live, tag_last - tag_first + 1
        live[_AT["answered_ns"]] = at_ns  # before the count: who sees a count that stands still has its moment, too
        live[_AT["answered"]] += count
        if outcome is Outcome.OK:
            live[_AT["acked"]] += count
        self._work.confirmed(self._epoch, tag_first, tag_last, outcome, duplicate)

    def received(self, delivery: Received) -> None:
        """Hand a delivery to the consumer."""
        try:
            self._work.received(self._epoch, delivery)
        except Exception as mistake:  # as above
            self._body.fail(mistake)

    def lost(self, why: str) -> None:
        """Record the end of the epoch."""
        if self.ended.is_set():
            return
        self.ended.set()
        self._body.lost(self._epoch, why)

    def noted(self, what: str) -> None:
        """Record what a judge must know."""
        self._journal.state(what, epoch=self._epoch)


class Body:
    """The process: its journal, its ticker, its connection."""

    def __init__(self, spec: ClientSpec, journal: Journal) -> None:
        self.spec = spec
        self.journal = journal
        self.live = journal.live
        self.trap = Trap(journal)
        self.stopping = asyncio.Event()
        self.connection: Connection | None = None
        self.epoch = 0
        self.work: Work = _work(self)
        # Loaded before the first tick: a driver's import takes longer than a healthy loop may stall.
        self._connect = connecting(catalogue.connection(spec.family), spec)
        self._dialled = 0
        self._ticked_ns = time.monotonic_ns()
        self._gap_ns = int(spec.ticker_limit_ms * 1e6)
        self._unreachable = False
        self._cuts = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def live_on(self) -> None:
        """Connect and work, to the end."""
        self._watch_harness()
        self._tick()
        dialling = self.background(self._dial())
        try:
            await self.work.run()
        finally:
            dialling.cancel()
            connection, self.connection = self.connection, None
            self.live[_AT["connected"]] = 0
            if connection is not None:
                await _bounded(connection.close())

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside the work; what it raises ends the process."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def stop(self, why: str) -> None:
        """Let the work come to its end."""
        if not self.stopping.is_set():
            self.journal.state(why)
            self.stopping.set()

    # ---- connections -----------------------------------------------------------------------------------------------

    async def _dial(self) -> None:
        """One address after another, one attempt after another, never two at once."""
        connect = self._connect
        while not self.stopping.is_set() or self.spec.role is Role.PRODUCER:
            _, host, port = self.spec.addresses[self._dialled % len(self.spec.addresses)]
            self._dialled += 1
            epoch = self.epoch + 1
            ear = Ear(self, epoch)
            orders = {**self.spec.orders, "address": [host, port], "epoch": epoch}
            spec = self.spec
            connection: Connection = connect(orders, ear, str(spec.role), spec.name, spec.prefetch)
            try:
                await connection.open()
                if ear.ended.is_set():
                    raise ConnectionError("it ended as it was opened")
                self._connected(connection, epoch)
                await self.work.opened(connection, epoch)
            except (OSError, TimeoutError) as error:
                self._failed(ear, error)
            if not ear.ended.is_set() and self.connection is connection:
                self.live[_AT["connected"]] = 1
                await ear.ended.wait()
            self.background(_bounded(connection.close()))
            await asyncio.sleep(self.spec.reconnect_s)

    def _connected(self, connection: Connection, epoch: int) -> None:
        self.epoch, self.connection, self._unreachable = epoch, connection, False
        self.live[_AT["connections"]] = epoch
        self.journal.state("connected", value=epoch, epoch=epoch)
        port = getattr(connection, "local_port", 0)
        if port:
            self.journal.state("local-port", value=port, epoch=epoch)

    def _failed(self, ear: Ear, error: OSError) -> None:
        """A connection did not come about, or was of no use when it did."""
        why = f"{type(error).__name__}: {error}"
        if self.connection is not None:
            ear.lost(why)
        elif not self._unreachable:
            self._unreachable = True
            self.journal.state("unreachable")
            sys.stderr.write(f"{self.spec.name} cannot connect: {why}\n")

    def lost(self, epoch: int, why: str) -> None:
        """A connection ended, unasked."""
        if self.connection is None or epoch != self.epoch:
            return
        self.connection = None
        now_ns = time.monotonic_ns()
        self.live[_AT["connected"]] = 0
        if CUT in why:  # before `lost`: who sees that it ended sees whose doing it was, too
            self.live[_AT["cuts_done"]] += 1
        self.live[_AT["lost"]] += 1
        self.live[_AT["lost_ns"]] = now_ns
        self.journal.state("lost", value=epoch, epoch=epoch)
        self.journal.state(f"lost:{why}"[:40], epoch=epoch)
        self.work.lost(epoch)

    # ---- life ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Every 10 ms: am I starved, am I told to stop or to cut my connection, is it time?"""
        now_ns = time.monotonic_ns()
        gap_ns = now_ns - self._ticked_ns
        if gap_ns > self._gap_ns:
            self.journal.state("ticker-gap", value=gap_ns, epoch=self.epoch)
        self._ticked_ns = self.live[_AT["ticker_ns"]] = now_ns
        self.live[_AT["records"]] = self.journal.records
        if (cuts := self.live[_AT["cut"]]) != self._cuts:
            self._cuts = cuts
            if self.connection is not None:
                self.connection.cut()
        if self.live[_AT["stop"]]:
            self.stop("told-to-stop")
        elif now_ns > self.spec.deadline_ns:
            self.stop("deadline")
        asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _watch_harness(self) -> None:
        """End of file on a pipe means that the harness is gone. What is no pipe is not watched."""
        try:
            mode = os.fstat(0).st_mode
        except OSError:
            return
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            asyncio.get_running_loop().add_reader(0, self._heard_harness)

    def _heard_harness(self) -> None:
        if not os.read(0, 4096):
            self.journal.state("harness-gone")
            os._exit(EXIT_WITHOUT_HARNESS)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """A mistake of ours or of a driver: the history must not go on as if this client worked."""
        self.journal.state(f"failed:{type(error).__name__}")
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
        os._exit(EXIT_MISTAKE)


async def _bounded(closing: Coroutine[Any, Any, None]) -> None:
    try:
        await asyncio.wait_for(closing, CLOSE_S)
    except (OSError, TimeoutError):
        return


def _work(body: Body) -> Work:
    """The work of the body's role; imported here, so that a producer loads no sink and a consumer no workload."""
    if body.spec.role is Role.PRODUCER:
        from harness.clients.producing import Producing

        return Producing(body)
    from harness.clients.consuming import Consuming

    return Consuming(body)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The fastest event loop that is here."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _run(spec: ClientSpec, journal: Journal) -> None:
    await Body(spec, journal).live_on()


def _orders() -> ClientSpec | None:
    """The orders of this client: a file, or, of a spare, the file that the harness names when it needs one.

    A spare has loaded its driver by then, so a successor takes over without the time that this takes. None: the harness
    never needed it, or is gone.
    """
    if sys.argv[1] != "--spare":
        return ClientSpec.read(Path(sys.argv[1]))
    catalogue.connection(sys.argv[2])
    from harness.clients import consuming, producing  # noqa: F401 - loaded now, whichever role it will have

    line = b""
    while not line.endswith(b"\n"):
        if not (
            byte := os.read(0, 1)
        ):  # unbuffered: what follows on the pipe is the harness's end, and not ours to eat
            return None
        line += byte
    return ClientSpec.read(Path(line.decode().rstrip("\n")))


def main() -> None:
    """Read the orders, work, close the journal."""
    spec = _orders()
    if spec is None:
        return
    spec = sabotaged(spec)
    journal = Journal(Path(spec.journal), client=spec.number, origin_ns=spec.origin_ns)
    gc.freeze()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(spec, journal))
        journal.set("ended", time.monotonic_ns())
        # The runner would wait for stragglers; the work is done, and the records are in the kernel's hands.
        journal.close()
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
