"""What was proved, in figures, at the end of the tests: counts that passing tests leave behind, added up by what they
say. Under pytest-xdist, too, where a test's own output is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("tests.agreement")

_PROOF = "proof: "


@pytest.fixture
def prove(request: pytest.FixtureRequest) -> Callable[[str, int], None]:
    """`prove("histories ...", 250)` adds to the figures that the session ends with, if the test passes."""
    return lambda what, count: request.node.user_properties.append((_PROOF + what, count))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        for name, count in report.user_properties:
            if name.startswith(_PROOF):
                counts[name.removeprefix(_PROOF)] += count
    if counts:
        terminalreporter.section("proved")
        for what, count in counts.items():
            terminalreporter.write_line(f"{count:>8,} {what}")
