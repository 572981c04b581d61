"""Do clients that are let loose do all that they are told, and is a peer that is not here said to be missing?"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bodies import records

from harness import catalogue
from harness.bench import load, peers
from harness.bench.peers import Absent, JavaClient, Job, NatsBench
from harness.brokers.memory.configuration import Memory
from harness.brokers.memory.queue import Bugs
from harness.engines.pool import Pool
from harness.errors import Trouble
from harness.faults.nothing import Nothing
from harness.history.journal import CONFIRM, DELIVER, PUBLISH
from harness.operation import Role
from harness.scenario.scenario import Cell, Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady

MESSAGES = 1_500
"""More than the window, and more than deliveries may be unsettled."""

JOB = Job(orders={}, address=("127.0.0.1", 1), messages=1, window=1, size=64)


def silent(what: str) -> None:
    """Nobody listens."""


def ground(directory: Path, pool: Pool, bugs: Bugs | None = None) -> load.Field:
    configuration = Memory("bench") if bugs is None else Memory("bench", bugs=bugs)
    scenario = Scenario(configuration=configuration, schedule=Repeat(Nothing()), workload=Steady())
    cell = Cell(id="bench", scenario=scenario, seed=7)
    return load.Field(cell=cell, engine=catalogue.engine("processes"), pool=pool, directory=directory)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


def test_a_producer_let_loose_publishes_all_and_records_each(tmp_path: Path, pool: Pool) -> None:
    run = ground(tmp_path, pool).flood(Role.PRODUCER, MESSAGES)
    assert run.rate_hz > 0
    assert run.cpu_us > 0
    (path,) = tmp_path.glob("*.journal")
    kinds = [record.kind for record in records(path)]
    assert kinds.count(PUBLISH) == MESSAGES
    assert kinds.count(CONFIRM) > 0


def test_a_bare_one_does_the_same_and_records_nothing(tmp_path: Path, pool: Pool) -> None:
    assert ground(tmp_path, pool).flood(Role.PRODUCER, MESSAGES, bare=True).rate_hz > 0
    (path,) = tmp_path.glob("*.journal")
    assert records(path) == []


def test_a_consumer_let_loose_receives_what_was_there(tmp_path: Path, pool: Pool) -> None:
    assert ground(tmp_path, pool).flood(Role.CONSUMER, MESSAGES).rate_hz > 0
    (path,) = tmp_path.glob("consumer-*.journal")
    assert [record.kind for record in records(path)].count(DELIVER) == MESSAGES


def test_an_offered_load_far_below_the_ceiling_is_held(tmp_path: Path, pool: Pool, monkeypatch: Any) -> None:
    monkeypatch.setattr(load, "STEADY_S", 1.0)
    share, late_ms = ground(tmp_path, pool).steady(200.0)
    assert share > 0.8  # another process may take the machine for a while
    assert late_ms >= 0


def test_messages_that_are_refused_end_it(tmp_path: Path, pool: Pool, monkeypatch: Any) -> None:
    answer = json.dumps({"messages": 7, "wall_s": 1.0, "cpu_s": 0.5})
    monkeypatch.setattr(load.Field, "_client", lambda self, module, spec: answer)
    with pytest.raises(Trouble, match="7 of 1500 messages came through"):
        ground(tmp_path, pool).flood(Role.PRODUCER, MESSAGES)


def test_where_the_engine_is_not_here_every_figure_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere:
        def unavailable(self, specs: object) -> str:
            return "no engine answers"

    monkeypatch.setattr(catalogue, "engine", lambda name: Nowhere())
    figures = list(load.measure())
    assert len(figures) == 10
    assert {figure.unavailable for figure in figures} == {"no engine answers"}
    assert {figure.met for figure in figures} == {None}


def test_a_peer_that_is_not_here_takes_only_its_own_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for target in load.TARGETS:
        figures = target.figures[-2:]
        told = list(load._against_peer(target, None, 10, figures, silent))  # type: ignore[arg-type]
        assert [figure.name for figure in told] == [figure.name for figure in figures]
        assert all(figure.unavailable.startswith("no ") for figure in told)


def test_without_maven_the_java_client_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "mvn" else name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(Absent, match="no Maven to fetch it with"):
        JavaClient(silent)


def test_a_build_that_fails_leaves_nothing_that_looks_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, argv, stderr="go: downloading\nmodule not found\n")

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told: list[str] = []
    for _ in range(2):
        with pytest.raises(Absent, match="go failed: module not found"):
            NatsBench(told.append)
    assert len(told) == 2
    assert "github.com/nats-io/natscli" in told[0]


def nats_that_says(directory: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> NatsBench:
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    program = peers.cache() / peers.NATS_CLI.rpartition("/")[2] / "nats"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\nprint({text!r})\n")
    program.chmod(0o755)
    return NatsBench(silent)


def test_the_rate_of_nats_bench_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "NATS JetStream asynchronous publisher stats: 65,342 msgs/sec ~ 8.0 MiB/sec ~ min: 7,197.22us"
    nats = nats_that_says(tmp_path, said, monkeypatch)
    orders = {"subject": "cell.a", "stream": "stream-a", "consumer": "group"}
    job = Job(orders=orders, address=("127.0.0.1", 1), messages=1, window=1, size=64)
    assert (nats.publish(job), nats.consume(job)) == (65_342.0, 65_342.0)


def test_an_answer_without_a_rate_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nats = nats_that_says(tmp_path, "all is well", monkeypatch)
    with pytest.raises(Absent, match="it told no rate: all is well"):
        nats._bench(Job(orders={"stream": "s"}, address=JOB.address, messages=1, window=1, size=64), "pub")
