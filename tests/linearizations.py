"""Is a small history of a queue linearizable? By trying every order: what harness/checkers/fifo.py is compared with.

Nothing here is shared with it: operations are tuples, and the queue is a tuple that is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from typing import NamedTuple


class Op(NamedTuple):
    """One operation: `kind` is "enq", "deq" or "empty"; `end` is None if it was never answered; `failed`: refused for
    certain; `returned`: the value may have been taken before by an unanswered dequeue, and have come back. The value of
    an unanswered dequeue is not known, whatever it says."""

    kind: str
    start: int
    end: int | None
    value: int = 0
    failed: bool = False
    returned: bool = False


def explained(history: Sequence[Op]) -> bool:
    """Whether it is linearizable if some of its returned values were taken before, each by an unanswered dequeue of its
    own, which has taken the value by the time of its return. Every such choice is tried."""
    returned = [place for place, op in enumerate(history) if op.returned and op.end is not None]
    takers = [place for place, op in enumerate(history) if op.kind == "deq" and op.end is None and not op.failed]
    for count in range(min(len(returned), len(takers)) + 1):
        for values in combinations(returned, count):
            for chosen in permutations(takers, count):
                ops = list(history)
                for value, taker in zip(values, chosen, strict=True):
                    ops[value] = ops[value]._replace(start=history[taker].start)
                kept = [op for place, op in enumerate(ops) if place not in chosen]
                if all(op.end is None or op.start <= op.end for op in kept) and linearizable(kept):
                    return True
    return False


def linearizable(history: Sequence[Op]) -> bool:
    """Whether some order of the answered operations, and of any of those never answered, is that of one queue."""
    ops = [op for op in history if not op.failed]
    answered = sum(1 << place for place, op in enumerate(ops) if op.end is not None)
    # An operation may come next once all have that were answered before it was invoked.
    needs = [
        sum(1 << place for place, other in enumerate(ops) if other.end is not None and other.end < op.start)
        for op in ops
    ]
    seen: set[tuple[int, tuple[int, ...]]] = set()
    left: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    while left:
        state = left.pop()
        if state in seen:
            continue
        seen.add(state)
        done, queue = state
        if done & answered == answered:
            return True
        for place, op in enumerate(ops):
            if not done >> place & 1 and needs[place] & ~done == 0:
                left += [(done | 1 << place, after) for after in _effects(op, queue)]
    return False


def _effects(op: Op, queue: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The queues that the operation can leave behind; none if its answer is not what this queue gives."""
    if op.kind == "enq":
        yield (*queue, op.value)
    elif op.end is None:
        yield queue[1:]
    elif op.kind == "empty":
        if not queue:
            yield queue
    elif queue and queue[0] == op.value:
        yield queue[1:]
