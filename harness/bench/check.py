"""How fast is a history judged, how much room does it take, and how much memory? Against one sort of the same ids.

*check*: gathering, delivery and order, of a history in memory, half of whose rows are publications. *recheck*: what a
reader waits for: a fresh process that opens a run, judges it in full, and says so. Before anything is timed, numpy,
machine code and a plain Python reference must find what was planted into a small history, and nothing else.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.bench.figure import PAIRS, Figure, cpu_s, paired, ratio
from harness.bench.plainly import plainly
from harness.bench.synthetic import held, synthetic
from harness.checkers import delivery, ordering
from harness.checkers.anomaly import WITNESSES_MAX
from harness.checkers.facts import gather
from harness.errors import Trouble
from harness.history.history import Array, History
from harness.history.store import write_history

NOTE = "CPU time, one core; verdicts were compared first"
ROWS = 10**7
LARGE_ROWS = 10**8
RESIDENT_MIB = 2048.0
_SMALL_ROWS, _PLANTED = 20_000, 5
_COLD = 3
HELD, VIOLATED = 0, 1

Tell = Callable[[str], None]


def measure(tell: Tell = lambda _: None, rows: int = ROWS) -> Iterator[Figure]:
    """Measure everything, one figure after another. `tell` hears what is being done; `rows`: of the largest history,
    which may be larger than memory.

    Raises Trouble if a verdict is not the known one, or a process that is measured fails: then no time means anything.
    """
    compiled = find_spec("numba") is not None
    tell("verdicts")
    _compare(compiled)
    in_memory = min(rows, ROWS)
    # A fresh process inherits the mark that this one's memory has left, so this one's history comes last.
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as directory:
        times_s: dict[int, float] = {}
        for count in dict.fromkeys((10**4, in_memory, rows)):
            run = Path(directory) / str(count)
            tell(f"{_named(count)}: store")
            made = synthetic(count, plant=1)
            write_history(run, made.history)
            if count > 10**4:
                yield _stored(run, count)
            tell(f"{_named(count)}: recheck")
            figure, resident_mib = _rechecked(run, count, made.planted)
            times_s[count] = figure.value or 0.0
            yield figure
            if count == rows:
                tell(f"{_named(count)}: what its report shows")
                _, shown_mib = _fresh(subprocess.DEVNULL, _REPORT, run)
                yield Figure(
                    name=f"resident memory, {_named(rows)} judged and reported",
                    unit="MiB",
                    value=max(resident_mib, shown_mib),
                    goal=RESIDENT_MIB,
                    at_most=True,
                    detail=f"recheck {resident_mib:.0f}, report {shown_mib:.0f}",
                )
        if rows > ROWS:
            yield Figure(
                name=f"recheck of {_named(rows)} against {_named(ROWS)}",
                unit="x its time",
                value=times_s[rows] / times_s[ROWS],
                goal=12.0 * rows / LARGE_ROWS,
                at_most=True,
            )
    yield from _checks(in_memory, compiled, tell)


# ---- verdicts --------------------------------------------------------------------------------------------------------


def _compare(compiled: bool) -> None:
    made = synthetic(_SMALL_ROWS, plant=_PLANTED)
    history = held(made.history)
    expected = plainly(history)
    for machine_code in (False, True) if compiled else (False,):
        facts = gather(history, compiled=machine_code)
        found = {**delivery.check(facts).anomalies, "reordered": ordering.check(facts).reordered}
        ids = {name: sorted(map(int, found[name].ids)) for name in expected}
        how = "machine code" if machine_code else "numpy"
        for name, messages in expected.items():
            if ids[name] != sorted(messages):
                raise Trouble(f"{how} finds {len(ids[name])} messages {name}, plain Python {len(messages)}")
            first = [witness.message for witness in found[name].witnesses]
            if first != ids[name][: len(first)]:
                raise Trouble(f"{how} shows other witnesses of {name} than its first")
    for name in ("duplicate_publish", "reordered", "visible_failure"):
        if expected[name] != set(map(int, made.planted[name])):
            raise Trouble(f"plain Python does not find what was planted: {name}")


def _machine_code(compiled: bool) -> str:
    return f"machine code (numba {metadata.version('numba')})" if compiled else "machine code"


def _check(history: History, compiled: bool) -> None:
    facts = gather(history, compiled=compiled)
    delivery.check(facts)
    ordering.check(facts)


# ---- in memory -------------------------------------------------------------------------------------------------------


def _checks(rows: int, compiled: bool, tell: Tell) -> Iterator[Figure]:
    tell(f"{_named(rows)}, in memory")
    history = held(synthetic(rows).history)
    ids = np.concatenate([history.publications.message, history.deliveries.message])
    for name, goal, machine_code in (("numpy", 20.0, False), (_machine_code(compiled), 150.0, True)):
        title = f"check of {_named(len(ids))}, {name}"
        if machine_code and not compiled:
            yield Figure(
                name=title, unit="M rows/s", goal=goal, unavailable="no numba: pip install 'broker-assay[fast]'"
            )
            continue
        tell(title)
        _check(history, machine_code)
        check_s, sort_s = paired(lambda: _check(history, machine_code), lambda: np.sort(ids))  # noqa: B023 - called at once
        yield Figure(
            name=title,
            unit="M rows/s",
            value=len(ids) / min(check_s) / 1e6,
            goal=goal,
            detail=f"median {len(ids) / statistics.median(check_s) / 1e6:.1f}",
        )
        yield Figure(
            name=f"{title}, against np.sort of their ids",
            unit="x its time",
            value=ratio(check_s, sort_s),
            goal=0.6,
            at_most=True,
            detail=f"np.sort {statistics.median(sort_s):.2f} s",
        )
    small = held(synthetic(10**5).history)
    tell("plain Python")
    plain_s = [cpu_s(lambda: plainly(small)) for _ in range(PAIRS)]
    check_s = [cpu_s(lambda: _check(small, False)) for _ in range(PAIRS)]
    yield Figure(
        name="plain Python on 10^5 rows",
        unit="x numpy's time",
        value=ratio(plain_s, check_s),
        goal=10.0,
        detail=f"{statistics.median(plain_s) * 1e3:.0f} ms and {statistics.median(check_s) * 1e3:.1f} ms",
    )


# ---- from files ------------------------------------------------------------------------------------------------------


def _stored(run: Path, rows: int) -> Figure:
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    return Figure(
        name=f"stored history of {_named(rows)}",
        unit="bytes a row",
        value=size / rows,
        goal=8.0,
        at_most=True,
        detail=f"{size / 1e6:.1f} MB",
    )


def _rechecked(run: Path, rows: int, expected: Mapping[str, Array]) -> tuple[Figure, float]:
    """(the time that a recheck takes from a cold start, the most memory that it and its report's part had, in MiB)."""
    told = []
    for _ in range(1 if rows > ROWS else _COLD):
        with tempfile.TemporaryFile() as said:
            told.append(
                _fresh(said, "from harness.cli.main import main; raise SystemExit(main())", "recheck", run, "--json")
            )
            said.seek(0)
            _known(json.loads(said.read()), expected)
    name = f"assay recheck of {_named(rows)}, from a cold start"
    times_s = [cpu for cpu, _ in told]
    goal = {10**4: 0.4, ROWS: 3.0}.get(rows)
    detail = f"median of {len(told)}: {statistics.median(times_s):.2f}"
    figure = Figure(name=name, unit="s", value=min(times_s), goal=goal, at_most=True, detail=detail)
    return figure, max(resident for _, resident in told)


def _fresh(output: IO[bytes] | int, program: str, *arguments: object) -> tuple[float, float]:
    """(CPU seconds, most resident memory in MiB) of a fresh Python process. Raises Trouble if it fails."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code not in (HELD, VIOLATED):
        raise Trouble(f"{' '.join(command[2:])} ended with {code}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def _known(document: Any, expected: Mapping[str, Array]) -> None:
    """Raise Trouble unless the verdicts say what was planted, and their witnesses are of it."""
    counts, verdicts = document["counts"], document["verdicts"]
    for name in ("reordered", "duplicate_publish", "visible_failure", "unflagged_redelivery", "phantom", "corrupt"):
        if counts[name] != len(expected[name]):
            raise Trouble(f"{counts[name]} messages {name} were found, and {len(expected[name])} planted")
    for guarantee, name in (("ordered", "reordered"), ("publish_once", "duplicate_publish")):
        witnesses = {witness["message"] for witness in verdicts[guarantee]["witnesses"] if witness["anomaly"] == name}
        if witnesses != set(expected[name][:WITNESSES_MAX].tolist()):
            raise Trouble(f"the witnesses of {guarantee} are not those that were planted")


_REPORT = """
import sys
from pathlib import Path
from harness.report.life import lives
from harness.report.series import phase_loads, receipt_latencies, series
from harness.report.timeline import timeline
from harness.run import Run
finished = Run(Path(sys.argv[1]))
history = finished.history
receipts = receipt_latencies(history)
phase_loads(history, receipts), series(history, receipts), timeline(history)
lives(history, finished.judgement.verdicts.values())
"""


def _named(rows: int) -> str:
    power = round(math.log10(rows), 3)
    return f"10^{power:g} rows"
