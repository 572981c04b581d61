"""Which native clients are here to be compared with, and how fast do they publish and consume?

*Peer*: a program in its own language, told the queue or stream that a cell has. It is fetched and built when it is
first asked for, and kept below $XDG_CACHE_HOME.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NATS_CLI = "github.com/nats-io/natscli/nats@v0.4.0"
_FETCH_S = 900.0
_RUN_S = 90.0
_JAVA = Path(__file__).with_name("java")
_RATE = re.compile(r"stats: ([\d,]+) msgs/sec")

Tell = Callable[[str], None]


class Absent(Exception):
    """The peer cannot be had here, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a client is to do: `orders` of the broker (of a queue or stream), where it dials, how many messages.

    `window`: publishes unanswered, or deliveries unsettled, at most. `size`: of a payload, in bytes.
    """

    orders: Mapping[str, object]
    address: tuple[str, int]
    messages: int
    window: int
    size: int


class Peer(Protocol):
    """A native client."""

    name: str

    def publish(self, job: Job) -> float:
        """Publish, with answers, asynchronously; messages a second. Raises Absent where it cannot."""
        ...

    def consume(self, job: Job) -> float:
        """Consume, and acknowledge each; messages a second. Raises Absent where it cannot."""
        ...


class NatsBench:
    """`nats bench js`, of the CLI that NATS has."""

    name = "nats bench"

    def __init__(self, tell: Tell) -> None:
        go = shutil.which("go")
        directory = cache() / NATS_CLI.rpartition("/")[2]
        self._program = directory / "nats"
        if self._program.exists():
            return
        if go is None:
            raise Absent("no Go to build it with: install Go 1.24 or newer")
        tell(f"{self.name}: build {NATS_CLI}, once, into {directory}")
        directory.mkdir(parents=True, exist_ok=True)
        _run([go, "install", "-ldflags", "-s -w", NATS_CLI], _FETCH_S, GOBIN=str(directory), GOFLAGS="-mod=mod")

    def publish(self, job: Job) -> float:
        """`bench js pub async`."""
        return self._bench(job, "pub", "async", str(job.orders["subject"]))

    def consume(self, job: Job) -> float:
        """`bench js consume`, each acknowledged without waiting for an answer."""
        return self._bench(job, "consume", f"--consumer={job.orders['consumer']}", "--acks=explicit")

    def _bench(self, job: Job, *what: str) -> float:
        host, port = job.address
        settings = (f"--stream={job.orders['stream']}", f"--msgs={job.messages}", f"--size={job.size}")
        # With a home of its own it neither reads nor changes the contexts of whoever started us.
        told = _run(
            [
                str(self._program),
                f"--server=nats://{host}:{port}",
                *("bench", "js", *what, *settings, f"--batch={job.window}", "--no-progress"),
            ],
            _RUN_S,
            XDG_CONFIG_HOME=str(self._program.parent),
        )
        found = _RATE.search(told)
        if found is None:
            raise Absent(f"it told no rate: {told.strip()[-200:]}")
        return float(found[1].replace(",", ""))


class JavaClient:
    """RabbitMQ's Java client, which PerfTest is made of, in a program of our own."""

    name = "the Java client"

    def __init__(self, tell: Tell) -> None:
        version = re.search(r"amqp-client</artifactId>\s*<version>([\d.]+)", (_JAVA / "pom.xml").read_text())
        assert version is not None, "the pom names no version of the client"
        self._directory = cache() / f"amqp-client-{version[1]}"
        java, javac, maven = (shutil.which(program) for program in ("java", "javac", "mvn"))
        if java is None or javac is None:
            raise Absent("no Java compiler: install a JDK, version 17 or newer")
        self._java = java
        classes = self._directory / "classes"
        if (self._directory / "complete").exists():
            return
        if maven is None:
            raise Absent("no Maven to fetch it with: install Maven")
        tell(f"{self.name}: fetch and compile, once, into {self._directory}")
        self._directory.mkdir(parents=True, exist_ok=True)
        pom = str(_JAVA / "pom.xml")
        copy = ("dependency:copy-dependencies", f"-DoutputDirectory={self._directory}")
        _run([maven, "-B", "-q", "-f", pom, *copy], _FETCH_S)
        _run([javac, "-cp", f"{self._directory}/*", "-d", str(classes), str(_JAVA / "Peer.java")], _FETCH_S)
        (self._directory / "complete").touch()

    def publish(self, job: Job) -> float:
        """Publish with confirms."""
        return self._ask("publish", job)

    def consume(self, job: Job) -> float:
        """Consume, with a prefetch of the window."""
        return self._ask("consume", job)

    def _ask(self, what: str, job: Job) -> float:
        orders = job.orders
        flags = (str(bool(orders["persistent"])).lower(), str(bool(orders["mandatory"])).lower())
        host, port = job.address
        words = (host, port, orders["user"], orders["password"], orders["queue"], job.messages, job.window, job.size)
        places = f"{self._directory}/*{os.pathsep}{self._directory}/classes"
        return float(_run([self._java, "-cp", places, "Peer", what, *map(str, words), *flags], _RUN_S))


def cache() -> Path:
    """Where peers are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "assay" / "peers"


def _run(argv: Sequence[str], within_s: float, **environment: str) -> str:
    """What a program prints. Raises Absent, with its last words, where it fails or takes too long."""
    name = Path(argv[0]).name
    try:
        return subprocess.run(
            argv, check=True, capture_output=True, text=True, timeout=within_s, env={**os.environ, **environment}
        ).stdout
    except subprocess.CalledProcessError as error:
        last = ((error.stderr or error.stdout).strip().splitlines() or ["no reason given"])[-1]
        raise Absent(f"{name} failed: {last}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Absent(f"{name} failed: {error}") from error
