"""Which port of 127.0.0.1 may a process of ours listen on, and have again after it was killed?

A port that is free now may be taken while its node is down: by a connection of anybody's (the kernel picks those from
its ephemeral range), or by another harness. So ports come from below that range, and each harness process claims a
block of them, by the name of a socket: abstract names live and end in the same network namespace as ports do, whatever
user or state directory a harness has, and the kernel lets go of them when the process ends.
"""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass, field
from typing import ClassVar

from harness.errors import Trouble

FIRST_PORT = 15_000
BLOCK_SIZE = 256
BLOCK_COUNT = 66  # up to 31,895: Linux's ephemeral range begins at 32,768 unless somebody moved it


@dataclass(slots=True)
class Ports:
    """The block of ports of this process. Thread-safe; got from `open`."""

    first: int
    claim: socket.socket
    _taken: set[int] = field(default_factory=set)
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    _opened: ClassVar[dict[int, Ports]] = {}
    _opening: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def open(cls) -> Ports:
        """The ports of this process. Raises Trouble when every block is claimed."""
        with cls._opening:
            if os.getpid() not in cls._opened:
                cls._opened[os.getpid()] = cls._claimed()
            return cls._opened[os.getpid()]

    @classmethod
    def _claimed(cls) -> Ports:
        for block in range(BLOCK_COUNT):
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0assay-ports-{block}")
            except OSError:
                claim.close()
                continue
            return cls(FIRST_PORT + block * BLOCK_SIZE, claim)
        raise Trouble(f"all {BLOCK_COUNT} blocks of ports are claimed by other runs", cure="run fewer at a time")

    def take(self) -> int:
        """A port that nobody listens on now. Those given back are handed out last."""
        with self._lock:
            for _ in range(BLOCK_SIZE):
                port = self.first + self._next
                self._next = (self._next + 1) % BLOCK_SIZE
                if port not in self._taken and _free(port):
                    self._taken.add(port)
                    return port
        raise Trouble(
            f"no port is free from {self.first} to {self.first + BLOCK_SIZE - 1}",
            cure="keep fewer topologies warm, or use fewer clients",
        )

    def give(self, port: int) -> None:
        """Give a port back. Idempotent."""
        with self._lock:
            self._taken.discard(port)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: ended connections don't matter
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
