"""How fast is this machine itself, in this run? Four things that all figures rest on, so that two runs can be compared.

*np.sort* of 10^6 random numbers; a call of the monotonic clock; a byte to and fro over the loopback; 4 KiB of a file
brought onto the disk.
"""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from harness.bench.figure import PAIRS, Figure, cpu_s

SORTED = 10**6
_CALLS, _ROUND_TRIPS, _SYNCS = 100_000, 500, 20


def measure() -> Iterator[Figure]:
    """Measure all four; a second or so."""
    numbers = np.random.default_rng(7).integers(0, 1 << 60, SORTED)
    yield _figure(f"np.sort of {SORTED:,} numbers", "ms", lambda: cpu_s(lambda: np.sort(numbers)) * 1e3)
    yield _figure("time.monotonic_ns()", "ns", lambda: cpu_s(_clock) / _CALLS * 1e9)
    yield _figure("a byte to and fro over the loopback", "us", lambda: _round_trips_s() / _ROUND_TRIPS * 1e6)
    with tempfile.TemporaryFile(prefix="assay-bench-") as file:
        yield _figure("fdatasync of 4 KiB", "us", lambda: _syncs_s(file.fileno()) / _SYNCS * 1e6)


def _figure(name: str, unit: str, once: Callable[[], float]) -> Figure:
    values = [once() for _ in range(PAIRS)]
    spread = f"fastest; median {statistics.median(values):.1f}, slowest {max(values):.1f}"
    return Figure(name=f"calibration: {name}", unit=unit, value=min(values), detail=spread)


def _clock() -> None:
    for _ in range(_CALLS):
        time.monotonic_ns()


def _round_trips_s() -> float:
    """Wall seconds of _ROUND_TRIPS bytes to a thread and back, one after another."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as here:
        there, _ = server.accept()
        with there:
            for one in (here, there):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            echo = threading.Thread(target=_echo, args=(there,), daemon=True)
            echo.start()
            begin_s = time.perf_counter()
            for _ in range(_ROUND_TRIPS):
                here.sendall(b"x")
                here.recv(1)
            taken_s = time.perf_counter() - begin_s
            here.shutdown(socket.SHUT_WR)
            echo.join()
    return taken_s


def _echo(there: socket.socket) -> None:
    while byte := there.recv(1):
        there.sendall(byte)


def _syncs_s(file: int) -> float:
    """Wall seconds of _SYNCS writes, each brought onto the disk."""
    page = bytes(4096)
    begin_s = time.perf_counter()
    for number in range(_SYNCS):
        os.pwrite(file, page, number * len(page))
        os.fdatasync(file)
    return time.perf_counter() - begin_s
