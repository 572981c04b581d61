"""Histories of one queue, written as lists of operations or drawn at random."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from harness.checkers.queue_operations import Dequeues, Enqueues
from harness.operation import MessageId, Outcome
from tests.linearizations import Op

PRODUCERS = 3


def packed(value: int) -> int:
    """The id of a value: numbered in turn by three producers, so that ids are not in the order of their enqueues."""
    return MessageId(1 + value % PRODUCERS, value // PRODUCERS).packed


def tables(history: Sequence[Op]) -> tuple[Enqueues, Dequeues]:
    """The history as the checker reads it: rows in the order in which operations stand in it."""
    enqueues = [op for op in history if op.kind == "enq"]
    dequeues = [op for op in history if op.kind != "enq"]
    return (
        Enqueues(**_columns(enqueues)),
        Dequeues(**_columns(dequeues), empty=np.array([op.kind == "empty" for op in dequeues], np.bool_)),
    )


def returned(history: Sequence[Op]) -> np.ndarray:
    """Which rows of the table of dequeues may have brought a value back."""
    return np.array([op.returned for op in history if op.kind != "enq"], np.bool_)


def with_returns(seed: random.Random, history: Sequence[Op]) -> list[Op]:
    """The same with some answered dequeues that may have brought a value back, some of them later than they were."""
    ops = list(history)
    for place, op in enumerate(ops):
        if op.kind == "deq" and op.end is not None and seed.random() < 0.4:
            late = seed.choice([0, 0, 2, 5])
            ops[place] = op._replace(start=op.start + late, end=op.end + late, returned=True)
    return ops


def _columns(ops: Sequence[Op]) -> dict[str, np.ndarray]:
    outcomes = [Outcome.FAIL if op.failed else Outcome.INFO if op.end is None else Outcome.OK for op in ops]
    return {
        "invoked_ns": np.array([op.start for op in ops], np.int64),
        "completed_ns": np.array([-1 if op.end is None else op.end for op in ops], np.int64),
        "outcome": np.array(outcomes, np.uint8),
        "value": np.array([packed(op.value) for op in ops], np.uint64),
    }


def drawn(seed: random.Random, *, enqueues: int, dequeues: int, kinds: frozenset[str]) -> list[Op]:
    """A random history of a queue that is honest or has bugs, each operation stretched around its moment.

    `kinds`: what may be in it besides answered operations: "pending enqueue", "pending dequeue", "empty", "duplicate",
    "failed".
    """
    steps = ["enq"] * enqueues + ["deq"] * dequeues
    seed.shuffle(steps)
    reach = seed.choice([0, 0, 1, 2, 4])
    loses, shuffles, lies = (seed.choice([0.0, 0.0, 0.4]) for _ in range(3))
    queue: list[int] = []
    ops: list[Op] = []
    value = moment = 0
    for step in steps:
        moment += seed.randint(1, 3)
        start, end = moment - seed.randint(0, reach), moment + seed.randint(0, reach)
        if step == "enq":
            value += 1
            fate = seed.random()
            failed = "failed" in kinds and fate < 0.15
            pending = "pending enqueue" in kinds and not failed and fate < 0.5
            if not failed and not (pending and fate < 0.3) and seed.random() >= loses:
                queue.append(value)
            ops.append(Op("enq", start, None if pending else end, value, failed))
        elif "pending dequeue" in kinds and seed.random() < 0.4:
            if queue and seed.random() < 0.7:
                queue.pop(0)
            ops.append(Op("deq", start, None))
        elif queue and not ("empty" in kinds and seed.random() < lies):
            ops.append(Op("deq", start, end, queue.pop(seed.randrange(len(queue)) if seed.random() < shuffles else 0)))
        elif "empty" in kinds:
            ops.append(Op("empty", start, end))
    if seed.random() < 0.5:
        ops = _disturbed(seed, ops, kinds)
    return seed.sample(ops, len(ops)) if seed.random() < 0.5 else ops


def _disturbed(seed: random.Random, ops: list[Op], kinds: frozenset[str]) -> list[Op]:
    """The same with one or two operations moved, given another value, taken out, or made an answer "empty"."""
    for _ in range(seed.randint(1, 3)):
        if not ops:
            break
        place = seed.randrange(len(ops))
        op = ops[place]
        change = seed.choice(["move", "shrink", "swap", "swap", "drop", "empty", "again"])
        length = seed.randint(0, 4)
        if change == "move":
            start = seed.randint(0, 16)
            ops[place] = op._replace(start=start, end=None if op.end is None else start + length)
        elif change == "shrink":
            ops[place] = op._replace(end=None if op.end is None else op.start)
        elif change == "swap" and op.kind == "deq" and op.end is not None:
            others = [n for n, other in enumerate(ops) if other.kind == "deq" and other.end is not None]
            other = seed.choice(others)
            mine, theirs = op.value, ops[other].value
            ops[place], ops[other] = op._replace(value=theirs), ops[other]._replace(value=mine)
        elif change == "drop" and op.kind != "enq":
            del ops[place]
        elif change == "empty" and "empty" in kinds:
            start = seed.randint(0, 16)
            ops.append(Op("empty", start, start + length))
        elif change == "again" and "duplicate" in kinds and op.kind == "deq" and op.end is not None:
            ops.append(op._replace(start=op.start + length, end=op.end + length + seed.randint(0, 3)))
    return ops
