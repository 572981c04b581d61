"""How does a command end? With a code, and a last line that says it: `exit N: reason; PATH`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HELD, VIOLATED, UNKNOWN, USAGE, TROUBLE, INTERNAL, INTERRUPTED, TERMINATED = 0, 1, 2, 64, 69, 70, 130, 143

CODES = """exit codes: 0 all claims held, 1 violated (or an expected violation not seen), 2 unknown, 64 bad usage,
69 broker or engine trouble, 70 internal error, 130 Ctrl-C, 143 SIGTERM; the last line is `exit N: reason; PATH`."""

_SEVERITY = (HELD, UNKNOWN, VIOLATED, USAGE, TROUBLE, INTERNAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A command's end. `path`: what it made or looked at, None where there is none ("-" in the last line).

    `aside`: say it on stderr, because stdout is a document for a program.
    """

    code: int
    reason: str
    path: Path | None = None
    aside: bool = False

    def __str__(self) -> str:
        """The last line.

        >>> print(Ending(code=0, reason="12 of 12 cells as claimed", path=Path("reports/x")))
        exit 0: 12 of 12 cells as claimed; reports/x
        """
        reason = " ".join(self.reason.split()) or "no reason"
        return f"exit {self.code}: {reason}; {self.path if self.path is not None else '-'}"


def worst(codes: Iterable[int]) -> int:
    """The worst of several codes: 70 > 69 > 64 > 1 > 2 > 0.

    >>> worst([0, 2, 1]), worst([1, 69]), worst([])
    (1, 69, 0)
    """
    return max(codes, key=lambda code: _SEVERITY.index(code) if code in _SEVERITY else len(_SEVERITY), default=HELD)
