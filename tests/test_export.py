"""Does an export say the same as the history, in words that need no numpy?"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import histories
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_store import some_history, terms

from harness.errors import Refused, Trouble
from harness.history import edn, exchange
from harness.history.columns import NEVER, TABLES
from harness.history.history import History, Table
from harness.history.values import ENUMS
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
    assert lines[-1]["table"] == "end"
    assert lines[-1]["rows"] == dict.fromkeys(TABLES, 25)
    assert [line["table"] for line in lines[1:-1]] == [name for name in TABLES for _ in range(25)]
    sequences = [line["broker_sequence"] for line in lines if line["table"] == "publications"]
    assert sequences == history.publications.broker_sequence.tolist()


def test_a_directory_gets_one_file_a_table(tmp_path: Path) -> None:
    paths = exchange.export_directory(some_history(3), tmp_path / "out")
    assert sorted(path.name for path in paths) == sorted(
        ["export.json", "terms.json", *(f"{name}.jsonl" for name in TABLES)]
    )
    assert all(len(path.read_text().splitlines()) == 3 for path in paths if path.suffix == ".jsonl")


@pytest.mark.parametrize("rows", [0, 3])
def test_a_parquet_file_has_the_rows_of_the_json_lines(tmp_path: Path, rows: int) -> None:
    """Every table is one file, its columns have their types also where there are no rows, and nothing is a pickle."""
    history = some_history(rows)
    exchange.export_directory(history, tmp_path, "parquet")
    for name in TABLES:
        read = pq.read_table(tmp_path / f"{name}.parquet")
        assert read.schema.field("message" if "message" in TABLES[name] else read.schema.names[0]).type != pa.null()
        told = [{"table": name, **row} for row in read.to_pylist()]
        for row in exchange.rows(history, name):
            ours = told.pop(0)
            known = {column for column, value in ours.items() if value is not None or row[column] is None}
            # Numbers that stand for no outcome or kind have no name, and are null.
            assert {TABLES[name][column].unit for column in row.keys() - known} <= set(ENUMS)
            assert all(ours[column] == row[column] for column in known)
        assert told == []
    assert json.loads((tmp_path / "export.json").read_text())["rows"] == dict.fromkeys(TABLES, rows)


def test_parquet_needs_a_folder() -> None:
    with pytest.raises(Refused, match="one file a table"):
        exchange.export_stream(some_history(1), io.StringIO(), "parquet")


# ---- EDN -------------------------------------------------------------------------------------------------------------


def operations(history: History) -> list[dict[str, str]]:
    """The operations of a history, their values as text."""
    found = []
    for line in edn.operations(history):
        told = re.fullmatch(r"\{(.*)\}\n", line)
        assert told
        found.append(dict(re.findall(r":([a-z-]+) (\{.*?\}|\"[^\"]*\"|\S+?)(?:,|$)", told[1])))
    return found


def small() -> History:
    return histories.history(
        histories.publish(1).at(1).until(4).acked(),
        histories.publish(2).at(2),
        histories.publish(3).at(3).until(5).refused('"no\n"'),
        histories.deliver(1).at(6).fetched(5.5).confirmed(7, asked_ms=6.5),
        histories.publish(4).at(7).until(8).acked(),
        terms=histories.terms(injections=(histories.injection(asked_ns=2_500_000, mended_ns=6_000_000),)),
    )


def test_edn_is_one_operation_a_line_by_time() -> None:
    told = operations(small())
    assert [int(one["index"]) for one in told] == list(range(len(told)))
    times = [int(one["time"]) for one in told]
    assert times == sorted(times)
    assert [(one["f"], one["type"]) for one in told] == [
        (":publish", ":invoke"),
        (":publish", ":invoke"),
        (":start", ":info"),
        (":publish", ":invoke"),
        (":publish", ":ok"),
        (":publish", ":fail"),
        (":deliver", ":invoke"),
        (":deliver", ":ok"),
        (":stop", ":info"),
        (":publish", ":invoke"),
        (":publish", ":ok"),
        (":publish", ":info"),
    ]
    assert told[0]["value"] == '{:message "1:1", :attempt 1}'
    assert ":ack-invoked-ns 6500000, :settled-ns 7000000" in told[7]["value"]
    assert told[6]["value"] == "nil"
    assert '"\\"no\\n\\""' in list(edn.operations(small()))[5]


def test_a_process_of_edn_does_one_thing_at_a_time_and_ends_with_what_was_never_answered() -> None:
    """As the tools that read such a history demand of it; `:client` says who it was."""
    told = [one for one in operations(small()) if one["process"] != ":nemesis"]
    open_now: dict[str, str] = {}
    for one in told:
        if one["type"] == ":invoke":
            assert open_now.get(one["process"]) in (None, ":ok", ":fail")
            open_now[one["process"]] = ":invoke"
        else:
            assert open_now[one["process"]] == ":invoke"
            open_now[one["process"]] = one["type"]
    processes = [one["process"] for one in told if one["f"] == ":publish" and one["type"] == ":invoke"]
    assert len(set(processes)) == 3
    assert {one["client"] for one in told if one["f"] == ":publish"} == {"1"}


def test_a_pull_of_one_message_is_a_dequeue_of_edn() -> None:
    history = histories.history(
        histories.pull(1).at(1).until(2), histories.pull().at(3).until(4), histories.pull().at(5)
    )
    told = [one for one in operations(history) if one["f"] == ":dequeue"]
    assert [(one["time"], one["type"]) for one in told] == [
        *[("1000000", ":invoke"), ("2000000", ":ok"), ("3000000", ":invoke"), ("4000000", ":ok")],
        *[("5000000", ":invoke"), ("5000001", ":info")],
    ]
    assert told[1]["value"] == '{:message "1:1", :group "group", :empty false}'
    assert told[3]["value"] == '{:message nil, :group "group", :empty true}'
    assert told[5]["error"] == '"no-answer"'


def test_edn_is_a_file_beside_the_terms(tmp_path: Path) -> None:
    paths = exchange.export_directory(small(), tmp_path, "edn")
    assert [path.name for path in paths] == ["terms.json", "history.edn"]
    stream = io.StringIO()
    exchange.export_stream(small(), stream, "edn")
    assert (tmp_path / "history.edn").read_text() == stream.getvalue()


def test_an_unknown_table_and_an_impossible_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match='unknown table "delivery"; did you mean "deliveries"'):
        list(exchange.rows(some_history(1), "delivery"))
    (tmp_path / "file").write_text("")
    with pytest.raises(Trouble, match="cannot be written"):
        exchange.export_directory(some_history(1), tmp_path / "file")
