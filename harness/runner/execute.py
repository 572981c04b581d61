"""How is one cell run? The phases on one screen: deploy, load, break, mend, recover, drain, audit, freeze, save.

Nothing here judges. What a judge may know is written down as it happens, into the run's directory, so that a run that
was cut short at any moment can still be frozen and judged from its files.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness import catalogue
from harness.clients.spec import ClientSpec
from harness.clock import RunClock, boot_id, until
from harness.errors import Refused, Trouble, Undecided
from harness.faults.client import KillClient
from harness.faults.late_end import SlowClose
from harness.history.freeze import freeze
from harness.history.proceedings import Proceedings
from harness.history.store import write_history
from harness.history.terms import Claimed
from harness.ledger import Ledger
from harness.operation import AcknowledgedBy, Role
from harness.plain import to_plain
from harness.runner.crew import Crew
from harness.runner.drain import drain, leave_the_rest
from harness.runner.nemesis import Nemesis
from harness.runner.peers import Peers
from harness.runner.progress import Progress, Ticker, Watcher, silent
from harness.scenario.scenario import Cell
from harness.system.service import Broker, Promise
from harness.system.system import System
from harness.system.topology import NodeSpec, Topology

READY_LIMIT_S = 90.0
CONNECT_LIMIT_S = 15.0
TICKER_LIMIT_MS = 250.0
RUN_LIMIT_S = 900.0
HARNESS_SLOT = "harness"

Claims = Callable[[str, str, tuple[str, ...]], Sequence[Claimed]]
"""What documentation claims of (configuration, broker version, faults)."""


class Lease(Protocol):
    """Hands out a topology for as long as its context lasts."""

    def __call__(
        self, specs: Sequence[NodeSpec], *, healthy: Callable[[Topology], str | None]
    ) -> AbstractContextManager[Topology]:
        """A topology of these nodes; `healthy` says what is wrong with one that is handed back."""
        ...


@dataclass(frozen=True, slots=True)
class Deployed:
    """A system that is ready for load."""

    topology: Topology
    broker: Broker
    promise: Promise


def execute(
    cell: Cell,
    *,
    lease: Lease,
    directory: Path,
    ledger: Ledger,
    watcher: Watcher = silent,
    claims: Claims,
) -> None:
    """Run one cell and save its run into `directory` (made, must be empty or absent).

    `lease(specs, healthy=...)` is a context manager that yields a topology. `claims(configuration, version, faults)`
    answers what documentation claims in this scope: looked up now, because it travels with the history.
    Raises Refused where the cell cannot be run, Trouble where a broker or the engine fails; what was recorded until
    then has been frozen and saved, as interrupted, before the error goes on.
    """
    if directory.exists() and any(directory.iterdir()):
        raise Refused(f"{directory} is not empty", cure="give each run a directory of its own")
    directory.mkdir(parents=True, exist_ok=True)
    plan = cell.plan()
    _write_json(directory / "scenario.json", {"id": cell.id, "seed": cell.seed, **_mapping(to_plain(cell.scenario))})
    _write_json(directory / "plan.json", to_plain(plan))
    run = time.time_ns() & ((1 << 63) - 1)
    clock = RunClock.start()
    with ExitStack() as stack:
        proceedings = Proceedings(directory)
        stack.callback(proceedings.close)
        _state_terms(proceedings, cell, run, clock)
        progress = Progress(directory, cell.id, clock, proceedings, watcher)
        ticker = Ticker(clock, proceedings, TICKER_LIMIT_MS)
        stack.callback(ticker.stop)
        try:
            _run(cell, run, clock, proceedings, progress, directory, ledger, lease, claims)
        except BaseException as error:
            proceedings.write("terms", interrupted=f"{type(error).__name__}: {error}".splitlines()[0][:500])
            raise
        finally:
            progress.end()
            ticker.stop()
            proceedings.write("terms", clock_pairs=[_clock_pair(clock)])
            proceedings.close()
            write_history(directory, freeze(directory))


def _run(
    cell: Cell,
    run: int,
    clock: RunClock,
    proceedings: Proceedings,
    progress: Progress,
    directory: Path,
    ledger: Ledger,
    lease: Lease,
    claims: Claims,
) -> None:
    scenario = cell.scenario
    workload, configuration = scenario.workload, scenario.configuration
    plan = cell.plan()
    with ExitStack() as stack:
        progress.phase("deploy")
        crew = Crew(directory, clock, proceedings, ledger, configuration.family)
        stack.callback(crew.close)
        kills = any(isinstance(fault, KillClient | SlowClose) for fault in plan.faults)
        crew.spare(workload.producers + workload.consumers + kills)
        deployed = stack.enter_context(deploy(cell, lease))
        topology, broker, promise = deployed.topology, deployed.broker, deployed.promise
        stack.enter_context(_through(topology))
        stack.callback(crew.close)  # before the nodes go: what they send as they end is nobody's doing but ours
        version = broker.version()
        faults = tuple(sorted({fault.name for fault in plan.faults}))
        proceedings.write(
            "terms",
            broker_version=version,
            # Of clients that lie nobody claims anything.
            claims=() if scenario.sabotage else claims(configuration.name, version, faults),
            environment={**topology.describe(), **_machine()},
        )
        for spec in _client_specs(cell, run, clock, directory, broker, topology, promise):
            crew.start(spec)
        until(
            lambda: crew.connected() is None,
            within_s=CONNECT_LIMIT_S,
            what="clients to connect",
            last_seen=lambda: f"{crew.connected()}; " + "; ".join(f"{c.name}: {c.last_words()}" for c in crew.all()),
        )
        services = broker.services()
        system = System(topology=topology, broker=broker, crew=crew, clock=clock, services=services)

        peers = Peers(broker, topology, crew, proceedings)
        peers.check()
        crew.go()
        hides_ends = any(fault.hides_ends for fault in plan.faults)
        nemesis = Nemesis(system, broker, crew, promise, scenario, progress, proceedings, peers)
        nemesis.carry_out(plan)
        progress.phase("drain")
        if scenario.drain:
            drained = drain(broker, crew, promise, hides_ends=hides_ends, confirm_timeout_s=workload.confirm_timeout_s)
        else:
            drained = leave_the_rest(crew, confirm_timeout_s=workload.confirm_timeout_s)
        proceedings.write(
            "terms",
            drained=drained.drained,
            drained_why_not=drained.why_not,
            silence_s=drained.silence_s,
            silence_needed=drained.silence_needed,
        )
        progress.phase("audit")
        missing = broker.whole() or broker.ready()
        proceedings.write(
            "terms", brokers_up=broker.whole() is None, whole=missing is None, whole_why_not=missing or ""
        )
        census = broker.census(run)
        proceedings.write("census", census)
        proceedings.write("terms", exhaustive=census.exhaustive, exhaustive_why_not=census.why_not or "")
        _audit_sink(cell, directory, clock, proceedings)
        trouble = topology.proxy_alive()
        proceedings.write("terms", proxy_trouble=trouble or "")
        if not topology.dirty and not any(fault.needs.fresh for fault in plan.faults):
            broker.discard()  # else nobody comes after us, and nobody may be there to be asked


@contextmanager
def deploy(cell: Cell, lease: Lease) -> Iterator[Deployed]:
    """The cell's system, whole, its queue or stream made and ready. Raises Trouble where it does not become so."""
    configuration = cell.scenario.configuration
    broker_class = catalogue.broker(configuration.family)

    used_up = ""

    def healthy(topology: Topology) -> str | None:
        return used_up or topology.proxy_alive()

    with ExitStack() as stack:
        topology = stack.enter_context(lease(cell.scenario.nodes(), healthy=healthy))
        used_up = ", ".join(sorted({f"{fault.name} used it up" for fault in cell.plan().faults if fault.needs.fresh}))
        topology.prepare(frozenset().union(*(fault.needs.verbs for fault in cell.plan().faults)))
        broker: Broker = broker_class(configuration, topology, _short(cell.id))
        stack.callback(broker.close)
        seen = ["nothing yet"]

        def whole() -> bool:
            seen[0] = broker.whole() or ""
            return not seen[0]

        def last_seen() -> str:
            tails = [f"{name}: {node.status()}; {node.logs(3)}" for name, node in topology.nodes.items()]
            return "\n  ".join([seen[0], *tails])

        until(whole, within_s=READY_LIMIT_S, what=f"{configuration.name} to be whole", last_seen=last_seen)
        broker.prepare()
        until(
            lambda: broker.ready() is None,
            within_s=READY_LIMIT_S,
            what=f"the queue or stream of {configuration.name} to be ready",
            last_seen=lambda: broker.ready() or "ready just now",
        )
        topology.settle()  # that it was made is not in question
        yield Deployed(topology, broker, configuration.promise())


@contextmanager
def _through(topology: Topology) -> Iterator[None]:
    """What fails while the proxy is gone failed for that: everybody's way to the brokers ended with it."""
    try:
        yield
    except Trouble as trouble:
        if gone := topology.proxy_alive():
            raise Undecided(f"nothing is known: the proxy died in the middle of the run: {gone}") from trouble
        raise


def _client_specs(
    cell: Cell,
    run: int,
    clock: RunClock,
    directory: Path,
    broker: Broker,
    topology: Topology,
    promise: Promise,
) -> Iterator[ClientSpec]:
    scenario, workload = cell.scenario, cell.scenario.workload
    nodes = list(topology.nodes)
    service = broker.services()[0]
    number = 0
    for role, count in ((Role.CONSUMER, workload.consumers), (Role.PRODUCER, workload.producers)):
        for place in range(1, count + 1):
            number += 1
            slot = f"{role}-{place}"
            turned = nodes[number % len(nodes) :] + nodes[: number % len(nodes)]
            links = [topology.link(slot, node, service) for node in turned]
            for link in links:
                link.set_distance(workload.distance_ms)
            addresses = tuple((link.node, *link.address) for link in links)
            yield ClientSpec(
                number=number,
                name=f"{slot}.{number}",
                slot=slot,
                role=role,
                group="group" if role is Role.CONSUMER else "",
                run=run,
                family=scenario.configuration.family,
                orders=broker.orders(),
                addresses=addresses,
                journal=str(directory / "journals" / f"{slot}.{number}.journal"),
                origin_ns=clock.origin_ns,
                deadline_ns=time.monotonic_ns() + int(RUN_LIMIT_S * 1e9),
                ticker_limit_ms=TICKER_LIMIT_MS,
                rate_hz=workload.rate_hz / workload.producers,
                messages_max=int(workload.rate_hz * RUN_LIMIT_S),
                payload_size=workload.payload_size,
                window=workload.window,
                confirm_timeout_s=workload.confirm_timeout_s,
                confirms=promise.confirms,
                retry=promise.retry,
                retry_limit=promise.retry_limit,
                prefetch=workload.prefetch,
                ack=int(promise.ack),
                pulled=promise.pulled,
                pull_one=workload.pull_one,
                service_ms=workload.service_ms,
                mechanism=_named(scenario.processing),
                sink=_named(scenario.sink),
                options={"sabotage": scenario.sabotage} if scenario.sabotage else {},
                sink_path=str(directory / "sink.sqlite") if scenario.sink is not None else "",
            )


def _state_terms(proceedings: Proceedings, cell: Cell, run: int, clock: RunClock) -> None:
    """Everything that the terms can say before anything has happened."""
    scenario = cell.scenario
    promise, workload = scenario.configuration.promise(), scenario.workload
    proceedings.write(
        "terms",
        cell=cell.id,
        seed=cell.seed,
        run=run,
        configuration=scenario.configuration.name,
        family=scenario.configuration.family,
        broker_version="",
        faults=sorted({fault.name for fault in cell.plan().faults}),
        acknowledged_by=int(AcknowledgedBy.BROKER if promise.confirms else AcknowledgedBy.NONE),
        ack=int(promise.ack),
        retry=promise.retry,
        pulled=promise.pulled or workload.pull_one,
        redelivered_promise=promise.redelivered_promise,
        ordered=promise.ordered,
        stores=promise.stores,
        drain=promise.drain,
        groups=["group"],
        floor_hz=workload.floor_hz,
        offered_hz=workload.rate_hz,
        ticker_limit_ms=TICKER_LIMIT_MS,
        redelivery_horizon_s=promise.redelivery_horizon_s,
        recovery_limit_s=scenario.recovery_limit_s,
        ack_wait_s=promise.ack_wait_s,
        policies=promise.policies,
        mechanism=scenario.processing.name if scenario.processing is not None else "",
        settings={**promise.settings, **_mapping(to_plain(workload))},
        boot_id=boot_id(),
        clock_pairs=[_clock_pair(clock)],
        origin_ns=clock.origin_ns,
    )


def _audit_sink(cell: Cell, directory: Path, clock: RunClock, proceedings: Proceedings) -> None:
    if cell.scenario.sink is None:
        return
    audit = catalogue.audit(cell.scenario.sink.name)
    rows = [
        (message, count, first_ns - clock.origin_ns, last_ns - clock.origin_ns)
        for message, count, first_ns, last_ns in audit(directory / "sink.sqlite")
    ]
    proceedings.write("effects", rows=rows)
    proceedings.write("terms", effects_audited=True)


def _named(record: object) -> Mapping[str, object] | None:
    return None if record is None else {"type": type(record).__name__, **_mapping(to_plain(record))}


def _mapping(plain: object) -> dict[str, object]:
    if not isinstance(plain, dict):
        raise TypeError(f"a record was expected to become a mapping, not {plain!r}")
    return plain


def _clock_pair(clock: RunClock) -> tuple[int, int]:
    return clock.now_ns(), time.time_ns()


def _machine() -> dict[str, object]:
    return {"machine": platform.platform(), "python": platform.python_version()}


def _short(cell_id: str) -> str:
    """A cell's name as part of a queue's or stream's name: letters, digits and hyphens, unique with the time."""
    kept = "".join(letter if letter.isalnum() else "-" for letter in cell_id)[-60:].strip("-")
    return f"{kept}-{time.time_ns() % 10**9:x}"


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n")
