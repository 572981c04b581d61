"""How fast is it decided that a queue was first in first out? Against one sort of the same ids, and against Porcupine.

Every time is CPU time of the deciding process: wall time on a shared machine says who else was there. A ratio is the
median over pairs, run A B B A; a rate is that of the fastest run, which a busy machine disturbs least. Before anything
is timed, both sides must give the verdict that is known.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.bench.figure import PAIRS, Figure, cpu_s, paired, ratio
from harness.checkers import fifo
from harness.checkers.queue_operations import Dequeues, Enqueues
from harness.errors import Trouble
from harness.history.history import Array
from harness.operation import SEQUENCE_BITS, Outcome

PEER = "Porcupine"
NOTE = "CPU time, one core; verdicts were compared first"
SEED = 7
_GAP_NS = 1_000
_BUILD_S = 300.0
_GIVES_UP_S = 20.0
_SOURCE = Path(__file__).with_name("porcupine")


# ---- histories -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """The columns of one queue's history, as the records of harness/checkers/queue_operations.py take them."""

    enqueues: dict[str, Array]
    dequeues: dict[str, Array]

    def check(self) -> fifo.QueueFindings:
        """Decide it, the making of the tables included."""
        return fifo.check(Enqueues(**self.enqueues), Dequeues(**self.dequeues))

    @property
    def ids(self) -> Array:
        """The id of every operation's value, as the rows stand."""
        return np.concatenate([self.enqueues["value"], self.dequeues["value"]])


def honest(operations: int, *, overlap: float, waiting: int, empties: bool = False) -> Operations:
    """A linearizable history: as many enqueues as dequeues, by clients that each do one thing at a time.

    `overlap`: mean number of operations under way. `waiting`: values in the queue at any time. `empties`: before each
    enqueue another client finds the queue empty, which is true because no value waits (`waiting` is 0 then).
    """
    random = np.random.default_rng(SEED)
    values = operations // (3 if empties else 2)
    number = np.arange(values)
    clients = math.ceil(overlap)
    reach_ns = max(1, int(overlap * _GAP_NS / (3 if empties else 2)))

    def around(moment_ns: Array) -> dict[str, Array]:
        return {
            "invoked_ns": moment_ns - random.integers(0, reach_ns, len(moment_ns)),
            "completed_ns": moment_ns + random.integers(0, reach_ns, len(moment_ns)),
            "outcome": np.full(len(moment_ns), Outcome.OK, np.uint8),
        }

    begin_ns = number * _GAP_NS + 10**6
    # Rows stand as frozen tables have them: one client's after another's, each in the order of time.
    rows = np.argsort(number % clients, kind="stable")
    ids = ((1 + number % clients) << SEQUENCE_BITS | number // clients)[rows].astype(np.uint64)
    enqueues = around(begin_ns[rows]) | {"value": ids}
    dequeues = around((begin_ns + (0 if empties else waiting) * _GAP_NS + _GAP_NS // 2)[rows]) | {"value": ids}
    dequeues["empty"] = np.zeros(values, np.bool_)
    if empties:
        nothing = around((begin_ns - _GAP_NS // 4)[rows]) | {"value": np.zeros(values, np.uint64)}
        nothing["empty"] = np.ones(values, np.bool_)
        dequeues = {name: np.concatenate([dequeues[name], nothing[name]]) for name in dequeues}
    return Operations(enqueues=enqueues, dequeues=dequeues)


def swapped(history: Operations) -> Operations:
    """The same with two values exchanged between the first and the last dequeue: not linearizable."""
    values = history.dequeues["value"].copy()
    first, last = np.argmin(history.dequeues["invoked_ns"]), np.argmax(history.dequeues["invoked_ns"])
    values[[first, last]] = values[[last, first]]
    return Operations(enqueues=history.enqueues, dequeues={**history.dequeues, "value": values})


# ---- the peer --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Porcupine says: "Ok", "Illegal", or "Unknown" if it gave up; CPU seconds of each time it decided."""

    verdict: str
    cpu_s: tuple[float, ...]


Peer = Callable[[Operations, float], Answer]


class _Absent(Exception):
    """The peer cannot be had here, and why."""


@contextmanager
def porcupine() -> Iterator[Peer]:
    """Porcupine, built from its Go module in a temporary directory. Raises _Absent where it cannot be."""
    go = shutil.which("go")
    if go is None:
        raise _Absent("no Go to build it with: install Go 1.21 or newer")
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as directory:
        shutil.copytree(_SOURCE, directory, dirs_exist_ok=True)
        program = Path(directory) / "lin"
        try:
            subprocess.run(
                [go, "build", "-buildvcs=false", "-mod=mod", "-o", str(program), "."],
                cwd=directory,
                check=True,
                capture_output=True,
                text=True,
                timeout=_BUILD_S,
            )
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise _Absent(f"Go could not build it: {last}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _Absent(f"Go could not build it: {error}") from error
        yield lambda history, timeout_s: _ask(program, history, timeout_s)


def _ask(program: Path, history: Operations, timeout_s: float) -> Answer:
    lines = [
        f"{kind} {invoked} {completed} {value}"
        for kind, columns in ((0, history.enqueues), (1, history.dequeues))
        for invoked, completed, value in zip(
            columns["invoked_ns"], columns["completed_ns"], columns["value"], strict=True
        )
    ]
    try:
        told = subprocess.run(
            [str(program), "-timeout", f"{timeout_s}s"],
            input="\n".join(lines),
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout_s + _BUILD_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _Absent(f"it did not answer: {error}") from error
    answer = json.loads(told.stdout)
    return Answer(verdict=answer["verdict"], cpu_s=tuple(answer["cpu_s"]))


# ---- measuring -------------------------------------------------------------------------------------------------------


def measure(tell: Callable[[str], None] = lambda _: None) -> Iterator[Figure]:
    """Measure everything, one figure after another. `tell` hears what is being done.

    Raises Trouble if a verdict is not the known one: then no time means anything.
    """
    for operations in (10**6, 10**7):
        yield from _against_a_sort(f"10^{round(math.log10(operations))} operations", operations, tell)
    yield from _against_a_sort("10^6 operations, a third of them empty answers", 10**6, tell, empties=True)
    small = honest(10**3, overlap=6, waiting=20)
    tell("10^3 operations of mean overlap 6")
    _known(small)
    times_ms = [cpu_s(small.check) * 1e3 for _ in range(10 * PAIRS)]
    yield Figure(
        name="10^3 operations, mean overlap 6",
        unit="ms",
        value=statistics.median(times_ms),
        goal=10.0,
        at_most=True,
        detail=f"{min(times_ms):.2f} to {max(times_ms):.2f}",
    )
    yield from _against_porcupine(small, tell)


def _against_a_sort(name: str, operations: int, tell: Callable[[str], None], empties: bool = False) -> Iterator[Figure]:
    tell(name)
    history = honest(operations, overlap=6, waiting=20, empties=empties)
    ids = history.ids
    _known(history)
    check_s, sort_s = paired(history.check, lambda: np.sort(ids))
    count = len(ids)
    yield Figure(
        name=name,
        unit="M operations/s",
        value=count / min(check_s) / 1e6,
        goal=10.0,
        detail=f"median {count / statistics.median(check_s) / 1e6:.1f}, slowest {count / max(check_s) / 1e6:.1f}",
    )
    yield Figure(
        name=f"{name}, against np.sort of their ids",
        unit="x its time",
        value=ratio(check_s, sort_s),
        goal=2.5,
        at_most=True,
        detail=f"np.sort {statistics.median(sort_s):.3f} s",
    )


def _against_porcupine(small: Operations, tell: Callable[[str], None]) -> Iterator[Figure]:
    name = f"{PEER} on 10^4 operations, mean overlap 4"
    given_up = f"{PEER} on 10^3 operations, mean overlap 6"
    history = honest(10**4, overlap=4, waiting=4)
    try:
        tell(f"{PEER}: build")
        with porcupine() as peer:
            tell(f"{PEER}: verdicts")
            short = honest(100, overlap=2, waiting=4)
            for known, expected in ((short, "Ok"), (swapped(short), "Illegal"), (history, "Ok")):
                _agree(peer, known, expected)
            tell(name)
            check_s: list[float] = []
            peer_s: list[float] = []
            for _ in range(PAIRS):
                check_s.append(statistics.median(cpu_s(history.check) for _ in range(PAIRS)))
                peer_s.append(peer(history, _GIVES_UP_S).cpu_s[0])
            yield Figure(
                name=name,
                unit="x our time",
                value=ratio(peer_s, check_s),
                goal=100.0,
                detail=f"{statistics.median(check_s) * 1e3:.2f} ms, {PEER} {statistics.median(peer_s) * 1e3:.0f} ms",
            )
            tell(given_up)
            answer = peer(small, _GIVES_UP_S)
            undecided = answer.verdict == "Unknown"
            yield Figure(
                name=given_up,
                unit="s of CPU",
                value=answer.cpu_s[0],
                detail=f"gave up after {_GIVES_UP_S:.0f} s of wall time" if undecided else f"said {answer.verdict}",
            )
    except _Absent as absent:
        yield Figure(name=name, unit="x our time", goal=100.0, unavailable=str(absent))


def _known(history: Operations) -> None:
    findings = history.check()
    if not findings.linearizable:
        raise Trouble(f"a linearizable history was judged otherwise: {findings.sentence}")


def _agree(peer: Peer, history: Operations, expected: str) -> None:
    ours = "Ok" if history.check().linearizable else "Illegal"
    theirs = peer(history, _GIVES_UP_S).verdict
    if (ours, theirs) != (expected, expected):
        raise Trouble(f"the verdicts differ: {expected} is right, ours is {ours}, that of {PEER} {theirs}")
