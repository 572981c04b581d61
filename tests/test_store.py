"""Does a history come back from its directory as it went in, and is everything else refused with a cure?"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import Refused, Trouble
from harness.history import store
from harness.history.columns import NEVER, TABLES
from harness.history.history import History, Table
from harness.history.terms import Claimed, Terms
from harness.operation import AckKind, AcknowledgedBy, MessageId


def terms(**changes: Any) -> Terms:
    base = Terms(
        cell="memory-nothing",
        seed=7,
        run=9,
        configuration="memory",
        family="memory",
        broker_version="1",
        faults=("nothing",),
        acknowledged_by=AcknowledgedBy.BROKER,
        ack=AckKind.SENT,
        claims=(Claimed(guarantee="at_least_once", page="docs", says="no loss"),),
        settings={"rate_hz": 500.0},
        clock_pairs=((1, 2),),
    )
    return replace(base, **changes)


def some_history(rows: int = 100) -> History:
    chance = np.random.default_rng(3)
    tables = {}
    for name, columns in TABLES.items():
        table = {}
        for column, meaning in columns.items():
            limits = np.iinfo(meaning.type)
            top = 3 if meaning.unit == "word" else min(limits.max, 2**40)
            table[column] = chance.integers(max(limits.min, NEVER), top, rows).astype(meaning.type)
        tables[name] = Table(name, table)
    tables["publications"] = Table(
        "publications", {**tables["publications"], "message": np.full(rows, np.iinfo("u8").max, "u8")}
    )
    return History(tables, terms(), ("", "route", "quorum"))


def equal(one: History, other: History) -> bool:
    return (
        one.terms == other.terms
        and one.words == other.words
        and all(np.array_equal(one.tables[t][c], other.tables[t][c]) for t in TABLES for c in TABLES[t])
    )


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_a_history_comes_back_as_it_was(tmp_path: Path, rows: int) -> None:
    history = some_history(rows)
    store.write_history(tmp_path, history)
    assert equal(store.read_history(tmp_path), history)


def test_the_same_history_makes_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store.write_history(tmp_path / name, some_history())
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == len(TABLES) + 3
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_ten_thousand_rows_load_in_50_ms(tmp_path: Path) -> None:
    store.write_history(tmp_path, some_history(10_000))
    fastest = 1e9
    for _ in range(5):
        begin = time.perf_counter()
        store.read_history(tmp_path)
        fastest = min(fastest, time.perf_counter() - begin)
    assert fastest < 0.05


def test_numpy_alone_reads_a_table(tmp_path: Path) -> None:
    history = some_history()
    store.write_history(tmp_path, history)
    with np.load(tmp_path / "tables" / "deliveries.npz", allow_pickle=False) as table:
        assert np.array_equal(np.cumsum(table["received_ns.delta"]), history.deliveries.received_ns)
        assert np.array_equal(table["group"], history.deliveries.group)


def test_a_run_that_was_not_frozen_is_told_from_a_foreign_directory(tmp_path: Path) -> None:
    assert not store.is_run(tmp_path)
    with pytest.raises(Refused, match="is not a run directory"):
        store.read_history(tmp_path)
    (tmp_path / "journals").mkdir()
    (tmp_path / "progress.json").write_text("{}")
    assert store.is_run(tmp_path)
    assert not store.is_frozen(tmp_path)
    with pytest.raises(Refused, match="was not frozen") as refused:
        store.read_history(tmp_path)
    assert "assay recheck" in str(refused.value.cure)
    store.write_history(tmp_path, some_history())
    assert store.is_frozen(tmp_path)
    with pytest.raises(Refused, match="no such run directory"):
        store.read_history(tmp_path / "nowhere")


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(bytes(data))


def pickled(path: Path) -> None:
    np.savez(path, **dict.fromkeys([*TABLES["census"], "message.delta", "broker_sequence.delta"], np.array([{}])))


def other_types(path: Path) -> None:
    np.savez(path, **{"message.delta": np.zeros(3), "broker_sequence.delta": np.zeros(3), "place": np.zeros(3)})


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (cut, "tables/deliveries.npz", "is damaged or foreign"),
        (flip, "tables/publications.npz", "is damaged or foreign"),
        (Path.unlink, "tables/health.npz", "is missing"),
        (pickled, "tables/census.npz", "is damaged or foreign"),
        (other_types, "tables/census.npz", "is float64"),
        (cut, "terms.json", "is damaged or foreign"),
        (lambda path: rewrite(path, redelivery_horizon_s=float("nan")), "terms.json", "NaN is no finite number"),
        (lambda path: rewrite(path, redelivery_horizon_s=float("-inf")), "terms.json", "-Infinity is no finite number"),
        (lambda path: rewrite(path, seeds=1), "terms.json", 'unknown field "seeds"; did you mean "seed"?'),
        (lambda path: rewrite(path, rows={}), "format.json", "says None"),
        (lambda path: path.write_text('["", "a"]'), "words.json", "names word"),
        (lambda path: path.write_text('["a"]'), "words.json", "begins with the empty one"),
        (lambda path: path.write_text("[]"), "format.json", "does not say which format"),
    ],
)
def test_damage_is_refused_with_the_file_and_the_cure(tmp_path: Path, damage: Any, file: str, message: str) -> None:
    store.write_history(tmp_path, some_history())
    damage(tmp_path / file)
    with pytest.raises(Refused, match=re.escape(message)) as refused:
        store.read_history(tmp_path)
    assert Path(file).name in refused.value.message
    assert refused.value.cure


def test_a_newer_run_is_refused_and_says_who_wrote_it(tmp_path: Path) -> None:
    store.write_history(tmp_path, some_history())
    rewrite(tmp_path / "format.json", format=99, assay="9.1")
    with pytest.raises(Refused, match=r"format 99, written by Assay 9\.1") as refused:
        store.read_history(tmp_path)
    assert "newer broker-assay" in str(refused.value.cure)


def test_a_run_that_is_older_than_a_table_has_no_row_of_it(tmp_path: Path) -> None:
    history = some_history()
    store.write_history(tmp_path, history)
    (tmp_path / "tables" / "dequeues.npz").unlink()
    with pytest.raises(Refused, match="is missing"):
        store.read_history(tmp_path)
    rows = json.loads((tmp_path / "format.json").read_text())["rows"]
    rewrite(tmp_path / "format.json", rows={name: count for name, count in rows.items() if name != "dequeues"})
    read = store.read_history(tmp_path)
    assert read.dequeues.rows == 0
    assert equal(read, History({**history.tables, "dequeues": Table.empty("dequeues")}, history.terms, history.words))


def test_a_full_disk_is_trouble_that_names_the_file_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_json(tmp_path / "plan.json", {"seed": 7})

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Trouble, match=r"no space left on device while writing .*plan\.json"):
        store.write_json(tmp_path / "plan.json", {"seed": 8})
    assert json.loads((tmp_path / "plan.json").read_text()) == {"seed": 7}
    assert os.listdir(tmp_path) == ["plan.json"]


def test_a_history_that_could_not_be_written_whole_is_not_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_history(tmp_path, some_history())

    def full(path: Path, data: object) -> None:
        raise Trouble("no space left on device")

    monkeypatch.setattr(store, "write_json", full)
    with pytest.raises(Trouble):
        store.write_history(tmp_path, some_history(5))
    assert not store.is_frozen(tmp_path)


def test_plans_of_equal_cells_are_equal_files(tmp_path: Path) -> None:
    store.write_json(tmp_path / "a.json", {"steps": [1], "seed": 7})
    store.write_json(tmp_path / "b.json", {"seed": 7, "steps": [1]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_the_format_page_describes_every_column_as_the_code_does() -> None:
    page = Path(__file__).parent.parent / "docs" / "run-format.md"
    assert store.describe_columns().strip() in page.read_text(encoding="utf-8")
    assert MessageId(3, 7).packed == 3 << 40 | 7
