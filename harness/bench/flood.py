"""A client that works as fast as it can, and says how fast that was: `python -m harness.bench.flood SPEC.json`.

Its code is the clients' own; only when a message falls due is another matter. *Bare*: it keeps no records. It prints
one JSON object: messages, wall_s, cpu_s.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path

from harness.clients.body import Body, loop_factory
from harness.clients.consuming import Consuming
from harness.clients.producing import GO_S, Producing
from harness.clients.spec import ClientSpec
from harness.history.journal import PLACE, Journal
from harness.operation import Outcome, Role
from harness.system.service import Connection, Received

BARE = "bare"
"""The option of a client that is to keep no records."""

_BATCH_MAX = 256


class Unrecorded(Journal):
    """A journal without records: its head alone, for those who look at it while the client works."""

    def write(
        self,
        kind: int,
        a: int = 0,
        epoch: int = 0,
        attempt: int = 0,
        code: int = 0,
        x0: int = 0,
        x1: int = 0,
        x2: int = 0,
        x3: int = 0,
        x4: int = 0,
    ) -> None:
        """Nothing."""

    def take_back(self) -> None:
        """Nothing was written."""

    def word(self, text: str) -> int:
        """No word is written down either."""
        return 0


class Stopwatch:
    """Wall and CPU time of this process between two moments."""

    def __init__(self) -> None:
        self._began_s: tuple[float, float] | None = None
        self.wall_s = self.cpu_s = 0.0

    def start(self) -> None:
        """The first call counts."""
        if self._began_s is None:
            self._began_s = time.monotonic(), time.process_time()

    def stop(self) -> None:
        """The last call counts."""
        if self._began_s is not None:
            self.wall_s, self.cpu_s = time.monotonic() - self._began_s[0], time.process_time() - self._began_s[1]


class FloodingProducer(Producing):
    """Publishes whenever the window has room, until all messages are answered."""

    def __init__(self, body: Body, watch: Stopwatch) -> None:
        super().__init__(body)
        self._watch = watch
        self._room = asyncio.Event()

    def confirmed(self, epoch: int, first: int, last: int, outcome: Outcome, duplicate: bool) -> None:
        """There is room again."""
        super().confirmed(epoch, first, last, outcome, duplicate)
        self._room.set()

    def lost(self, epoch: int) -> None:
        """A rate across connections would be none."""
        super().lost(epoch)
        self._body.stop("connection-lost")
        self._room.set()

    async def run(self) -> None:
        """Publish them all."""
        body, spec = self._body, self._body.spec
        while body.connection is None and not body.stopping.is_set():
            await asyncio.sleep(GO_S)
        self._watch.start()
        while (self._next < spec.messages_max or self._open) and not body.stopping.is_set():
            room = min(spec.window - len(self._open), _BATCH_MAX, spec.messages_max - self._next)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            self._turn(time.monotonic_ns(), self._next + room)
            await self._flushed()
            await asyncio.sleep(0)
        self._watch.stop()


class FloodedConsumer(Consuming):
    """Consumes what is there already, until all of it is acknowledged."""

    def __init__(self, body: Body, watch: Stopwatch) -> None:
        super().__init__(body)
        self._watch = watch

    async def opened(self, connection: Connection, epoch: int) -> None:
        """From here on it is the broker's turn to send."""
        self._watch.start()
        await super().opened(connection, epoch)

    def received(self, epoch: int, delivery: Received) -> None:
        """The last one ends it."""
        super().received(epoch, delivery)
        if self.body.stopping.is_set():
            self._watch.stop()


async def _work(spec: ClientSpec, journal: Journal) -> Stopwatch:
    watch = Stopwatch()
    body = Body(spec, journal)
    body.work = FloodingProducer(body, watch) if spec.role is Role.PRODUCER else FloodedConsumer(body, watch)
    await body.live_on()
    return watch


def main() -> None:
    """Work, and say how fast it went."""
    spec = ClientSpec.read(Path(sys.argv[1]))
    kind = Unrecorded if spec.options.get(BARE) else Journal
    journal = kind(Path(spec.journal), client=spec.number, origin_ns=spec.origin_ns)
    gc.freeze()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        watch = runner.run(_work(spec, journal))
    messages = journal.live[PLACE["acked" if spec.role is Role.PRODUCER else "received"]]
    print(json.dumps({"messages": messages, "wall_s": watch.wall_s, "cpu_s": watch.cpu_s}))


if __name__ == "__main__":
    main()
