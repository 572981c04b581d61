"""What would a healthy run of so many rows have recorded? A history made from a seed, with anomalies planted into it.

Four producers publish at a steady rate, each message is answered after 0.2 ms, and received by one of three consumers
after 0.5 ms, as a broker numbered it; what clients do has a jitter of 8 us. Half of the rows are publications. Chunks
are made when they are asked for, so a history may be larger than memory; `held` makes one that lies in memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harness.history.columns import NEVER, TABLES
from harness.history.history import CHUNK_ROWS, Array, History, LargeTable, Table
from harness.history.terms import Claimed, InjectionTerms, Terms
from harness.operation import SEQUENCE_BITS, AckKind, AcknowledgedBy, Outcome

PRODUCERS, CONSUMERS, FIRST_CONSUMER = 4, 3, 101
GAP_NS = 20_000
"""From one message to the next, of all producers together: 50,000 a second."""

_BEGIN_NS = 1_000_000_000
_ANSWER_NS, _RECEIPT_NS, _HANDLED_NS, _ACK_NS, _JITTER_NS = 200_000, 500_000, 5_000, 15_000, 8_192
_ELSEWHERE = 10**7
_STRANGER = 77 << SEQUENCE_BITS
_APART = 16

ANOMALIES = (
    "lost_never_delivered",
    "lost_after_delivery",
    "duplicate_delivery",
    "unflagged_redelivery",
    "reordered",
    "duplicate_publish",
    "visible_failure",
    "phantom",
    "corrupt",
)
"""What can be planted. A corrupt delivery is received as nothing, so its message is lost, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """A history, and the packed ids of the messages to which each planted anomaly happened."""

    history: History
    planted: Mapping[str, Array]


def synthetic(rows: int, *, seed: int = 7, plant: int = 0, chunk_rows: int = CHUNK_ROWS) -> Synthetic:
    """A history of about `rows` publications and deliveries, `plant` of each of ANOMALIES in it, from one fault.

    Raises ValueError where there are too few rows to plant them apart.
    """
    messages = max(rows // 2 // (PRODUCERS * CONSUMERS), 1) * PRODUCERS * CONSUMERS
    edits = _Edits(messages, seed, plant)
    tables = {name: Table.empty(name) for name in TABLES}
    tables["publications"] = LargeTable("publications", _Publications(messages, seed, edits, chunk_rows))
    tables["deliveries"] = LargeTable("deliveries", _Deliveries(messages, seed, edits, chunk_rows))
    tables["clients"] = _clients()
    end_ns = _BEGIN_NS + messages * GAP_NS
    moments_ns = [_BEGIN_NS + messages * GAP_NS * part // 100 for part in (0, 40, 50, 55, 100)]
    tables["phases"] = _phases([*moments_ns, end_ns + 10**9])
    history = History(tables, _terms(seed, moments_ns), _WORDS)
    return Synthetic(
        history=history, planted={name: _ids(np.array(at, np.int64)) for name, at in edits.messages.items()}
    )


def held(history: History) -> History:
    """The same history with all its tables in memory."""
    tables = {
        name: Table(name, {column: np.array(table[column]) for column in table})
        for name, table in history.tables.items()
    }
    return History(tables, history.terms, history.words)


def _ids(number: Array) -> Array:
    """The packed ids of messages by their number: producers take turns."""
    producer, sequence = number % PRODUCERS + 1, number // PRODUCERS + 1
    return np.asarray((producer << SEQUENCE_BITS) | sequence, np.uint64)


# ---- anomalies -------------------------------------------------------------------------------------------------------


class _Edits:
    """Where a history is not healthy. Consumer c receives, one after another, every message whose number is c modulo
    CONSUMERS: the places in that succession are what is edited."""

    def __init__(self, messages: int, seed: int, plant: int) -> None:
        self.messages: dict[str, list[int]] = {name: [] for name in ANOMALIES}
        self.rows: dict[str, list[int]] = {name: [] for name in ANOMALIES}
        self.failed: list[int] = []
        each = messages // CONSUMERS
        slots = plant * len(ANOMALIES)
        if slots and each // slots < _APART:
            raise ValueError(f"{slots} anomalies need {slots * _APART * CONSUMERS * 2} rows")
        chance = np.random.default_rng([seed, 1])
        kinds = chance.permutation(np.tile(np.arange(len(ANOMALIES)), plant))
        places = (np.arange(slots) * each) // max(slots, 1) + chance.integers(0, _APART // 2, slots)
        self.begins = [0]
        self._shifts: list[list[tuple[int, int]]] = []
        for consumer in range(CONSUMERS):
            shift, shifts = 0, [(0, 0)]
            for slot in range(consumer, slots, CONSUMERS):
                name, place = ANOMALIES[kinds[slot]], int(places[slot])
                number = place * CONSUMERS + consumer
                row = self.begins[-1] + place + shift
                self.messages[name].append(number)
                self.rows[name].append(row)
                if name == "lost_never_delivered":
                    shift -= 1
                    shifts.append((place + shift + 1, shift))
                elif name in ("duplicate_delivery", "unflagged_redelivery"):
                    shift += 1
                    shifts.append((place + shift, shift))
                elif name == "visible_failure":
                    self.failed.append(number % PRODUCERS * (messages // PRODUCERS) + number // PRODUCERS)
            self._shifts.append(shifts)
            self.begins.append(self.begins[-1] + each + shift)

    def place(self, consumer: int, row: Array) -> Array:
        """The places of a consumer's rows, counted from 0, in its succession; exchanged where they are reordered."""
        rows, shifts = (np.array(column) for column in zip(*self._shifts[consumer], strict=True))
        place = row - shifts[np.searchsorted(rows, row, side="right") - 1]
        first = row[0] + self.begins[consumer]
        for at in self.rows["reordered"]:
            for exchanged, by in ((at, PRODUCERS), (at + PRODUCERS, -PRODUCERS)):
                if first <= exchanged < first + len(row):
                    place[exchanged - first] += by
        return np.asarray(place)


# ---- tables ----------------------------------------------------------------------------------------------------------


class _Made:
    """A table whose columns are made of the numbers of its rows. Columns that are not named are constant."""

    def __init__(self, name: str, rows: int, seed: int, chunk_rows: int, constants: Mapping[str, int]) -> None:
        self.rows = rows
        self.chunk_rows = chunk_rows
        self._name = name
        self._seed = seed
        self._constants = constants
        self._made: dict[str, Callable[[Array], Array]] = {}

    def read(self, chunk: int, column: str) -> Array:
        """As every source."""
        first = chunk * self.chunk_rows
        count = min(self.chunk_rows, self.rows - first)
        type_ = TABLES[self._name][column].type
        if column not in self._made:
            return np.broadcast_to(np.array(self._constants.get(column, 0), type_), count)
        return self._made[column](np.arange(first, first + count)).astype(type_, copy=False)

    def _jitter(self, column: str, row: Array) -> Array:
        chance = np.random.default_rng([self._seed, zlib.crc32(column.encode()), int(row[0])])
        return chance.integers(0, _JITTER_NS, len(row))


class _Publications(_Made):
    def __init__(self, messages: int, seed: int, edits: _Edits, chunk_rows: int) -> None:
        constants = {
            "epoch": 1,
            "route": _WORDS.index("orders"),
            "attempt": 1,
            "written_ns": NEVER,
            "outcome": Outcome.OK,
            "acknowledged_by": AcknowledgedBy.BROKER,
        }
        super().__init__("publications", messages, seed, chunk_rows, constants)
        self._each = messages // PRODUCERS
        self._failed = np.sort(np.array(edits.failed, np.int64))
        self._made = {
            "client": lambda row: row // self._each + 1,
            "message": lambda row: _ids(self._number(row)),
            "broker_sequence": lambda row: self._number(row) + 1,
            "intended_ns": self._intended_ns,
            "invoked_ns": lambda row: self._intended_ns(row) + self._jitter("invoked_ns", row),
            "completed_ns": lambda row: self._intended_ns(row) + _ANSWER_NS + self._jitter("completed_ns", row),
        }
        if edits.failed:
            self._made["outcome"] = lambda row: np.where(
                np.isin(row, self._failed, assume_unique=True), Outcome.FAIL, Outcome.OK
            )

    def _number(self, row: Array) -> Array:
        return np.asarray(row % self._each * PRODUCERS + row // self._each)

    def _intended_ns(self, row: Array) -> Array:
        return _BEGIN_NS + self._number(row) * GAP_NS


class _Deliveries(_Made):
    def __init__(self, messages: int, seed: int, edits: _Edits, chunk_rows: int) -> None:
        constants = {
            "epoch": 1,
            "group": _WORDS.index("group"),
            "attempt": 1,
            "fetch_invoked_ns": NEVER,
            "ack_kind": AckKind.SENT,
            "settled_ns": NEVER,
        }
        super().__init__("deliveries", edits.begins[-1], seed, chunk_rows, constants)
        self._begins = np.array(edits.begins)
        self._edits = edits
        self._made = {
            "client": lambda row: FIRST_CONSUMER + self._consumer(row),
            "number": lambda row: row - self._begins[self._consumer(row)] + 1,
            "message": self._message,
            "broker_sequence": self._sequence,
            "received_ns": self._received_ns,
            "handled_ns": lambda row: self._received_ns(row) + _HANDLED_NS + self._jitter("handled_ns", row),
            "ack_invoked_ns": self._acknowledged_ns,
        }
        if edits.rows["corrupt"]:
            self._made["corrupt"] = lambda row: self._at(row, "corrupt")
        if edits.rows["duplicate_delivery"]:
            self._made["redelivered"] = lambda row: self._at(row - 1, "duplicate_delivery")

    def _consumer(self, row: Array) -> Array:
        return np.searchsorted(self._begins, row, side="right") - 1

    def _number(self, row: Array) -> Array:
        number = np.empty(len(row), np.int64)
        for consumer, (begin, end) in enumerate(pairwise(np.searchsorted(row, self._begins))):
            if end > begin:
                own = row[begin:end] - self._begins[consumer]
                number[begin:end] = self._edits.place(consumer, own) * CONSUMERS + consumer
        return number

    def _at(self, row: Array, anomaly: str) -> Array:
        return np.isin(row, self._edits.rows[anomaly])

    def _message(self, row: Array) -> Array:
        ids = _ids(self._number(row))
        ids[self._at(row, "corrupt")] = 0
        return np.where(self._at(row, "phantom"), ids + np.uint64(_STRANGER), ids)

    def _sequence(self, row: Array) -> Array:
        return np.asarray(self._number(row) + 1 + _ELSEWHERE * self._at(row, "duplicate_publish"))

    def _received_ns(self, row: Array) -> Array:
        consumer = self._consumer(row)
        begin_ns = _BEGIN_NS + _RECEIPT_NS + consumer * GAP_NS + self._jitter("received_ns", row)
        return np.asarray(begin_ns + (row - self._begins[consumer]) * GAP_NS * CONSUMERS)

    def _acknowledged_ns(self, row: Array) -> Array:
        told_ns = self._received_ns(row) + _ACK_NS + self._jitter("ack_invoked_ns", row)
        return np.where(self._at(row, "lost_after_delivery"), NEVER, told_ns)


# ---- the rest --------------------------------------------------------------------------------------------------------

_PHASES = ("quiet", "break", "recover", "quiet", "drain")
_NAMES = [*(f"producer-{number + 1}" for number in range(PRODUCERS)), *(f"consumer-{n + 1}" for n in range(CONSUMERS))]
_WORDS = ("", "orders", "group", "producer", "consumer", *dict.fromkeys(_PHASES), *_NAMES)


def _clients() -> Table:
    numbers = [*range(1, PRODUCERS + 1), *range(FIRST_CONSUMER, FIRST_CONSUMER + CONSUMERS)]
    roles = ["producer"] * PRODUCERS + ["consumer"] * CONSUMERS
    count = len(numbers)
    return Table(
        "clients",
        {
            "client": numbers,
            "name": [_WORDS.index(name) for name in _NAMES],
            "slot": [_WORDS.index(name) for name in _NAMES],
            "role": [_WORDS.index(role) for role in roles],
            "group": [_WORDS.index("group" if role == "consumer" else "") for role in roles],
            "start_ns": [0] * count,
            "end_ns": [NEVER] * count,
            "exit": [0] * count,
            "planned": [1] * count,
            "peer_is_proxy": [1] * count,
            "crash_point": [0] * count,
            "crash_ns": [NEVER] * count,
        },
    )


def _phases(moments_ns: list[int]) -> Table:
    return Table(
        "phases",
        {
            "phase": [_WORDS.index(phase) for phase in _PHASES],
            "trial": [0, 0, 0, 1, NEVER],
            "begin_ns": moments_ns[:-1],
            "end_ns": moments_ns[1:],
        },
    )


def _terms(seed: int, moments_ns: list[int]) -> Terms:
    offered_hz = 1e9 / GAP_NS
    return Terms(
        cell="synthetic",
        seed=seed,
        run=1,
        configuration="synthetic",
        family="memory",
        broker_version="1",
        faults=("kill_leader",),
        acknowledged_by=AcknowledgedBy.BROKER,
        ack=AckKind.SENT,
        floor_hz=offered_hz / 2,
        offered_hz=offered_hz,
        drained=True,
        exhaustive=True,
        silence_s=2.0,
        brokers_up=True,
        whole=True,
        peers_all_proxy=True,
        injections=(
            InjectionTerms(
                fault="kill_leader",
                number=0,
                trial=0,
                targets=("node-1",),
                planned_ns=moments_ns[1],
                asked_ns=moments_ns[1],
                bit_ns=moments_ns[1],
                mended_ns=moments_ns[2],
                recovered_ns=moments_ns[3],
                at_risk=1,
                touches="both",
            ),
        ),
        claims=(Claimed(guarantee="at_least_once", page="none", says="nothing is lost"),),
        settings={"prefetch": 100},
    )
