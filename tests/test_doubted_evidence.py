"""Does evidence doubt what nobody said, what was mended by others, and what others did? Each fault, on stand-ins."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.clients.body import Body
from harness.clock import RunClock
from harness.errors import Trouble
from harness.faults import disk as disk_module
from harness.faults.blackhole import spared_side
from harness.faults.clock import ClockDrift, ClockStep
from harness.faults.conduct import Hoard, SlowConsumer
from harness.faults.disk import DiskFull, DiskNearlyFull
from harness.faults.fault import Fault
from harness.faults.late_end import SlowClose
from harness.faults.links import mended_meanwhile, published
from harness.faults.memory import MemoryAlarm
from harness.faults.mending import once_running
from harness.faults.network import Disconnect, Latency, Stall
from harness.faults.node import Kill, Stop
from harness.faults.standstill import AbruptClose, PauseClient
from harness.history.journal import PLACE, Journal
from harness.operation import CUT, Conduct, Evidence, Role
from harness.system.system import Counters, System
from harness.system.topology import Direction, NodeState, NodeStatus

RUNNING = NodeStatus(NodeState.RUNNING, 1, 1)
FROZEN = NodeStatus(NodeState.PAUSED, 1, 1)
NOTHING_YET = replace(Counters(**{one.name: 0 for one in fields(Counters)}), connected=True)


@dataclass
class Client:
    """A client that does as it is told, and counts it."""

    number: int
    role: Role = Role.CONSUMER
    pid: int = 1
    prefetch: int = 10
    dead: bool = False
    stopped: bool = False
    seen: Counters = NOTHING_YET
    on_cut: Callable[[Client], None] = lambda client: client.lose(itself=True)
    ended_ns: int | None = None
    doing: Conduct = Conduct.USUAL
    busy: bool = False

    @property
    def name(self) -> str:
        return f"{self.slot}.{self.number}"

    @property
    def slot(self) -> str:
        return f"{self.role}-1"

    def tell(self, **changed: object) -> None:
        self.seen = replace(self.seen, **cast(Any, changed))

    def lose(self, *, itself: bool, back: bool = True) -> None:
        seen = self.seen
        self.tell(
            lost=seen.lost + 1,
            lost_ns=time.monotonic_ns(),
            cuts_done=(seen.cuts_done or 0) + itself,
            connections=seen.connections + back,
        )

    def counters(self) -> Counters:
        if self.busy:
            self.tell(handed=self.seen.handed + 1)
        return self.seen

    def alive(self) -> bool:
        return not self.dead

    def kill(self) -> None:
        self.dead, self.ended_ns = True, time.monotonic_ns()

    def died_ns(self) -> int | None:
        return self.ended_ns

    def state(self) -> str:
        return "T" if self.stopped else "S"

    def pause(self) -> None:
        self.stopped = True

    def resume(self) -> None:
        self.stopped = False

    def cut(self) -> None:
        self.on_cut(self)

    def behave(self, conduct: Conduct) -> None:
        self.doing = conduct
        if conduct is Conduct.HOARDS:
            self.tell(holding=self.prefetch)

    def slow_down(self, slow_ms: float) -> None:
        pass


@dataclass
class Link:
    """A link on which whatever is set is read back, until somebody heals it."""

    slot: str
    node: str = "node-1"
    wrong: dict[str, object] = field(default_factory=dict)

    def disturbed(self) -> dict[str, object]:
        return self.wrong

    def heal(self) -> None:
        self.wrong = {}

    def stall(self, direction: object) -> None:
        self.wrong = {f"stall_{direction}": {}}

    def slow_close(self, delay_ms: int, direction: object) -> None:
        self.wrong = {"slow_close": delay_ms}

    def disconnect(self) -> None:
        self.wrong = {"enabled": False}

    def latency(self, latency_ms: int, direction: object) -> None:
        self.wrong = {**self.wrong, f"latency_{direction}": latency_ms}

    def traffic(self) -> object:
        return SimpleNamespace(withheld=lambda _direction: 0)


@dataclass
class Node:
    """A node that ends and starts as it is told."""

    name: str = "node-1"
    now: NodeStatus = RUNNING

    def status(self) -> NodeStatus:
        return self.now

    def kill(self) -> None:
        self.now = NodeStatus(NodeState.EXITED, None, None, 137)

    def stop(self) -> None:
        self.now = NodeStatus(NodeState.EXITED, None, None, 0)

    def start(self) -> None:
        if self.now.state is NodeState.EXITED:
            self.now = NodeStatus(NodeState.RUNNING, 2, 2)


class Disk:
    """A disk of 100 MiB."""

    def __init__(self) -> None:
        self.free = 100 << 20

    def space(self) -> object:
        return SimpleNamespace(total=100 << 20, free=self.free)

    def fill(self, leave_bytes: int) -> None:
        self.free = leave_bytes

    def empty(self) -> None:
        self.free = 100 << 20


class Bench:
    """A system of stand-ins: one node, one consumer, one producer, a link of each."""

    def __init__(self) -> None:
        self.clients = [Client(1), Client(2, Role.PRODUCER)]
        self.links = [Link("consumer-1"), Link("producer-1")]
        self.node, self.disk = Node(), Disk()
        self.listed: Callable[[], Sequence[object]] = list
        self.quickest: tuple[dict[str, int], dict[str, int]] = ({}, {})
        broker = SimpleNamespace(
            peers=lambda: self.listed(), last_end=lambda _client: "gone", whole=lambda: None, leader=lambda: "node-1"
        )
        topology = SimpleNamespace(nodes={"node-1": self.node}, links=lambda: self.links, disk=lambda _node: self.disk)
        crew = SimpleNamespace(
            all=lambda: self.clients, living=self.living, replace=self.replaced, quickest_ns=self.passed
        )
        self.system = System(cast(Any, topology), cast(Any, broker), cast(Any, crew), RunClock.start())

    @property
    def consumer(self) -> Client:
        return self.clients[0]

    @property
    def producer(self) -> Client:
        return self.clients[1]

    def living(self, role: Role = Role.BOTH) -> list[Client]:
        return [client for client in self.clients if role in (Role.BOTH, client.role) and client.alive()]

    def replaced(self, client: Client) -> Client:
        self.clients.append(Client(max(one.number for one in self.clients) + 1, client.role))
        return self.clients[-1]

    def passed(self, role: Role, since_ns: int, until_ns: int, least: int = 1) -> dict[str, int]:
        passages_ms = self.quickest[least > 1]
        return {name: 1_000_000 * ms for name, ms in passages_ms.items()}

    def measured(self, fault: Fault, meanwhile: Callable[[], object] = lambda: None) -> Evidence:
        """Its evidence, where that happens between breaking and measuring."""
        with fault.inject(self.system, 0) as measure:
            meanwhile()
            return measure()


def nobody() -> Sequence[object]:
    raise Trouble("node-1 is silent")


# ---- nobody answers ------------------------------------------------------------------------------------------------


def test_a_client_that_nobody_says_to_be_listed_was_not_given_up() -> None:
    bench = Bench()
    assert bench.measured(PauseClient()).why_not is None
    bench.listed = nobody
    evidence = bench.measured(PauseClient())
    assert evidence.bit_ns is None
    assert evidence.why_not == "nobody says whom the broker lists: node-1 is silent"
    assert evidence.facts["broker_gave_it_up"] is None
    assert bench.measured(PauseClient(given_up=False)).why_not is None


def test_a_client_without_a_connection_cannot_be_given_up() -> None:
    bench = Bench()
    bench.consumer.tell(connected=False)
    assert "had no connection before it stopped" in str(bench.measured(PauseClient()).why_not)


def test_a_late_end_needs_a_broker_that_says_whom_it_lists() -> None:
    bench, fault = Bench(), SlowClose(delay_ms=200, hold_s=0.01)
    asked_s = list[float]()

    def listed() -> list[SimpleNamespace]:
        asked_s.append(time.monotonic())
        return [SimpleNamespace(client=bench.consumer.name)] if asked_s[-1] < asked_s[0] + 0.2 else []

    bench.listed = listed
    assert bench.measured(fault).why_not is None
    other = Bench()
    other.listed = nobody
    evidence = other.measured(fault)
    assert (evidence.bit_ns, evidence.why_not) == (None, "nobody says whom the broker lists: node-1 is silent")


# ---- who cut it? ---------------------------------------------------------------------------------------------------


def test_an_abrupt_close_is_the_clients_own_and_is_followed_by_another_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.faults.standstill._BACK_WITHIN_S", 0.01)
    assert Bench().measured(AbruptClose()).why_not is None
    others, away = Bench(), Bench()
    others.consumer.on_cut = lambda client: client.lose(itself=False)
    away.consumer.on_cut = lambda client: client.lose(itself=True, back=False)
    assert "was not consumer-1.1 that cut it" in str(others.measured(AbruptClose()).why_not)
    assert "had no other connection" in str(away.measured(AbruptClose()).why_not)


@pytest.mark.parametrize(("why", "own"), [(CUT, 1), (f"ConnectionAbortedError: {CUT}", 1), ("connection closed", 0)])
def test_a_client_counts_the_cuts_that_are_its_own(why: str, own: int, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", client=1, origin_ns=0)
    work = SimpleNamespace(lost=lambda _epoch: None)
    body = SimpleNamespace(connection=object(), epoch=1, live=journal.live, journal=journal, work=work)
    Body.lost(cast(Any, body), 1, why)
    assert (journal.get("lost"), journal.get("cuts_done")) == (1, own)
    journal.close()
    assert {one.name for one in fields(Counters)} <= set(PLACE)


# ---- the dead and their successors ---------------------------------------------------------------------------------


def test_what_the_dead_have_published_stays_published() -> None:
    bench = Bench()
    bench.producer.tell(handed=5)
    bench.producer.kill()
    bench.replaced(bench.producer).tell(handed=2)
    assert published(bench.system) == 7


QUICKEST: dict[str, tuple[Role, dict[str, int], dict[str, int], str | None]] = {
    "an answer is two ways late": (Role.PRODUCER, {"producer-1.2": 5}, {"producer-1.2": 190}, None),
    "an answer is only one way late": (Role.PRODUCER, {"producer-1.2": 5}, {"producer-1.2": 105}, "took 105.0 ms"),
    "it was as slow before": (Role.PRODUCER, {"producer-1.2": 190}, {"producer-1.2": 205}, "190.0 before"),
    "nothing was answered before": (Role.PRODUCER, {}, {"producer-1.2": 205}, "nobody knows how long one takes"),
    "nothing was answered since": (Role.PRODUCER, {"producer-1.2": 5}, {}, "each a publish of producer-1.2"),
    "one before it was another's": (Role.PRODUCER, {"producer-1.9": 5}, {"producer-1.2": 190}, None),
    "one of two has no delay": (Role.PRODUCER, {"producer-1.2": 5}, {"producer-1.2": 190, "producer-2.3": 5}, "-2.3"),
    "a delivery is one way late": (Role.CONSUMER, {"consumer-1.1": 5}, {"consumer-1.1": 96}, None),
    "a delivery is hardly late": (Role.CONSUMER, {"consumer-1.1": 5}, {"consumer-1.1": 60}, "quickest delivery took"),
}


@pytest.mark.parametrize("case", QUICKEST)
def test_a_delay_makes_every_passage_longer_the_quickest_too(case: str) -> None:
    role, before, since, why_not = QUICKEST[case]
    bench = Bench()
    bench.producer.tell(answered=1)
    bench.producer.busy = True
    bench.quickest = (before, since)
    evidence = bench.measured(Latency(role, latency_ms=100))
    assert evidence.why_not is None if why_not is None else why_not in str(evidence.why_not)


def test_a_delay_of_one_direction_alone_is_none_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Link, "latency", lambda self, ms, way: self.wrong.update({"latency_upstream": ms}))
    bench = Bench()
    bench.producer.tell(answered=1)
    bench.producer.busy = True
    bench.quickest = ({"producer-1.2": 5}, {"producer-1.2": 210})
    assert "producer-1->node-1 in one direction only" in str(bench.measured(Latency(Role.PRODUCER)).why_not)


def test_a_late_end_is_shown_by_a_list_of_a_quarter_of_the_delay_or_later() -> None:
    early = Bench()
    early.listed = lambda: [SimpleNamespace(client=early.consumer.name)] if early.consumer.alive() else []
    why_not = early.measured(SlowClose(delay_ms=200, hold_s=0.1)).why_not
    assert why_not == "the broker did not list consumer-1.1 any more when it was asked"


def test_a_dead_client_needs_no_passage_of_its_own() -> None:
    bench = Bench()
    bench.producer.tell(answered=1)
    bench.producer.busy = True
    bench.replaced(bench.producer).tell(answered=1)
    bench.quickest = ({"producer-1.2": 5}, {"producer-1.2": 210})
    assert "each a publish of producer-1.3" in str(bench.measured(Latency(Role.PRODUCER)).why_not)
    assert bench.measured(Latency(Role.PRODUCER), bench.clients[-1].kill).why_not is None


def test_a_hoard_and_a_slow_pace_are_of_the_same_consumers() -> None:
    bench = Bench()
    assert bench.measured(Hoard()).why_not is None
    assert "consumer-1.1 is gone" in str(bench.measured(Hoard(), bench.consumer.kill).why_not)
    other = Bench()
    assert "consumer-1.3 has come" in str(other.measured(Hoard(), lambda: other.replaced(other.consumer)).why_not)
    slow = Bench()
    evidence = slow.measured(SlowConsumer(), lambda: (slow.consumer.kill(), slow.replaced(slow.consumer)))
    assert "consumer-1.1 is gone, consumer-1.3 has come" in str(evidence.why_not)


# ---- somebody else mended it ---------------------------------------------------------------------------------------


def test_what_the_proxy_does_not_say_any_more_was_mended() -> None:
    assert mended_meanwhile({"a->n": {"enabled": False}}) is None
    assert "nothing is wrong with b->n any more" in str(mended_meanwhile({"a->n": {"x": 1}, "b->n": {}}))
    bench = Bench()
    evidence = bench.measured(Stall(), bench.links[1].heal)
    assert "nothing is wrong with producer-1->node-1 any more" in str(evidence.why_not)
    assert "any more" not in str(bench.measured(Stall()).why_not)


def test_a_cut_link_that_somebody_mended_is_told_of() -> None:
    def ending(bench: Bench) -> Callable[[], None]:
        return lambda: [client.lose(itself=False) for client in bench.clients] and None

    bench = Bench()
    assert bench.measured(Disconnect(), ending(bench)).why_not is None
    other = Bench()
    evidence = other.measured(Disconnect(), lambda: (ending(other)(), other.links[0].heal()))
    assert "nothing is wrong with consumer-1->node-1 any more" in str(evidence.why_not)


@pytest.mark.parametrize("fault", [Kill(), Stop()], ids=lambda fault: fault.name)
def test_a_node_that_somebody_started_again_was_not_down_for_as_long(fault: Fault) -> None:
    bench = Bench()
    assert bench.measured(fault).why_not is None
    assert bench.node.now.state is NodeState.RUNNING
    evidence = bench.measured(fault, bench.node.start)
    assert (evidence.bit_ns, "somebody else started it" in str(evidence.why_not)) == (None, True)


FULL: dict[str, tuple[Fault, NodeStatus, NodeStatus, str | None]] = {
    "it runs on": (DiskFull(), RUNNING, RUNNING, None),
    "it ends for want of room": (DiskFull(), RUNNING, NodeStatus(NodeState.EXITED, None, None, 1), None),
    "it was killed": (DiskFull(), RUNNING, NodeStatus(NodeState.EXITED, None, None, 137), "somebody killed it"),
    "it was frozen": (DiskFull(), RUNNING, FROZEN, "was paused while it should want room"),
    "it was started again": (DiskFull(), RUNNING, NodeStatus(NodeState.RUNNING, 2, 2), "was started again"),
    "it did not run": (DiskFull(), FROZEN, RUNNING, "was paused before"),
    "it goes on with little": (DiskNearlyFull(), RUNNING, RUNNING, None),
    "it ends with little": (
        DiskNearlyFull(),
        RUNNING,
        NodeStatus(NodeState.EXITED, None, None, 1),
        "was to go on with little room",
    ),
}


@pytest.mark.parametrize("case", FULL)
def test_a_full_disk_is_one_of_a_node_that_ran(case: str) -> None:
    fault, before, held, says = FULL[case]
    bench = Bench()
    bench.node.now = before
    evidence = bench.measured(fault, lambda: setattr(bench.node, "now", held))
    assert (evidence.bit_ns is None) == (says is not None)
    assert (says or "None") in str(evidence.why_not)
    if isinstance(fault, DiskFull):
        assert evidence.facts["ended_by_itself"] is (held.exit_code == 1)
    assert bench.disk.free > disk_module.DISK_MB


# ---- a node that cannot be told ------------------------------------------------------------------------------------


def test_what_a_frozen_node_cannot_be_told_waits_until_it_runs() -> None:
    node, told = Node(now=FROZEN), []
    with pytest.raises(Trouble, match=r"node node-1 to run and be mended .* last seen: paused"):
        once_running(cast(Any, node), lambda: told.append(1), within_s=0.02)
    assert told == []

    def boots() -> None:
        told.append(1)
        if len(told) < 3:
            raise Trouble("it boots")

    node.now = RUNNING
    once_running(cast(Any, node), boots, within_s=5.0)
    assert len(told) == 3


@pytest.mark.parametrize("fault", [ClockStep(), ClockDrift(), MemoryAlarm()], ids=lambda fault: fault.name)
def test_a_node_that_is_frozen_as_its_fault_is_mended_is_mended_once_it_runs(fault: Fault) -> None:
    bench, told = Bench(), list[tuple[object, NodeState]]()
    node, broker = cast(Any, bench.node), cast(Any, bench.system.broker)
    node.set_clock = lambda offset_s, rate=1.0: told.append((offset_s, node.now.state))
    node.execute = lambda *argv: told.append((argv[-1], node.now.state))
    broker.clock_offset_s = lambda _node: 60.0
    broker.whole = lambda: "node-1 sees an alarm: memory of node-1"
    thaw = Timer(0.1, lambda: setattr(node, "now", RUNNING))
    with fault.inject(bench.system, 0):
        node.now = FROZEN
        thaw.start()
    assert [state for _, state in told] == [NodeState.RUNNING, NodeState.RUNNING]
    assert told[-1][0] in (0.0, "0.6")


TOLD: dict[str, tuple[tuple[float, float, float], str | None]] = {
    # what: (offsets told before, as it began, and 6 s later, s; what is wrong)
    "three times as fast": ((-0.4, -0.7, 10.2), None),
    "apart before": ((12.0, 12.0, 24.0), "was +12.0 s apart from ours before"),
    "a step and no drift": ((0.0, 12.0, 12.0), "told a time +12.0 s apart from ours as it began"),
    "half as fast as asked": ((0.0, 0.0, 6.0), "was to be +12.0 s apart by now"),
    "right all the time": ((0.0, 0.0, 0.0), "was to be +12.0 s apart by now"),
}


@pytest.mark.parametrize("what", TOLD)
def test_a_clock_that_drifted_moved_away_bit_by_bit(what: str) -> None:
    offsets, why_not = TOLD[what]
    bench, told = Bench(), iter(offsets)
    cast(Any, bench.node).set_clock = lambda _offset_s, _rate=1.0: None
    cast(Any, bench.system.broker).clock_offset_s = lambda _node: next(told)

    def six_seconds() -> None:
        bench.system.clock = RunClock(bench.system.clock.origin_ns - 6_000_000_000)

    evidence = bench.measured(ClockDrift(), six_seconds)
    assert (evidence.bit_ns is None) is (why_not is not None)
    assert (why_not or "None") in str(evidence.why_not)


UP, DOWN = Direction.UP, Direction.DOWN
SWALLOWED: dict[str, tuple[tuple[str, ...], tuple[Direction, ...], dict[str, int], str | None]] = {
    # what: (links' slots, directions swallowed, bytes withheld, whose links were spared)
    "what producers say never came to consumers": (
        ("producer", "consumer"),
        (UP, DOWN),
        {"producer upstream": 900},
        None,
    ),
    "producers said nothing": (("producer", "consumer"), (UP, DOWN), {"consumer downstream": 900}, "producers"),
    "what consumers are sent": (("producer", "consumer"), (DOWN,), {"consumer downstream": 900}, None),
    "consumers were sent nothing": (("producer", "consumer"), (DOWN,), {"producer downstream": 900}, "consumers"),
    "answers to producers alone": (("producer",), (DOWN,), {"producer downstream": 900}, None),
    "keep-alives alone": (("consumer",), (UP,), {"consumer upstream": 64}, "consumers"),
}


@pytest.mark.parametrize("what", SWALLOWED)
def test_whoever_should_have_been_swallowed_was(what: str) -> None:
    slots, directions, bytes_, spared = SWALLOWED[what]
    links = [cast(Any, SimpleNamespace(slot=f"{slot}-1", node="node-1")) for slot in slots]
    withheld = {f"{slot}-1->node-1 {way}": count for told, count in bytes_.items() for slot, way in [told.split()]}
    assert spared_side(links, withheld, directions) == spared
