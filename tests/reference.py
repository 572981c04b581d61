"""The anomalies, found slowly: plain Python from the definitions, sharing no code with the checkers.

Sets are sets of packed ids, a delivery is a dictionary, and every definition is written out as a loop over pairs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from typing import Any

from harness.history.columns import TABLES
from harness.history.history import History

INFO, OK, FAIL = 0, 1, 2
AUTOMATIC, CONFIRMED = 0, 2

Row = dict[str, Any]


def rows(history: History, table: str) -> list[Row]:
    columns = history.tables[table]
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*(array.tolist() for array in columns.values()), strict=True)
    ]


def worded(history: History, table: str) -> list[Row]:
    """The rows of a table, with its words as text."""
    words = [column for column, meaning in TABLES[table].items() if meaning.unit == "word"]
    return [{**row, **{column: history.words[row[column]] for column in words}} for row in rows(history, table)]


def anomalies(history: History) -> dict[str, set[int]]:
    """Every set of messages that has a name."""
    publications, deliveries = rows(history, "publications"), rows(history, "deliveries")
    census, effects = rows(history, "census"), rows(history, "effects")
    attempts: dict[int, list[Row]] = defaultdict(list)
    for publication in publications:
        attempts[publication["message"]].append(publication)
    invoked = _invoked(publications)
    received: dict[int, list[Row]] = defaultdict(list)
    for index, delivery in enumerate(deliveries):
        delivery["index"] = index
        if not delivery["corrupt"] and not delivery["foreign"] and delivery["message"] in invoked:
            received[delivery["message"]].append(delivery)

    def read(*places: str) -> set[int]:
        return {row["message"] for row in census if history.words[row["place"]] in places} & invoked

    elsewhere = {history.words[row["place"]] for row in census} - {"stored", "dead-letter"}
    owed, stored, dead = read(*elsewhere), read("stored"), read("dead-letter")
    found = owed | dead
    acked = {m for m, rows in attempts.items() if any(r["outcome"] == OK and r["acknowledged_by"] == 1 for r in rows)}
    sent = {
        m for m, rows in attempts.items() if any(r["outcome"] == OK and r["acknowledged_by"] == 0 for r in rows)
    } - acked
    failed = {m for m, rows in attempts.items() if all(r["outcome"] == FAIL for r in rows)}
    indeterminate = set(attempts) - acked - sent - failed
    groups = history.terms.groups if len(history.terms.groups) > 1 else None
    discharged = set()
    for message in received:
        done = [
            delivery
            for delivery in received[message]
            if delivery["ack_kind"] == AUTOMATIC or delivery["ack_invoked_ns"] != -1
        ]
        if groups is None:
            if done:
                discharged.add(message)
        elif all(any(history.words[delivery["group"]] == group for delivery in done) for group in groups):
            discharged.add(message)
    dropped = {row["message"] for row in rows(history, "dropped")} & invoked - discharged - found
    lost = acked - discharged - found - dropped
    swallowed = {
        m for m in lost - set(received) - stored if all(r["duplicate"] for r in attempts[m] if r["outcome"] == OK)
    }
    effect = {row["message"] for row in effects if row["count"] > 0} & invoked
    times: dict[int, int] = defaultdict(int)
    for row in effects:
        times[row["message"]] += row["count"]
    result = {
        "attempted": set(attempts),
        "acked": acked,
        "sent": sent,
        "failed": failed,
        "indeterminate": indeterminate,
        "delivered": set(received),
        "discharged": discharged,
        "recovered": indeterminate & set(received),
        "lost": lost,
        "lost_unconfirmed": sent - discharged - found - dropped,
        "dropped_by_policy": dropped,
        "dropped_acked": dropped & (acked | sent),
        "dead_lettered": dead,
        "owed": owed,
        "swallowed": swallowed,
        "stranded": (owed - set(received)) & (acked | sent),
        "left_unpromised": owed - set(received) - acked - sent,
        "visible_failure": failed & set(received),
        "unprocessed": set(received) - effect - owed,
        "never_processed": (acked | sent) - set(received) - effect - owed,
        "effects": effect,
        "duplicate_effect": {m for m, count in times.items() if count > 1 and m in invoked},
        "duplicate_publish": _stored_twice(history, attempts, received, census),
        "reordered": _reordered(_first_receipts(publications, received)),
        **_repeats(history, received),
    }
    result.update(_classes(result["lost"] | result["lost_unconfirmed"], set(received)))
    return result


def strange(history: History) -> dict[str, int]:
    """Deliveries that are of no message of ours."""
    published = _invoked(rows(history, "publications"))
    counts = {"phantom": 0, "corrupt": history.terms.census_corrupt, "foreign": history.terms.census_foreign}
    for delivery in rows(history, "deliveries"):
        if delivery["corrupt"]:
            counts["corrupt"] += 1
        elif delivery["foreign"]:
            counts["foreign"] += 1
        elif delivery["message"] not in published:
            counts["phantom"] += 1
    counts["phantom"] += sum(row["message"] not in published for row in rows(history, "census"))
    return counts


def _invoked(publications: list[Row]) -> set[int]:
    """Messages of which some attempt was handed to the library."""
    return {
        row["message"] for row in publications if row["outcome"] != FAIL or row["completed_ns"] != row["invoked_ns"]
    }


def _classes(lost: set[int], received: set[int]) -> dict[str, set[int]]:
    classes: dict[str, set[int]] = {"lost_prefix": set(), "lost_middle": set(), "lost_suffix": set()}
    for message in lost:
        mine = [other for other in received if other >> 40 == message >> 40]
        earlier = any(other < message for other in mine)
        later = any(other > message for other in mine)
        name = "lost_suffix" if not later else "lost_middle" if earlier else "lost_prefix"
        classes[name].add(message)
    return classes


def _repeats(history: History, received: dict[int, list[Row]]) -> dict[str, set[int]]:
    twice, late, again, unflagged = set(), set(), set(), set()
    ack_wait_s = history.terms.ack_wait_s
    for message, deliveries in received.items():
        for one, other in combinations(deliveries, 2):
            if one["group"] != other["group"]:
                continue
            same_attempt = one["attempt"] == other["attempt"]
            same_sequence = one["broker_sequence"] == other["broker_sequence"] != 0
            if not same_attempt and not same_sequence:
                continue
            twice.add(message)
            if same_attempt and not one["redelivered"] and not other["redelivered"]:
                unflagged.add(message)
            for first, second in ((one, other), (other, one)):
                confirmed = first["ack_kind"] == CONFIRMED and first["settlement"] == OK and first["settled_ns"] != -1
                apart = 0 != first["broker_sequence"] != second["broker_sequence"]
                if apart:
                    continue
                if confirmed and second["fetch_invoked_ns"] != -1 and second["fetch_invoked_ns"] > first["settled_ns"]:
                    again.add(message)
        if ack_wait_s is None:
            continue
        for identity in ("attempt", "broker_sequence"):
            for value in {d[identity] for d in deliveries} - ({0} if identity == "broker_sequence" else set()):
                for group in {d["group"] for d in deliveries}:
                    copies = [d for d in deliveries if d[identity] == value and d["group"] == group]
                    if len(copies) < 2:
                        continue
                    first = min(copies, key=lambda d: (d["received_ns"], d["index"]))
                    waited = first["ack_invoked_ns"] - first["received_ns"]
                    if first["ack_invoked_ns"] != -1 and waited > ack_wait_s * 1e9:
                        late.add(message)
    return {
        "duplicate_delivery": twice,
        "unflagged_redelivery": unflagged,
        "again_after_confirmed_ack": again - late,
        "again_after_late_ack": again & late,
        "ack_wait_exceeded": late,
    }


def _stored_twice(
    history: History, attempts: dict[int, list[Row]], received: dict[int, list[Row]], census: list[Row]
) -> set[int]:
    groups = {d["group"] for deliveries in received.values() for d in deliveries}
    twice = set()
    for message in attempts:
        answered = {r["broker_sequence"] for r in attempts[message] if r["outcome"] == OK and not r["duplicate"]} - {0}
        read = {
            row["broker_sequence"]
            for row in census
            if row["message"] == message and history.words[row["place"]] != "dead-letter"
        } - {0}
        for group in groups:
            mine = [d for d in received.get(message, []) if d["group"] == group]
            if len({d["attempt"] for d in mine}) > 1 or len({d["broker_sequence"] for d in mine} - {0}) > 1:
                twice.add(message)
        delivered = {d["broker_sequence"] for d in received.get(message, [])} - {0}
        seen = answered if len(groups) > 1 else answered | delivered | read
        if len(seen) > 1:
            twice.add(message)
    return twice


def order(history: History) -> tuple[int, int]:
    """(deliveries that have another in their lane to be compared with, deliveries that no contract of order covers)."""
    publications, invoked = rows(history, "publications"), _invoked(rows(history, "publications"))
    received: dict[int, list[Row]] = defaultdict(list)
    for delivery in rows(history, "deliveries"):
        if not delivery["corrupt"] and not delivery["foreign"] and delivery["message"] in invoked:
            received[delivery["message"]].append(delivery)
    firsts = _first_receipts(publications, received)
    lanes = Counter(_lane(delivery) for delivery in firsts)
    compared = sum(times for times in lanes.values() if times > 1)
    return compared, sum(len(deliveries) for deliveries in received.values()) - len(firsts)


def _first_receipts(publications: list[Row], received: dict[int, list[Row]]) -> list[Row]:
    """The first unflagged receipt of each attempt in each lane, with its publication."""
    by_attempt = {}
    for publication in publications:
        by_attempt[publication["message"], publication["attempt"]] = publication
    firsts: dict[tuple[int, ...], Row] = {}
    for delivery in (delivery for deliveries in received.values() for delivery in deliveries):
        publication = by_attempt.get((delivery["message"], delivery["attempt"]))
        if delivery["redelivered"] or publication is None or publication["epoch"] == 0:
            continue
        delivery["publication"] = publication
        key = (delivery["message"], delivery["attempt"], *_lane(delivery))
        known = firsts.get(key)
        if known is None or _place(delivery) < _place(known):
            firsts[key] = delivery
    return list(firsts.values())


def _lane(delivery: Row) -> tuple[int, int, int, int]:
    """One connection of one producer, and one of one consumer."""
    publication = delivery["publication"]
    return publication["client"], publication["epoch"], delivery["client"], delivery["epoch"]


def _reordered(firsts: list[Row]) -> set[int]:
    late = set()
    lanes: dict[tuple[int, ...], list[Row]] = defaultdict(list)
    for delivery in firsts:
        lanes[_lane(delivery)].append(delivery)
    for lane in lanes.values():
        for first, second in combinations(sorted(lane, key=_place), 2):
            if second["publication"]["invoked_ns"] < first["publication"]["invoked_ns"]:
                late.add(second["message"])
    return late


def _place(delivery: Row) -> tuple[int, int]:
    return delivery["received_ns"], delivery["number"]
