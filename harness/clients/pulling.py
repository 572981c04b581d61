"""How does a consumer pull one message at a time? Each is written down before the library is called, then its answer.

So a consumer that is killed, or whose connection is lost, leaves a dequeue behind that nobody answered: it may have
taken a message. One that was answered is recorded by the receipt of what it brought, or as empty.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from harness.history.journal import DEQUEUE, EMPTY, PLACE
from harness.system.service import Connection

if TYPE_CHECKING:
    from harness.clients.body import Body

PAUSE_S = 0.01
"""After a pull that brought nothing, and before the next look whether there is a connection, and room."""

_RECEIVED, _HOLDING = PLACE["received"], PLACE["holding"]


class Pulling:
    """One pull after the other, over whatever connection there is."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._invoked_ns = 0
        self._useless: Connection | None = None

    async def run(self) -> None:
        """Pull until told to stop; the last pull is waited for."""
        body = self._body
        while not body.stopping.is_set():
            connection = body.connection
            full = body.live[_HOLDING] >= body.spec.prefetch
            received = body.live[_RECEIVED]
            if connection is not None and connection is not self._useless and not full:
                await self._pull(connection)
            if body.live[_RECEIVED] == received:
                await asyncio.sleep(PAUSE_S)

    async def _pull(self, connection: Connection) -> None:
        journal, epoch = self._body.journal, self._body.epoch
        invoked_ns = self._invoked_ns = max(time.monotonic_ns(), self._invoked_ns + 1)
        journal.write(DEQUEUE, epoch=epoch, x0=invoked_ns)
        try:
            answer = await connection.pull(invoked_ns)
        except ConnectionError:
            self._useless = connection  # its end may not have been told yet
            return
        if answer is not None:
            journal.write(EMPTY, answer.outcome, epoch, x0=invoked_ns, x1=answer.at_ns)
