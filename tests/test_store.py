"""Does a history come back from its directory as it went in, and is everything else refused with a cure?"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import Refused, Trouble
from harness.history import store, tables
from harness.history.coding import decode, encode
from harness.history.columns import NEVER, TABLES
from harness.history.history import History, LargeTable, Table
from harness.history.terms import Claimed, Terms
from harness.operation import AckKind, AcknowledgedBy, MessageId
from tests.docs.pages import blocks

PAGE = Path(__file__).parent.parent / "docs" / "run-format.md"


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
    made = {}
    for name, columns in TABLES.items():
        table = {}
        for column, meaning in columns.items():
            limits = np.iinfo(meaning.type)
            top = 3 if meaning.unit == "word" else min(limits.max, 2**40)
            table[column] = chance.integers(max(limits.min, NEVER), top, rows).astype(meaning.type)
        made[name] = Table(name, table)
    made["publications"] = Table(
        "publications", {**made["publications"], "message": np.full(rows, np.iinfo("u8").max, "u8")}
    )
    return History(made, terms(), ("", "route", "quorum"))


def equal(one: History, other: History) -> bool:
    return (
        one.terms == other.terms
        and one.words == other.words
        and all(np.array_equal(one.tables[t][c], other.tables[t][c]) for t in TABLES for c in TABLES[t])
    )


@pytest.mark.parametrize(("rows", "chunk_rows"), [(0, 7), (1, 7), (7, 7), (1000, 7), (1000, 1 << 18)])
@pytest.mark.parametrize("plain_rows_max", [0, 1 << 20])
def test_a_history_comes_back_as_it_was(
    tmp_path: Path, rows: int, chunk_rows: int, plain_rows_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.history.history.CHUNK_ROWS", chunk_rows)
    monkeypatch.setattr(store, "CHUNK_ROWS", chunk_rows)
    monkeypatch.setattr(tables, "PLAIN_ROWS_MAX", plain_rows_max)
    history = some_history(rows)
    store.write_history(tmp_path, history)
    assert equal(store.read_history(tmp_path), history)


def test_the_same_history_makes_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store.write_history(tmp_path / name, some_history())
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == len(TABLES) + 3
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_numpy_alone_reads_a_table(tmp_path: Path) -> None:
    history = some_history()
    store.write_history(tmp_path, history)
    script = next(body for language, body in blocks(PAGE.read_text(encoding="utf-8")) if language == "python")
    names: dict[str, Any] = {}
    with contextlib.chdir(tmp_path):
        exec(script, names)
    assert np.array_equal(names["received_ns"], history.deliveries.received_ns)
    assert names["groups"] == [history.word(number) for number in history.deliveries.group]


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


@pytest.mark.parametrize("type_", ["u1", "u2", "u4", "u8", "i4", "i8"])
def test_any_numbers_are_coded(type_: str) -> None:
    limits = np.iinfo(type_)
    chance = np.random.default_rng(1)
    for values in (
        np.array([limits.max, limits.min, limits.max, limits.max], type_),
        chance.integers(limits.min, limits.max, 1000, dtype=type_, endpoint=True),
        np.arange(100),
        np.full(100, limits.min),
        np.array([3]),
        np.repeat([0, 1, 0], [500, 1, 500]),
    ):
        coded = encode(values.astype(type_))
        back = decode(*coded, len(values), type_)
        assert back.dtype == np.dtype(type_)
        assert np.array_equal(back, values.astype(type_))


def test_constants_and_dense_numbers_cost_nothing() -> None:
    assert encode(np.full(10_000, -1))[2] is None
    assert encode(np.arange(7, 10_007))[2] is None
    assert decode(*encode(np.full(10_000, -1)), 10_000, "i8").strides == (0,)


def write_format_1(directory: Path, history: History) -> None:
    """A run as the first format had it: one member a column, 8-byte ones as differences."""
    store.write_history(directory, history)
    for name, table in history.tables.items():
        members = {}
        for column, meaning in TABLES[name].items():
            wide = meaning.type.endswith("8")
            raw = table[column].view("u8") if wide else table[column]
            members[f"{column}.delta" if wide else column] = (
                np.diff(raw, prepend=np.uint64(0)).view(meaning.type) if wide else raw
            )
        np.savez_compressed(directory / "tables" / f"{name}.npz", **members)
    head = json.loads((directory / "format.json").read_text())
    del head["chunk_rows"], head["sha256"], head["sum"]
    (directory / "format.json").write_text(json.dumps({**head, "format": 1}))


def test_a_run_of_format_1_is_still_read(tmp_path: Path) -> None:
    history = some_history()
    write_format_1(tmp_path, history)
    assert equal(store.read_history(tmp_path), history)
    (tmp_path / "words.json").write_text('["", "a"]')
    with pytest.raises(Refused, match=r"names word 2, and words\.json has 2"):
        store.read_history(tmp_path)


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def unseal(directory: Path) -> None:
    """Take the sums away, as runs from before there were any have none: what is damaged must be found without them."""
    head = json.loads((directory / "format.json").read_text())
    del head["sha256"], head["sum"]
    (directory / "format.json").write_text(json.dumps(head))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(bytes(data))


def pickled(path: Path) -> None:
    np.savez(path, **dict.fromkeys([*TABLES["census"], "message.delta", "broker_sequence.delta"], np.array([{}])))


def other_types(path: Path) -> None:
    np.savez(path, frames=np.zeros(3))


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


def of_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.fixture
def chunked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 100 rows a table in chunks of 32, read a chunk at a time."""
    monkeypatch.setattr("harness.history.history.CHUNK_ROWS", 32)
    monkeypatch.setattr(store, "CHUNK_ROWS", 32)
    monkeypatch.setattr(tables, "PLAIN_ROWS_MAX", 50)
    store.write_history(tmp_path, some_history())
    unseal(tmp_path)
    return tmp_path


def test_a_chunk_that_does_not_shrink_is_stored_as_it_is_and_read_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "PLAIN_ROWS_MAX", 50)
    past = some_history()
    chance = np.random.default_rng(3)
    received_ns = np.cumsum(chance.integers(0, 1 << 16, past.deliveries.rows))
    noisy = Table("deliveries", {**past.deliveries, "received_ns": received_ns})
    past = History({**past.tables, "deliveries": noisy}, past.terms, past.words)
    store.write_history(tmp_path, past)
    path = tmp_path / "tables" / "deliveries.npz"
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("received_ns.0.npy").compress_type == zipfile.ZIP_STORED
        kinds = {info.compress_type for info in archive.infolist()}
        assert kinds == {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    deliveries = store.read_history(tmp_path).deliveries
    for _ in range(3):
        assert np.array_equal(deliveries.chunk(0, "received_ns").received_ns, received_ns)


def test_a_damaged_chunk_is_named_and_its_neighbours_are_read(chunked: Path) -> None:
    path = chunked / "tables" / "deliveries.npz"
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("received_ns.1.npy").header_offset
        middle = begin + archive.getinfo("received_ns.1.npy").compress_size
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :])
    deliveries = store.read_history(chunked).deliveries
    assert np.array_equal(deliveries.chunk(0, "received_ns").received_ns, some_history().deliveries.received_ns[:32])
    assert deliveries.chunk(1, "message").rows == 32
    with pytest.raises(Refused, match=r"deliveries\.npz .*deliveries\.received_ns, rows 32 to 63: ") as refused:
        deliveries.chunk(1, "received_ns")
    assert refused.value.cure


def declare_rows(directory: Path, rows: int, table: str = "deliveries") -> None:
    head = json.loads((directory / "format.json").read_text())
    rewrite(directory / "format.json", rows={**head["rows"], table: rows})


def more_frames(directory: Path) -> None:
    """As many frames as 10^9 rows need, all alike: they pack to almost nothing."""
    type_ = np.dtype([(column, "<u8", (2,)) for column in TABLES["publications"]])
    member = io.BytesIO()
    np.lib.format.write_array(member, np.zeros(-(-(10**9) // (1 << 18)), type_))
    packed(directory / "tables" / "publications.npz", {"frames.npy": member.getvalue()})
    rewrite(directory / "format.json", chunk_rows=1 << 18)
    declare_rows(directory, 10**9, "publications")


def bomb(directory: Path) -> None:
    path = directory / "tables" / "deliveries.npz"
    packed(path, {**of_members(path), "received_ns.1.npy": bytes(100_000_000)})


def huge_array(directory: Path) -> None:
    """A head of .npy that declares 10^9 values, and has none."""
    path = directory / "tables" / "deliveries.npz"
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (8, 10**9)})
    packed(path, {**of_members(path), "received_ns.1.npy": member.getvalue()})


def named_with_a_path(directory: Path) -> None:
    path = directory / "tables" / "deliveries.npz"
    packed(path, {**of_members(path), "../../evil.npy": b"x"})


def format_1_of_many_rows(directory: Path) -> None:
    write_format_1(directory, some_history())
    declare_rows(directory, 10**9)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda directory: declare_rows(directory, 10**9), "too small for 1,000,000,000 rows in chunks of 32"),
        (lambda directory: declare_rows(directory, 10**30), "too small for"),
        (lambda directory: declare_rows(directory, 101), "client.3.npy is uint8"),
        (lambda directory: declare_rows(directory, -1), "format.json says -1"),
        (lambda directory: rewrite(directory / "format.json", chunk_rows=0), "a chunk cannot have 0 rows"),
        (lambda directory: rewrite(directory / "format.json", chunk_rows=10**12), "a chunk cannot have"),
        (more_frames, "too small for 1,000,000,000 rows"),
        (bomb, "received_ns.1.npy declares 100,000,000 bytes"),
        (huge_array, "is uint8[8, 1000000000]"),
        (named_with_a_path, "member '../../evil.npy', which no table"),
        (format_1_of_many_rows, "its 1,000,000,000 rows are too many"),
    ],
)
def test_what_a_hostile_file_declares_is_refused_before_memory_is_taken(
    chunked: Path, damage: Any, message: str
) -> None:
    damage(chunked)
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match=re.escape(message)) as refused:
            for _ in store.read_history(chunked).deliveries.chunks():
                pass
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert re.search(r"deliveries|publications|format\.json", refused.value.message)
    assert most < 2_000_000


def test_a_large_table_is_laid_out_where_nobody_finds_it(chunked: Path) -> None:
    history = store.read_history(chunked)
    assert isinstance(history.deliveries, LargeTable)
    assert np.array_equal(history.deliveries.received_ns, some_history().deliveries.received_ns)
    assert not history.deliveries.received_ns.flags.writeable
    assert history.deliveries.where(np.arange(2)).rows == 2


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
    unseal(tmp_path)
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
    assert store.describe_columns().strip() in PAGE.read_text(encoding="utf-8")
    assert MessageId(3, 7).packed == 3 << 40 | 7
