"""Does a JetStream server at its limit refuse what is published, and does the fault say so where it has room?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest

from harness.brokers.nats.broker import Broker
from harness.brokers.nats.configuration import JetStream, Nats
from harness.brokers.nats.gateway import Gateway
from harness.brokers.rabbitmq.configuration import RabbitMQ
from harness.clock import RunClock, until
from harness.engines.containers.engine import Containers
from harness.engines.processes import Processes
from harness.errors import Refused, Trouble
from harness.faults.storage import StorageLimit
from harness.guarantee import Status
from harness.operation import Evidence, Outcome, Role
from harness.plain import from_plain, to_plain
from harness.run import Run
from harness.scenario.matrix import dirties, inapplicable
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.needs import Equipment
from harness.system.storage import Room
from harness.system.system import System
from harness.system.topology import Engine
from tests.runs import run_cell

FILE, MEMORY = StorageLimit("file"), StorageLimit("memory")
R1 = Nats("r1", jetstream=JetStream())
R1_MEMORY = Nats("r1-memory", jetstream=JetStream(storage="memory"))
R3 = Nats("r3", members=3, jetstream=JetStream(replicas=3), acknowledge="confirmed")
R3_MEMORY = Nats("r3-memory", members=3, jetstream=JetStream(replicas=3, storage="memory"), acknowledge="confirmed")
BOTH = Equipment(file_store_mb=8, memory_store_mb=8)


# ---- before anything starts ------------------------------------------------------------------------------------------


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="storage_limit: storage='disk'"):
        StorageLimit(cast(Literal["file"], "disk"))


@pytest.mark.parametrize("fault", [FILE, MEMORY], ids=lambda fault: fault.name)
def test_its_json_reads_back_to_the_same_fault(fault: StorageLimit) -> None:
    assert from_plain(StorageLimit, to_plain(fault)) == fault
    assert dirties(fault)


@pytest.mark.parametrize(
    ("configuration", "fault", "reason"),
    [
        (RabbitMQ("one"), FILE, "use NATS with JetStream; for RabbitMQ there are MemoryAlarm and DiskNearlyFull"),
        (Nats("none", jetstream=None, confirms=False, acknowledge="none"), FILE, "stores nothing: use JetStream"),
        (R1, MEMORY, r"stores in file: use JetStream(storage='memory')"),
        (R1_MEMORY, FILE, r"stores in memory: use JetStream(storage='file')"),
        (R1, FILE, None),
        (R3_MEMORY, MEMORY, None),
    ],
)
def test_where_no_limit_could_be_reached_is_known_beforehand(
    configuration: RabbitMQ | Nats, fault: StorageLimit, reason: str | None
) -> None:
    assert (reason or "None") in str(inapplicable(configuration, fault, processed=False))


def test_servers_have_a_limit_only_where_a_fault_needs_it() -> None:
    (limited,) = Scenario(configuration=R1, schedule=Repeat(FILE)).nodes()
    (usual,) = R1.nodes()
    assert "max_file_store: 33554432" in "".join(limited.files.values())
    assert "max_memory_store" not in "".join(limited.files.values())
    assert "max_" not in "".join(usual.files.values()).replace("ping_max", "")
    assert limited.key() != usual.key()
    assert not FILE.needs.equipment.kinds(), "it is the broker that makes it, so any engine will do"


# ---- on stand-ins ----------------------------------------------------------------------------------------------------


@dataclass
class Stored:
    """Servers of which some are full, and what their stream holds at each question."""

    rooms: list[Mapping[str, Room]]
    counts: list[int | None]
    emptied: list[str] = field(default_factory=list)
    trouble: bool = False

    def room(self, _kind: str) -> Mapping[str, Room]:
        return self.rooms.pop(0) if len(self.rooms) > 1 else self.rooms[0]

    def stored(self) -> Mapping[str, int]:
        count = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
        return {} if count is None else {"node-1": count}

    def fill(self, _kind: str) -> str:
        if self.trouble:
            raise Trouble("nobody answers")
        return "10023 insufficient resources"

    def empty(self, kind: str) -> None:
        self.emptied.append(kind)


def measured(stored: Stored, attempted: int = 9) -> Evidence:
    offers = iter([0, attempted])
    producer = SimpleNamespace(
        role=Role.PRODUCER, counters=lambda: SimpleNamespace(attempted=next(offers), answered=0, acked=0)
    )
    system = System(
        cast(Any, SimpleNamespace(nodes=["node-1", "node-2", "node-3"])),
        cast(Any, SimpleNamespace(storage=lambda: stored)),
        cast(Any, SimpleNamespace(all=lambda: [producer])),
        RunClock.start(),
    )
    with FILE.inject(system, 0) as measure:
        evidence = measure()
    assert stored.emptied == ["file"]
    return evidence


def rooms(*used: int) -> Mapping[str, Room]:
    return {f"node-{number}": Room(used=each, limit=10) for number, each in enumerate(used, start=1)}


EMPTY, FULL = rooms(1, 1, 1), rooms(11, 11, 11)
DOUBTED: dict[str, tuple[list[Mapping[str, Room]], list[int | None], int, str | None]] = {
    # what: (rooms and numbers of messages as they are asked, messages offered, what is wrong)
    "all are full": ([EMPTY, FULL], [7], 9, None),
    "two of three are full": ([EMPTY, rooms(11, 11, 9)], [7], 9, None),
    "one of three is full": ([EMPTY, rooms(11, 9, 9)], [7], 9, "node-2 stores 9 of 10 bytes"),
    "at the limit, not beyond": ([EMPTY, rooms(10, 10, 10)], [7], 9, "servers have room"),
    "full before": ([FULL], [7], 9, "before there was any ballast"),
    "nobody says how much": ([EMPTY, {}], [7], 9, "none says how much"),
    "room again": ([EMPTY, FULL, EMPTY], [7], 9, "servers have room"),
    "what was under way came first": ([EMPTY, FULL], [5, 7, 7], 9, None),
    "the stream went on": ([EMPTY, FULL], [7, 7, 8], 9, "took 1 messages while it held"),
    "nobody says what the stream holds": ([EMPTY, FULL], [None], 9, "no server says"),
    "nobody published": ([EMPTY, FULL], [7], 0, "no producer offered a message"),
}


@pytest.mark.parametrize("what", DOUBTED)
def test_a_limit_was_reached_only_if_servers_and_stream_say_so(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.faults.storage.FULL_S", 0.05)
    monkeypatch.setattr("harness.faults.storage._LOOK_S", 0.001)
    room, counts, attempted, why_not = DOUBTED[what]
    evidence = measured(Stored(list(room), list(counts)), attempted)
    assert (evidence.bit_ns is None) is (why_not is not None), evidence
    assert (why_not or "None") in str(evidence.why_not)


def test_the_ballast_goes_also_after_half_an_injection() -> None:
    stored = Stored([EMPTY], [7], trouble=True)
    with pytest.raises(Trouble, match="nobody answers"):
        measured(stored)
    assert stored.emptied == ["file"]


# ---- on real servers -------------------------------------------------------------------------------------------------


@contextmanager
def at_hand(equipment: Equipment) -> Iterator[Broker]:
    """Our end of one server so equipped, with a stream in files."""
    topology = Processes().create(R1.nodes(equipment), run="test-storage")
    try:
        broker = Broker(R1, topology, "cell-1")
        until(lambda: broker.whole() is None, within_s=20, what="a whole NATS")
        broker.prepare()
        yield broker
        broker.close()
    finally:
        topology.remove()


def test_ballast_goes_beyond_the_limit_of_either_kind_and_is_gone_again() -> None:
    with at_hand(BOTH) as broker:
        storage = broker.storage()
        for kind in ("file", "memory"):
            storage.empty(kind)  # of none there is nothing to take away
            assert storage.room(kind)["nats-1"] == Room(used=0, limit=8 << 20)
            assert storage.fill(kind) == "10023 insufficient resources"
            assert storage.room(kind)["nats-1"].over
            storage.empty(kind)
            storage.empty(kind)
            assert storage.room(kind)["nats-1"].used == 0
        assert storage.stored() == {"nats-1": 0}


def test_a_limit_that_is_none_of_ours_is_not_used_up() -> None:
    with at_hand(Equipment()) as broker, pytest.raises(Refused, match="too many to use up"):
        broker.storage().fill("memory")


def injected(fault: StorageLimit, configuration: Nats, directory: Path, engine: Engine) -> Run:
    return run_cell(
        Scenario(
            configuration=configuration,
            schedule=Repeat(fault),
            workload=Steady(rate_hz=500, quiet_s=0.5, producers=2),
        ),
        directory,
        engine=engine,
    )


def must_bite_and_store_nothing(run: Run, members: int) -> None:
    (injection,) = run.history.terms.injections
    assert injection.bit_ns is not None, (injection.why_not, dict(injection.facts))
    assert injection.recovered_ns is not None
    published = run.history.publications
    refused = published.where(published.outcome == Outcome.FAIL)
    told = {run.history.word(number) for number in refused.error}
    assert told <= {"10023", "503"}, told
    if members == 1:  # in a cluster its leader says so once, and then nobody leads
        assert "10023" in told
        assert refused.rows > 100
    found = set(run.history.deliveries.message) | set(run.history.census.message)
    assert not found & set(refused.message), "what was refused for certain is stored nowhere"


@pytest.mark.parametrize(
    ("fault", "configuration"),
    [(FILE, R1), (FILE, R3), (MEMORY, R1_MEMORY), (MEMORY, R3_MEMORY)],
    ids=lambda each: each.name,
)
def test_a_server_at_its_limit_refuses_and_stores_nothing(
    fault: StorageLimit, configuration: Nats, tmp_path: Path
) -> None:
    must_bite_and_store_nothing(injected(fault, configuration, tmp_path / "run", Processes()), configuration.members)


@pytest.mark.engine
@pytest.mark.parametrize(("fault", "configuration"), [(FILE, R1), (MEMORY, R3_MEMORY)], ids=lambda each: each.name)
def test_so_does_one_in_a_container(fault: StorageLimit, configuration: Nats, tmp_path: Path) -> None:
    must_bite_and_store_nothing(injected(fault, configuration, tmp_path / "run", Containers()), configuration.members)


@pytest.mark.parametrize(("fault", "configuration"), [(FILE, R1), (MEMORY, R3_MEMORY)], ids=lambda each: each.name)
def test_without_ballast_nothing_is_held(
    fault: StorageLimit, configuration: Nats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.faults.storage.FULL_S", 1.0)
    monkeypatch.setattr(Gateway, "store", lambda *_, **__: None)
    run = injected(fault, configuration, tmp_path / "run", Processes())
    (injection,) = run.history.terms.injections
    assert injection.bit_ns is None
    assert "servers have room: nats-1 stores" in str(injection.why_not)
    assert Status.HELD not in {verdict.status for verdict in run.judgement.verdicts.values()}
