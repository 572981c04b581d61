"""Who did what when? Swimlanes of one run: phases, faults, clients, and what went wrong, on the run's clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.history.columns import NEVER
from harness.history.history import History
from harness.operation import Outcome

_MARKS_MAX = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A span of a lane, in seconds. `open_end`: its end was never seen."""

    begin_s: float
    end_s: float
    label: str
    style: str
    open_end: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment of a lane, in seconds."""

    at_s: float
    label: str
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One row of the timeline. `left_out`: marks that were too many to draw."""

    name: str
    bars: tuple[Bar, ...] = ()
    marks: tuple[Mark, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All lanes, from 0 to `end_s`."""

    end_s: float
    lanes: tuple[Lane, ...]


def timeline(history: History) -> Timeline:
    """The swimlanes of a history."""
    end_s = _end_s(history)
    lanes = [
        _phases(history),
        *_faults(history, end_s),
        *_clients(history, end_s),
        _health(history),
        _unanswered(history),
    ]
    return Timeline(end_s=end_s, lanes=tuple(lane for lane in lanes if lane.bars or lane.marks))


def _end_s(history: History) -> float:
    """The end of the last phase; of everything that was seen, where no phase was."""
    if history.phases.rows:
        return max(int(history.phases.end_ns.max()), 1_000_000) / 1e9
    ends = [
        int(array.max())
        for array in (
            history.phases.end_ns,
            history.clients.end_ns,
            history.publications.invoked_ns,
            history.publications.completed_ns,
            history.deliveries.received_ns,
        )
        if len(array)
    ]
    return max([*ends, 1_000_000]) / 1e9


def _phases(history: History) -> Lane:
    table = history.phases
    bars = tuple(
        Bar(
            begin_s=int(table.begin_ns[row]) / 1e9,
            end_s=int(table.end_ns[row]) / 1e9,
            label=history.word(table.phase[row]),
            style=f"phase phase-{history.word(table.phase[row])}",
        )
        for row in range(table.rows)
    )
    return Lane(name="phases", bars=bars)


def _faults(history: History, end_s: float) -> list[Lane]:
    lanes: dict[str, list[Bar]] = {}
    marks: dict[str, list[Mark]] = {}
    for injection in history.terms.injections:
        begin_ns = injection.asked_ns if injection.bit_ns is None else injection.bit_ns
        mended_s = end_s if injection.mended_ns is None else injection.mended_ns / 1e9
        label = f"{injection.fault} #{injection.number + 1} on {', '.join(injection.targets) or 'nothing'}"
        bars = lanes.setdefault(injection.fault, [])
        bars.append(
            Bar(
                begin_s=begin_ns / 1e9,
                end_s=mended_s,
                label=label + ("" if injection.bit_ns is not None else ": did not bite"),
                style="fault" if injection.bit_ns is not None else "fault-toothless",
                open_end=injection.mended_ns is None,
            )
        )
        if injection.mended_ns is not None and injection.recovered_ns is not None:
            bars.append(
                Bar(begin_s=mended_s, end_s=injection.recovered_ns / 1e9, label=f"{label}: recovering", style="recover")
            )
        marks.setdefault(injection.fault, [])
    return [Lane(name=name, bars=tuple(bars), marks=tuple(marks[name])) for name, bars in lanes.items()]


def _clients(history: History, end_s: float) -> list[Lane]:
    table = history.clients
    lanes: dict[str, tuple[list[Bar], list[Mark]]] = {}
    for row in range(table.rows):
        bars, marks = lanes.setdefault(history.word(table.slot[row]), ([], []))
        ended = int(table.end_ns[row])
        name, code = history.word(table["name"][row]), int(table.exit[row])
        told = "as planned" if table.planned[row] else "unplanned"
        point = history.word(table.crash_point[row])
        bars.append(
            Bar(
                begin_s=int(table.start_ns[row]) / 1e9,
                end_s=end_s if ended == NEVER else min(end_s, ended / 1e9),
                label=f"{name}: " + ("end not seen" if ended == NEVER else f"ended {told}, exit {code}"),
                style=f"client {history.word(table.role[row])}",
                open_end=ended == NEVER,
            )
        )
        if point and table.crash_ns[row] != NEVER:
            marks.append(Mark(at_s=int(table.crash_ns[row]) / 1e9, label=f"{name}: crashed {point}", style="crash"))
    return [Lane(name=slot, bars=tuple(bars), marks=tuple(marks)) for slot, (bars, marks) in sorted(lanes.items())]


def _health(history: History) -> Lane:
    table = history.health
    unplanned = [row for row in range(table.rows) if not table.planned[row]]
    marks = tuple(
        Mark(
            at_s=int(table.time_ns[row]) / 1e9,
            label=f"{history.word(table.member[row])}: {history.word(table.state[row])} ({int(table.value[row])})",
            style="health",
        )
        for row in unplanned[:_MARKS_MAX]
    )
    return Lane(name="health", marks=marks, left_out=max(0, len(unplanned) - _MARKS_MAX))


def _unanswered(history: History) -> Lane:
    """Publications that may have happened: open-ended, for nobody saw their end."""
    unanswered = history.publications.select(
        ("outcome", "invoked_ns"),
        lambda chunk: np.asarray((chunk.outcome == Outcome.INFO) & (chunk.invoked_ns != NEVER)),
        ("invoked_ns",),
    )
    kept = unanswered.invoked_ns[:: max(1, unanswered.rows // _MARKS_MAX)][:_MARKS_MAX]
    marks = tuple(
        Mark(at_s=int(invoked_ns) / 1e9, label="publish that may have happened", style="indeterminate")
        for invoked_ns in kept
    )
    return Lane(name="unanswered", marks=marks, left_out=unanswered.rows - len(marks))
