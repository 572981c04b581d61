"""What did one session run, and how did each cell end? `session.json`, written by whoever ran it, read by every report.

A cell that could not be run stands in it with its reason: it is shown as UNKNOWN, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import Refused
from harness.history.store import read_json, write_json
from harness.plain import from_plain, to_plain
from harness.run import SESSION_FILE

FORMAT = 1
STATUSES = ("ran", "not-run", "error")
OUTCOMES = ("passed", "failed", "unknown", "error", "not-run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Names of guarantees that the suite demanded to be kept and to be violated, beyond the claims in scope."""

    keep: tuple[str, ...] = ()
    violate: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """A pair of a matrix that means nothing and was not run, and why."""

    configuration: str
    fault: str
    reason: str
    mechanism: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCell:
    """One cell of a session.

    `test`: the pytest id of the suite's function. `status`: "ran" (there is a run directory to judge), "not-run", or
    "error" (engine or broker trouble). `reason`: why it is not "ran". `run`: its directory, relative to the session's.
    `outcome`: passed, failed, unknown, error or not-run, as the session's exit code counted it; `message`: in words;
    `exit_code`: what that means to `assay`. `wall_s`: how long the cell took, judging included.
    """

    id: str
    configuration: str
    fault: str
    status: str
    test: str = ""
    reason: str = ""
    run: str | None = None
    mechanism: str | None = None
    expected: Expected = field(default_factory=Expected)
    outcome: str = "unknown"
    message: str = ""
    exit_code: int = 0
    wall_s: float = 0.0

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise Refused(f"status={self.status!r} (one of {', '.join(STATUSES)})")
        if self.outcome not in OUTCOMES:
            raise Refused(f"outcome={self.outcome!r} (one of {', '.join(OUTCOMES)})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFile:
    """One session. `started`: real time, UTC, ISO 8601. `machine`, `engine`: what it ran on. `seed`: the session's."""

    session: str
    started: str
    seed: int
    format: int = FORMAT
    engine: str = ""
    tier: str = ""
    assay: str = ""
    machine: Mapping[str, object] = field(default_factory=dict)
    cells: tuple[SessionCell, ...] = ()
    not_applicable: tuple[NotApplicable, ...] = ()


def write_session(directory: Path, session: SessionFile) -> Path:
    """Write `session.json` into the session's directory."""
    path = directory / SESSION_FILE
    write_json(path, to_plain(session))
    return path


def read_session(directory: Path) -> SessionFile:
    """Read `session.json`. Raises Refused, naming the file and every mistake in it."""
    path = directory / SESSION_FILE
    if not path.is_file():
        raise Refused(
            f"{directory} is not a session: it has no {SESSION_FILE}", cure="name a directory reports/<session>"
        )
    data = read_json(path)
    if isinstance(data, dict) and isinstance(data.get("format"), int) and data["format"] > FORMAT:
        raise Refused(f"{path} has format {data['format']}; this reads 1 to {FORMAT}", cure="use a newer broker-assay")
    try:
        return from_plain(SessionFile, data)
    except Refused as refusal:
        raise Refused(f"{path}: {refusal.message}", cure="correct the file, or run the session again") from refusal
