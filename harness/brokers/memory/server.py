"""How does the queue of queue.py become a broker that can be killed? A process with a socket and a file per queue.

`python -m harness.brokers.memory.server --listen HOST:PORT --data DIRECTORY [--bugs JSON]`. What a queue must remember
is written to its file before an answer leaves, so a SIGKILL loses nothing that was confirmed, unless a bug says so. No
fsync: it does not survive a power loss, and does not promise to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from harness.brokers.memory import wire
from harness.brokers.memory.queue import Bugs, Logged, Queue, Sending
from harness.operation import Outcome

VERSION = "1"
_RECORD = struct.Struct("<IBQB")  # length of the rest, whether a payload follows, sequence, size of the native id
_REST = _RECORD.size - 4


class Ledger:
    """The file of one queue: what `Queue.take_log` gave, appended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def read(self) -> Iterator[Logged]:
        """What was written; a record that was cut off by a kill is left out, and off."""
        data = self.path.read_bytes()
        at = 0
        while len(data) - at >= _RECORD.size:
            length, stored, sequence, size = _RECORD.unpack_from(data, at)
            end = at + 4 + length
            if end > len(data):
                break
            body = data[at + _RECORD.size : end]
            yield Logged(sequence, body[size:] if stored else None, body[:size].decode())
            at = end
        os.ftruncate(self._file, at)

    def append(self, log: Sequence[Logged]) -> None:
        """Write all of it, in one call."""
        parts = []
        for sequence, payload, native_id in log:
            name = native_id.encode()
            body = name + (payload or b"")
            parts.append(_RECORD.pack(_REST + len(body), payload is not None, sequence, len(name)) + body)
        data = memoryview(b"".join(parts))
        while data:
            data = data[os.write(self._file, data) :]

    def remove(self) -> None:
        """Delete it."""
        os.close(self._file)
        self.path.unlink(missing_ok=True)


class Served:
    """One queue, its file, and the connections on it."""

    def __init__(self, name: str, directory: Path, bugs: Bugs, deduplicate: bool) -> None:
        self.name = name
        self.ledger = Ledger(directory / f"{name}.log")
        self.settings = directory / f"{name}.json"
        self.settings.write_text(json.dumps({"deduplicate": deduplicate}))
        self.queue = Queue.restored(self.ledger.read(), bugs, deduplicate=deduplicate)
        self.conversations: dict[str, Conversation] = {}
        self.ends: dict[str, str] = {}
        self._wake: asyncio.TimerHandle | None = None

    def turn(self) -> None:
        """Deliver what is due; everything that was said since the last turn leaves once the file knows of it."""
        self.send(self.queue.due(time.monotonic_ns()))
        log = self.queue.take_log()
        if log:
            self.ledger.append(log)
        for conversation in self.conversations.values():
            conversation.flush()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        wakes_ns = self.queue.wakes_ns()
        if wakes_ns is not None:
            delay_s = max(0.001, (wakes_ns - time.monotonic_ns()) / 1e9)
            self._wake = asyncio.get_running_loop().call_later(delay_s, self.turn)

    def send(self, sendings: Sequence[Sending]) -> None:
        """Put deliveries on their way; they leave at the end of a turn."""
        for sending in sendings:
            times = min(sending.times, 65_535)
            body = wire.DELIVER_BODY.pack(sending.sequence, sending.number, sending.redelivered, times)
            self.conversations[sending.consumer].say(wire.frame(wire.DELIVER, body + sending.payload))

    def remove(self) -> None:
        """Forget the queue and its file; its connections end."""
        if self._wake is not None:
            self._wake.cancel()
        for conversation in list(self.conversations.values()):
            conversation.end()
        self.settings.unlink(missing_ok=True)
        self.ledger.remove()


class Server:
    """All queues of one process."""

    def __init__(self, directory: Path, bugs: Bugs) -> None:
        self.directory = directory
        self.bugs = bugs
        self.boot = f"{os.getpid()}-{time.monotonic_ns()}"
        self.count = 0
        self.queues: dict[str, Served] = {}
        directory.mkdir(parents=True, exist_ok=True)
        for settings in sorted(directory.glob("*.json")):
            self.create(settings.stem, json.loads(settings.read_text())["deduplicate"])

    def create(self, name: str, deduplicate: bool) -> None:
        """Make a queue, unless it is there."""
        if name not in self.queues:
            self.queues[name] = Served(name, self.directory, self.bugs, deduplicate)

    def asked(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer the harness."""
        what, name = question["ask"], question.get("queue", "")
        if what == "create":
            self.create(name, bool(question["deduplicate"]))
        served = self.queues.get(name)
        answer: dict[str, Any] = {"version": VERSION, "boot": self.boot, "exists": served is not None}
        if served is None:
            return answer
        if what == "delete":
            del self.queues[name]
            served.remove()
        elif what == "left":
            for place, messages in (("owed", served.queue.left()), ("stored", served.queue.kept())):
                answer.setdefault("left", []).extend((place, number, payload.hex()) for number, payload in messages)
        elif what == "peers":
            answer["peers"] = [(one.name, *one.peer) for one in served.conversations.values()]
            answer["ends"] = served.ends
        left = len(served.queue.left())
        answer |= {"counters": served.queue.counters, "owed": left, "unsettled": served.queue.unsettled()}
        return answer

    def abandon_silent(self) -> None:
        """End the connections that have said nothing for too long; again in a moment."""
        limit = time.monotonic() - wire.SILENCE_S
        for served in self.queues.values():
            for conversation in list(served.conversations.values()):
                if conversation.heard_s < limit:
                    conversation.why = "silence"
                    conversation.end()
        asyncio.get_running_loop().call_later(wire.PING_S, self.abandon_silent)


class Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Server) -> None:
        self.name = ""
        self.key = ""
        self.peer = ("", 0)
        self.heard_s = time.monotonic()
        self.why = "closed by its client"
        self._server = server
        self._served: Served | None = None
        self._hello: dict[str, Any] = {}
        self._frames = wire.Frames()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._does: dict[int, Callable[[bytes], None]] = {
            wire.HELLO: self._greeted,
            wire.PUBLISH: self._published,
            wire.SETTLE: self._settled,
            wire.CONSUME: self._consume,
            wire.STOP: self._stop,
            wire.PULL: self._pull,
            wire.ASK: lambda body: self.say(wire.spoken(wire.TOLD, server.asked(wire.heard(body)))),
            wire.PING: lambda body: self.say(wire.frame(wire.PONG, body)),
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the other end."""
        self._transport = cast(asyncio.Transport, transport)
        self.peer = transport.get_extra_info("peername")[:2]

    def data_received(self, data: bytes) -> None:
        """Do what each frame says, then let the queue take its turn."""
        self.heard_s = time.monotonic()
        for operation, body in self._frames.feed(data):
            self._does[operation](body)
        if self._served is not None:
            self._served.turn()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """What it held goes back to the queue."""
        served, self._served = self._served, None
        if served is not None:
            served.conversations.pop(self.key, None)
            served.ends[self.name] = self.why
            served.queue.ended(self.key)
            if self._server.queues.get(served.name) is served:
                served.turn()

    def say(self, data: bytes) -> None:
        """Put bytes on their way; they leave with the next flush."""
        self._out.append(data)

    def flush(self) -> None:
        """Write what was said."""
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def end(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _greeted(self, body: bytes) -> None:
        hello = wire.heard(body)
        served = self._server.queues.get(hello["queue"])
        if served is not None:
            self._server.count += 1
            self.name, self.key = hello["name"], f"{hello['name']}/{self._server.count}"
            self._served, self._hello = served, hello
            served.conversations[self.key] = self
        self.say(wire.spoken(wire.TOLD, {"exists": served is not None}))

    def _published(self, body: bytes) -> None:
        if self._served is None:
            return
        tag, size = wire.PUBLISH_BODY.unpack_from(body)
        at = wire.PUBLISH_BODY.size
        native_id = body[at : at + size].decode()
        answer = self._served.queue.publish(body[at + size :], native_id, time.monotonic_ns())
        if self._hello["confirms"] and answer.outcome is not Outcome.INFO:
            fields = wire.CONFIRM_BODY.pack(tag, answer.outcome, answer.duplicate, answer.sequence)
            self.say(wire.frame(wire.CONFIRM, fields + answer.error.encode()))

    def _settled(self, body: bytes) -> None:
        if self._served is None:
            return
        sequence, token = wire.PAIR.unpack(body)
        held = self._served.queue.settle(self.key, sequence)
        if token:
            self.say(wire.frame(wire.SETTLED, wire.SETTLED_BODY.pack(token, held)))

    def _consume(self, body: bytes) -> None:
        if self._served is not None:
            self._served.queue.subscribe(self.key, self._hello["prefetch"], self._hello["automatic"])

    def _pull(self, body: bytes) -> None:
        if self._served is None:
            return
        sendings = self._served.queue.pull(self.key, self._hello["automatic"], time.monotonic_ns())
        self._served.send(sendings)
        self.say(wire.frame(wire.PULLED, bytes([bool(sendings)])))

    def _stop(self, body: bytes) -> None:
        if self._served is not None:
            self._served.queue.unsubscribe(self.key)


async def serve(listen: str, directory: Path, bugs: Bugs) -> None:
    """Serve until the process is ended."""
    server = Server(directory, bugs)
    host, port = listen.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Conversation(server), host, int(port))
    server.abandon_silent()
    await listening.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description="a broker in memory, with a file behind it and bugs to order")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--bugs", default="{}", metavar="JSON")
    options = parser.parse_args()
    asyncio.run(serve(options.listen, options.data, Bugs(**json.loads(options.bugs))))


if __name__ == "__main__":
    main()
