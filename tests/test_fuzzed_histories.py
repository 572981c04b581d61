"""Does a spoilt history end in an error for a reader or in a judgement, never in a false HELD? A thousand of them.

What is asked, and what is excluded by which argument, stands in tests/soak/fuzz_histories.py, which plays as many as
one likes.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from random import Random

import pytest

from harness.brokers.memory.configuration import Memory
from harness.brokers.memory.queue import Bugs
from harness.faults.node import Kill
from harness.guarantee import Status
from harness.processing.ack_after import AckAfterEffect
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.sinks.sqlite import SQLite
from tests import mutations
from tests.runs import run_cell
from tests.soak import fuzz_histories as soak

CASES = 1000
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> list[soak.Stock]:
    """Runs written by hand, and one of real clients, with journals: killed under load, repeats, effects."""
    folder = tmp_path_factory.mktemp("stock")
    scenario = Scenario(
        configuration=Memory("fuzzed", bugs=Bugs(duplicate_every=50)),
        schedule=Repeat(Kill()),
        workload=Steady(rate_hz=200, quiet_s=0.4),
        processing=AckAfterEffect(),
        sink=SQLite(),
    )
    run_cell(scenario, folder / "real")
    return [*soak.synthetic(folder), soak.stock_of(folder / "real", "real")]


def test_a_thousand_spoilt_histories(stock: list[soak.Stock], tmp_path: Path) -> None:
    """In a process of its own, which can be given a limit of memory."""
    here, there = FORK.Pipe(duplex=False)

    def play() -> None:
        soak.limit_memory()
        there.send(soak.fuzz(stock, range(CASES), 7, tmp_path))

    player = FORK.Process(target=play)
    player.start()
    there.close()  # so that the end of a player that dies is seen
    ended, failed = here.recv()
    player.join()
    assert not failed, "\n".join(failed)
    assert sum(ended.values()) == CASES
    for kind in soak.KINDS:  # each must have come to both ends, or nothing was tried
        assert ended[f"{kind.__name__}: judged"], ended
        assert ended[f"{kind.__name__}: refused"], ended


def test_the_oracle_sees_a_judge_that_is_deceived(
    stock: list[soak.Stock], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the checks of rows and sums switched off, the same cases find false HELD, and rows that must be refused."""
    monkeypatch.setattr("harness.history.plausible.check", lambda history, *_, **__: history)
    monkeypatch.setattr("harness.history.seal.changed", lambda *_: None)
    monkeypatch.setattr(soak, "KINDS", (soak.sealed, soak.rows))
    _, failed = soak.fuzz(stock, range(300), 7, tmp_path)
    assert any("judged" in words for words in failed)
    assert any("->" in words for words in failed)


def test_every_mutation_of_rows_applies_to_some_run(stock: list[soak.Stock]) -> None:
    for how in mutations.ROWS:
        assert any(how(one.history, Random(number)) for one in stock for number in range(9)), how


def test_the_stock_shows_every_verdict(stock: list[soak.Stock]) -> None:
    assert {status for one in stock for status in one.statuses.values()} == set(Status)
