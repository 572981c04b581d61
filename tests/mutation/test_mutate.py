"""Is a wrong in a checker noticed by the run that looks for wrongs, and is one that changes nothing left alive?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import mutants

ROOT = Path(__file__).parents[2]
CHECKERS = ROOT / "harness" / "checkers"

CASES: dict[str, list[str]] = {
    "a < b": ["(a <= b)"],
    "a == b != c": ["(a != b != c)", "(a == b == c)"],
    "a and not b": ["(a or not b)", "(b)"],
    "a & ~b": ["(a | ~b)", "(b)"],
    "a + 1": ["(a - 1)", "2"],
    "-1": ["(1)", "2"],
    "0.5": ["1.5"],
    "1e9": ["2000000000.0"],
    "True": ["False"],
    "'a' 'b'": [],
    "f'{a + 1}'": [],
    "min(a)": ["pass", "max"],
    "np.maximum.at(a)": ["pass", "np.minimum"],
    "search(a, side='left')": ["pass", 'side="right"'],
    "x = a if b else c": ["(c if b else a)"],
    "x += a": ["x -= a", "pass"],
    "x[a] = b": ["pass"],
    "x: int = a": [],
    "def f() -> a < b:\n    'says'\n    if a:\n        return\n    yield b": ["pass", "pass"],
}


@pytest.mark.parametrize("source", CASES)
def test_what_is_made_of_a_text(source: str) -> None:
    assert [mutant.after for mutant in mutants("a.py", source)] == CASES[source]


def test_a_mutant_names_its_place() -> None:
    source = "class A:\n    def é(self):\n        return 'ß', a <\\\n            b\n"
    (mutant,) = mutants("a.py", source)
    assert mutant.name == "a.py:A.é: return 'ß', a <\\ -> return 'ß', (a <= b)"
    assert mutant.line == 3
    assert mutant.source == "class A:\n    def é(self):\n        return 'ß', (a <= b)\n"


def test_every_mutant_is_another_program() -> None:
    for path in sorted(CHECKERS.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        for mutant in mutants(path.name, source):
            assert mutant.source != source
            compile(mutant.source, path.name, "exec")


def test_every_equivalent_mutant_is_still_one_of_the_code() -> None:
    names = {mutant.name for path in CHECKERS.glob("*.py") for mutant in mutants(path.name, path.read_text("utf-8"))}
    assert sorted(set(EQUIVALENT) - names) == []
    assert all(len(reason) > 20 for reason in EQUIVALENT.values())


def run(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "tests.mutation.mutate", "--json", str(found), *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert found.exists(), ended.stderr
    return ended.returncode, json.loads(found.read_text())


def test_a_wrong_that_the_tests_know_is_killed(tmp_path: Path) -> None:
    code, found = run(tmp_path, "--file", "bounds.py", "--match", "-> if (violating != 0):")
    assert (code, found["mutants"], found["killed"], found["score"]) == (0, 1, 1, 1.0)


def test_a_wrong_that_changes_nothing_survives(tmp_path: Path) -> None:
    code, found = run(tmp_path, "--equivalent", "--file", "bounds.py", "--match", "_HALVINGS = 120")
    assert (code, found["mutants"], found["killed"]) == (0, 1, 0)
    assert found["survivors"] == [
        {
            "file": "bounds.py",
            "line": 24,
            "where": "",
            "was": "_HALVINGS = 60",
            "before": "60",
            "after": "120",
            "difference": "-_HALVINGS = 60\n+_HALVINGS = 120",
        }
    ]
