"""Do the experiments that the pages show really end as the pages say, on real servers?

NATS as local processes: no image is needed. tests/docs looks at the same blocks without running them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/writing-a-suite.md", "docs/findings.md")

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("page", PAGES)
def test_an_experiment_ends_as_its_page_says(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    suite = tmp_path / "test_mine.py"
    suite.write_text(next(block for block in blocks if "@matrix(" in block), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "harness.cli.main", "verify", str(suite), "--engine", "processes", "--allow-unknown=0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    last = ended.stdout.splitlines()[-1]
    assert re.fullmatch(r"exit 0: (\d+) of \1 cells as claimed; \S+\.html", last)
