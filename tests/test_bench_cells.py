"""Is what a cell's time went into told apart, and is a cell or a pace that cannot be had here said to be missing?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import catalogue
from harness.bench import cells, pace
from harness.bench.figure import Figure
from harness.cli.main import main
from harness.errors import Trouble
from harness.history.history import History
from harness.history.store import write_history
from tests.histories import deliver, history, injection, publish, terms

PHASES_S = {"deploy": 1.0, "quiet": 2.0, "break": 1.0, "mend": 0.5, "recover": 1.5, "drain": 3.0, "audit": 0.2}


def cost(*, warm: bool, wall_s: float = 9.5, silence_s: float = 2.8) -> cells.Cost:
    asked = cells.Asked(
        name="a cell", engine="processes", configuration="nats-jetstream-r1", fault="nothing", goal_s=7.0, warm=warm
    )
    return cells.Cost(asked=asked, wall_s=wall_s, phases_s=PHASES_S, silence_s=silence_s)


@pytest.mark.parametrize(
    ("one", "restart_s", "overhead_s", "met"),
    [
        (cost(warm=False), 3.0, 0.7, True),  # 9.5 less load 3, silence 2.8 and the restart
        (cost(warm=True), 2.0, 1.7, False),  # deploying what is warm is ours
        (cost(warm=False, silence_s=0.0), 3.0, 3.5, False),
        (cost(warm=False, wall_s=9.86), 3.0, 1.06, True),
        (cost(warm=False, wall_s=9.9), 3.0, 1.1, False),
    ],
)
def test_overhead_is_what_is_neither_load_nor_silence_nor_the_brokers(
    one: cells.Cost, restart_s: float, overhead_s: float, met: bool
) -> None:
    assert one.restart_s == pytest.approx(restart_s)
    assert one.overhead_s == pytest.approx(overhead_s)
    assert one.overhead_met is met


class Nowhere:
    """An engine that is not here."""

    def unavailable(self, specs: object) -> str:
        return "no engine answers"


def test_paces_of_an_engine_that_is_not_here_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "engine", lambda name: Nowhere())
    figures = list(pace.measure())
    assert [figure.goal for figure in figures] == [2_000, 3_500, 1_200, 1_200, 300, 150]
    assert {(figure.value, figure.met, figure.unavailable) for figure in figures} == {(None, None, "no engine answers")}


def test_the_pace_of_two_workers_is_that_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    class Here(Nowhere):
        def unavailable(self, specs: object) -> str:
            return ""

    class Workers:
        def __init__(self, count: int, mp_context: object) -> None:
            self.count = count

        def __enter__(self) -> Workers:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def map(self, work: object, paces: list[pace.Pace]) -> list[float]:
            assert len(paces) == self.count == 2
            return [20.0, 25.0]

    monkeypatch.setattr(catalogue, "engine", lambda name: Here())
    monkeypatch.setattr(pace, "ProcessPoolExecutor", Workers)
    monkeypatch.setattr(pace, "run_cells", lambda one: 20.0)
    one, two = list(pace.measure(paces=pace.PACES[:2]))
    assert (one.value, one.met) == (1_800, False)
    assert two.value == 1_800 + 1_440


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(tell: object) -> Iterator[cells.Cost]:
        yield cost(warm=False)
        yield cost(warm=True)
        yield cells.Cost(asked=cost(warm=True).asked, unavailable="no image")

    def paces(tell: object) -> Iterator[Figure]:
        yield Figure(name="quick cells", unit="cells an hour", value=2_500.0, goal=2_000.0)
        yield Figure(name="slow cells", unit="cells an hour", goal=300.0, unavailable="no image")

    monkeypatch.setattr(cells, "measure", measure)
    monkeypatch.setattr(pace, "measure", paces)


@pytest.mark.usefixtures("measured")
def test_a_missed_overhead_is_marked_and_what_is_missing_is_not_passed_in_silence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "cells", "--goals"]) == 1
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if not line.startswith("calibration: ")]
    assert [line.endswith("missed") for line in told[2:5]] == [False, True, False]
    assert told[4].endswith("not available here: no image")
    assert told[8].endswith("not available here: no image")
    assert told[-1].startswith("exit 1: missed: ")
    assert told[-1].endswith("2 not available here; -")
    assert "overhead of a cell on processes" in told[-1]


@pytest.mark.usefixtures("measured")
def test_costs_and_paces_as_json_are_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "cells", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["machine"]["cores"] > 0
    assert all(figure["value"] > 0 for figure in told["calibration"])
    assert [cell["overhead_met"] for cell in told["cells"]] == [True, False, None]
    assert [figure["met"] for figure in told["figures"]] == [True, None]


@pytest.mark.parametrize(
    ("past", "why"),
    [
        (history(publish(1).acked(), deliver(1).acknowledged(), terms=terms(injections=(injection(),))), ""),
        (
            history(publish(1).acked(), deliver(1).acknowledged(), terms=terms(injections=(injection(bit_ns=None),))),
            "kill_leader did not bite",
        ),
        (history(publish(1).acked(), terms=terms(injections=(injection(),))), "1 messages were lost"),
    ],
    ids=["right", "inert", "lossy"],
)
def test_the_time_of_a_cell_that_proves_nothing_is_not_told(past: History, why: str, tmp_path: Path) -> None:
    write_history(tmp_path, past)
    if not why:
        assert cells.vouched(tmp_path).publications.rows == 1
        return
    with pytest.raises(Trouble, match=why):
        cells.vouched(tmp_path)
