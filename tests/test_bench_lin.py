"""Are the histories that are timed what their names say, and is what cannot be measured said?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from harness.bench import lin
from harness.bench.figure import Figure
from harness.cli.main import main
from harness.errors import Trouble


@pytest.mark.parametrize("overlap", [1, 2.5, 6])
@pytest.mark.parametrize("empties", [False, True])
def test_an_honest_history_is_linearizable_and_overlaps_as_asked(overlap: float, empties: bool) -> None:
    history = lin.honest(30_000, overlap=overlap, waiting=20, empties=empties)
    findings = history.check()
    assert findings.linearizable
    assert (findings.enqueued + findings.dequeued + findings.empties, findings.empties > 0) == (30_000, empties)
    begin, end = (
        np.concatenate([history.enqueues[name], history.dequeues[name]]) for name in ("invoked_ns", "completed_ns")
    )
    assert (end - begin).sum() / (end.max() - begin.min()) == pytest.approx(overlap, rel=0.1)


def test_a_history_with_two_values_exchanged_is_not() -> None:
    assert not lin.swapped(lin.honest(100, overlap=2, waiting=4)).check().linearizable


def test_without_go_the_peer_is_named_and_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (figure,) = lin._against_porcupine(lin.honest(100, overlap=2, waiting=4), lambda what: None)
    assert (figure.value, figure.met) == (None, None)
    assert figure.unavailable.startswith("no Go to build it with")


def test_verdicts_that_differ_end_it() -> None:
    def wrong(history: lin.Operations, timeout_s: float) -> lin.Answer:
        return lin.Answer(verdict="Illegal", cpu_s=(0.1,))

    with pytest.raises(Trouble, match="the verdicts differ: Ok is right, ours is Ok, that of Porcupine Illegal"):
        lin._agree(wrong, lin.honest(100, overlap=2, waiting=4), "Ok")


FIGURES = [
    Figure(name="fast enough", unit="ms", value=3.0, goal=10.0, at_most=True, detail="2 to 4"),
    Figure(name="too slow", unit="M operations/s", value=3.0, goal=10.0),
    Figure(name="without a goal", unit="s", value=3.0),
    Figure(name="missing", unit="x our time", goal=100.0, unavailable="no Go"),
]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(tell: object) -> Iterator[Figure]:
        yield from FIGURES

    monkeypatch.setattr(lin, "measure", measure)


@pytest.mark.usefixtures("measured")
def test_a_missed_goal_is_marked_and_a_missing_peer_is_not_passed_in_silence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "lin", "--goals"]) == 1
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if not line.startswith("calibration: ")]
    assert len(lines) - len(told) == 4
    assert "cores" in told[0]
    assert "numpy" in told[0]
    assert [line.endswith("missed") for line in told[2:6]] == [False, True, False, False]
    assert told[5].endswith("not available here: no Go")
    assert told[6] == "exit 1: missed: too slow, 1 not available here; -"
    assert main(["bench", "lin"]) == 0


@pytest.mark.usefixtures("measured")
def test_figures_as_json_are_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "lin", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["machine"]["numpy"] == np.__version__
    assert [figure["value"] > 0 for figure in told["calibration"]] == [True] * 4
    assert [figure["met"] for figure in told["figures"]] == [True, False, None, None]
