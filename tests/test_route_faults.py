"""Are the routes of one local NATS server delayed, and no others, and does a fault that delayed others say so?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.brokers.memory.configuration import Memory
from harness.brokers.nats.configuration import JetStream, Nats
from harness.brokers.rabbitmq.configuration import RabbitMQ
from harness.engines.containers.engine import Containers
from harness.engines.processes import Processes
from harness.engines.routes import Routes
from harness.errors import Refused
from harness.faults.partition import Isolate, between
from harness.faults.routes import RouteLatency
from harness.guarantee import Status
from harness.history.terms import InjectionTerms
from harness.operation import Role
from harness.plain import from_plain, to_plain
from harness.plugin.fixtures import unserved
from harness.run import Run
from harness.scenario.matrix import dirties, inapplicable
from harness.scenario.scenario import Cell, Scenario
from harness.scenario.schedule import Overlap, Repeat
from harness.scenario.workload import Steady
from harness.system.topology import Cut
from tests.runs import run_cell

R3 = Nats("routed", members=3, jetstream=JetStream(replicas=3), acknowledge="confirmed")
DELAY = frozenset({"delay"})
NAMES = ["nats-1", "nats-2", "nats-3"]
OF_1 = between(["nats-1"], ["nats-2", "nats-3"])


def test_its_json_reads_back_to_the_same_fault() -> None:
    fault = RouteLatency(Role.CLIENT_NODE, delay_ms=250)
    assert from_plain(RouteLatency, to_plain(fault)) == fault
    assert fault.name == "route_latency_client_node"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RouteLatency(Role.PRODUCER), "route_latency: role=producer"),
        (lambda: RouteLatency(delay_ms=19), "delay_ms=19"),
        (lambda: RouteLatency(delay_ms=401), "20 to 400"),
        (lambda: Overlap((RouteLatency(), Isolate())), "both between nodes"),
    ],
)
def test_what_cannot_be_is_refused_at_birth(make: Callable[[], object], says: str) -> None:
    with pytest.raises(Refused, match=says):
        make()


def test_it_is_for_clusters_of_nats_and_leaves_its_cluster_as_good_as_before() -> None:
    assert inapplicable(R3, RouteLatency(), processed=False) is None
    assert "single node" in str(inapplicable(Nats("one"), RouteLatency(), processed=False))
    assert "NATS servers do" in str(inapplicable(RabbitMQ("three", members=3), RouteLatency(), processed=False))
    assert not dirties(RouteLatency())


def test_local_servers_of_nats_have_routes_that_can_be_delayed_and_others_have_none() -> None:
    engine = Processes()
    assert "delay" in engine.offers().verbs
    assert engine.unavailable(R3.nodes(), DELAY) is None
    assert "reach each other directly" in str(engine.unavailable(Memory("one").nodes(), DELAY))


@pytest.mark.engine
def test_in_containers_it_is_refused_before_anything_starts_with_the_cure() -> None:
    cell = Cell(id="cell", scenario=Scenario(configuration=R3, schedule=Repeat(RouteLatency())), seed=1)
    reason = str(unserved(Containers(), cell, R3.nodes()))
    assert "reach each other directly" in reason
    assert "--assay-engine processes" in reason


QUICK = dict.fromkeys((Cut(one, other) for one in NAMES for other in NAMES if one != other), 0.5)
SLOW = {**QUICK, **dict.fromkeys(OF_1, 201.0)}
READ_BACK = dict.fromkeys(OF_1, 100)
MEASURED: dict[str, tuple[Mapping[Cut, float], Mapping[Cut, float], Mapping[Cut, int], str | None]] = {
    "all of them are slow": (QUICK, SLOW, READ_BACK, None),
    "none is": (QUICK, QUICK, READ_BACK, "take twice that"),
    "slow one way only": (QUICK, {**QUICK, **dict.fromkeys(OF_1, 101.0)}, READ_BACK, "nats-1->nats-2 101.0 ms"),
    "one of them is not": (QUICK, {**SLOW, OF_1[0]: 1.0}, READ_BACK, "nats-1->nats-2 1.0 ms"),
    "a server is silent": (QUICK, {way: ms for way, ms in SLOW.items() if way != OF_1[0]}, READ_BACK, "silent"),
    "slow already before": ({**QUICK, OF_1[0]: 150.0}, SLOW, READ_BACK, "slow before"),
    "not known before": ({way: ms for way, ms in QUICK.items() if way != OF_1[0]}, SLOW, READ_BACK, "or unknown"),
    "others are slow, too": (QUICK, dict.fromkeys(QUICK, 201.0), READ_BACK, "on other routes, too"),
    "somebody mended it": (QUICK, SLOW, {}, "somebody mended it"),
}


@pytest.mark.parametrize("case", MEASURED)
def test_only_pings_that_are_slow_on_its_routes_alone_are_evidence(case: str) -> None:
    before, held, read_back, says = MEASURED[case]
    why_not = RouteLatency()._why_not(NAMES, OF_1, before, held, read_back)
    assert (why_not is None) if says is None else (says in str(why_not))


def injected(fault: RouteLatency, directory: Path) -> tuple[InjectionTerms, Run]:
    scenario = Scenario(
        configuration=R3, schedule=Repeat(fault), workload=Steady(rate_hz=300, quiet_s=0.5, producers=2)
    )
    run = run_cell(scenario, directory, engine=Processes())
    (injection,) = run.history.terms.injections
    return injection, run


@pytest.mark.parametrize("role", [Role.LEADER, Role.FOLLOWER], ids=str)
def test_the_routes_of_a_server_are_slow_as_its_pings_tell_and_quick_again_when_mended(
    role: Role, tmp_path: Path
) -> None:
    injection, run = injected(RouteLatency(role), tmp_path / "run")
    assert injection.why_not is None
    assert injection.bit_ns is not None
    assert injection.recovered_ns is not None, run.judgement.trial
    assert run.history.terms.whole
    assert not run.history.terms.proxy_trouble


Delay = Callable[[Routes, Sequence[Cut], int], None]


def nothing(routes: Routes, cuts: Sequence[Cut], delay_ms: int) -> None:
    """Nobody is told."""


def elsewhere(routes: Routes, cuts: Sequence[Cut], delay_ms: int) -> None:
    """The way between the two other servers, and not those of this one."""
    DELAYED(routes, [cut for cut in routes.doors if cut not in cuts], delay_ms)


def everywhere(routes: Routes, cuts: Sequence[Cut], delay_ms: int) -> None:
    """Every way."""
    DELAYED(routes, list(routes.doors), delay_ms)


def one_way(routes: Routes, cuts: Sequence[Cut], delay_ms: int) -> None:
    """What it sends, and not what it is sent."""
    DELAYED(routes, [cut for cut in cuts if cut.source == cuts[0].source], delay_ms)


DELAYED = Routes.delay


@pytest.mark.parametrize("wrong", [nothing, elsewhere, everywhere, one_way])
def test_other_routes_or_none_are_no_evidence(wrong: Delay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Routes, "delay", wrong)
    injection, run = injected(replace(RouteLatency(), hold_s=1.5), tmp_path / "run")
    assert injection.bit_ns is None, dict(injection.facts)
    assert injection.why_not
    assert "somebody mended it" not in injection.why_not  # measured, before anything is read back
    assert injection.recovered_ns is not None
    assert Status.HELD not in {verdict.status for verdict in run.judgement.verdicts.values()}
