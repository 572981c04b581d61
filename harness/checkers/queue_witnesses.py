"""Which operations show that a queue was not first in first out, and how is that said?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.checkers.anomaly import WITNESSES_MAX, Anomaly
from harness.checkers.emptiness import Cover, Inside, cover
from harness.checkers.queue_operations import Dequeues, Enqueues, Matched
from harness.guarantee import Witness
from harness.history.history import Array
from harness.operation import MessageId, Outcome


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of Enqueues and of Dequeues that one witness points at, the accused first."""

    enqueues: tuple[int, ...]
    dequeues: tuple[int, ...]


Told = tuple[Rows, str]
Found = tuple[Anomaly, tuple[Rows, ...]]


@dataclass(frozen=True, slots=True)
class Teller:
    """Makes anomalies of what was found in one queue's operations: positions are those of `matched`."""

    enqueues: Enqueues
    dequeues: Dequeues
    matched: Matched

    # ---- anomalies ---------------------------------------------------------------------------------------------------

    def of_values(self, name: str, positions: Array, tell: Callable[[int], Told]) -> Found:
        """What befell the values at these positions. The span of each: all that was done with it, and answered."""
        if len(positions) == 0:
            return Anomaly(name=name, count=0), ()
        matched = self.matched
        positions = positions[np.argsort(matched.value[positions], kind="stable")]
        rows = matched.enqueue_rows[positions]
        first_ns = self.enqueues.invoked_ns[rows]
        last_ns = np.where(self.enqueues.outcome[rows] == Outcome.OK, self.enqueues.completed_ns[rows], first_ns)
        place = np.full(len(matched.value), -1)
        place[positions] = np.arange(len(positions))
        taken = np.flatnonzero(place[matched.at] >= 0)
        of, taking = place[matched.at[taken]], matched.dequeue_rows[taken]
        np.minimum.at(first_ns, of, self.dequeues.invoked_ns[taking])
        np.maximum.at(last_ns, of, self.dequeues.completed_ns[taking])
        ids = matched.value[positions]
        told = [tell(int(position)) for position in positions[:WITNESSES_MAX]]
        witnesses = [Witness(name, int(packed), story) for packed, (_, story) in zip(ids, told, strict=False)]
        anomaly = Anomaly(
            name=name,
            count=len(positions),
            ids=ids,
            first_ns=first_ns,
            last_ns=np.maximum(first_ns, last_ns),
            witnesses=tuple(witnesses),
        )
        return anomaly, tuple(rows for rows, _ in told)

    def of_strangers(self, name: str, rows: Array, why: str) -> Found:
        """Dequeues of values that no enqueue can have put there."""
        if len(rows) == 0:
            return Anomaly(name=name, count=0), ()
        values = self.dequeues.value[rows]
        rows = rows[np.argsort(values, kind="stable")]
        told = []
        for row in rows[:WITNESSES_MAX]:
            packed = self.dequeues.value[row]
            sources = np.flatnonzero(self.enqueues.value == packed)[:WITNESSES_MAX]
            text = f"{_dequeue(self.dequeues, int(row))} brought {_name(packed)}, {why}"
            told.append((Rows(tuple(map(int, sources)), (int(row),)), text))
        witnesses = [
            Witness(name, int(self.dequeues.value[row]), text) for row, (_, text) in zip(rows, told, strict=False)
        ]
        return self._of_dequeues(name, rows, witnesses, ids=np.unique(values)), tuple(one for one, _ in told)

    def of_empties(self, name: str, rows: Array, inside: Inside | None) -> Found:
        """Answers "empty" that are wrong."""
        if len(rows) == 0 or inside is None:
            return Anomaly(name=name, count=0), ()
        told = []
        for row in rows[:WITNESSES_MAX]:
            invoked_ns, completed_ns = int(self.dequeues.invoked_ns[row]), int(self.dequeues.completed_ns[row])
            told.append(self._empty(int(row), cover(inside, invoked_ns, completed_ns)))
        witnesses = [Witness(name, None, story) for _, story in told]
        return self._of_dequeues(name, rows, witnesses), tuple(one for one, _ in told)

    def _of_dequeues(self, name: str, rows: Array, witnesses: list[Witness], ids: Array | None = None) -> Anomaly:
        return Anomaly(
            name=name,
            count=len(rows),
            ids=np.empty(0, np.uint64) if ids is None else ids,
            first_ns=self.dequeues.invoked_ns[rows],
            last_ns=self.dequeues.completed_ns[rows],
            witnesses=tuple(witnesses),
        )

    # ---- stories -----------------------------------------------------------------------------------------------------

    def repeated(self, position: int) -> Told:
        """A value that was dequeued more than once."""
        return self._value(position)

    def early(self, position: int) -> Told:
        """A value whose dequeue was answered before its enqueue was invoked."""
        rows, story = self._value(position)
        return rows, f"{story}: dequeued before it was enqueued"

    def overtaken(self, position: int) -> Told:
        """A value before which another one was dequeued that was enqueued wholly after it."""
        matched = self.matched
        after = int(np.searchsorted(matched.enqueue_invoked_ns, matched.enqueue_completed_ns[position], side="right"))
        other = after + int(np.argmin(matched.dequeue_completed_ns[after:]))
        mine, story = self._value(position)
        theirs, told = self._value(other)
        if not mine.dequeues:
            story += ", never dequeued"
        rows = Rows(mine.enqueues + theirs.enqueues, mine.dequeues + theirs.dequeues)
        return rows, f"{story}; but {told}"

    def _value(self, position: int) -> Told:
        rows = Rows((int(self.matched.enqueue_rows[position]),), self.matched.dequeues_of(position))
        operations = [_enqueue(self.enqueues, rows.enqueues[0])]
        operations += [_dequeue(self.dequeues, row) for row in rows.dequeues[:WITNESSES_MAX]]
        if more := len(rows.dequeues) - WITNESSES_MAX:
            operations += [f"{more} more"] if more > 0 else []
        return rows, f"{_name(self.matched.value[position])}: {', '.join(operations)}"

    def _empty(self, row: int, why: Cover) -> Told:
        said = [f"{_dequeue(self.dequeues, row)} found the queue empty"]
        enqueued: list[int] = []
        dequeued = [row]
        for position in why.values:
            rows, story = self._value(position)
            said.append(f"{'but' if len(said) == 1 else 'then'} {story}")
            enqueued += rows.enqueues
            dequeued += rows.dequeues
        if why.gap_ns is not None:
            said.append(f"{'but' if len(said) == 1 else 'then'}, from {_moment(why.gap_ns)} on: {self._owed(why)}")
            enqueued += [int(self.matched.enqueue_rows[position]) for position in why.owed]
        return Rows(tuple(enqueued), tuple(dequeued)), "; ".join(said)

    def _owed(self, why: Cover) -> str:
        ids = [str(MessageId.unpack(int(self.matched.value[position]))) for position in why.owed]
        if more := len(ids) - WITNESSES_MAX:
            ids = [*ids[:WITNESSES_MAX], f"{more} more"] if more > 0 else ids
        values = f"value {ids[0]} was" if len(ids) == 1 else f"values {', '.join(ids)} were"
        came = [position for position in why.owed if self.matched.dequeues_of(position)]
        said = f"{values} enqueued before and never dequeued"
        if came:
            said = f"{values} enqueued before and {'' if len(came) == len(ids) else 'never dequeued, or '}brought later"
            said += f" ({self._value(came[0])[1]})"
        if why.takers:
            answered = "1 was" if why.takers == 1 else f"{why.takers} were"
            said += f", and of the dequeues invoked by then, which may have taken one each, {answered} never answered"
        return said


def _name(packed: object) -> str:
    return f"value {MessageId.unpack(int(str(packed)))}"


def _moment(ns: int) -> str:
    """A time of the run to the nanosecond: whether two operations overlap is a matter of little."""
    return f"{ns // 10**9}.{ns % 10**9:09d} s"


def _interval(operations: Enqueues | Dequeues, row: int) -> str:
    begin = _moment(int(operations.invoked_ns[row]))
    if operations.outcome[row] == Outcome.INFO:
        return f"{begin}, never answered"
    return f"{begin} to {_moment(int(operations.completed_ns[row]))}"


def _enqueue(enqueues: Enqueues, row: int) -> str:
    return f"enqueue {row} ({_interval(enqueues, row)})"


def _dequeue(dequeues: Dequeues, row: int) -> str:
    return f"dequeue {row} ({_interval(dequeues, row)})"
