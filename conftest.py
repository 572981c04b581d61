"""Tests that need a container engine are skipped, with the cure, where there is none; with ASSAY_REQUIRE_ENGINE=1 they
fail, so that a continuous integration cannot pass by lacking one.
"""

from __future__ import annotations

import functools
import os
import signal

import pytest

from harness.engines.doctor import EngineSilent, ask_engine

pytest_plugins = ["pytester"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Whoever starts us in the background lets us ignore Ctrl-C, and all that we start: some tests are about it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("engine") is None or (reason := no_engine()) is None:
        return
    if os.environ.get("ASSAY_REQUIRE_ENGINE") == "1":
        pytest.fail(f"ASSAY_REQUIRE_ENGINE=1, and {reason}", pytrace=False)
    pytest.skip(f"{reason}; cure: make setup")


@functools.cache
def no_engine() -> str | None:
    """Why no container engine can be used here, or None."""
    try:
        ask_engine("/version")
    except EngineSilent as silent:
        return str(silent)
    return None
