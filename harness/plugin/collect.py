"""Which tests are there? One for each cell of a matrix, chosen, ordered and refused before anything starts."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import catalogue
from harness.errors import Refused
from harness.plain import did_you_mean
from harness.plugin.options import SETTINGS, Settings, distributed, on_worker, shares
from harness.scenario.matrix import ATTRIBUTE, TIERS, Matrix, NotApplicable, grouped
from harness.scenario.plan import cell_seed, read_plan
from harness.scenario.scenario import Cell

if TYPE_CHECKING:
    from harness.plugin.session import SessionRecord

FIXTURE = "run"
SESSION: pytest.StashKey[SessionRecord] = pytest.StashKey()
_NOT_APPLICABLE: pytest.StashKey[dict[NotApplicable, None]] = pytest.StashKey()
_REFUSED: pytest.StashKey[bool] = pytest.StashKey()
_TIERS: pytest.StashKey[dict[tuple[str, str], str]] = pytest.StashKey()


def cell_of(item: pytest.Item) -> Cell | None:
    """The cell that a test runs; None for a test of another kind."""
    callspec = getattr(item, "callspec", None)
    cell = None if callspec is None else callspec.params.get(FIXTURE)
    return cell if isinstance(cell, Cell) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each cell of the function's matrices."""
    matrices: Sequence[Matrix] = getattr(metafunc.function, ATTRIBUTE, ())
    if not matrices:
        return
    if FIXTURE not in metafunc.fixturenames:
        raise Refused(
            f"{metafunc.function.__name__} has a matrix and no argument `{FIXTURE}`",
            cure=f"def {metafunc.function.__name__}({FIXTURE}): the finished run is handed in there",
        )
    settings = metafunc.config.stash[SETTINGS]
    left_out = metafunc.config.stash.setdefault(_NOT_APPLICABLE, {})
    tiers = metafunc.config.stash.setdefault(_TIERS, {})
    cells: list[Cell] = []
    for matrix in matrices:
        left_out.update(dict.fromkeys(matrix.not_applicable()))
        for made in _cells(matrix, settings):
            cells.append(made)
            tiers[metafunc.definition.nodeid, made.id] = matrix.tier
    metafunc.parametrize(FIXTURE, cells, ids=[cell.id for cell in cells], indirect=True)


def _cells(matrix: Matrix, settings: Settings) -> list[Cell]:
    cells = []
    for scenario in matrix.scenarios(settings.tier):
        name = "-".join([scenario.id, *([matrix.label] if matrix.label else [])])
        for turn in range(1, settings.repeat + 1):
            cell_id = name if turn == 1 else f"{name}.{turn}"
            cells.append(Cell(id=cell_id, scenario=scenario, seed=cell_seed(settings.seed, cell_id)))
    return cells


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, Any]:
    """A refused matrix is a message for a reader, not a traceback."""
    report = yield
    call = getattr(report, "call", None)
    refused = None if call is None or call.excinfo is None else call.excinfo.value
    if isinstance(refused, Refused):
        report.longrepr = f"{collector.nodeid}: {refused}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the session's cells (tier, globs, replay, shard) and put them into an order that keeps brokers warm."""
    settings = config.stash[SETTINGS]
    guaranteed = [(item, cell) for item in items if (cell := cell_of(item)) is not None]
    if not guaranteed:
        return
    try:
        _refuse_reruns(config, [item for item, _ in guaranteed])
        chosen = _chosen(config, guaranteed, settings)
        _refuse_twins(chosen)
    except Refused as refused:
        config.stash[_REFUSED] = True
        raise pytest.UsageError(str(refused)) from None
    ordered = [item for item, _ in grouped(chosen, lambda pair: pair[1].scenario)]
    ordered = [item for item, mine in zip(ordered, shares(settings.shard, len(ordered)), strict=True) if mine]
    kept = set(ordered)
    if dropped := [item for item, _ in guaranteed if item not in kept]:
        config.hook.pytest_deselected(items=dropped)
    others = [item for item in items if cell_of(item) is None]
    items[:] = [*others, *ordered]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Write down what is to run, before it runs: a session that is killed has it."""
    config = session.config
    pairs = [(item.nodeid, cell) for item in session.items if (cell := cell_of(item)) is not None]
    broken = session.testsfailed and not config.option.continue_on_collection_errors
    if not pairs or broken or _REFUSED in config.stash or distributed(config) or config.option.collectonly:
        return
    from harness.plugin.session import SessionRecord  # reads histories: too heavy for runs without cells

    left_out = config.stash.setdefault(_NOT_APPLICABLE, {})
    record = SessionRecord.begin(config.stash[SETTINGS], pairs, left_out)
    if on_worker(config):
        record.write_first()
    else:
        record.write()
        config.stash[SESSION] = record


# ---- choice ----------------------------------------------------------------------------------------------------------

Pair = tuple[pytest.Item, Cell]


def _chosen(config: pytest.Config, pairs: list[Pair], settings: Settings) -> list[Pair]:
    tiers = config.stash[_TIERS]
    reached = TIERS[: TIERS.index(settings.tier) + 1]
    chosen = [(item, cell) for item, cell in pairs if tiers[_function_id(item), cell.id] in reached]
    if settings.replay is not None:
        return _replayed(chosen, settings.replay)
    for what, glob in (("configuration", settings.configuration), ("fault", settings.fault)):
        if glob is not None:
            chosen = _matching(what, glob, chosen, [name(what, cell) for _, cell in pairs])
    return chosen


def _matching(what: str, glob: str, pairs: list[Pair], known: list[str]) -> list[Pair]:
    if not fnmatch.filter(known, glob):
        raise Refused(
            f'--assay-{what}: no {what} matches "{glob}"{did_you_mean(glob, known)}',
            cure=f"one of {', '.join(dict.fromkeys(known))}, or a glob such as '*quorum*'",
        )
    return [(item, cell) for item, cell in pairs if fnmatch.fnmatchcase(name(what, cell), glob)]


def name(what: str, cell: Cell) -> str:
    """Name of the cell's "configuration" or "fault"."""
    return cell.scenario.configuration.name if what == "configuration" else cell.scenario.schedule.name


def _function_id(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _replayed(pairs: list[Pair], run: Path) -> list[Pair]:
    """The one cell that the run directory holds, with its seed and its plan, which somebody may have edited."""
    try:
        written = json.loads((run / "scenario.json").read_text(encoding="utf-8"))
        cell_id, seed = str(written["id"]), int(written["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(
            f"--assay-replay: {run} is no run directory: {error}", cure="reports/<session>/runs/<cell>"
        ) from None
    for item, cell in pairs:
        if cell.id == cell_id:
            plan = read_plan(run / "plan.json", catalogue.lookup)
            if strange := {fault.name for fault in plan.faults} - {one.name for one in cell.scenario.schedule.faults}:
                raise Refused(
                    f"--assay-replay: {run / 'plan.json'} injects {', '.join(sorted(strange))}; {cell_id} has none",
                    cure="write a cell of your own for it: nodes are made for the faults of their cell",
                )
            again = Cell(id=cell.id, scenario=cell.scenario, seed=seed, drawn=plan)
            item.callspec.params[FIXTURE] = again  # type: ignore[attr-defined]  # only parametrized items come here
            return [(item, again)]
    known = [cell.id for _, cell in pairs]
    raise Refused(
        f'--assay-replay: no cell "{cell_id}" is collected{did_you_mean(cell_id, known)}', cure="name its suite"
    )


def _refuse_twins(pairs: list[Pair]) -> None:
    first: dict[str, pytest.Item] = {}
    for item, cell in pairs:
        if cell.id in first:
            raise Refused(
                f"{item.nodeid} and {first[cell.id].nodeid} run the same cell", cure="give one matrix a label='...'"
            )
        first[cell.id] = item


def _refuse_reruns(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that is run again until it passes hides exactly what it was to find."""
    cure = "leave reruns out: a violation that is seen once is a violation"
    for option in ("reruns", "force_flaky", "rerun_except", "only_rerun"):
        if config.getoption(option, None):
            raise Refused(f"--{option.replace('_', '-')} would hide violations of guarantees", cure=cure)
    for item in items:
        if item.get_closest_marker("flaky") is not None or hasattr(getattr(item, "function", None), "_flaky"):
            raise Refused(f"{item.nodeid} is marked flaky: reruns would hide its violations", cure=cure)
