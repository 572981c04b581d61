"""Does a run answer questions in SQL, and nothing but a question, about nothing but itself?"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from sessions import histories
from test_store import some_history

from harness.cli import sql
from harness.cli.main import main
from harness.errors import Refused
from harness.history import query
from harness.history.columns import TABLES
from harness.history.query import VIEWS, ask
from harness.history.store import write_history

RUNS = histories()
LOSSY = RUNS["r1-power_loss"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_history(tmp_path / "run", LOSSY)
    return tmp_path / "run"


def test_every_table_is_a_view_with_the_columns_of_the_export() -> None:
    assert sorted(row[0] for row in ask(LOSSY, "show tables").rows) == sorted(VIEWS)
    for name, columns in TABLES.items():
        told = [row[0] for row in ask(LOSSY, f"describe {name}").rows]
        assert [column for column in told if not column.endswith("_id") or column == "native_id"] == list(columns)


def test_counts_are_those_of_the_history() -> None:
    assert ask(LOSSY, "select count(*) from publications").rows == ((LOSSY.publications.rows,),)
    (row,) = ask(LOSSY, "select fault, bit_ns, recovered_ns from injections").rows
    assert row == ("power_loss", 1_005_000_000, 2_500_000_000)
    assert ask(LOSSY, "select guarantee from claims").rows == (("at_least_once",),)
    assert ask(LOSSY, "select value from terms where name = 'floor_hz'").rows == (("50.0",),)


def test_a_history_without_rows_and_one_of_any_numbers_have_all_views() -> None:
    for history in (some_history(0), some_history(50), RUNS["interrupted"]):
        for name in VIEWS:
            assert ask(history, f"select * from {name}").columns


EXAMPLES = re.findall(r'assay sql RUN "(.*)"', sql.__doc__ or "")


@pytest.mark.parametrize("number", range(3))
def test_the_queries_of_the_help_answer(number: int) -> None:
    assert len(EXAMPLES) == 3
    assert ask(LOSSY, EXAMPLES[number]).rows


def test_what_was_acked_and_never_delivered_is_what_the_judge_calls_lost() -> None:
    assert [row[0] for row in ask(LOSSY, EXAMPLES[1]).rows] == [f"1:{number}" for number in range(100, 140)]


@pytest.mark.parametrize(
    "question",
    [
        "select * from read_text('/etc/passwd')",
        "select * from '/etc/passwd.csv'",
        "select * from read_csv('/etc/passwd')",
        "select * from glob('/etc/*')",
        "select * from read_parquet('https://example.org/x.parquet')",
        "select getenv('HOME')",
        "select * from history",
        "from LOSSY",
    ],
)
def test_a_query_reads_nothing_else(question: str) -> None:
    with pytest.raises(Refused, match="cannot be answered"):
        ask(LOSSY, question)


@pytest.mark.parametrize(
    "question",
    [
        "copy publications to '/tmp/assay-leak.csv'",
        "attach '/tmp/assay-leak.db'",
        "set enable_external_access = true",
        "install httpfs",
        "load httpfs",
        "create table x as select 1",
        "drop view publications",
        "insert into publications select * from publications",
        "pragma version",
        "call pragma_version()",
        "export database '/tmp/assay-leak'",
        "select 1; select 2",
        "",
        "-- nothing",
    ],
)
def test_a_query_is_one_question(question: str) -> None:
    with pytest.raises(Refused, match="a query is one SELECT") as refused:
        ask(LOSSY, question)
    assert "the views are publications, deliveries" in str(refused.value.cure)
    assert not list(Path("/tmp").glob("assay-leak*"))


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("selec 1", "syntax error"),
        ("select mesage from deliveries", "mesage"),
        ("select * from delivery", "delivery"),
        ("select group from deliveries", "syntax error"),
        ("select 1 / 'x'", "cannot be answered"),
    ],
)
def test_what_is_wrong_in_a_query_is_said_with_a_cure(
    run: Path, question: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sql", str(run), question]) == 64
    captured = capsys.readouterr()
    assert said in captured.err
    assert "cure: the views are" in captured.err
    assert "Traceback" not in captured.err
    assert captured.out.startswith("exit 64: ")


def test_a_table_is_aligned_and_its_cells_are_printable(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = (
        "select outcome, count(*) as publishes, chr(27) || '[2J' as bell, null as nothing from publications group by 1"
    )
    assert main(["sql", str(run), question]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "outcome  publishes  bell  nothing",
        "-------  ---------  ----  -------",
        "OK             400   [2J",
        f"exit 0: 1 row; {run}",
    ]


def test_json_is_one_document_of_plain_values(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = (
        "select count(*), count(*), 1.5::decimal(5, 2) as d, 'nan'::float as n, [1, 2] as l, "
        "{'a': date '2026-11-24'} as s from deliveries"
    )
    assert main(["sql", str(run), question, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    deliveries = LOSSY.deliveries.rows
    assert document["columns"] == ["count_star()", "count_star()_2", "d", "n", "l", "s"]
    assert document["rows"] == [
        {"count_star()": deliveries, "count_star()_2": deliveries, "d": "1.50", "n": "nan", "l": [1, 2],
         "s": {"a": "2026-11-24"}}
    ]  # fmt: skip
    assert captured.err == f"exit 0: 1 row; {run}\n"


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "ROWS_MAX", 10)
    answer = ask(LOSSY, "select * from range(1000000)")
    assert len(answer.rows) == 10
    assert answer.cut


@pytest.mark.parametrize(("module", "extra"), [("duckdb", "sql"), ("pyarrow", "parquet")])
def test_without_its_extra_the_cure_is_said(
    run: Path, module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["sql", str(run), "select 1"]) == 64
    assert f"cure: pip install 'broker-assay[{extra}]'" in capsys.readouterr().err
