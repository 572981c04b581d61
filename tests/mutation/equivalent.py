"""Mutants that change no verdict, count or witness, by name, each with the reason: no test can kill them, and none has
to. What is listed here and no longer in the code fails tests/mutation/test_mutate.py.
"""

from __future__ import annotations

from collections.abc import Mapping

_SPEED = "decides only whether ids are sorted or counted, or how much at a time: the same places come of both"
_HOLE = "gives a producer one more place, which is that of no message"
_ALONE = "one row alone has nothing to be compared with, and none gives nothing on the longer way, too"
_INSIDE = "no halving reaches 0 or 1, where the chance needs no sum"
_NANOSECOND = "adds a nanosecond to a time of which parts in a hundred matter"

EQUIVALENT: Mapping[str, str] = {
    "bounds.py:: _HALVINGS = 60 -> _HALVINGS = 120": "changes the bound by less than a float can tell",
    "bounds.py:_at_most: return 1.0 if violating >= trials else 0.0 -> "
    "return 2.0 if violating >= trials else 0.0": _INSIDE,
    "bounds.py:upper_bound: return _bisect(lambda p: _at_most(violating, trials, p) > alpha) -> "
    "return _bisect(lambda p: (_at_most(violating, trials, p) >= alpha))": "the halvings do not end on the very point",
    "books.py:Books.doubts: sentence for sentence, covered in zip(self.mismatches, self.covers, strict=True) if "
    "anomaly in covered -> sentence for sentence, covered in zip(self.mismatches, self.covers, strict=False) if "
    "anomaly in covered": "audit makes both of one list",
    "emptiness.py:Cover: takers: int = 0 -> takers: int = 1": "where nothing is left open, nobody asks for takers",
    "queue_operations.py:_in_order_of_invocation: if (invoked_ns[1:] >= invoked_ns[:-1]).all(): -> pass": (
        "what is in order already is sorted once more"
    ),
    "queue_operations.py:_in_order_of_invocation: if (invoked_ns[1:] >= invoked_ns[:-1]).all(): -> "
    "if ((invoked_ns[1:] > invoked_ns[:-1])).all():": "what is in order already is sorted once more, stably",
    "bounds.py:_at_most: return 1.0 if violating >= trials else 0.0 -> "
    "return 1.0 if violating >= trials else 1.0": _INSIDE,
    "bounds.py:_at_most: if p <= 0: -> if (p < 0):": _INSIDE,
    "bounds.py:_bisect: low, high = 0.0, 1.0 -> low, high = 0.0, 2.0": "more halvings to the same point",
    "bounds.py:upper_bound: if violating == 0: -> pass": "the closed form of what the halvings find, too",
    "health.py:_states: for row in unplanned[states][: _SHOWN_MAX + 1] -> "
    "for row in unplanned[states][: _SHOWN_MAX + 2]": "what is beyond the limit is cut off again",
    "fifo.py:_overtaken: suspects = np.flatnonzero(first_answer[1:] < matched.dequeue_invoked_ns) -> "
    "suspects = np.flatnonzero((first_answer[1:] <= matched.dequeue_invoked_ns))": "a suspect more is looked at",
    "risk.py:Risks._lives: current = max((epoch for first_ns, epoch in epochs[int(client)] if first_ns <= asked_ns), "
    "default=0) -> current = max((epoch for first_ns, epoch in epochs[int(client)] if first_ns <= asked_ns), "
    "default=1)": "what has epoch 0 was never sent, and is not asked for",
    "places.py:: _SPARSE_FACTOR = 4 -> _SPARSE_FACTOR = 5": _SPEED,
    "places.py:: _SPARSE_FREE = 4096 -> _SPARSE_FREE = 8192": _SPEED,
    "places.py:: _BLOCK = 1 << 15 -> _BLOCK = 2 << 15": _SPEED,
    "places.py:: _BLOCK = 1 << 15 -> _BLOCK = 1 << 16": _SPEED,
    "places.py:Places.__init__: size = np.maximum(high - low + 1, 0) -> size = np.maximum(high - low + 2, 0)": _HOLE,
    "places.py:Places.near: if self.count == 0: -> if self.count == 1:": "the one place is 0, whatever is asked for",
    "repeats.py:repeats: if len(order) == 0: -> if len(order) == 1:": _ALONE,
    "trial.py:_stood_still_s: return float(np.maximum(end_ns - begin_ns, 0).sum()) / 1e9 -> "
    "return float(np.maximum(end_ns - begin_ns, 1).sum()) / 1e9": _NANOSECOND,
}
