"""Can the experiments that the pages show be collected as they stand?

tests/test_documented_experiments.py runs them on real servers.
"""

from __future__ import annotations

import re

import pytest
from pages import PAGES, experiments, name_of

EXPERIMENTS = {name_of(page): found for page in PAGES if (found := experiments(page.read_text(encoding="utf-8")))}
CELLS = {
    "README.md": ["nats-my-queue-acknowledgement_loss", "nats-my-queue-kill_leader"],
    "docs/writing-a-suite.md": ["nats-same-id-acknowledgement_loss", "nats-new-id-acknowledgement_loss"],
    "docs/findings.md": ["nats-jetstream-r1-confirmed-kill_leader"],
}


def test_these_pages_show_one_each() -> None:
    assert {page: len(found) for page, found in EXPERIMENTS.items()} == dict.fromkeys(CELLS, 1)


@pytest.mark.parametrize("page", CELLS)
def test_an_experiment_is_collected(page: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_mine=EXPERIMENTS[page][0])
    collected = pytester.runpytest_subprocess(
        "--collect-only", "-q", "--assay-engine", "processes", "--assay-seed", "7"
    )
    assert collected.ret == 0
    assert sorted(re.findall(r"\[(.+)\]$", collected.stdout.str(), re.MULTILINE)) == sorted(CELLS[page])


def test_the_first_experiment_is_short() -> None:
    lines = [line for line in EXPERIMENTS["README.md"][0].splitlines() if line.strip()]
    assert len(lines) <= 15
