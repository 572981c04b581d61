"""What does it cost to write down what a client does, and is anything lost when the client is killed?

*Operation*: one step that is recorded, by one record of the journal: a publication, its answer, a delivery, or its
acknowledgement. CPU time of the recording process; against json.dumps of the same fields, a line each into a file.
"""

from __future__ import annotations

import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from harness.bench import recorder, sessions
from harness.bench.figure import PAIRS, Figure, cpu_s, paired, ratio
from harness.clock import until
from harness.errors import Trouble
from harness.history.join import Words, read_journal
from harness.history.journal import ACK, CONFIRM, DELIVER, HEAD_SIZE, PUBLISH, Head, Journal
from harness.history.store import TABLES_FOLDER, write_history
from harness.operation import AckKind, MessageId, Outcome

NOTE = "CPU time, one core; a record with its share of the loop that calls for it"
MESSAGES = 100_000
KILLS = 10
SEED = 7
_KILL_S = (0.01, 0.3)
_START_S = 30.0
_PAGE_MESSAGES = 128 * 1024
"""Their records fill whole pages of the mapping."""


# ---- what is recorded ------------------------------------------------------------------------------------------------


def publish(journal: Journal, messages: int, now_ns: int) -> None:
    """Publications, each with an answer of its own: what NATS demands, and RabbitMQ at its worst."""
    write, first = journal.write, MessageId(recorder.CLIENT, 0).packed
    for number in range(1, messages + 1):
        write(PUBLISH, 0, 1, 1, 0, first | number, now_ns, now_ns + number, number)
        write(CONFIRM, Outcome.OK, 1, 0, 0, number, number, now_ns + number, number)


def consume(journal: Journal, messages: int, now_ns: int) -> None:
    """Deliveries, each acknowledged."""
    write, first = journal.write, MessageId(recorder.CLIENT, 0).packed
    for number in range(1, messages + 1):
        write(DELIVER, 0, 1, 1, 1, first | number, number, now_ns + number, 0, number)
        write(ACK, AckKind.SENT, 0, 0, 0, number, now_ns + number)


def publish_json(file: IO[str], messages: int, now_ns: int) -> None:
    """What `publish` records, as JSON lines."""
    write, dumps, first = file.write, json.dumps, MessageId(recorder.CLIENT, 0).packed
    for number in range(1, messages + 1):
        write(
            dumps(
                {
                    "kind": "publish",
                    "native_id": 0,
                    "epoch": 1,
                    "attempt": 1,
                    "route": 0,
                    "message": first | number,
                    "intended_ns": now_ns,
                    "invoked_ns": now_ns + number,
                    "tag": number,
                }
            )
            + "\n"
        )
        write(
            dumps(
                {
                    "kind": "confirm",
                    "outcome": 1,
                    "epoch": 1,
                    "error": 0,
                    "tag_first": number,
                    "tag_last": number,
                    "completed_ns": now_ns + number,
                    "sequence": number,
                }
            )
            + "\n"
        )


def consume_json(file: IO[str], messages: int, now_ns: int) -> None:
    """What `consume` records, as JSON lines."""
    write, dumps, first = file.write, json.dumps, MessageId(recorder.CLIENT, 0).packed
    for number in range(1, messages + 1):
        write(
            dumps(
                {
                    "kind": "deliver",
                    "flags": 0,
                    "epoch": 1,
                    "attempt": 1,
                    "delivery_count": 1,
                    "message": first | number,
                    "sequence": number,
                    "received_ns": now_ns + number,
                    "fetch_invoked_ns": 0,
                    "number": number,
                }
            )
            + "\n"
        )
        write(dumps({"kind": "ack", "ack_kind": 1, "number": number, "time_ns": now_ns + number}) + "\n")


# ---- measuring -------------------------------------------------------------------------------------------------------


def measure(tell: Callable[[str], None] = lambda _: None) -> Iterator[Figure]:
    """Measure everything, one figure after another. `tell` hears what is being done.

    Raises Trouble if a journal does not hold what was written into it: then no time means anything.
    """
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as name:
        directory = Path(name)
        yield from _calibration(tell)
        yield from _speed(directory, tell)
        yield _memory(directory, tell)
        yield _disk(directory, tell)
        yield _killed(directory, tell)


def _calibration(tell: Callable[[str], None]) -> Iterator[Figure]:
    tell("json.dumps")
    row = {"kind": "confirm", "tag_first": 1, "tag_last": 2, "completed_ns": time.monotonic_ns()}
    times_ns = [cpu_s(lambda: _repeated(lambda: json.dumps(row))) / MESSAGES * 1e9 for _ in range(PAIRS)]
    detail = _spread(times_ns)
    yield Figure(name="calibration: json.dumps of four fields", unit="ns", value=min(times_ns), detail=detail)


def _repeated(work: Callable[[], object]) -> None:
    for _ in range(MESSAGES):
        work()


def _speed(directory: Path, tell: Callable[[str], None]) -> Iterator[Figure]:
    sides = (
        ("a publication or its answer", publish, publish_json),
        ("a delivery or its acknowledgement", consume, consume_json),
    )
    per_operation: list[list[float]] = []
    against: list[float] = []
    for name, record, dump in sides:
        tell(f"{name}: {2 * MESSAGES:,} records, {PAIRS} times")
        paths = iter(range(2 * PAIRS))

        def ours(record: Callable[[Journal, int, int], None] = record, paths: Iterator[int] = paths) -> None:
            path = directory / f"ours-{next(paths)}.1.journal"
            journal = Journal(path, client=recorder.CLIENT, origin_ns=0)
            record(journal, MESSAGES, time.monotonic_ns())
            journal.close()

        def theirs(dump: Callable[[IO[str], int, int], None] = dump, paths: Iterator[int] = paths) -> None:
            with open(directory / f"theirs-{next(paths)}.jsonl", "w", encoding="utf-8") as file:
                dump(file, MESSAGES, time.monotonic_ns())

        ours_s, theirs_s = paired(ours, theirs)
        for path in directory.iterdir():
            if path.suffix == ".journal" and len(read_journal(path, Words()).records) != 2 * MESSAGES:
                raise Trouble(f"{path.name} does not hold the {2 * MESSAGES} records that were written into it")
            path.unlink()
        times_ns = [one / (2 * MESSAGES) * 1e9 for one in ours_s]
        per_operation.append(times_ns)
        against.append(ratio(theirs_s, ours_s))
        yield Figure(name=f"record {name}", unit="ns", value=min(times_ns), detail=_spread(times_ns))
    both = [statistics.mean(pair) for pair in zip(*per_operation, strict=True)]
    yield Figure(
        name="record an operation, the mean of both", unit="ns", value=min(both), goal=350.0, at_most=True,
        detail=_spread(both),
    )  # fmt: skip
    yield Figure(
        name="record an operation, against a line of json.dumps into a file",
        unit="x as fast",
        value=statistics.mean(against),
        goal=8.0,
        detail=f"publishing {against[0]:.1f}, consuming {against[1]:.1f}",
    )


def _spread(times_ns: list[float]) -> str:
    return f"fastest; median {statistics.median(times_ns):.0f}, slowest {max(times_ns):.0f}"


def _memory(directory: Path, tell: Callable[[str], None]) -> Figure:
    tell("memory")
    path = directory / "memory.1.journal"
    journal = Journal(path, client=recorder.CLIENT, origin_ns=0)
    resident: list[int] = []
    for _ in range(2):  # the difference of two: the head and the first pages are no operation's
        publish(journal, _PAGE_MESSAGES, time.monotonic_ns())
        resident.append(_resident(path))
    journal.close()
    return Figure(
        name="memory of an operation",
        unit="bytes",
        value=(resident[1] - resident[0]) / (2 * _PAGE_MESSAGES),
        goal=48.0,
        at_most=True,
        detail="resident pages of the journal, which are the kernel's to write out",
    )


def _resident(path: Path) -> int:
    """Bytes of a file that this process has mapped and touched."""
    size = 0
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            ours = line.endswith(path.name)
        elif ours and line.startswith("Rss:"):
            size += int(line.split()[1]) * 1024
    return size


def _disk(directory: Path, tell: Callable[[str], None]) -> Figure:
    tell(f"the stored history of {MESSAGES:,} messages")
    history = sessions.history(MESSAGES)
    write_history(directory / "run", history)
    sizes = [path.stat().st_size for path in (directory / "run" / TABLES_FOLDER).rglob("*") if path.is_file()]
    return Figure(
        name="a row of the stored history",
        unit="bytes on disk",
        value=sum(sizes) / (history.publications.rows + history.deliveries.rows),
        goal=8.0,
        at_most=True,
        detail=f"{sessions.RATE_HZ:,.0f} messages a second",
    )


def _killed(directory: Path, tell: Callable[[str], None]) -> Figure:
    rng = random.Random(SEED)
    lost = records = 0
    for kill in range(KILLS):
        tell(f"SIGKILL {kill + 1} of {KILLS}")
        counted, read = killed(directory / f"killed-{kill}.1.journal", rng.uniform(*_KILL_S))
        lost += max(counted - read, 0)
        records += read
    return Figure(
        name=f"records lost by {KILLS} SIGKILLs of a recording process",
        unit="records",
        value=float(lost),
        goal=0.0,
        at_most=True,
        detail=f"{records:,} read back, each as it was written",
    )


def killed(path: Path, after_s: float) -> tuple[int, int]:
    """Let a process record, and kill it so long after its first record: (records counted by it, records read back).

    Raises Trouble where a record is not what was written, or more are read than can have been written.
    """
    process = subprocess.Popen([sys.executable, "-m", "harness.bench.recorder", str(path)])
    try:
        until(
            lambda: path.exists() and path.stat().st_size > HEAD_SIZE, within_s=_START_S, what="the recorder to start"
        )
        head = Head(path)
        until(lambda: head.get("received") > 0, within_s=_START_S, what="the recorder's first record")
        time.sleep(after_s)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    counted = head.get("received")
    head.close()
    records = read_journal(path, Words()).records
    # It may have been killed between writing a record and counting it.
    if len(records) > counted + 1:
        raise Trouble(f"{len(records)} records were read, and only {counted} counted")
    written = (DELIVER, *recorder.fields(np.arange(1, len(records) + 1, dtype="u8")))
    for name, values in zip(recorder.NAMES, written, strict=True):
        if not np.all(records[name] == values):
            raise Trouble(f"field {name} of a record in {path.name} is not what was written")
    path.unlink()
    return counted, len(records)
