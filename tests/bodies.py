"""Client processes and a memory broker, as the tests of harness/clients start them: real processes, small loads."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.brokers.memory.broker import Broker
from harness.brokers.memory.configuration import Memory
from harness.clients.spec import ClientSpec
from harness.clock import until
from harness.errors import Trouble
from harness.history import journal as j
from harness.operation import Role

RUN = 0xA55A


def left(broker: Any) -> str | None:
    """What a broker says is left, or why it does not answer; None for nothing."""
    try:
        said: str | None = broker.drained()
    except Trouble as trouble:
        return trouble.message
    return said


class Record(NamedTuple):
    kind: int
    a: int
    epoch: int
    attempt: int
    code: int
    x0: int
    x1: int
    x2: int
    x3: int
    x4: int


def records(path: Path) -> list[Record]:
    """Every record of a journal; fails where one after the end is not empty."""
    data = path.read_bytes()[j.HEAD_SIZE :]
    whole = data[: len(data) // j.RECORD_SIZE * j.RECORD_SIZE]
    found = [
        Record(kind, a, epoch, attempt, code, *x) for *x, epoch, attempt, code, a, kind in j.RECORD.iter_unpack(whole)
    ]
    end = next((place for place, record in enumerate(found) if record.kind == 0), len(found))
    assert all(record.kind == 0 for record in found[end:])
    return found[:end]


def words(path: Path) -> list[str]:
    """The words of a journal, by number."""
    data, found = path.read_bytes(), [""]
    for place, record in enumerate(records(path)):
        if record.kind == j.WORD:
            at = j.HEAD_SIZE + place * j.RECORD_SIZE
            assert record.code == len(found)
            found.append(data[at : at + record.a].decode())
    return found


@dataclass
class Place:
    """Where a broker listens; stands for a topology and its only link."""

    port: int
    nodes: dict[str, None] = field(default_factory=lambda: {"memory-1": None})

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def link(self, slot: str, node: str, service: str) -> Place:
        return self


@dataclass
class Process:
    """One client process with its journal's head."""

    spec: ClientSpec
    head: j.Head
    popen: subprocess.Popen[bytes]
    began: float

    @property
    def journal(self) -> Path:
        return Path(self.spec.journal)

    def get(self, word: str) -> int:
        return self.head.get(word)

    def connected(self) -> Process:
        until(lambda: self.get("connected") or self.popen.poll() is not None, within_s=10, what="a connection")
        assert self.popen.poll() is None, "it ended"
        return self

    def go(self) -> Process:
        self.head.set("pause_publishing", 0)
        return self

    def reached(self, word: str, count: int) -> Process:
        until(lambda: self.get(word) >= count, within_s=10, what=f"{word} >= {count}", last_seen=self.counted)
        return self

    def counted(self) -> str:
        return str({word: self.get(word) for word in ("attempted", "handed", "acked", "received", "settled", "unsent")})

    def finish(self) -> int:
        self.head.set("stop", 1)
        return self.popen.wait(10)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def arm(self, number: int, after: int = 0) -> None:
        self.head.set("control_after", after)
        self.head.set("control_point", number)

    def records(self, *kinds: int) -> list[Record]:
        return [record for record in records(self.journal) if not kinds or record.kind in kinds]

    def states(self) -> list[str]:
        known = words(self.journal)
        return [known[record.code] for record in self.records(j.STATE)]

    def crash(self) -> tuple[int, str, int]:
        """(point, stage, message) of its one CRASH record."""
        (record,) = self.records(j.CRASH)
        return record.a, words(self.journal)[record.code], record.x1


class Stage:
    """A memory broker and the clients on it, in one directory."""

    def __init__(self, directory: Path, configuration: Memory) -> None:
        self.directory = directory
        self.configuration = configuration
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.place = Place(free.getsockname()[1])
        self.server: subprocess.Popen[bytes] | None = None
        self.broker: Any = Broker(configuration, self.place, "cell")  # type: ignore[arg-type]
        self.clients: list[Process] = []
        self.origin_ns = time.monotonic_ns()
        self.serve()
        self.broker.prepare()

    def serve(self) -> None:
        (node,) = self.configuration.nodes()
        filled = {"<<listen:memory>>": f"127.0.0.1:{self.place.port}", "<<data>>": str(self.directory / "data")}
        arguments = [filled.get(argument, argument) for argument in node.arguments]
        self.server = subprocess.Popen([sys.executable, "-m", "harness.brokers.memory.server", *arguments])
        until(lambda: self.broker.whole() is None, within_s=10, what="the memory broker")

    def kill_server(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    def client(self, role: Role, **orders: Any) -> Process:
        number = len(self.clients) + 1
        slot = f"{role}-1"
        promise = self.configuration.promise()
        spec = ClientSpec(
            number=number,
            name=f"{slot}.{number}",
            slot=slot,
            role=role,
            group="group" if role is Role.CONSUMER else "",
            run=RUN,
            family="memory",
            orders=self.broker.orders(),
            addresses=(("memory-1", *self.place.address),),
            journal=str(self.directory / f"{slot}.{number}.journal"),
            origin_ns=self.origin_ns,
            deadline_ns=time.monotonic_ns() + 30_000_000_000,
            rate_hz=1000.0,
            confirm_timeout_s=1.0,
            confirms=promise.confirms,
            retry=promise.retry,
            retry_limit=promise.retry_limit,
            ack=int(promise.ack),
        )
        spec = replace(spec, **orders)
        with open(spec.journal, "w+b") as file:
            file.truncate(j.HEAD_SIZE)
        head = j.Head(Path(spec.journal))
        head.set("pause_publishing", 1)
        path = self.directory / f"{spec.name}.json"
        spec.write(path)
        began = time.monotonic()
        popen = subprocess.Popen([sys.executable, "-m", "harness.clients.body", str(path)], stdin=subprocess.PIPE)
        process = Process(spec, head, popen, began)
        self.clients.append(process)
        return process

    def producer(self, **orders: Any) -> Process:
        return self.client(Role.PRODUCER, **orders)

    def consumer(self, **orders: Any) -> Process:
        return self.client(Role.CONSUMER, **orders)

    def drain(self) -> None:
        until(
            lambda: left(self.broker) is None,
            within_s=10,
            what="an empty queue",
            last_seen=lambda: str(left(self.broker)),
        )

    def close(self) -> None:
        for client in self.clients:
            if client.popen.poll() is None:
                client.kill()
            if client.popen.stdin is not None:
                client.popen.stdin.close()
        self.broker.close()
        if self.server is not None:
            self.kill_server()


@contextmanager
def stage(directory: Path, configuration: Memory | None = None) -> Iterator[Stage]:
    """A broker for one test."""
    directory.mkdir(exist_ok=True)
    made = Stage(directory, configuration or Memory())
    try:
        yield made
    finally:
        made.close()


def processing(directory: Path, mechanism: str) -> dict[str, Any]:
    """Orders of a consumer that processes into a SQLite file."""
    return {
        "mechanism": {"type": mechanism},
        "sink": {"type": "SQLite"},
        "sink_path": str(directory / "sink.sqlite"),
    }
