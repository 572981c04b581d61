"""Does an export say the same as the history, in words that need no numpy?"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from test_store import some_history, terms

from harness.errors import Refused, Trouble
from harness.history import exchange
from harness.history.columns import NEVER, TABLES
from harness.history.history import History, Table
from harness.operation import AckKind, MessageId, Outcome


def one_delivery() -> History:
    columns = {column: [0] for column in TABLES["deliveries"]}
    columns |= {
        "group": [1],
        "message": [MessageId(3, 7).packed],
        "fetch_invoked_ns": [NEVER],
        "received_ns": [5],
        "ack_kind": [AckKind.SENT],
        "settlement": [Outcome.OK],
        "redelivered": [1],
    }
    tables = {name: Table.empty(name) for name in TABLES} | {"deliveries": Table("deliveries", columns)}
    return History(tables, terms(), ("", "orders"))


def test_a_row_speaks_in_words_and_never_is_null() -> None:
    (row,) = exchange.rows(one_delivery(), "deliveries")
    assert next(iter(row)) == "table"
    assert set(row) == {"table", "message_id", *TABLES["deliveries"]}
    assert row["group"] == "orders"
    assert row["message"] == 3 << 40 | 7
    assert row["message_id"] == "3:7"
    assert row["fetch_invoked_ns"] is None
    assert row["received_ns"] == 5
    assert (row["ack_kind"], row["settlement"], row["redelivered"]) == ("SENT", "OK", True)


def test_a_stream_holds_the_terms_and_every_row_of_every_table() -> None:
    history = some_history(25)
    stream = io.StringIO()
    exchange.export_stream(history, stream)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[0]["table"] == "terms"
    assert lines[0]["cell"] == "memory-nothing"
    assert [line["table"] for line in lines[1:]] == [name for name in TABLES for _ in range(25)]
    sequences = [line["broker_sequence"] for line in lines if line["table"] == "publications"]
    assert sequences == history.publications.broker_sequence.tolist()


def test_a_directory_gets_one_file_a_table(tmp_path: Path) -> None:
    paths = exchange.export_directory(some_history(3), tmp_path / "out")
    assert sorted(path.name for path in paths) == sorted(["terms.json", *(f"{name}.jsonl" for name in TABLES)])
    assert all(len(path.read_text().splitlines()) == 3 for path in paths if path.suffix == ".jsonl")


def test_an_unknown_table_and_an_impossible_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match='unknown table "delivery"; did you mean "deliveries"'):
        list(exchange.rows(some_history(1), "delivery"))
    (tmp_path / "file").write_text("")
    with pytest.raises(Trouble, match="cannot be written"):
        exchange.export_directory(some_history(1), tmp_path / "file")
