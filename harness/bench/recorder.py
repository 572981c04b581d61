"""A client that does nothing but record, as fast as it can, until killed: `python -m harness.bench.recorder FILE`.

After each record it counts it in the head's word `received`, as clients do. A record's fields follow from its number,
so whoever reads the journal knows what must stand in it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness.history.journal import DELIVER, PLACE, Journal

CLIENT = 1
NAMES = ("kind", "a", "epoch", "attempt", "code", "x0", "x1", "x2", "x3", "x4")
"""A record's fields, as `Journal.write` takes them."""

_MASK = (1 << 64) - 1


def fields(number: Any) -> tuple[Any, ...]:
    """Everything after a record's kind, of the record of that number; columns, where it is an array of them."""
    return (
        number & 0xFF,
        number & 0xFFFF,
        number * 3 & 0xFFFF,
        number * 5 & 0xFFFF,
        number,
        number ^ _MASK,
        number << 7,
        number * 3,
        number + 1,
    )


def main() -> None:
    """Record until killed."""
    journal = Journal(Path(sys.argv[1]), client=CLIENT, origin_ns=0)
    number = 0
    while True:
        number += 1
        journal.write(DELIVER, *fields(number))
        journal.live[PLACE["received"]] = number


if __name__ == "__main__":
    main()
