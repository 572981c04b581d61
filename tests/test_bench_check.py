"""Are the histories that are timed what they are said to be, and does nothing pass that finds anything else?"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from harness.bench import check
from harness.bench.plainly import plainly
from harness.bench.synthetic import ANOMALIES, held, synthetic
from harness.cli.main import main
from harness.errors import Trouble
from tests import reference


def test_plain_python_finds_what_the_reference_finds() -> None:
    history = held(synthetic(2000, plant=2).history)
    expected = reference.anomalies(history)
    found = plainly(history)
    assert found == {name: expected[name] for name in found}
    assert all(found.values())


def test_nothing_is_wrong_with_a_history_into_which_nothing_is_planted() -> None:
    history = held(synthetic(2000).history)
    assert not any(reference.anomalies(history)[name] for name in ("lost", "duplicate_delivery", "reordered"))
    assert not any(plainly(history).values())


def test_the_same_seed_makes_the_same_history_and_another_seed_another() -> None:
    one, same, other = (held(synthetic(1000, seed=seed).history).deliveries.received_ns for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_too_many_anomalies_for_their_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=f"{50 * len(ANOMALIES)} anomalies need"):
        synthetic(1000, plant=50)


def test_a_checker_that_finds_something_else_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(history: Any) -> dict[str, set[int]]:
        return {**plainly(history), "lost": {1}}

    check._compare(compiled=False)
    monkeypatch.setattr(check, "plainly", wrong)
    with pytest.raises(Trouble, match="numpy finds 20 messages lost, plain Python 1"):
        check._compare(compiled=False)


def test_a_recheck_that_says_something_else_ends_it() -> None:
    expected = {name: np.array([7]) for name in ANOMALIES}
    said: dict[str, Any] = {
        "counts": dict.fromkeys(ANOMALIES, 1),
        "verdicts": {
            guarantee: {"witnesses": [{"anomaly": name, "message": 7}]}
            for guarantee, name in (("ordered", "reordered"), ("publish_once", "duplicate_publish"))
        },
    }
    check._known(said, expected)
    with pytest.raises(Trouble, match="2 messages phantom were found, and 1 planted"):
        check._known({**said, "counts": {**said["counts"], "phantom": 2}}, expected)
    said["verdicts"]["ordered"]["witnesses"][0]["message"] = 8
    with pytest.raises(Trouble, match="witnesses of ordered"):
        check._known(said, expected)


def test_everything_is_measured_of_a_small_history(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    assert main(["bench", "check", "--rows", "1e5", "--json"]) == 0
    figures = {figure["name"]: figure for figure in json.loads(capsys.readouterr().out)["figures"]}
    machine_code = figures["check of 10^5 rows, machine code"]
    assert machine_code["value"] is None
    assert "broker-assay[fast]" in machine_code["unavailable"]
    assert figures["stored history of 10^5 rows"]["value"] < 8
    assert figures["assay recheck of 10^4 rows, from a cold start"]["value"] > 0
    assert figures["resident memory, 10^5 rows judged and reported"]["value"] < check.RESIDENT_MIB
    assert figures["plain Python on 10^5 rows"]["value"] > 1


def test_too_few_rows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "check", "--rows", "10"]) == 64
    assert "too few" in capsys.readouterr().err
