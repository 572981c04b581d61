"""Are the sessions that are timed whole, and is each cell of them judged to have kept its claim?"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bench import report, sessions
from harness.checkers.judge import judge
from harness.errors import Trouble
from harness.guarantee import Status
from harness.report.model import load


@pytest.mark.parametrize(("messages", "rate_hz"), [(1, 500.0), (1_000, 500.0), (20_000, 10_000.0)])
@pytest.mark.parametrize("seed", [7, 8])
def test_a_made_history_has_one_row_a_message_and_keeps_everything_it_may(
    messages: int, rate_hz: float, seed: int
) -> None:
    history = sessions.history(messages, rate_hz=rate_hz, seed=seed)
    assert (history.publications.rows, history.deliveries.rows) == (messages, messages)
    verdicts = judge(history).verdicts
    assert Status.VIOLATED not in {verdict.status for verdict in verdicts.values()}
    if messages > 1:  # of one message nothing is under way when the fault bites
        assert verdicts["at_least_once"].status is Status.HELD


def test_a_made_session_is_read_whole(tmp_path: Path) -> None:
    read = load(sessions.session(tmp_path, cells=7, runs=3, messages=1_000, rate_hz=500.0))
    assert read.cell_tally.held == len(read.cells) == 7


def test_every_figure_is_measured_and_says_its_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAIRS", 1)
    figures = {figure.name: figure for figure in report.measure(cells=10, rows=4_000)}
    assert all(figure.value is not None and figure.value > 0 for figure in figures.values())
    assert {name: figure.goal for name, figure in figures.items() if figure.goal is not None} == {
        "report of 10 cells, once they are judged": 1.0,
        "page of 10 cells": 3.0,
        "page of a history of 4,000 rows, once it is judged": 2.0,
        "assay --help, from a cold process": 0.4,
        "assay recheck of 10,000 rows, from a cold process": 0.4,
    }


def test_a_command_that_fails_is_not_timed() -> None:
    with pytest.raises(Trouble, match="assay recheck /nowhere ended with 64"):
        report._command(["recheck", "/nowhere"])
