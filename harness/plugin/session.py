"""What does a session leave behind, even if it is killed? `session.json`: every cell that was to run, and how it ended.

Written anew, whole, at every change. Only the process that owns the session writes it (under pytest-xdist the
controller, after a worker has written down what is to run). Imported when there are cells, never before.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import Trouble
from harness.history.store import version
from harness.plugin.options import Settings
from harness.report.session import NotApplicable, SessionCell, SessionFile, read_session, write_session
from harness.run import SESSION_FILE
from harness.scenario import matrix
from harness.scenario.scenario import Cell

RUNS = "runs"
NOT_REACHED = "the session ended before it came to this cell"
STARTED = "the session ended while this cell was running"
OUTCOMES = ("passed", "failed", "unknown", "error", "not-run")


@dataclass(slots=True)
class SessionRecord:
    """A session as it goes: what stands in its file, and the file's directory."""

    directory: Path
    file: SessionFile

    @classmethod
    def begin(
        cls, settings: Settings, cells: Iterable[tuple[str, Cell]], left_out: Iterable[matrix.NotApplicable]
    ) -> SessionRecord:
        """A session that has run nothing yet; `cells` are (test's node id, cell), in the order in which they run."""
        file = SessionFile(
            session=settings.directory.name,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=settings.seed,
            engine=settings.engine,
            tier=settings.tier,
            assay=version(),
            machine=_machine(),
            cells=tuple(_planned(test, cell) for test, cell in cells),
            not_applicable=tuple(
                NotApplicable(
                    configuration=row.configuration,
                    fault=row.fault,
                    reason=row.reason,
                    mechanism=row.mechanism or None,
                )
                for row in left_out
            ),
        )
        return cls(settings.directory, file)

    @classmethod
    def read(cls, directory: Path) -> SessionRecord:
        """The session in that directory. Raises Refused where there is none, or one that cannot be understood."""
        return cls(directory, read_session(directory))

    @property
    def cells(self) -> Sequence[SessionCell]:
        """The cells in the order in which they run."""
        return self.file.cells

    def started(self, test: str) -> None:
        """That test's cell begins: should the session be killed now, its run can still be found."""
        cell = next((cell for cell in self.cells if cell.test == test), None)
        if cell is not None:
            self._change(cell, reason=STARTED, run=f"{RUNS}/{cell.id}")

    def ended(self, cell_id: str, **changes: Any) -> None:
        """A cell ended: the fields of its record that are now known."""
        cell = next((cell for cell in self.cells if cell.id == cell_id), None)
        if cell is not None:
            self._change(cell, **changes)

    def close(self) -> None:
        """Write down, of what was not reached or did not end, whether there is something to judge."""
        self.file = replace(self.file, cells=tuple(self._closed(cell) for cell in self.cells))
        self.write()

    def _closed(self, cell: SessionCell) -> SessionCell:
        if cell.run is not None and not (self.directory / cell.run).is_dir():
            return replace(cell, run=None)
        return cell

    def _change(self, cell: SessionCell, **changes: Any) -> None:
        new = replace(cell, **changes)
        self.file = replace(self.file, cells=tuple(new if one is cell else one for one in self.cells))
        self.write()

    def counts(self) -> Mapping[str, int]:
        """How many cells ended how."""
        outcomes = [cell.outcome for cell in self.cells]
        return {name: outcomes.count(name) for name in OUTCOMES}

    def write(self) -> None:
        """Write the file, whole or not at all. Raises Trouble where that fails (no space, no permission)."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_session(self.directory, self.file)
        except OSError as error:
            raise Trouble(
                f"{self.directory / SESSION_FILE} cannot be written: {error.strerror or error}",
                cure="free some space, or choose another directory with --assay-reports",
            ) from error

    def write_first(self) -> None:
        """Write the file unless another worker has: a worker that is replaced later must not undo what is known."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.directory / ".planned", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
        except FileExistsError:
            return
        except OSError as error:
            raise Trouble(f"{self.directory} cannot be made: {error.strerror}", cure="--assay-reports DIR") from error
        self.write()


def _planned(test: str, cell: Cell) -> SessionCell:
    scenario = cell.scenario
    return SessionCell(
        id=cell.id,
        test=test,
        configuration=scenario.configuration.name,
        fault=scenario.schedule.name,
        mechanism=None if scenario.processing is None else scenario.processing.name,
        status="not-run",
        reason=NOT_REACHED,
        outcome="not-run",
    )


def _machine() -> dict[str, object]:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_bytes / 2**30, 1),
    }
