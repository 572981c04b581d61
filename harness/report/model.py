"""What do the pages show? Everything is computed here, once, from `session.json` and the runs; formats only format.

A cell's *grade* compares what it showed with what was claimed or demanded of it: "kept", "violated", "unknown",
"predicted" where all that was demanded is that something breaks, and it did, or "unclaimed" where nothing was. A cell
that could not be run is unknown.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.checkers.availability import Availability
from harness.checkers.judge import Judgement
from harness.checkers.latency import Latency
from harness.checkers.trial import Trial
from harness.errors import AssayError
from harness.guarantee import GUARANTEES, Status, Verdict
from harness.history.terms import Claimed, Terms
from harness.report.compare import Processed, processed, ranked
from harness.report.life import Life, lives
from harness.report.matrix import Matrix, matrices, row_name
from harness.report.series import PhaseLoad, Series, phase_loads, receipt_latencies, series
from harness.report.session import SessionCell, SessionFile, read_session
from harness.report.timeline import Timeline, timeline
from harness.run import Run, found, reproduce

GRADES = ("violated", "unknown", "kept", "predicted", "unclaimed")
"""Worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run directory showed; its tables are let go, for a session has many."""

    terms: Terms
    verdicts: Mapping[str, Verdict]
    counts: Mapping[str, int]
    observed: str
    claim_kept: bool | None
    availability: Availability
    latency: Latency
    trials: tuple[Trial, ...]
    unfair: tuple[str, ...]
    phases: tuple[PhaseLoad, ...]
    series: Series | None
    timeline: Timeline
    lives: tuple[Life, ...]
    processed: Processed | None
    scenario: Mapping[str, object]
    plan: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellView:
    """One cell as the pages show it. `ran` is None where there is nothing to judge: `reason` then says why."""

    cell: SessionCell
    anchor: str
    grade: str
    headline: str
    reason: str
    command: str
    ran: Ran | None
    claims: tuple[Claimed, ...] = ()
    kept: tuple[str, ...] = ()
    violated: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    predicted: tuple[str, ...] = ()

    @property
    def row(self) -> str:
        """Its row of the matrix: the configuration, with the processing mechanism where there is one."""
        return row_name(self.cell.configuration, self.cell.mechanism)

    @property
    def claimed(self) -> str:
        """What was claimed of it, in words; what was demanded where nothing was, and of every processing mechanism."""
        names = [] if self.cell.mechanism else [claim.guarantee for claim in self.claims]
        return together(names or self.cell.expected.keep)

    @property
    def observed(self) -> str:
        """What it showed, in words."""
        return self.ran.observed if self.ran is not None else "not observed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many were held (kept), violated, unknown; `predicted`: broke as the suite foretold, and nothing else was
    demanded; `unclaimed`: of which nothing was claimed."""

    held: int = 0
    violated: int = 0
    unknown: int = 0
    predicted: int = 0
    unclaimed: int = 0

    @property
    def judged(self) -> int:
        """Those of which something was claimed or expected."""
        return self.held + self.violated + self.unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One session as the pages show it. `claims`, `cells`, `configurations`: how many of each were held.

    `directory`: where it lies, as somebody types it who stands where the report was written."""

    session: SessionFile
    cells: tuple[CellView, ...]
    matrices: tuple[Matrix, ...]
    claims: Tally
    cell_tally: Tally
    configurations: Tally
    headline: str
    comparison: tuple[Processed, ...]
    directory: str = ""
    untested: tuple[str, ...] = field(default_factory=tuple)

    @property
    def worst(self) -> tuple[CellView, ...]:
        """Cells that violated something claimed or expected."""
        return tuple(view for view in self.cells if view.grade == "violated")

    @property
    def undecided(self) -> tuple[CellView, ...]:
        """Cells of which nothing is known."""
        return tuple(view for view in self.cells if view.grade == "unknown")


def load(directory: Path) -> Report:
    """The report of a session's directory. Raises Refused where it is none."""
    session = read_session(directory)
    cells = tuple(_view(directory, session, cell, place) for place, cell in enumerate(session.cells))
    made = matrices(cells, session.not_applicable)
    rows = tuple(dict.fromkeys(view.row for view in cells))
    configurations = _tally([_worst([view.grade for view in cells if view.row == row]) for row in rows])
    return Report(
        session=session,
        cells=cells,
        matrices=made,
        claims=Tally(
            held=sum(len(view.kept) for view in cells),
            violated=sum(len(view.violated) for view in cells),
            unknown=sum(len(view.unknown) for view in cells),
            predicted=sum(len(view.predicted) for view in cells),
        ),
        cell_tally=_tally([view.grade for view in cells]),
        configurations=configurations,
        headline=_headline(configurations, len(cells)),
        comparison=ranked(view.ran.processed for view in cells if view.ran is not None and view.ran.processed),
        directory=os.path.relpath(directory) if directory.resolve().is_relative_to(Path.cwd()) else str(directory),
        untested=_untested(cells, made),
    )


def together(names: Sequence[str]) -> str:
    """Names of guarantees in words: at_least_once, ordered -> "at-least-once, ordered"."""
    return ", ".join(name.replace("_", "-") for name in dict.fromkeys(names))


# ---- one cell ------------------------------------------------------------------------------------------------------


def _view(directory: Path, session: SessionFile, cell: SessionCell, place: int) -> CellView:
    anchor = f"cell-{place + 1}-" + re.sub(r"[^a-zA-Z0-9]+", "-", cell.id).strip("-").lower()[:80]
    command = _command(cell, session.seed)
    if cell.run is None:
        reason = cell.reason or cell.message or "it was not run"
        return _unseen(cell, anchor, command, reason)
    try:
        ran = _ran(directory / cell.run, session.seed, cell.expected.keep)
    except AssayError as error:
        return _unseen(cell, anchor, command, f"{error}")
    except Exception as error:  # one history that breaks a checker must not hide all the others: it is shown as unknown
        return _unseen(cell, anchor, command, f"its history could not be judged: {type(error).__name__}: {error}")
    return _graded(cell, anchor, command, ran)


def _command(cell: SessionCell, seed: int) -> str:
    """A configuration and a fault name one cell, but several where mechanisms are compared: there the test names it."""
    if cell.mechanism and cell.test:
        return f"assay verify {shlex.quote(cell.test)} --assay-seed {seed:d}"
    return reproduce(cell.configuration, cell.fault, seed)


def _unseen(cell: SessionCell, anchor: str, command: str, reason: str) -> CellView:
    return CellView(
        cell=cell,
        anchor=anchor,
        grade="unknown",
        headline=f"nothing is known: {reason.splitlines()[0]}",
        reason=reason,
        command=command,
        ran=None,
        unknown=cell.expected.keep + cell.expected.violate,
    )


def _ran(path: Path, seed: int, demanded: Sequence[str]) -> Ran:
    run = Run(path, seed=seed)
    history, judgement = run.history, run.judgement
    verdicts = {name: judgement.verdicts[name] for name in GUARANTEES if name in judgement.verdicts}
    told = sorted(verdicts.values(), key=lambda verdict: not verdict.claimed)
    receipts = receipt_latencies(history)
    return Ran(
        terms=history.terms,
        verdicts=verdicts,
        counts=dict(judgement.counts),
        observed=_observed(judgement),
        claim_kept=judgement.claim_kept,
        availability=judgement.availability,
        latency=judgement.latency,
        trials=judgement.trial.trials,
        unfair=judgement.trial.reasons,
        phases=phase_loads(history, receipts),
        series=series(history, receipts),
        timeline=timeline(history),
        lives=lives(history, [verdict for verdict in told if verdict.status is Status.VIOLATED]),
        processed=processed(history, verdicts, judgement.counts, _observed(judgement), run.scenario, demanded),
        scenario=run.scenario,
        plan=run.plan,
    )


def _graded(cell: SessionCell, anchor: str, command: str, ran: Ran) -> CellView:
    claims = ran.terms.claims
    claimed = {claim.guarantee for claim in claims}
    demanded = tuple(dict.fromkeys([*(claim.guarantee for claim in claims), *cell.expected.keep]))
    # A guarantee that the suite expects to break is no broken claim when it does.
    demanded = tuple(name for name in demanded if name not in cell.expected.violate)

    def status(name: str) -> Status:
        verdict = ran.verdicts.get(name)
        return Status.UNKNOWN if verdict is None else verdict.status

    kept = [name for name in demanded if status(name) is Status.HELD]
    violated = [name for name in demanded if status(name) is Status.VIOLATED]
    unknown = [name for name in demanded if status(name) is Status.UNKNOWN]
    predicted = [name for name in cell.expected.violate if status(name) is Status.VIOLATED]
    unseen = [name for name in cell.expected.violate if status(name) is Status.HELD]
    undecided = [name for name in cell.expected.violate if status(name) is Status.UNKNOWN]
    # A claim that breaks is a broken claim, also where the suite knew it.
    broken = [name for name in predicted if name in claimed]
    doubtful = bool(ran.terms.interrupted) or cell.status == "error" or _disputed(cell)
    if violated or unseen or broken:
        grade = "violated"
    elif unknown or undecided or doubtful:
        grade = "unknown"
    else:
        # Claims of delivery say nothing of a mechanism that was only expected to break.
        own = [name for name in kept if name in cell.expected.keep] if cell.mechanism and predicted else kept
        grade = "kept" if own else "predicted" if predicted else "kept" if kept else "unclaimed"
    return CellView(
        cell=cell,
        anchor=anchor,
        grade=grade,
        headline=_cell_headline(ran, violated + broken, unseen, unknown + undecided, kept, predicted, cell),
        reason=cell.reason or ran.terms.interrupted,
        command=command,
        ran=ran,
        claims=claims,
        kept=() if doubtful else tuple(kept),
        violated=tuple(violated + unseen + broken),
        unknown=tuple(unknown + undecided + (kept if doubtful else [])),
        predicted=tuple(name for name in predicted if name not in claimed),
    )


def _cell_headline(
    ran: Ran,
    violated: list[str],
    unseen: list[str],
    unknown: list[str],
    kept: list[str],
    predicted: list[str],
    cell: SessionCell,
) -> str:
    if violated:
        verdict = ran.verdicts[violated[0]]
        return f"{together([verdict.guarantee])} violated: {found(verdict)}"
    if unseen:
        return f"{together(unseen)} was expected to break, and held"
    if interrupted := ran.terms.interrupted:
        return f"nothing is known: the run did not come to its end: {interrupted}"
    if cell.status == "error":
        return f"nothing is known: {cell.reason or cell.message}"
    if _disputed(cell) and not unknown:
        return (
            f"judged without a violation, and counted as {cell.outcome} by its session: {cell.message or 'no reason'}"
        )
    if unknown:
        first = ran.verdicts.get(unknown[0])
        why = found(first) if first is not None else "the history does not speak of it"
        return f"{together(unknown)} unknown: {why}"
    parts = [f"{together(kept)} held"] if kept else []
    parts += [f"{together(predicted)} violated, as predicted"] if predicted else []
    return "; ".join(parts) or f"nothing is claimed here; observed: {ran.observed}"


def _disputed(cell: SessionCell) -> bool:
    """Whether its session counted it as broken: then it is not green, whatever the judge says now."""
    return cell.outcome in ("failed", "error")


def _observed(judgement: Judgement) -> str:
    """What the judge calls it; where that is unknown, the half that is proven."""
    if judgement.observed != "unknown":
        return judgement.observed
    suffix = "_processed" if "at_least_once_processed" in judgement.verdicts else ""
    least, most = (judgement.verdicts.get(f"at_{word}_once{suffix}") for word in ("least", "most"))
    if least is not None and least.status is Status.VIOLATED:
        return "loses"
    if most is not None and most.status is Status.VIOLATED:
        return "repeats"
    return "unknown"


# ---- all cells -----------------------------------------------------------------------------------------------------


def _worst(grades: Sequence[str]) -> str:
    return min(grades, key=GRADES.index)


def _tally(grades: Sequence[str]) -> Tally:
    return Tally(
        held=grades.count("kept"),
        violated=grades.count("violated"),
        unknown=grades.count("unknown"),
        predicted=grades.count("predicted"),
        unclaimed=grades.count("unclaimed"),
    )


def _headline(configurations: Tally, cells: int) -> str:
    if not cells:
        return "Nothing was run."
    predicted = f"{configurations.predicted} broke as predicted" if configurations.predicted else ""
    if not configurations.judged:
        return f"{predicted}." if predicted else "Nothing was claimed of what was run."
    noun = "configuration delivers" if configurations.judged == 1 else "configurations deliver"
    pronoun = "what it claims" if configurations.judged == 1 else "what they claim"
    parts = [f"{configurations.held} of {configurations.judged} {noun} {pronoun}"]
    parts += [f"{configurations.violated} violated"] if configurations.violated else []
    parts += [f"{configurations.unknown} unknown"] if configurations.unknown else []
    parts += [predicted] if predicted else []
    return "; ".join(parts) + "."


def _untested(cells: Sequence[CellView], made: Sequence[Matrix]) -> tuple[str, ...]:
    lines = [f"{view.cell.id}: {view.reason.splitlines()[0]}" for view in cells if view.ran is None]
    for matrix in made:
        senseless = matrix.senseless
        lines += [f"{row} under {fault} means nothing: {reason}" for (row, fault), reason in senseless.items()]
    for matrix in made:
        # A crash between two steps is chosen for the mechanism that it tempts, so a processing matrix is no grid.
        for row in matrix.rows if matrix.subject == "delivery" else ():
            missing = [column for column in matrix.columns if (row, column) not in {*matrix.cells, *matrix.senseless}]
            if missing:
                lines.append(f"{row} was not put under {', '.join(missing)} in this session")
    trials = [len(view.ran.terms.injections) for view in cells if view.ran is not None]
    if trials:
        lines.append(
            f"probability: a cell had {min(trials)} to {max(trials)} injections, and bounds are per cell; of m bounds "
            "at 95 % about m/20 are expected to be wrong"
        )
    lines.append("other versions, settings, rates, payload sizes, durations and orders of faults than the ones shown")
    lines.append("more than one machine: brokers, clients and clock of a cell shared one")
    return tuple(lines)
