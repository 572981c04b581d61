"""What does a run leave, without running it? Histories of any size in which every guarantee was kept, and sessions.

One producer, one consumer, one kill of the leader in the middle of the load; each message is published, confirmed,
delivered and acknowledged once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.history.columns import NEVER, TABLES
from harness.history.history import Array, History, Table
from harness.history.store import write_history
from harness.history.terms import Claimed, InjectionTerms, Terms
from harness.operation import AckKind, AcknowledgedBy, MessageId, Outcome
from harness.report.session import SessionCell, SessionFile, write_session

RATE_HZ = 10_000.0
SEED = 7
_PRODUCER, _CONSUMER = 1, 2
_WORDS = (
    "", "route", "group", "producer-1.1", "producer-1", "producer", "consumer-1.2", "consumer-1", "consumer",
    "deploy", "quiet", "break", "mend", "recover", "drain", "audit", "connected",
)  # fmt: skip
_NUMBER = {word: number for number, word in enumerate(_WORDS)}
_CLAIM = Claimed(guarantee="at_least_once", page="rabbitmq.com/docs/quorum-queues", says="confirmed messages survive")
_BUNCH_S = 0.01
"""What falls due in that time is answered at once, on average."""


def history(messages: int, *, rate_hz: float = RATE_HZ, seed: int = SEED, cell: str = "bench") -> History:
    """A history of so many publications, and as many deliveries.

    They fall due at even intervals; each is handed over up to 0.1 ms late, answered 1 to 3 ms after that, together with
    its neighbours, delivered within 1 ms of the answer, and acknowledged within 0.1 ms more.
    """
    rng = np.random.default_rng(seed)
    number = np.arange(messages, dtype="i8")
    intended_ns = 10**9 + (number * (1e9 / rate_hz)).astype("i8")
    invoked_ns = intended_ns + rng.integers(2_000, 100_000, messages)
    last = np.union1d(np.flatnonzero(rng.random(messages) < 1 / (rate_hz * _BUNCH_S)), [messages - 1])
    answered_ns = np.maximum.accumulate(invoked_ns[last] + rng.integers(1_000_000, 3_000_000, len(last)))
    completed_ns = answered_ns[np.searchsorted(last, number)]
    received_ns = np.maximum.accumulate(completed_ns + rng.integers(0, 1_000_000, messages))
    acked_ns = received_ns + rng.integers(2_000, 100_000, messages)
    ids = MessageId(_PRODUCER, 0).packed | number.astype("u8")
    tables = {
        "publications": _table(
            "publications",
            messages,
            client=_PRODUCER,
            epoch=1,
            route=_NUMBER["route"],
            message=ids,
            attempt=1,
            intended_ns=intended_ns,
            invoked_ns=invoked_ns,
            written_ns=invoked_ns,
            completed_ns=completed_ns,
            outcome=Outcome.OK,
            acknowledged_by=AcknowledgedBy.BROKER,
        ),
        "deliveries": _table(
            "deliveries",
            messages,
            client=_CONSUMER,
            epoch=1,
            group=_NUMBER["group"],
            message=ids,
            attempt=1,
            number=number + 1,
            fetch_invoked_ns=NEVER,
            received_ns=received_ns,
            handled_ns=NEVER,
            ack_kind=AckKind.SENT,
            ack_invoked_ns=acked_ns,
            settled_ns=NEVER,
        ),
    }
    end_ns = int(acked_ns[-1]) + 10**9
    return History(
        {name: Table.empty(name) for name in TABLES} | tables | _around(end_ns), _terms(cell, end_ns, rate_hz), _WORDS
    )


def _around(end_ns: int) -> dict[str, Table]:
    """Phases and clients of a run that ends so late."""
    load_ns = end_ns - 2 * 10**9
    begins = [0, 10**9, *(10**9 + load_ns * part // 5 for part in (2, 3, 3, 3)), end_ns - 10**9, end_ns - 10**8]
    names = ("deploy", "quiet", "break", "mend", "recover", "quiet", "drain", "audit")
    return {
        "phases": _table(
            "phases",
            len(names),
            phase=np.asarray([_NUMBER[name] for name in names]),
            trial=np.asarray([NEVER, NEVER, 0, 0, 0, 0, NEVER, NEVER]),
            begin_ns=np.asarray(begins),
            end_ns=np.asarray([*begins[1:], end_ns]),
        ),
        "clients": _table(
            "clients",
            2,
            client=np.asarray([_PRODUCER, _CONSUMER]),
            name=np.asarray([_NUMBER["producer-1.1"], _NUMBER["consumer-1.2"]]),
            slot=np.asarray([_NUMBER["producer-1"], _NUMBER["consumer-1"]]),
            role=np.asarray([_NUMBER["producer"], _NUMBER["consumer"]]),
            group=np.asarray([0, _NUMBER["group"]]),
            end_ns=end_ns - 10**8,
            planned=1,
            peer_is_proxy=1,
            crash_ns=NEVER,
        ),
    }


def _terms(cell: str, end_ns: int, rate_hz: float) -> Terms:
    begin_ns = 10**9 + (end_ns - 2 * 10**9) * 2 // 5
    mended_ns = 10**9 + (end_ns - 2 * 10**9) * 3 // 5
    return Terms(
        cell=cell,
        seed=SEED,
        run=1,
        configuration="rabbitmq-quorum-confirms",
        family="rabbitmq",
        broker_version="4.3.6",
        faults=("kill_leader",),
        acknowledged_by=AcknowledgedBy.BROKER,
        ack=AckKind.SENT,
        floor_hz=rate_hz / 2,
        offered_hz=rate_hz,
        drained=True,
        exhaustive=True,
        brokers_up=True,
        whole=True,
        peers_all_proxy=True,
        silence_s=2.0,
        injections=(
            InjectionTerms(
                fault="kill_leader",
                number=1,
                trial=0,
                targets=("rabbit-1",),
                planned_ns=begin_ns,
                asked_ns=begin_ns,
                bit_ns=begin_ns,
                mended_ns=mended_ns,
                recovered_ns=mended_ns,
                at_risk=12,
                touches="both",
                facts={"container": "exited", "exit_code": 137},
            ),
        ),
        claims=(_CLAIM,),
        clock_pairs=((0, 1_790_000_000 * 10**9),),
    )


def _table(kind: str, rows: int, /, **columns: Array | int) -> Table:
    """A table in which what is not given is 0; one number stands for a column of it."""
    return Table(kind, {column: np.broadcast_to(np.asarray(columns.get(column, 0)), rows) for column in TABLES[kind]})


def session(directory: Path, *, cells: int, runs: int, messages: int, rate_hz: float = RATE_HZ) -> Path:
    """A session's directory with so many cells, which share `runs` histories of so many messages."""
    for run in range(runs):
        where = directory / "runs" / f"run-{run}"
        where.mkdir(parents=True)
        write_history(where, history(messages, rate_hz=rate_hz, seed=SEED + run, cell=f"cell-{run}"))
    listed = tuple(
        SessionCell(
            id=f"quorum-kill_leader-{number}",
            configuration=f"rabbitmq-quorum-confirms-{number // 25}",
            fault=f"kill_leader-{number % 25}",
            status="ran",
            run=f"runs/run-{number % runs}",
            outcome="passed",
        )
        for number in range(cells)
    )
    write_session(directory, SessionFile(session="bench", started="2026-01-01T00:00:00Z", seed=SEED, cells=listed))
    return directory
