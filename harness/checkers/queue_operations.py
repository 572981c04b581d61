"""Which dequeue took which value? Operations of one queue as columns, and each value with its enqueue and its dequeue.

*value*: the packed id of one copy in the queue; values are distinct, which is what makes linearizability cheap.
*pending*: outcome INFO, never answered: the operation may have taken effect at any time after it was invoked, or not at
all. *FOREVER*: the time of what comes later than everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.checkers.places import Places
from harness.history.history import Array
from harness.operation import MessageId, Outcome

FOREVER = int(np.iinfo(np.int64).max)


def _column(name: str, given: Array, dtype: str) -> Array:
    array = np.ascontiguousarray(given, dtype=dtype)
    if array.ndim != 1:
        raise ValueError(f"column {name} has {array.ndim} dimensions (one row an operation)")
    return array


def _refuse_nonsense(kind: str, invoked_ns: Array, completed_ns: Array, outcome: Array, *others: Array) -> None:
    """Raise ValueError for columns of unequal length, unknown outcomes, and answers that came before the call."""
    lengths = [len(column) for column in (invoked_ns, completed_ns, outcome, *others)]
    if len(set(lengths)) > 1:
        raise ValueError(f"{kind}: columns of unequal length: {lengths}")
    if len(outcome) == 0:
        return
    if int(outcome.max()) > max(Outcome):
        raise ValueError(f"{kind}: outcome {int(outcome.max())} is none (INFO 0, OK 1, FAIL 2)")
    backwards = completed_ns < invoked_ns
    if backwards.any() and (backwards := backwards & (outcome == Outcome.OK)).any():
        row = int(np.argmax(backwards))
        raise ValueError(
            f"{kind}: row {row} is OK, yet completed at {completed_ns[row]} ns, before it was invoked at "
            f"{invoked_ns[row]} ns"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueues:
    """Enqueues of one queue, one row each, in any order: columns of equal length.

    `invoked_ns`, `completed_ns`: i8, ns of one monotonic clock; the interval is closed. `outcome`: u1, Outcome.
    `value`: u8, packed id. `completed_ns` is read only where the outcome is OK.

    Raises ValueError for columns that cannot be a table of operations, naming the row.
    """

    invoked_ns: Array
    completed_ns: Array
    outcome: Array
    value: Array

    def __post_init__(self) -> None:
        for name, dtype in (("invoked_ns", "i8"), ("completed_ns", "i8"), ("outcome", "u1"), ("value", "u8")):
            object.__setattr__(self, name, _column(name, getattr(self, name), dtype))
        _refuse_nonsense("enqueues", self.invoked_ns, self.completed_ns, self.outcome, self.value)

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dequeues:
    """Dequeues of the same queue, one row each, in any order; columns as of Enqueues.

    `empty`: bool, whether the answer was "nothing there". `value` is read only where the outcome is OK and the answer
    was not empty.
    """

    invoked_ns: Array
    completed_ns: Array
    outcome: Array
    value: Array
    empty: Array

    def __post_init__(self) -> None:
        columns = (("invoked_ns", "i8"), ("completed_ns", "i8"), ("outcome", "u1"), ("value", "u8"), ("empty", "?"))
        for name, dtype in columns:
            object.__setattr__(self, name, _column(name, getattr(self, name), dtype))
        _refuse_nonsense("dequeues", self.invoked_ns, self.completed_ns, self.outcome, self.value, self.empty)

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Every value that may have been enqueued, in the order in which its enqueue was invoked, with its first dequeue.

    One position a value: `enqueue_rows` (rows of Enqueues), `value`, `enqueue_invoked_ns`, `enqueue_completed_ns`
    (FOREVER if pending), `dequeue_invoked_ns` and `dequeue_completed_ns` (FOREVER if it was never dequeued).
    One entry an answered dequeue of such a value: `dequeue_rows` (rows of Dequeues) and `at` (the value's position).
    `strange`: rows of answered dequeues whose value no enqueue can have put there. `repeated`: positions of values
    that were dequeued more than once; of them, the dequeue that was answered first counts.
    """

    enqueue_rows: Array
    value: Array
    enqueue_invoked_ns: Array
    enqueue_completed_ns: Array
    dequeue_invoked_ns: Array
    dequeue_completed_ns: Array
    dequeue_rows: Array
    at: Array
    strange: Array
    repeated: Array

    def dequeues_of(self, position: int) -> tuple[int, ...]:
        """Rows of the dequeues that took the value at this position."""
        return tuple(int(row) for row in self.dequeue_rows[np.flatnonzero(self.at == position)])


def match(enqueues: Enqueues, dequeues: Dequeues) -> Matched:
    """Bring each value's enqueue and dequeue together. Linear in the rows, but for enqueues that must be sorted.

    Raises ValueError if two enqueues that may both have taken effect have one value.
    """
    rows = _in_order_of_invocation(enqueues)
    whole = rows is None
    value = enqueues.value if whole else enqueues.value[rows]
    invoked_ns = enqueues.invoked_ns if whole else enqueues.invoked_ns[rows]
    completed_ns = enqueues.completed_ns if whole else enqueues.completed_ns[rows]
    pending = (enqueues.outcome if whole else enqueues.outcome[rows]) != Outcome.OK
    if pending.any():
        completed_ns = np.where(pending, FOREVER, completed_ns)
    count = len(value)
    positions = np.arange(count)
    places = Places(value)
    position_at = np.zeros(places.count, np.int64)
    of_value = places.near(value)
    position_at[of_value] = positions
    if (clashing := position_at.take(of_value, mode="clip") != positions).any():
        twice = value[clashing][0]
        raise ValueError(f"value {MessageId.unpack(int(twice))} is enqueued twice: values must be distinct")

    answered = (dequeues.outcome == Outcome.OK) & ~dequeues.empty
    taking = np.arange(len(dequeues)) if answered.all() else np.flatnonzero(answered)
    strange = taking[:0]
    taken = _of(dequeues.value, taking)
    if count == 0:
        strange, taking, at = taking, strange, strange
    else:
        at = position_at.take(places.near(taken), mode="clip")
        known = value.take(at) == taken
        if not known.all():
            strange, taking, at = taking[~known], taking[known], at[known]
    repeated, first_rows, first_at = _first_dequeues(dequeues, taking, at, count)
    dequeue_invoked_ns, dequeue_completed_ns = np.full(count, FOREVER), np.full(count, FOREVER)
    dequeue_invoked_ns[first_at] = _of(dequeues.invoked_ns, first_rows)
    dequeue_completed_ns[first_at] = _of(dequeues.completed_ns, first_rows)
    return Matched(
        enqueue_rows=positions if rows is None else rows,
        value=value,
        enqueue_invoked_ns=invoked_ns,
        enqueue_completed_ns=completed_ns,
        dequeue_invoked_ns=dequeue_invoked_ns,
        dequeue_completed_ns=dequeue_completed_ns,
        dequeue_rows=taking,
        at=at,
        strange=strange,
        repeated=repeated,
    )


def _of(column: Array, rows: Array) -> Array:
    """These rows of a column: the column itself where they are all of it, in order."""
    return column if len(rows) == len(column) else column[rows]


def _in_order_of_invocation(enqueues: Enqueues) -> Array | None:
    """Rows that may have taken effect, by invocation; None if they are all rows as they stand."""
    failed = enqueues.outcome == Outcome.FAIL
    rows = np.flatnonzero(~failed) if failed.any() else None
    invoked_ns = enqueues.invoked_ns if rows is None else enqueues.invoked_ns[rows]
    if (invoked_ns[1:] >= invoked_ns[:-1]).all():
        return rows
    # A table is made of clients' journals, each in order: timsort merges such runs, in few passes.
    order = np.argsort(invoked_ns, kind="stable")
    return order if rows is None else rows[order]


def _first_dequeues(dequeues: Dequeues, rows: Array, at: Array, count: int) -> tuple[Array, Array, Array]:
    """(positions dequeued more than once, rows and positions of each value's first answered dequeue)."""
    times = np.bincount(at, minlength=count)
    repeated = np.flatnonzero(times > 1)
    if len(repeated) == 0:
        return repeated, rows, at
    order = np.lexsort((rows, dequeues.completed_ns[rows], at))
    first = np.ones(len(order), np.bool_)
    first[1:] = at[order][1:] != at[order][:-1]
    return repeated, rows[order[first]], at[order[first]]
