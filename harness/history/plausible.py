"""Could this have happened? What no run can have recorded is refused, before anybody is judged by it.

*Impossible*: an unknown outcome, an end before its beginning, an answer without its time, one thing twice. Of what
Assay itself recorded nothing can be missing either: a producer numbers its messages, and a consumer its deliveries,
without a gap, so a row that was cut out of the middle is missed. What a broken broker can do is not impossible: a
delivery that nobody published, or that came before it was published, is for the checkers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import NamedTuple

import numpy as np

from harness.errors import Refused
from harness.history.columns import NEVER, TABLES
from harness.history.history import Array, Columns, History, Table
from harness.history.terms import Terms
from harness.history.values import ENUMS, wrong_word
from harness.operation import SEQUENCE_BITS, Outcome

TIME_MAX_NS = 1 << 62
"""Beyond it, 146 years, sums of two times would no longer fit into 64 bits."""

_NUMBER_MAX = 1 << 64
_FREE_FORM = ("settings", "environment", "facts")

NEEDED: Mapping[str, tuple[str, ...]] = {
    "publications": ("invoked_ns",),
    "deliveries": ("received_ns",),
    "effects": ("first_ns", "last_ns"),
    "clients": ("start_ns",),
    "phases": ("begin_ns", "end_ns"),
    "health": ("time_ns",),
}
"""The times without which a row says nothing."""

IN_ORDER: Mapping[str, tuple[tuple[str, str], ...]] = {
    "publications": (("invoked_ns", "written_ns"), ("invoked_ns", "completed_ns")),
    "deliveries": (
        ("fetch_invoked_ns", "received_ns"),
        ("received_ns", "handled_ns"),
        ("received_ns", "ack_invoked_ns"),
        ("ack_invoked_ns", "settled_ns"),
    ),
    "effects": (("first_ns", "last_ns"),),
    "clients": (("start_ns", "end_ns"),),
    "phases": (("begin_ns", "end_ns"),),
}
"""Pairs of times of which the first cannot be later, where both are known."""

_FROM_ONE = {("publications", "attempt"), ("deliveries", "number"), ("effects", "count")}
_ONCE = (("clients", "client"), ("effects", "message"))


class _Wrong(NamedTuple):
    """What is wrong: with which row of which table (rows count from 0), and why."""

    table: str
    row: int
    why: str


def check(history: History, where: object, cure: str) -> History:
    """The history, if all of it can have happened.

    Raises Refused, naming `where` it lies, with the table, the row (counted from 1), the column and its value.
    """
    if why := senseless(history.terms):
        raise Refused(f"{where}: {why}", cure=cure)
    if wrong := next(_impossible(history), None):
        raise Refused(f"{where}, table {wrong.table}, row {wrong.row + 1}: {wrong.why}", cure=cure)
    return history


def senseless(terms: Terms) -> str | None:
    """Why no judge can work with these terms: numbers beyond measure, times before the run, words beyond print."""
    return _senseless(terms, "terms")


def _senseless(value: object, place: str) -> str | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        low, high = (NEVER, TIME_MAX_NS) if place.endswith("_ns") else (-_NUMBER_MAX, _NUMBER_MAX)
        return None if low <= value < high else f"{place} {value} is out of range"
    if isinstance(value, float):
        return None if math.isfinite(value) and abs(value) < TIME_MAX_NS / 1e9 else f"{place} is no sensible number"
    if isinstance(value, str):
        why = wrong_word(value) if place.endswith("recorded_by") else None
        return f"{place}: {why}" if why else None
    if place.endswith(_FREE_FORM):
        return None  # no judge calculates with it unseen
    parts: Iterator[tuple[str, object]] = iter(())
    if is_dataclass(value):
        parts = ((one.name, getattr(value, one.name)) for one in fields(value))
    elif isinstance(value, tuple):
        parts = ((str(number), item) for number, item in enumerate(value))
    return next((why for name, item in parts if (why := _senseless(item, f"{place}.{name}"))), None)


# ---- rows ------------------------------------------------------------------------------------------------------------


def _impossible(history: History) -> Iterator[_Wrong]:
    for table in history.tables.values():
        for chunk in table.chunks():
            yield from _values(chunk)
            yield from _times(chunk)
    for chunk in history.publications.chunks("outcome", "completed_ns"):
        yield from _unanswered(chunk)
    for chunk in history.deliveries.chunks("settlement", "settled_ns", "ack_invoked_ns"):
        yield from _unsettled(chunk)
    for name, column in _ONCE:
        yield from _repeated(history.tables[name], column)
    if not history.terms.recorded_by:
        yield from _unknown_clients(history)
        yield from _missing_publications(history.publications)
        yield from _missing_deliveries(history.deliveries)


def _values(table: Columns) -> Iterator[_Wrong]:
    """Values that stand for nothing."""
    for column, meaning in TABLES[table.name].items():
        values = table[column]
        if meaning.unit == "0/1" or meaning.unit in ENUMS:
            high = 1 if meaning.unit == "0/1" else max(ENUMS[meaning.unit])
            if values.max() > high:
                yield _first(table, values > high, column, f"is none of 0 to {high}")
        elif (table.name, column) in _FROM_ONE and values.min() < 1:
            yield _first(table, values < 1, column, "is below 1")


def _times(table: Columns) -> Iterator[_Wrong]:
    for column, meaning in TABLES[table.name].items():
        if meaning.unit != "ns":
            continue
        values = table[column]
        low = 0 if column in NEEDED.get(table.name, ()) else NEVER
        if values.min() < low or values.max() >= TIME_MAX_NS:
            yield _first(table, (values < low) | (values >= TIME_MAX_NS), column, "is no time of a run")
    for first, then in IN_ORDER.get(table.name, ()):
        if (wrong := (table[then] < table[first]) & (table[then] != NEVER)).any():
            yield _first(table, wrong, then, f"comes before {first} {table[first][np.flatnonzero(wrong)[0]]}")


def _unanswered(publications: Columns) -> Iterator[_Wrong]:
    """Answers without their time."""
    if (wrong := (publications.outcome != Outcome.INFO) & (publications.completed_ns == NEVER)).any():
        yield _first(publications, wrong, "outcome", "has no completed_ns")


def _unsettled(deliveries: Columns) -> Iterator[_Wrong]:
    """Settlements without their time, or of what was never acknowledged."""
    if (wrong := (deliveries.settlement == Outcome.OK) & (deliveries.settled_ns == NEVER)).any():
        yield _first(deliveries, wrong, "settlement", "has no settled_ns")
    if (wrong := (deliveries.settled_ns != NEVER) & (deliveries.ack_invoked_ns == NEVER)).any():
        yield _first(deliveries, wrong, "settled_ns", "is of an acknowledgement that was never invoked")


def _repeated(table: Table, column: str) -> Iterator[_Wrong]:
    order = np.argsort(table[column], kind="stable")
    in_order = table[column][order]
    if (same := in_order[1:] == in_order[:-1]).any():
        place = int(np.flatnonzero(same)[0])
        yield _Wrong(
            table.name, int(order[place + 1]), f"{column} {in_order[place]} stands in row {order[place] + 1} already"
        )


# ---- what is missing of what Assay recorded --------------------------------------------------------------------------


def _unknown_clients(history: History) -> Iterator[_Wrong]:
    known = np.zeros(1 << 16, np.bool_)
    known[history.clients.client] = True
    for table in (history.publications, history.deliveries):
        for chunk in table.chunks("client"):
            if (wrong := ~known[chunk.client]).any():
                yield _first(chunk, wrong, "client", "is in no row of clients")


def _missing_publications(table: Table) -> Iterator[_Wrong]:
    """Messages that a producer numbered and that are not there, and attempts of one that do not follow each other."""
    numbers, retried = _Numbers(), False
    for chunk in table.chunks("client", "message", "attempt"):
        if (wrong := chunk.message >> np.uint64(SEQUENCE_BITS) != chunk.client).any():
            yield _first(chunk, wrong, "message", "is not of the client that published it")
            return
        first = np.flatnonzero(chunk.attempt == 1)
        retried = retried or len(first) < chunk.rows
        if (gap := numbers.gap(chunk.client[first], chunk.message[first])) is not None:
            row = int(first[gap])
            why = f"message {_told(chunk.message[row])} does not follow the one before it"
            yield _Wrong(table.name, chunk.first + row, why)
            return
    if retried:
        yield from _missing_attempts(table)


def _missing_attempts(table: Table) -> Iterator[_Wrong]:
    again = table.select(("attempt",), lambda chunk: chunk.attempt != 1, ("message", "attempt"))
    order = np.lexsort((again.attempt, again.message))
    message, attempt = again.message[order], again.attempt[order]
    several = np.unique(message)
    begun = np.zeros(len(several), np.bool_)
    for chunk in table.chunks("message", "attempt"):
        first = chunk.message[chunk.attempt == 1]
        at = np.minimum(np.searchsorted(several, first), len(several) - 1)
        begun[at[several[at] == first]] = True
    expected = np.where(begun[np.searchsorted(several, message)], 2, 1)
    same = message[1:] == message[:-1]
    expected[1:][same] = attempt[:-1][same].astype(np.int64) + 1
    if (wrong := attempt != expected).any():
        place = int(np.flatnonzero(wrong)[0])
        rows = [np.flatnonzero(chunk.attempt != 1) + chunk.first for chunk in table.chunks("attempt")]
        why = f"attempt {attempt[place]} of message {_told(message[place])} follows no attempt before it"
        yield _Wrong(table.name, int(np.concatenate(rows)[order[place]]), why)


def _missing_deliveries(table: Table) -> Iterator[_Wrong]:
    numbers = _Numbers(begin=1)
    for chunk in table.chunks("client", "number"):
        if (gap := numbers.gap(chunk.client, chunk.number)) is not None:
            why = f"number {chunk.number[gap]} does not follow the one before it of client {chunk.client[gap]}"
            yield _Wrong(table.name, chunk.first + gap, why)
            return


class _Numbers:
    """The numbers of each client, which follow each other, a chunk at a time. `begin`: the first; None: any."""

    def __init__(self, begin: int | None = None) -> None:
        self._begin = begin
        self._last: dict[int, int] = {}
        self._mixed = False

    def gap(self, client: Array, number: Array) -> int | None:
        """The place of the first number that is not its client's last one plus 1, or that is its first and not `begin`.

        A client's rows stand together and ascend, as it wrote them; only what was mixed has to be put in order, which
        cannot be done beyond a chunk: then nothing is known.
        """
        if len(client) == 0 or self._mixed:
            return None
        order, one = np.arange(len(client)), number.dtype.type(1)
        changes = np.flatnonzero(client[1:] != client[:-1])
        if len(changes) >= np.count_nonzero(np.bincount(client)) or (number[1:] <= number[:-1]).sum() > len(changes):
            order = np.lexsort((number, client))
            client, number = client[order], number[order]
            changes = np.flatnonzero(client[1:] != client[:-1])
        wrong = np.zeros(len(client), np.bool_)
        wrong[1:] = number[1:] != number[:-1] + one
        for place in (0, *(changes + 1).tolist()):
            mine, first = int(client[place]), int(number[place])
            last = self._last.get(mine, None if self._begin is None else self._begin - 1)
            if mine in self._last and first < self._last[mine]:
                self._mixed = True
                return None
            wrong[place] = last is not None and first != last + 1
        ends = np.append(changes, len(client) - 1)
        self._last.update(zip(client[ends].tolist(), number[ends].tolist(), strict=True))
        return int(order[np.flatnonzero(wrong)[0]]) if wrong.any() else None


def _first(table: Columns, wrong: Array, column: str, why: str) -> _Wrong:
    row = int(np.flatnonzero(wrong)[0])
    return _Wrong(table.name, table.first + row, f"{column} {table[column][row]} {why}")


def _told(packed: int) -> str:
    return f"{int(packed) >> SEQUENCE_BITS}:{int(packed) & (1 << SEQUENCE_BITS) - 1}"
