"""How do journals and proceedings become a history? They are joined, once, when nobody writes any more.

Works from files alone, so the run of a harness that was killed can be frozen later: what has no answer stays INFO, what
was not read stays unread, and the terms say that the run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import Refused
from harness.history import journal as j
from harness.history import proceedings
from harness.history.columns import NEVER, TABLES
from harness.history.history import Array, History, Table
from harness.history.join import Words, deliveries_of, dequeues_of, of_kind, publications_of, read_journal
from harness.history.proceedings import CURE
from harness.history.store import JOURNALS
from harness.history.terms import Claimed, Counter, InjectionTerms, Terms
from harness.operation import AckKind, AcknowledgedBy, CrashPoint
from harness.plain import from_plain, to_plain

_MEANINGLESS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading a record raises whose fields are missing, of another kind, or out of range."""


def freeze(directory: Path) -> History:
    """The history of a run directory, from its journals and proceedings. Raises Refused where they are none."""
    lines = list(proceedings.read(directory))
    if not any(line.get("kind") == "terms" for line in lines):
        raise Refused(f"{directory} holds no proceedings of a run", cure=CURE)
    words = Words()
    stated: dict[str, Any] = {}
    for line in lines:
        if line["kind"] == "terms":
            pairs = [*stated.get("clock_pairs", ()), *line.get("clock_pairs", ())]
            stated.update(line)
            stated["clock_pairs"] = pairs
    confirms = stated["acknowledged_by"] == int(AcknowledgedBy.BROKER)
    ack = AckKind(stated["ack"])
    clients = {line["number"]: line for line in lines if line["kind"] == "client"}
    pauses = [line for line in lines if line["kind"] == "pause"]
    limit_ns = int(stated.get("ticker_limit_ms", 0) * 1e6)
    published: list[dict[str, Array]] = []
    delivered: list[dict[str, Array]] = []
    dequeued: list[dict[str, Array]] = []
    health: list[tuple[int, int, int, int, int, bool]] = []
    crashes: dict[int, tuple[int, int]] = {}
    paths = sorted((directory / JOURNALS).glob("*.journal"), key=_number)
    there = {_number(path) for path in paths}
    truncated = [client["name"] for number, client in sorted(clients.items()) if number not in there]
    for path in paths:
        journal = read_journal(path, words)
        client = clients.get(journal.client)
        if client is None:
            if len(journal.records):
                raise Refused(f"{path}: client {journal.client} is not in the proceedings", cure=CURE)
            continue
        if journal.truncated:
            truncated.append(client["name"])
        published.append(publications_of(journal, confirms))
        group = words.number(client["group"] or "group")
        delivered.append(deliveries_of(journal, group, ack))
        dequeued.append(dequeues_of(journal, group))
        for state in of_kind(journal, j.STATE):
            what = int(journal.words[min(int(state["code"]), len(journal.words) - 1)])
            at_ns = int(state["x0"]) - journal.origin_ns
            value = int(state["x1"])
            planned = what == words.number("ticker-gap") and _stood_still(
                pauses, journal.client, at_ns - value, at_ns, limit_ns
            )
            health.append((at_ns, journal.client, words.number(client["name"]), what, value, planned))
        for crash in of_kind(journal, j.CRASH):
            point = words.number(CrashPoint.numbered(int(crash["a"])))
            crashes[journal.client] = (point, int(crash["x0"]) - journal.origin_ns)
    for line in lines:
        if line["kind"] == "health":
            health.append(
                (
                    line["time_ns"],
                    line["client"],
                    words.number(line["member"]),
                    words.number(line["state"]),
                    line["value"],
                    line["planned"],
                )
            )
    health.sort(key=lambda row: row[0])
    peers = [line for line in lines if line["kind"] == "peers"]
    tables = {
        "publications": _table("publications", published),
        "deliveries": _table("deliveries", delivered),
        "dequeues": _table("dequeues", dequeued),
        "effects": _effects(lines),
        "clients": _clients(clients, lines, crashes, peers, words),
        "phases": _rows(
            "phases",
            (
                (words.number(line["phase"]), line["trial"], line["begin_ns"], line["end_ns"])
                for line in lines
                if line["kind"] == "phase"
            ),
        ),
        "health": _rows("health", health),
        **_census(lines, words),
    }
    terms = _terms(stated, lines, peers, truncated)
    return History(tables=tables, terms=terms, words=tuple(words.numbers))


def freeze_abandoned(directory: Path) -> History:
    """The history of a run whose harness did not come to its end: as `freeze`, and the terms say so.

    Raises Refused also for what a harness that came to its end cannot have left: proceedings and journals may have been
    cut, mixed up or changed since.
    """
    where = directory / proceedings.FILE
    try:
        history = freeze(directory)
    except _MEANINGLESS as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise Refused(f"{where}, or {JOURNALS} beside it, are damaged: {what[:200]}", cure=CURE) from error
    try:
        terms = from_plain(Terms, to_plain(history.terms))
    except Refused as refusal:
        raise Refused(f"{where}: {refusal.message}", cure=CURE) from refusal
    interrupted = terms.interrupted or "the harness ended before the run did"
    return History(history.tables, replace(terms, interrupted=interrupted), history.words)


def _stood_still(pauses: list[dict[str, Any]], client: int, begin_ns: int, end_ns: int, limit_ns: int) -> bool:
    """Whether a gap of a client's ticker is explained by a pause that was asked for, but for what is allowed anyway."""
    paused_ns: int = sum(
        max(0, min(end_ns, pause["end_ns"]) - max(begin_ns, pause["begin_ns"]))
        for pause in pauses
        if pause["number"] == client
    )
    return paused_ns > 0 and end_ns - begin_ns - paused_ns <= limit_ns


def _number(path: Path) -> int:
    number = path.name.split(".")[-2]
    return int(number) if number.isdecimal() else 0


def _table(name: str, parts: list[dict[str, Array]]) -> Table:
    if not parts:
        return Table.empty(name)
    return Table(name, {column: np.concatenate([part[column] for part in parts]) for column in TABLES[name]})


def _rows(name: str, rows: Iterable[tuple[Any, ...]]) -> Table:
    columns = list(zip(*rows, strict=True))
    if not columns:
        return Table.empty(name)
    return Table(name, dict(zip(TABLES[name], (list(column) for column in columns), strict=True)))


def _effects(lines: list[dict[str, Any]]) -> Table:
    rows = [row for line in lines if line["kind"] == "effects" for row in line["rows"]]
    return _rows("effects", ((*row, place) for place, row in enumerate(rows)))


def _clients(
    clients: Mapping[int, Mapping[str, Any]],
    lines: list[dict[str, Any]],
    crashes: Mapping[int, tuple[int, int]],
    peers: list[dict[str, Any]],
    words: Words,
) -> Table:
    ends = {line["number"]: line for line in lines if line["kind"] == "end"}
    strangers = {stranger.split(" from ")[0] for line in peers for stranger in line["strangers"]}
    rows = []
    for number, client in sorted(clients.items()):
        end = ends.get(number, {})
        point, crash_ns = crashes.get(number, (0, NEVER))
        rows.append(
            (
                number,
                words.number(client["name"]),
                words.number(client["slot"]),
                words.number(client["role"]),
                words.number(client["group"]),
                client["start_ns"],
                end.get("end_ns", NEVER),
                end.get("exit", -1) if end else -1,
                end.get("planned", False),
                client["name"] not in strangers,
                point,
                crash_ns,
            )
        )
    return _rows("clients", rows)


def _census(lines: list[dict[str, Any]], words: Words) -> dict[str, Table]:
    census = next((line for line in lines if line["kind"] == "census"), None)
    if census is None:
        return {"census": Table.empty("census"), "dropped": Table.empty("dropped")}
    sequences = census["sequences"] or [0] * len(census["found"])
    places = [words.number(place) for place in census["places"]]
    return {
        "census": _rows("census", zip(census["found"], places, sequences, strict=True)),
        "dropped": _rows(
            "dropped", ((int(message), words.number(policy)) for message, policy in census["dropped"].items())
        ),
    }


def _terms(
    stated: Mapping[str, Any], lines: list[dict[str, Any]], peers: list[dict[str, Any]], truncated: list[str]
) -> Terms:
    known = {field.name for field in fields(Terms)}
    values = {name: value for name, value in stated.items() if name in known}
    census = next((line for line in lines if line["kind"] == "census"), None)
    if census is not None:
        comparable = set(census["comparable"])
        values["counters"] = tuple(
            Counter(name=name, value=value, comparable=name in comparable)
            for name, value in sorted(census["counters"].items())
        )
        values["census_corrupt"] = census["corrupt"]
        values["census_foreign"] = census["foreign"]
    values["injections"] = tuple(_injections(lines))
    values["claims"] = tuple(Claimed(**claim) for claim in stated.get("claims", ()))
    # One stranger is enough to say no; to say yes, every time it was asked must have had an answer.
    asked = [line["ok"] for line in peers]
    values["peers_all_proxy"] = False if False in asked else True if asked and None not in asked else None
    values["truncated_journals"] = tuple(truncated)
    values["clock_pairs"] = tuple((int(run), int(real)) for run, real in stated["clock_pairs"])
    for name in ("faults", "groups", "policies"):
        if name in values:
            values[name] = tuple(values[name])
    values["acknowledged_by"] = AcknowledgedBy(values["acknowledged_by"])
    values["ack"] = AckKind(values["ack"])
    return Terms(**values)


def _injections(lines: list[dict[str, Any]]) -> Iterator[InjectionTerms]:
    """Each injection; what nodes said of each other once all had recovered from it was written down just before it."""
    members: object = None
    for line in lines:
        if line["kind"] == "peers":
            members = line.get("members")
        elif line["kind"] == "injection":
            after = {"members_after_recovery": members} if members and line.get("recovered_ns") is not None else {}
            yield InjectionTerms(
                **{
                    **_without(line, "kind"),
                    "targets": tuple(line["targets"]),
                    "facts": {**line.get("facts", {}), **after},
                }
            )


def _without(line: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != name}
