"""Does what is planted into a fair run break the guarantees that it should, while every other one is still HELD?"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.checkers.judge import Judgement, judge
from harness.guarantee import Status
from harness.history.history import History, Table
from harness.operation import AckKind, MessageId, Outcome
from tests import random_histories, reference
from tests.reference import Row

PLANTINGS = 25
"""Of each wrong, each into a fair run of its own and at a random place."""

LEAST = {"at_least_once", "exactly_once"}
MOST = {"at_most_once", "exactly_once"}
LEAST_PROCESSED = {"at_least_once_processed", "exactly_once_processed"}
MOST_PROCESSED = {"at_most_once_processed", "exactly_once_processed"}
MS = 1_000_000

Rows = dict[str, list[Row]]


def of(rows: Rows, table: str, message: int) -> list[Row]:
    return [row for row in rows[table] if row["message"] == message]


def without(rows: Rows, table: str, message: int) -> None:
    rows[table] = [row for row in rows[table] if row["message"] != message]


def _lose(rows: Rows, message: int) -> None:
    without(rows, "deliveries", message)
    without(rows, "effects", message)


def _deliver_again(rows: Rows, message: int) -> None:
    (*_, last) = of(rows, "deliveries", message)
    again = {name: last[name] + MS for name in ("received_ns", "ack_invoked_ns", "settled_ns") if last[name] != -1}
    # By a fetch that was under way already, so that nothing was promised of it.
    rows["deliveries"].append({**last, **again, "redelivered": 1, "number": len(rows["deliveries"]) + 1})


def _fetch_again(rows: Rows, message: int) -> None:
    (*_, last) = of(rows, "deliveries", message)
    later_ns = last["settled_ns"] + 5 * MS
    times = {"fetch_invoked_ns": later_ns, "received_ns": later_ns + MS}
    acked = {"ack_invoked_ns": later_ns + 2 * MS, "settled_ns": later_ns + 3 * MS}
    rows["deliveries"].append({**last, **times, **acked, "redelivered": 1, "number": len(rows["deliveries"]) + 1})


def _store_twice(rows: Rows, message: int) -> None:
    published = of(rows, "publications", message)[-1]
    rows["publications"].append(
        {
            **published,
            "attempt": 2,
            "invoked_ns": published["completed_ns"] + MS,
            "completed_ns": published["completed_ns"] + 2 * MS,
        }
    )
    (*_, last) = of(rows, "deliveries", message)
    later = {name: last[name] + 3 * MS for name in ("received_ns", "ack_invoked_ns", "settled_ns") if last[name] != -1}
    number = len(rows["deliveries"]) + 1
    rows["deliveries"].append({**last, **later, "attempt": 2, "broker_sequence": 0, "redelivered": 1, "number": number})


def _hold_back(rows: Rows, message: int) -> None:
    """Until the last message of its connection has come, to who received that and over the same connection."""
    (published,) = of(rows, "publications", message)
    lane = published["client"], published["epoch"]
    last = max(row["message"] for row in rows["publications"] if (row["client"], row["epoch"]) == lane)
    for row in of(rows, "deliveries", message):
        (then,) = [other for other in of(rows, "deliveries", last) if other["group"] == row["group"]]
        late_ns = then["received_ns"] + MS - row["received_ns"]
        row.update({n: row[n] + late_ns for n in ("received_ns", "ack_invoked_ns", "settled_ns") if row[n] != -1})
        row.update(client=then["client"], epoch=then["epoch"])


def _refuse(rows: Rows, message: int) -> None:
    """Another one beside it, for the load would be less without it."""
    other = message | 1 << 39
    published = of(rows, "publications", message)[0]
    refused = {"outcome": Outcome.FAIL, "completed_ns": published["invoked_ns"] + MS, "broker_sequence": 0}
    rows["publications"].append({**published, **refused, "message": other})
    for row in of(rows, "deliveries", message):
        number = len(rows["deliveries"]) + 1
        rows["deliveries"].append({**row, "message": other, "broker_sequence": 0, "redelivered": 1, "number": number})
    rows["effects"] += [{**row, "message": other} for row in of(rows, "effects", message)]


def _invent(rows: Rows, message: int) -> None:
    rows["census"].append({"message": MessageId(77, 1).packed, "place": 0, "broker_sequence": 0})


def _damage(rows: Rows, message: int) -> None:
    row = of(rows, "deliveries", message)[-1]
    rows["deliveries"].append({**row, "corrupt": 1, "number": len(rows["deliveries"]) + 1})


def _skip_effect(rows: Rows, message: int) -> None:
    without(rows, "effects", message)


def _repeat_effect(rows: Rows, message: int) -> None:
    of(rows, "effects", message)[0]["count"] = 2


Plant = Callable[[Rows, int], None]
EVERY = None
PLANTS: dict[str, tuple[Plant, set[str] | None]] = {
    "a lost message": (_lose, LEAST | LEAST_PROCESSED),
    "a message delivered twice": (_deliver_again, MOST),
    "a message that comes again after its confirmed acknowledgement": (_fetch_again, MOST | {"never_again"}),
    "a message stored twice": (_store_twice, MOST | {"publish_once"}),
    "a message held back": (_hold_back, {"ordered", "log_consistent"}),
    "a message delivered though refused": (_refuse, {"genuine"}),
    "a message that nobody published": (_invent, EVERY),
    "a damaged delivery": (_damage, EVERY),
    "a message without its effect": (_skip_effect, LEAST_PROCESSED),
    "a message with two effects": (_repeat_effect, MOST_PROCESSED),
}

NOT_HELD = {"a lost message": {"log_consistent"}}
"""What is broken besides, or unknown: who reads from the second number on may have begun there, and what is settled as
it is sent may have gone down with a connection."""


def by_status(judgement: Judgement, status: Status) -> set[str]:
    return {name for name, verdict in judgement.verdicts.items() if verdict.status is status}


def untouched(past: History, rows: Rows, message: int) -> bool:
    """Was nothing of it under way when a fault bit? Else what is taken out may be all that it endangered."""
    began_ns = min(row["invoked_ns"] for row in of(rows, "publications", message))
    over_ns = max(
        max(row[name] for name in ("received_ns", "handled_ns", "ack_invoked_ns", "settled_ns"))
        for row in of(rows, "deliveries", message)
    )
    bites = (injection.bit_ns for injection in past.terms.injections)
    return not any(bit_ns is not None and began_ns <= bit_ns <= over_ns for bit_ns in bites)


def held(number: int, planted: str) -> History | None:
    """A run of which every guarantee is HELD, with what the plant needs; None if this number gives none."""
    past = random_histories.in_order(random.Random(f"{number} {planted}"))
    if "effect" in planted and not past.terms.mechanism:
        return None
    if "confirmed" in planted and not (past.terms.pulled and past.terms.ack == AckKind.CONFIRMED):
        return None
    judgement = judge(past)
    return past if by_status(judgement, Status.HELD) == set(judgement.verdicts) else None


@pytest.mark.parametrize("planted", PLANTS)
def test_what_is_planted_breaks_what_it_should_and_nothing_else(
    planted: str, prove: Callable[[str, int], None]
) -> None:
    plant, breaks = PLANTS[planted]
    done = number = 0
    while done < PLANTINGS:
        number += 1
        if (past := held(number, planted)) is None:
            continue
        rows = {name: reference.rows(past, name) for name in past.tables}
        seed = random.Random(number)
        epochs = {row["message"]: row["epoch"] for row in rows["publications"]}
        fit = [one for one, epoch in epochs.items() if epochs.get(one + 1) == epoch and untouched(past, rows, one)]
        if not fit:
            continue
        message = seed.choice(fit)
        plant(rows, message)
        tables = {
            name: Table(name, {column: [row[column] for row in rows[name]] for column in table})
            for name, table in past.tables.items()
        }
        judgement = judge(replace(past, tables=tables))
        besides = NOT_HELD.get(planted, set())
        assert not besides & by_status(judgement, Status.HELD)
        judged = set(judgement.verdicts) - besides
        violated = judged if breaks is EVERY else breaks & judged
        assert by_status(judgement, Status.VIOLATED) - besides == violated, (number, MessageId.unpack(message))
        assert by_status(judgement, Status.HELD) == judged - violated, (number, MessageId.unpack(message))
        done += 1
    prove(f"plantings of {planted} into a fair run: it breaks what it should, and all else is HELD", done)
