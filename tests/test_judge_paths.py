"""Is a history judged alike, by whatever path it comes to the judge, and by whichever judge?"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.checkers import facts
from harness.checkers.judge import Judgement, judge
from harness.errors import Refused
from harness.guarantee import Status
from harness.history.exchange import export_directory, export_stream
from harness.history.history import History
from harness.history.manifest import MANIFEST_FILE
from harness.history.reimport import read_export
from harness.history.store import read_history, write_history
from harness.run import Run
from tests import random_histories
from tests.agreement import compare

RUNS = Path(__file__).parent / "fixtures" / "runs"
"""Runs of real brokers that were killed, as they were saved, without journals and what names the machine."""

SAVED: Mapping[str, set[str]] = {
    "nats-core-kill_leader": {"at_least_once", "exactly_once"},
    "nats-jetstream-r1-new-id-kill_leader": {"at_most_once", "exactly_once"},
    "rabbitmq-fire-and-forget-kill_leader": {"at_least_once", "exactly_once"},
}
"""What each of them violates; the other guarantees of delivery it holds."""

DELIVERY = {"at_least_once", "at_most_once", "exactly_once", "publish_once", "ordered", "genuine"}


def compiled(history: History) -> Judgement:
    """By machine code, which is otherwise left to large histories."""
    pytest.importorskip("numba", reason="the extra `fast` is not installed: there is no machine code to judge by")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "COMPILED_ROWS_MIN", 0)
        return judge(history)


JUDGES: Mapping[str, Callable[[History], Judgement]] = {"numpy": judge, "machine code": compiled}
"""Every way in which this package can judge a history."""


def saved(history: History, directory: Path) -> History:
    write_history(directory, history)
    return read_history(directory)


def by_json_lines(history: History, directory: Path) -> History:
    directory.mkdir()
    with open(directory / "history.jsonl", "w", encoding="utf-8") as file:
        export_stream(history, file)
    return read_export(directory / "history.jsonl")


def by_parquet(history: History, directory: Path) -> History:
    export_directory(history, directory, "parquet")
    return read_export(directory)


PATHS: Mapping[str, Callable[[History, Path], History]] = {
    "as it is": lambda history, _: history,
    "saved and read": saved,
    "exported as JSON lines and imported": by_json_lines,
    "exported as Parquet and imported": by_parquet,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("by", JUDGES)
@pytest.mark.parametrize("run", SAVED)
def test_a_real_run_is_judged_alike_by_every_path(run: str, by: str, path: str, tmp_path: Path) -> None:
    history = Run(RUNS / run).history
    judgement = JUDGES[by](PATHS[path](history, tmp_path / "there"))
    assert judgement == judge(history)
    by_status = {
        status: {name for name, verdict in judgement.verdicts.items() if verdict.status is status} for status in Status
    }
    assert by_status[Status.VIOLATED] == SAVED[run]
    logged = {"log_consistent"} & set(judgement.verdicts)  # where the broker numbers what it delivers
    assert by_status[Status.HELD] == (DELIVERY | logged) - SAVED[run]


@pytest.mark.parametrize("run", SAVED)
def test_a_real_run_is_judged_alike_by_the_reference(run: str, prove: Callable[[str, int], None]) -> None:
    history = Run(RUNS / run).history
    compare(history)
    rows = history.publications.rows + history.deliveries.rows
    prove("publishes and deliveries of real runs with a killed broker, judged alike by the slow reference", rows)


@pytest.mark.parametrize("path", list(PATHS)[1:])
def test_random_runs_are_judged_alike_by_every_path(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Producers that leave numbers out, as these do, no run has.
    monkeypatch.setattr("harness.history.reimport.check", lambda history, *_, **__: history)
    for number in range(25):
        history = random_histories.drawn(random.Random(number))
        assert judge(PATHS[path](history, tmp_path / str(number))) == judge(history), f"random history {number}"


# ---- what is never HELD ----------------------------------------------------------------------------------------------

BEREFT: Mapping[str, Callable[[History], History]] = {
    "without a record of its injections": lambda history: replace(
        history, terms=replace(history.terms, faults=("kill_leader",), injections=())
    ),
    "without a census": lambda history: replace(history, terms=replace(history.terms, exhaustive=False)),
    "recorded by somebody else": lambda history: replace(
        history, terms=replace(history.terms, recorded_by="somebody else")
    ),
}


def statuses(history: History) -> Counter[Status]:
    return Counter(verdict.status for verdict in judge(history).verdicts.values())


@pytest.mark.parametrize("way", BEREFT)
def test_a_history_that_lacks_what_a_trial_needs_is_never_held(way: str) -> None:
    before: Counter[Status] = Counter()
    after: Counter[Status] = Counter()
    for number in range(300):
        history = random_histories.drawn(random.Random(number))
        before += statuses(history)
        after += statuses(BEREFT[way](history))
    assert before[Status.HELD] > 100
    assert after[Status.HELD] == 0
    assert after[Status.VIOLATED] > 100


def test_an_import_that_nobody_vouches_for_is_never_held(tmp_path: Path) -> None:
    found: Counter[Status] = Counter()
    refused = 0
    for number in range(40):
        directory = tmp_path / str(number)
        export_directory(random_histories.drawn(random.Random(number)), directory, "parquet")
        (directory / MANIFEST_FILE).unlink()
        try:
            found += statuses(read_export(directory))
        except Refused:
            refused += 1
    assert found[Status.HELD] == 0
    assert min(found[Status.VIOLATED], found[Status.UNKNOWN]) >= 10
    assert refused <= 20, "too few were judged to show anything"
