"""Which configuration was put under which fault, and what came of it? A matrix for delivery, and one for processing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.report.model import CellView
    from harness.report.session import NotApplicable


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Rows are configurations (with a mechanism, for processing), columns are faults. `senseless`: pairs that mean
    nothing, and why."""

    subject: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], tuple[CellView, ...]]
    senseless: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number of a matrix cell with its words. `bad`: it tells of an anomaly."""

    count: int
    words: str
    bad: bool = False


def matrices(views: Sequence[CellView], not_applicable: Sequence[NotApplicable]) -> tuple[Matrix, ...]:
    """The matrix of delivery and that of processing, as far as there are cells of either."""
    made = []
    for subject in ("delivery", "processing"):
        chosen = [view for view in views if bool(view.cell.mechanism) == (subject == "processing")]
        rows = tuple(dict.fromkeys(view.row for view in chosen))
        columns = tuple(dict.fromkeys(view.cell.fault for view in chosen))
        cells: dict[tuple[str, str], tuple[CellView, ...]] = {}
        for view in chosen:
            place = view.row, view.cell.fault
            cells[place] = (*cells.get(place, ()), view)
        senseless = {
            (row_name(one.configuration, one.mechanism), one.fault): one.reason
            for one in not_applicable
            if bool(one.mechanism) == (subject == "processing")
        }
        if chosen or senseless:
            made.append(Matrix(subject=subject, rows=rows, columns=columns, cells=cells, senseless=senseless))
    return tuple(made)


def row_name(configuration: str, mechanism: str | None) -> str:
    """The name of a row: the configuration, with the processing mechanism where there is one."""
    return configuration + (f" / {mechanism.replace('_', ' ')}" if mechanism else "")


def figures(counts: Mapping[str, int], *, processing: bool) -> tuple[Figure, ...]:
    """What a matrix says of a cell in numbers: how many were at stake, how many lost, how many came more than once.

    A message that the broker stored twice is a repeat also where each copy was delivered once.
    """

    def count(*names: str) -> int:
        return sum(counts.get(name, 0) for name in names)

    def doubted(*names: str) -> int:
        return count(*(f"{name}_so_far" for name in names))

    def figure(number: int, unproven: int, words: str) -> Figure:
        if not number and unproven:
            return Figure(count=unproven, words=f"{words}, not proven", bad=True)
        return Figure(count=number, words=words, bad=number > 0)

    unconfirmed = count("sent") and not count("acked")
    stake = Figure(count=count("sent" if unconfirmed else "acked"), words="sent" if unconfirmed else "acked")
    if processing:
        undone, twice = ("unprocessed", "never_processed"), "duplicate_effect"
        return (
            stake,
            figure(count(*undone), doubted(*undone), "unprocessed"),
            figure(count(twice), doubted(twice), "processed twice"),
        )
    gone = ("lost", "lost_unconfirmed")
    lost = figure(count(*gone), doubted(*gone), "lost")
    others = [
        figure(count(name), doubted(name), words)
        for name, words in (("stranded", "stranded"), ("dropped_acked", "dropped"))
        if count(name) or doubted(name)
    ]
    stored, delivered = count("duplicate_publish"), count("duplicate_delivery")
    if stored and delivered:  # a message may be both, so the two are not added
        repeats = [
            Figure(count=delivered, words="delivered again", bad=True),
            Figure(count=stored, words="stored twice", bad=True),
        ]
    elif stored:
        repeats = [Figure(count=stored, words="repeated (stored twice)", bad=True)]
    else:
        repeats = [figure(delivered, doubted("duplicate_delivery", "duplicate_publish"), "repeated")]
    return (stake, lost, *others, *repeats)
