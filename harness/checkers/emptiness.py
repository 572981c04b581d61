"""When may a queue have been empty? For answers "nothing there": was there a moment at which that could be true?

A value is *certainly inside* from the end of its enqueue to the beginning of its dequeue, both excluded: at the ends
themselves the two operations may be ordered either way, for intervals are closed. So the queue may be empty at t if

- no value that was dequeued is certainly inside at t, and
- of the values that were never dequeued, no more were stored before t than pending dequeues were invoked by t, each of
  which may have taken one; nor are there more together with the returned values that lie between the end of their
  enqueue and the beginning of their return at t, each of which needs one such dequeue, too.

An answer "empty" is legal iff its interval contains such a moment, whatever other such answers there are. Source: the
pattern VWit of T. A. Henzinger, A. Sezgin, V. Vafeiadis, "Aspect-oriented linearizability proofs", CONCUR 2013,
LNCS 8052, 242-256, where values cover the whole interval of the answer; the second line, which is ours, is argued in
harness/checkers/fifo.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.history.history import Array

LINKS_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What may have been in the queue, as columns of ns.

    `stored_ns`, `taken_ns`: end of the enqueue and beginning of the dequeue of each value that was dequeued (the value
    is certainly inside between them, if at all); `dequeued`: which value that is, as the caller numbers them.
    `kept_ns`, `kept`: end of the enqueue of each value that never was, and which it is. `takers_ns`: beginning of each
    pending dequeue, ascending. `lent_ns`, `back_ns`, `lent`: as of values that were dequeued, of those that may have
    been taken before by a pending dequeue, and have come back.
    """

    stored_ns: Array
    taken_ns: Array
    dequeued: Array
    kept_ns: Array
    kept: Array
    takers_ns: Array
    lent_ns: Array
    back_ns: Array
    lent: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """Why no moment of an interval will do. `values`: those that cover it one after another, LINKS_MAX of them at most.

    `gap_ns`: the first moment that they leave open, None if they leave none or more are needed than can be named;
    `owed`: kept values that were stored before it, and those that came back after it; `takers`: pending dequeues that
    were invoked by then.
    """

    values: tuple[int, ...]
    gap_ns: int | None = None
    owed: tuple[int, ...] = ()
    takers: int = 0


def false_empties(inside: Inside, invoked_ns: Array, completed_ns: Array) -> Array:
    """Which of these answers "empty" (closed intervals) are wrong: a boolean array. O(n log n)."""
    wrong = np.zeros(len(invoked_ns), np.bool_)
    if len(wrong) == 0:
        return wrong
    begins, ends = _certain(inside.stored_ns, inside.taken_ns)
    lent, back = _certain(inside.lent_ns, inside.back_ns)
    kept, takers = np.sort(inside.kept_ns), inside.takers_ns

    def may_be_empty(moments: Array) -> Array:
        certain = np.searchsorted(begins, moments, side="left") - np.searchsorted(ends, moments, side="right")
        owed = np.searchsorted(kept, moments, side="left") - np.searchsorted(takers, moments, side="right")
        if len(lent):
            owed += np.searchsorted(lent, moments, side="left") - np.searchsorted(back, moments, side="right")
        return np.asarray((certain == 0) & (owed <= 0))

    wrong = ~may_be_empty(invoked_ns)
    left = np.flatnonzero(wrong)
    if len(left):
        # The moments at which the queue may be empty form closed intervals, which begin where a value may be taken.
        moments = np.sort(np.concatenate([ends, takers, back]))
        moments = moments[may_be_empty(moments)]
        first = np.searchsorted(moments, invoked_ns[left], side="left")
        beyond = np.searchsorted(moments, completed_ns[left], side="right")
        wrong[left] = first == beyond
    return wrong


def _certain(stored_ns: Array, taken_ns: Array) -> tuple[Array, Array]:
    """When values begin to be certainly inside, and when they end to be: each ascending."""
    real = stored_ns < taken_ns
    return np.sort(stored_ns[real], kind="stable"), np.sort(
        taken_ns[real], kind="stable"
    )  # nearly sorted: timsort gains


def cover(inside: Inside, invoked_ns: int, completed_ns: int) -> Cover:
    """What shows that the answer "empty" over this interval is wrong."""
    chain: list[int] = []
    moment = invoked_ns
    while moment <= completed_ns and len(chain) < LINKS_MAX:
        there = np.flatnonzero((inside.stored_ns < moment) & (inside.taken_ns > moment))
        if len(there) == 0:
            back = inside.lent[(inside.lent_ns < moment) & (inside.back_ns > moment)]
            owed = np.concatenate([inside.kept[inside.kept_ns < moment], back])
            takers = int(np.count_nonzero(inside.takers_ns <= moment))
            return Cover(values=tuple(chain), gap_ns=moment, owed=tuple(map(int, owed[: takers + 1])), takers=takers)
        link = int(there[np.argmax(inside.taken_ns[there])])
        chain.append(int(inside.dequeued[link]))
        moment = int(inside.taken_ns[link])
    return Cover(values=tuple(chain))
