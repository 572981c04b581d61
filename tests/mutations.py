"""How is a run directory, or an import, spoilt? Seeded mutators of bytes, of JSON values and of rows.

*Files*: name within the directory -> bytes. A mutator of files takes the files, those of another run, and a chance; one
of rows takes a history, and says what must come of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from harness.history.columns import NEVER, TABLES
from harness.history.history import History, Table
from harness.operation import Outcome

Files = dict[str, bytes]

SCRIPT = "<script>alert(1)</script>"
HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 7, 1e308, 0.5, "nan", "inf", 10**9, 2**31, 2**40, 2**63 - 1, 2**63, 2**64, -(2**63),
    "", "x" * 100_000, SCRIPT, "../../../etc/passwd", "/dev/zero", "\x1b[2J", "\ud800", "a\x00b", "lost", [], {}, [[]],
    json.loads("[" * 300 + "]" * 300), {"type": "Kill"}, ["a", 1, None],
)  # fmt: skip


# ---- bytes -----------------------------------------------------------------------------------------------------------


def truncate(data: bytes, _other: bytes, chance: Random) -> bytes:
    """Cut it off somewhere."""
    return data[: chance.randrange(len(data) + 1)]


def flip(data: bytes, _other: bytes, chance: Random) -> bytes:
    """Change one to three bits."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def splice(data: bytes, other: bytes, chance: Random) -> bytes:
    """Put a piece of the other run's file, or of itself, in the place of a piece."""
    source = chance.choice([data, other]) or b"\0"
    begin, at = chance.randrange(len(source)), chance.randrange(len(data) + 1)
    piece = source[begin : begin + chance.choice([1, 8, 48, 480, len(source)])]
    return data[:at] + piece + data[at + chance.choice([0, len(piece)]) :]


def put_zeros(data: bytes, _other: bytes, chance: Random) -> bytes:
    """Blank a piece, as a lost page of a disk does."""
    at, size = chance.randrange(len(data) + 1), chance.choice([8, 48, 4096])
    return data[:at] + bytes(min(size, len(data) - at)) + data[at + size :]


def exchange(_data: bytes, other: bytes, _chance: Random) -> bytes:
    """Give the other run's file for this one."""
    return other


BYTES: tuple[Callable[[bytes, bytes, Random], bytes], ...] = (truncate, flip, splice, put_zeros, exchange)


def change_json(text: bytes, _other: bytes, chance: Random) -> bytes:
    """Put a hostile value in the place of some value, at any depth; of JSON lines, in one line."""
    lines = text.split(b"\n") if b'\n{"' in text else [text]
    at = chance.randrange(len(lines))
    try:
        data = json.loads(lines[at])
    except ValueError:
        return text
    lines[at] = json.dumps(_changed(data, chance)).encode()
    return b"\n".join(lines)


def _changed(data: Any, chance: Random) -> Any:
    if not data or not isinstance(data, dict | list) or chance.random() < 0.1:
        return chance.choice(HOSTILE)
    place = chance.choice(list(data)) if isinstance(data, dict) else chance.randrange(len(data))
    if chance.random() < 0.1:
        del data[place]
    else:
        data[place] = _changed(data[place], chance)
    return data


def spoil(files: Files, other: Files, chance: Random, names: list[str]) -> tuple[str, Files]:
    """What was done, and the files after one mutation of one of these names."""
    name = chance.choice(names)
    if chance.random() < 0.04:
        return f"without {name}", {key: data for key, data in files.items() if key != name}
    is_json = name.endswith((".json", ".jsonl"))
    how = change_json if is_json and chance.random() < 0.6 else chance.choice(BYTES)
    return f"{how.__name__} {name}", {**files, name: how(files[name], other.get(name, b""), chance)}


# ---- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Altered:
    """A history after one mutation. `refused`: it must be; else `unheld` are guarantees that it must not show as HELD
    ("all" of them), and `may_rise` those that may be HELD though they were not before ("all": nothing is asked)."""

    history: History
    refused: bool = False
    unheld: frozenset[str] = frozenset()
    may_rise: frozenset[str] = frozenset()


ALL = frozenset({"all"})


def with_rows(history: History, name: str, rows: Any) -> History:
    """The history with other rows of a table: an index, a mask, or new columns."""
    table = history.tables[name]
    new = Table(name, {**table, **rows}) if isinstance(rows, Mapping) else table.where(rows)
    return History({**history.tables, name: new}, history.terms, history.words)


def one_value(history: History, name: str, column: str, row: int, value: int) -> History:
    """The history with one other value."""
    array = history.tables[name][column].copy()
    array[row] = value
    return with_rows(history, name, {column: array})


def a_row_out_of_the_middle(history: History, chance: Random) -> Altered | None:
    """A record that was cut out: its neighbours' numbers show it."""
    name = chance.choice(["publications", "deliveries"])
    table = history.tables[name]
    rows = np.flatnonzero(table.client == table.client[0]) if table.rows else []
    if name == "publications" and table.rows:
        rows = rows[table.attempt[rows] == 1]
    if len(rows) < 3:
        return None
    gone = rows[chance.randrange(1, len(rows) - 1)]
    return Altered(with_rows(history, name, np.arange(table.rows) != gone), refused=True)


def a_row_twice(history: History, chance: Random) -> Altered | None:
    """A record that stands there twice."""
    name = chance.choice(["publications", "deliveries", "effects", "clients"])
    rows = history.tables[name].rows
    if not rows:
        return None
    order = sorted([*range(rows), chance.randrange(rows)])
    return Altered(with_rows(history, name, np.array(order)), refused=True)


def an_impossible_value(history: History, chance: Random) -> Altered | None:
    """What no client can have written down."""
    name, column, value = chance.choice(
        [
            ("publications", "outcome", 3), ("publications", "acknowledged_by", 2), ("publications", "duplicate", 2),
            ("publications", "invoked_ns", NEVER), ("publications", "completed_ns", -5),
            ("publications", "attempt", 0), ("publications", "client", 999), ("publications", "invoked_ns", 1 << 62),
            ("deliveries", "settlement", 9), ("deliveries", "ack_kind", 3), ("deliveries", "number", 0),
            ("deliveries", "corrupt", 2), ("deliveries", "received_ns", -(1 << 63)), ("deliveries", "client", 999),
            ("clients", "start_ns", -2), ("health", "time_ns", NEVER), ("phases", "begin_ns", 1 << 62),
            ("effects", "count", 0),
        ]
    )  # fmt: skip
    table = history.tables[name]
    if not table.rows:
        return None
    return Altered(one_value(history, name, column, chance.randrange(table.rows), value), refused=True)


def an_end_before_its_beginning(history: History, chance: Random) -> Altered | None:
    """A completion, settlement or acknowledgement that comes too early."""
    name, first, then = chance.choice(
        [
            ("publications", "invoked_ns", "completed_ns"),
            ("deliveries", "received_ns", "ack_invoked_ns"),
            ("clients", "start_ns", "end_ns"),
            ("phases", "begin_ns", "end_ns"),
        ]
    )
    table = history.tables[name]
    rows = np.flatnonzero((table[then] != NEVER) & (table[first] > 0)) if table.rows else []
    if len(rows) == 0:
        return None
    row = int(chance.choice(list(rows)))
    return Altered(one_value(history, name, then, row, int(table[first][row]) - 1), refused=True)


def a_delivery_damaged(history: History, chance: Random) -> Altered | None:
    """Its check sum wrong, of another run, or of a message that nobody published: breaks everything."""
    deliveries = history.deliveries
    if not deliveries.rows:
        return None
    row = chance.randrange(deliveries.rows)
    how = chance.choice(["corrupt", "foreign", "message"])
    value = 1 if how != "message" else int(deliveries.message[row]) | (1 << 39)
    return Altered(one_value(history, "deliveries", how, row, value), unheld=ALL)


def a_delivery_again(history: History, chance: Random) -> Altered | None:
    """A copy of it, received at the end by the same consumer."""
    deliveries = history.deliveries
    rows = np.flatnonzero((deliveries.corrupt == 0) & (deliveries.foreign == 0))
    if len(rows) == 0:
        return None
    row = int(chance.choice(list(rows)))
    more = with_rows(history, "deliveries", np.append(np.arange(deliveries.rows), row))
    numbers, received = more.deliveries.number.copy(), more.deliveries.received_ns.copy()
    numbers[-1] = deliveries.number[deliveries.client == deliveries.client[row]].max() + 1
    late = int(received.max()) + 1
    columns: dict[str, Any] = {"number": numbers, "received_ns": received}
    received[-1] = late
    for column in ("handled_ns", "ack_invoked_ns", "settled_ns"):
        columns[column] = more.deliveries[column].copy()
        columns[column][-1] = NEVER if more.deliveries[column][-1] == NEVER else late
    again = with_rows(more, "deliveries", columns)
    # It may acknowledge what was lost after delivery, and make up the number that the broker counted.
    counted = any(counter.comparable for counter in history.terms.counters)
    rises = ALL if counted else frozenset({"at_least_once", "at_least_once_processed"})
    return Altered(again, unheld=frozenset({"at_most_once", "exactly_once"}), may_rise=rises)


def no_acknowledgements(history: History, _chance: Random) -> Altered | None:
    """Nothing was settled: what is gone from the broker is then lost, and nobody is shown what came again."""
    deliveries = history.deliveries
    if not deliveries.rows or (deliveries.ack_kind == 0).any():
        return None
    never = np.full(deliveries.rows, NEVER)
    columns = {"ack_invoked_ns": never, "settled_ns": never, "settlement": np.zeros(deliveries.rows)}
    unheld = frozenset({"at_least_once", "exactly_once"}) if (history.publications.outcome == Outcome.OK).any() else ()
    return Altered(
        with_rows(history, "deliveries", columns), unheld=frozenset(unheld), may_rise=frozenset({"never_again"})
    )


def effects_gone(history: History, chance: Random) -> Altered | None:
    """The sink lacks one, or holds one twice."""
    effects = history.effects
    if not effects.rows or not history.terms.effects_audited:
        return None
    row = chance.randrange(effects.rows)
    if chance.random() < 0.5:
        twice = one_value(history, "effects", "count", row, 2)
        return Altered(twice, unheld=frozenset({"at_most_once_processed", "exactly_once_processed"}))
    gone = with_rows(history, "effects", np.arange(effects.rows) != row)
    return Altered(
        gone,
        unheld=frozenset({"at_least_once_processed", "exactly_once_processed"}),
        may_rise=frozenset({"at_most_once_processed"}),  # the one that was there twice, perhaps
    )


def terms_that_say_less(history: History, chance: Random) -> Altered:
    """The run says of itself that it was not fair."""
    changes: dict[str, Any] = chance.choice(
        [
            {"interrupted": "somebody pulled the plug"}, {"truncated_journals": ("consumer-1.1",)},
            {"drained": False}, {"exhaustive": False}, {"brokers_up": False}, {"recorded_by": "somebody else"},
            {"floor_hz": 0.0}, {"floor_hz": 1e6}, {"faults": (*history.terms.faults, "never_injected")},
        ]
    )  # fmt: skip
    return Altered(History(history.tables, replace(history.terms, **changes), history.words), unheld=ALL)


def terms_beyond_measure(history: History, chance: Random) -> Altered:
    """Numbers that no judge can compare anything with."""
    changes: dict[str, Any] = chance.choice(
        [
            {"silence_s": float("nan")}, {"redelivery_horizon_s": float("inf")}, {"floor_hz": float("nan")},
            {"redelivery_horizon_s": 1e300}, {"ack_wait_s": float("nan")}, {"ticker_limit_ms": float("inf")},
        ]
    )  # fmt: skip
    return Altered(History(history.tables, replace(history.terms, **changes), history.words), refused=True)


def any_value(history: History, chance: Random) -> Altered:
    """A value of any column, at its limits or beside: nothing is asked but an answer."""
    name = chance.choice([name for name in TABLES if history.tables[name].rows])
    column = chance.choice(list(TABLES[name]))
    limits = np.iinfo(TABLES[name][column].type)
    row = chance.randrange(history.tables[name].rows)
    value = chance.choice([int(limits.min), int(limits.max), 0, 1, 2, int(history.tables[name][column][0])])
    return Altered(one_value(history, name, column, row, value), may_rise=ALL)


def shifted_times(history: History, chance: Random) -> Altered:
    """A table's times, as if its clock had been set."""
    name = chance.choice(["publications", "deliveries", "phases", "health", "clients"])
    by = chance.choice([-(10**9), 10**6, 10**9, 10**12, 1 << 61])
    table = history.tables[name]
    times = [column for column, meaning in TABLES[name].items() if meaning.unit == "ns"]
    moved = {column: np.where(table[column] == NEVER, NEVER, table[column] + by) for column in times}
    return Altered(with_rows(history, name, moved), may_rise=ALL)


ROWS: tuple[Callable[[History, Random], Altered | None], ...] = (
    a_row_out_of_the_middle, a_row_twice, an_impossible_value, an_end_before_its_beginning, a_delivery_damaged,
    a_delivery_again, no_acknowledgements, effects_gone, terms_that_say_less, terms_beyond_measure, any_value,
    shifted_times,
)  # fmt: skip
