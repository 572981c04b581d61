"""How fast do the clients publish and consume, what does recording take of that, and how fast are native clients?

Every run has a queue or stream of its own on a warm broker, and every side dials the same kind of link, through the
proxy. A ratio is the median over pairs, run A B B A. *Ceiling*: the rate of a client that publishes whenever its window
has room.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness import catalogue
from harness.bench.cells import leasing
from harness.bench.figure import PAIRS, Figure, alternated, ratio
from harness.bench.flood import BARE
from harness.bench.peers import Absent, JavaClient, Job, NatsBench, Peer, Tell
from harness.clients.spec import ClientSpec
from harness.engines.pool import Pool
from harness.errors import Trouble
from harness.faults.nothing import Nothing
from harness.history.join import Words, publications_of, read_journal
from harness.operation import Outcome, Role
from harness.runner.execute import Deployed, deploy
from harness.scenario.scenario import Cell, Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.topology import Engine

WINDOW = 1000
PREFETCH = 250
PAYLOAD_SIZE = 128
NOTE = f"wall time, window {WINDOW}, prefetch {PREFETCH}, {PAYLOAD_SIZE} bytes, one node, through the proxy"
RUN_S = 1.5
"""How long a run of a client is to take; native clients get as many messages, and are done sooner."""

STEADY_S = 5.0
_FIRST_MESSAGES = 5_000
_MESSAGES_MAX = 200_000
_LIMIT_S = 60.0
_RUN = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One client library and what it is measured on. `rate_goal`: recorded by bare publish rate; `cpu_goal_us`: CPU
    that recording may add to a message."""

    client: str
    engine: str
    configuration: str
    rate_goal: float
    cpu_goal_us: float
    peer: type[NatsBench] | type[JavaClient]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What is measured of it, with the goals, still without values."""
        client, peer = self.client, self.peer.name
        return (
            Figure(name=f"{client}: publishing, recorded against bare", unit="x its rate", goal=self.rate_goal),
            Figure(
                name=f"{client}: CPU that recording adds to a message",
                unit="us",
                goal=self.cpu_goal_us,
                at_most=True,
            ),
            Figure(name=f"{client}: load held at half the ceiling", unit="% of offered", goal=98.0),
            Figure(name=f"{client}: publishing, against {peer}", unit="x its rate", goal=0.45),
            Figure(name=f"{client}: consuming, against {peer}", unit="x its rate", goal=0.40),
        )


TARGETS = (
    Target(
        client="pika",
        engine="containers",
        configuration="rabbitmq-classic-confirms",
        rate_goal=0.95,
        cpu_goal_us=1.0,
        peer=JavaClient,
    ),
    Target(
        client="nats-py",
        engine="processes",
        configuration="nats-jetstream-r1",
        rate_goal=0.88,
        cpu_goal_us=2.0,
        peer=NatsBench,
    ),
)


def measure(tell: Tell = lambda _: None, targets: Sequence[Target] = TARGETS) -> Iterator[Figure]:
    """Measure everything, one figure after another. `tell` hears what is being done.

    Raises Trouble where a broker or a client of ours fails: a rate of part of the messages would say nothing.
    """
    for target in targets:
        with Pool() as pool, tempfile.TemporaryDirectory(prefix="assay-bench-") as directory:
            try:
                field = Field.of(target, pool, Path(directory))
            except Absent as absent:
                for figure in target.figures:
                    yield dataclasses.replace(figure, unavailable=str(absent))
                continue
            yield from _measured(target, field, tell)


def _measured(target: Target, field: Field, tell: Tell) -> Iterator[Figure]:
    recorded_rate, added_cpu, held, publishing, consuming = target.figures
    tell(f"{target.client}: its ceiling")
    first = field.flood(Role.PRODUCER, _FIRST_MESSAGES)
    messages = min(max(int(first.rate_hz * RUN_S), _FIRST_MESSAGES), _MESSAGES_MAX)

    tell(f"{target.client}: publish {messages:,} messages, recorded and bare, {PAIRS} times each")
    recorded, bare = alternated(
        lambda: field.flood(Role.PRODUCER, messages), lambda: field.flood(Role.PRODUCER, messages, bare=True)
    )
    yield dataclasses.replace(
        recorded_rate,
        value=ratio([run.rate_hz for run in recorded], [run.rate_hz for run in bare]),
        detail=f"recorded {_rates(recorded)}, bare {_rates(bare)}",
    )
    yield dataclasses.replace(
        added_cpu,
        value=statistics.median(one.cpu_us - other.cpu_us for one, other in zip(recorded, bare, strict=True)),
        detail=f"recorded {_cpu(recorded)}, bare {_cpu(bare)}",
    )

    rate_hz = statistics.median(run.rate_hz for run in recorded) / 2
    tell(f"{target.client}: {rate_hz:,.0f} messages a second for {STEADY_S:g} s")
    share, late_ms = field.steady(rate_hz)
    yield dataclasses.replace(
        held, value=100 * share, detail=f"{rate_hz:,.0f} a second offered, 99 of 100 at most {late_ms:.1f} ms late"
    )
    yield from _against_peer(target, field, messages, (publishing, consuming), tell)


def _against_peer(
    target: Target, field: Field, messages: int, figures: tuple[Figure, Figure], tell: Tell
) -> Iterator[Figure]:
    left = list(figures)
    try:
        peer: Peer = target.peer(tell)
        for figure, role in zip(figures, (Role.PRODUCER, Role.CONSUMER), strict=True):
            tell(f"{figure.name}: {messages:,} messages, {PAIRS} times each")
            ours, theirs = alternated(
                lambda role=role: field.flood(role, messages).rate_hz,  # type: ignore[misc]
                lambda role=role: field.ask(peer, role, messages),  # type: ignore[misc]
            )
            yield dataclasses.replace(
                figure,
                value=ratio(ours, theirs),
                detail=f"{statistics.median(ours):,.0f} a second, {peer.name} {statistics.median(theirs):,.0f}",
            )
            left.remove(figure)
    except Absent as absent:
        for figure in left:
            yield dataclasses.replace(figure, unavailable=str(absent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a client: messages a second, and us of its CPU a message."""

    rate_hz: float
    cpu_us: float


@dataclass(slots=True, kw_only=True)
class Field:
    """Where clients are measured: one configuration on a warm broker."""

    cell: Cell
    engine: Engine
    pool: Pool
    directory: Path
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def of(cls, target: Target, pool: Pool, directory: Path) -> Field:
        """Raises Absent where the engine cannot serve it here."""
        engine = catalogue.engine(target.engine)
        configuration = catalogue.configurations()[target.configuration]
        if reason := engine.unavailable(configuration.nodes()):
            raise Absent(reason)
        scenario = Scenario(configuration=configuration, schedule=Repeat(Nothing()), workload=Steady())
        cell = Cell(id=f"bench-{target.configuration}", scenario=scenario, seed=_RUN)
        return cls(cell=cell, engine=engine, pool=pool, directory=directory)

    def flood(self, role: Role, messages: int, *, bare: bool = False) -> Run:
        """Let our client do it; a consumer finds them there. Raises Trouble where some are missing."""
        with self._fresh(role, messages) as deployed:
            spec = self._spec(deployed, role, messages, options={BARE: bare})
            told = json.loads(self._client("harness.bench.flood", spec))
        if told["messages"] != messages:
            raise Trouble(f"{told['messages']} of {messages} messages came through: nothing can be said of the rate")
        return Run(rate_hz=messages / told["wall_s"], cpu_us=told["cpu_s"] / messages * 1e6)

    def ask(self, peer: Peer, role: Role, messages: int) -> float:
        """Let a native client do the same; messages a second."""
        with self._fresh(role, messages) as deployed:
            spec = self._spec(deployed, role, messages)
            _, host, port = spec.addresses[0]
            window = WINDOW if role is Role.PRODUCER else PREFETCH
            job = Job(
                orders=spec.orders, address=(host, port), messages=messages, window=window, size=spec.payload_size
            )
            return peer.publish(job) if role is Role.PRODUCER else peer.consume(job)

    def steady(self, rate_hz: float) -> tuple[float, float]:
        """Let our client publish at that rate: (share of the messages that were handed over within the time in which
        they fell due, and confirmed; ms by which 99 of 100 were late at most)."""
        messages = int(rate_hz * STEADY_S)
        with self._fresh(Role.PRODUCER, messages) as deployed:
            spec = self._spec(deployed, Role.PRODUCER, messages, rate_hz=rate_hz, wait_for_go=False)
            self._client("harness.clients.body", spec)
        published = publications_of(read_journal(Path(spec.journal), Words()), confirms=True)
        begin_ns = published["intended_ns"].min()
        in_time = published["invoked_ns"] <= begin_ns + int(STEADY_S * 1e9)
        late_ms = (published["invoked_ns"] - published["intended_ns"]) / 1e6
        good = int(np.count_nonzero(in_time & (published["outcome"] == Outcome.OK)))
        return good / messages, float(np.quantile(late_ms, 0.99))

    @contextmanager
    def _fresh(self, role: Role, messages: int) -> Iterator[Deployed]:
        """A queue or stream of its own; a consumer's holds so many messages."""
        with deploy(self.cell, leasing(self.pool, self.engine)) as deployed:
            if role is Role.CONSUMER:
                self._client("harness.bench.flood", self._spec(deployed, Role.PRODUCER, messages, options={BARE: True}))
            yield deployed
            deployed.broker.discard()

    def _spec(
        self,
        deployed: Deployed,
        role: Role,
        messages: int,
        *,
        rate_hz: float = 0.0,
        wait_for_go: bool = True,
        options: dict[str, object] | None = None,
    ) -> ClientSpec:
        number = next(self.numbers)
        name = f"{role}-1.{number}"
        node = next(iter(deployed.topology.nodes))
        link = deployed.topology.link(f"{role}-1", node, deployed.broker.services()[0])
        return ClientSpec(
            number=number,
            name=name,
            slot=f"{role}-1",
            role=role,
            group="group" if role is Role.CONSUMER else "",
            run=_RUN,
            family=self.cell.scenario.configuration.family,
            orders=deployed.broker.orders(),
            addresses=((node, *link.address),),
            journal=str(self.directory / f"{name}.journal"),
            origin_ns=time.monotonic_ns(),
            deadline_ns=time.monotonic_ns() + int(_LIMIT_S * 1e9),
            ticker_limit_ms=1e3 * _LIMIT_S,
            rate_hz=rate_hz,
            wait_for_go=wait_for_go,
            messages_max=messages,
            payload_size=PAYLOAD_SIZE,
            window=WINDOW,
            confirm_timeout_s=_LIMIT_S,
            confirms=deployed.promise.confirms,
            prefetch=PREFETCH,
            ack=int(deployed.promise.ack),
            pulled=deployed.promise.pulled,
            options=options or {},
        )

    def _client(self, module: str, spec: ClientSpec) -> str:
        """Run a client to its end; what it prints. Raises Trouble with its last words where it fails."""
        orders = Path(spec.journal).with_suffix(".json")
        spec.write(orders)
        try:
            return subprocess.run(
                [sys.executable, "-m", module, str(orders)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                text=True,
                timeout=2 * _LIMIT_S,
            ).stdout
        except subprocess.CalledProcessError as error:
            raise Trouble(f"{spec.name} failed: {error.stderr.strip()[-500:]}") from error
        except subprocess.TimeoutExpired as error:
            raise Trouble(f"{spec.name} did not come to its end: {error}") from error


def _rates(runs: Sequence[Run]) -> str:
    return f"{statistics.median(run.rate_hz for run in runs):,.0f} a second"


def _cpu(runs: Sequence[Run]) -> str:
    return f"{statistics.median(run.cpu_us for run in runs):.1f}"
