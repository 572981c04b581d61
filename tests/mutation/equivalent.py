"""Mutants that change no verdict, count or witness, by name, each with the reason: no test can kill them, and none has
to. What is listed here and no longer in the code fails tests/mutation/test_mutate.py.
"""

from __future__ import annotations

from collections.abc import Mapping

EQUIVALENT: Mapping[str, str] = {
    "bounds.py:: 60 -> 61": "halving once more changes the bound by less than a float can tell",
}
