"""Does the pool hand on what is clean, and nothing else? With topologies that are made of nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from harness.engines.pool import Pool
from harness.errors import Trouble
from harness.system.topology import NodeSpec

SPECS = [NodeSpec(name="n-1", program="p", services={})]
OTHERS = [NodeSpec(name="o-1", program="p", services={})]


@dataclass(eq=False)
class FakeTopology:
    run: str
    dirty: bool = False
    disturbed_by: object = None
    proxy_trouble: str | None = None
    removed: int = 0
    renewed: int = 0
    refuses: Exception | None = None
    nodes: dict[str, object] = field(default_factory=lambda: {"n-1": None})

    def disturbed(self) -> object:
        return self.disturbed_by

    def proxy_alive(self) -> str | None:
        return self.proxy_trouble

    def renew_links(self) -> None:
        self.renewed += 1

    def remove(self) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.removed += 1


class FakeEngine:
    name = "fake"

    def __init__(self) -> None:
        self.made: list[FakeTopology] = []
        self.kept: list[str] = []
        self.fails: Exception | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def create(self, specs: Sequence[NodeSpec], *, run: str) -> FakeTopology:
        self.may_go_on.wait(5)
        if self.fails is not None:
            raise self.fails
        self.made.append(FakeTopology(run))
        return self.made[-1]

    def retain(self) -> None:
        self.kept.append("retain")

    def release(self) -> None:
        self.kept.append("release")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def _lease(pool: Pool, engine: FakeEngine, specs: list[NodeSpec] = SPECS, **how: object):  # type: ignore[no-untyped-def]
    return pool.lease(engine, specs, run="r", **how)  # type: ignore[arg-type]


def test_a_clean_topology_serves_again_with_links_renewed(engine: FakeEngine) -> None:
    with Pool() as pool:
        with _lease(pool, engine) as first:
            pass
        assert first.renewed == 1
        with _lease(pool, engine) as second:
            assert second is first
        assert len(engine.made) == 1
    assert first.removed == 1


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ({"dirty": True}, "a verb was used"),
        ({"disturbed_by": {"a": {"enabled": False}}}, "not healed"),
        ({"proxy_trouble": "the proxy is gone"}, "the proxy is gone"),
    ],
)
def test_a_spoilt_topology_is_thrown_away(engine: FakeEngine, spoil: dict[str, object], why: str) -> None:
    with Pool() as pool:
        with _lease(pool, engine) as first:
            for name, value in spoil.items():
                setattr(first, name, value)
        assert first.removed == 1
        assert why in pool.said[0]
        with _lease(pool, engine) as second:
            assert second is not first


def test_one_that_the_caller_finds_ill_is_thrown_away_at_either_end(engine: FakeEngine) -> None:
    with Pool() as pool:
        with _lease(pool, engine) as first:
            pass
        with _lease(pool, engine, healthy=lambda topology: "ill" if topology is first else None) as second:
            assert second is not first
        assert first.removed == 1


def test_one_whose_cell_failed_is_thrown_away_and_the_failure_goes_on(engine: FakeEngine) -> None:
    with Pool() as pool:
        with pytest.raises(KeyboardInterrupt), _lease(pool, engine) as first:
            raise KeyboardInterrupt
        assert first.removed == 1


def test_a_fresh_one_is_new_and_serves_nobody_else(engine: FakeEngine) -> None:
    with Pool() as pool:
        with _lease(pool, engine) as warm:
            pass
        with _lease(pool, engine, fresh=True) as fresh:
            assert fresh is not warm
        assert fresh.removed == 1
        assert warm.removed == 0


def test_the_least_recently_used_goes_when_there_are_too_many(engine: FakeEngine) -> None:
    with Pool(keep=1) as pool:
        with _lease(pool, engine) as first:
            pass
        with _lease(pool, engine, OTHERS) as second:
            assert first.removed == 1  # before the second was made: memory is what is bounded
        assert second.removed == 0
    with Pool(keep=0) as none:
        with _lease(none, engine) as third:
            pass
        assert third.removed == 1


def test_one_is_made_ahead_and_its_failure_is_the_leases(engine: FakeEngine) -> None:
    with Pool() as pool:
        engine.may_go_on.clear()
        pool.prefetch(engine, SPECS, run="ahead")  # type: ignore[arg-type]
        pool.prefetch(engine, OTHERS, run="one too many")  # type: ignore[arg-type]
        engine.may_go_on.set()
        with _lease(pool, engine) as first:
            assert first.run == "ahead"
        assert [one.run for one in engine.made] == ["ahead"]
        engine.fails = Trouble("no room")
        pool.prefetch(engine, OTHERS, run="ahead")  # type: ignore[arg-type]
        with pytest.raises(Trouble, match="no room"), _lease(pool, engine, OTHERS):
            pass


def test_close_removes_all_of_it_and_what_the_engine_kept(engine: FakeEngine) -> None:
    pool = Pool()
    with _lease(pool, engine):
        pass
    pool.prefetch(engine, OTHERS, run="ahead")  # type: ignore[arg-type]
    leased = _lease(pool, engine, [*SPECS, *OTHERS])
    leased.__enter__()
    pool.close()
    pool.close()
    assert [one.removed for one in engine.made] == [1, 1, 1]
    assert engine.kept[-1] == "release"
    with pytest.raises(Trouble, match="closed"), _lease(pool, engine):
        pass


def test_what_cannot_be_removed_is_noted_and_stops_nothing_else(engine: FakeEngine) -> None:
    pool = Pool(keep=2)
    with _lease(pool, engine) as first, _lease(pool, engine, OTHERS) as second:
        pass
    first.refuses = Trouble("the engine keeps it")
    pool.close()
    assert pool.left == ["the engine keeps it"]
    assert second.removed == 1
    assert engine.kept[-1] == "release"
