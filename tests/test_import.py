"""Does an export come back as the history that it was, and is every damage to it refused with file, row and cure?"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from histories import claim, deliver, fair_history, left, publish, terms
from histories import history as history_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import run_cell
from sessions import histories

from harness.brokers.memory.configuration import Memory
from harness.brokers.memory.queue import Bugs
from harness.checkers.judge import judge
from harness.cli.main import main
from harness.errors import Refused
from harness.faults.node import Kill
from harness.guarantee import Status
from harness.history import reimport
from harness.history.columns import TABLES
from harness.history.exchange import export_directory, export_stream
from harness.history.history import History
from harness.history.reimport import read_export
from harness.history.terms import Counter, InjectionTerms, Terms
from harness.operation import AckKind, AcknowledgedBy
from harness.processing.ack_after import AckAfterEffect
from harness.run import Run
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.sinks.sqlite import SQLite

RUNS = histories()
SMALL = history_of(*(event for number in range(1, 9) for event in (publish(number).acked(number), deliver(number))))
each_form = pytest.mark.parametrize("form", ["jsonl", "parquet"])


def exported(history: History, directory: Path, form: str = "jsonl") -> Path:
    export_directory(history, directory, form)
    return directory


def streamed(history: History, path: Path) -> Path:
    with open(path, "w", encoding="utf-8") as file:
        export_stream(history, file)
    return path


def refused(path: Path) -> Refused:
    with pytest.raises(Refused) as caught:
        read_export(path)
    assert caught.value.cure
    return caught.value


# ---- there and back --------------------------------------------------------------------------------------------------


@each_form
@pytest.mark.parametrize("name", RUNS)
def test_an_export_is_judged_as_the_run_was(tmp_path: Path, name: str, form: str) -> None:
    """Verdicts, counts, witnesses, trials, bounds: all of it."""
    back = read_export(exported(RUNS[name], tmp_path / "export", form))
    assert judge(back) == judge(RUNS[name])
    assert back.terms == RUNS[name].terms


def test_a_stream_of_json_lines_is_judged_as_the_run_was(tmp_path: Path) -> None:
    path = streamed(RUNS["r1-power_loss"], tmp_path / "run.jsonl")
    assert reimport.is_export(path)
    assert judge(read_export(path)) == judge(RUNS["r1-power_loss"])


@each_form
def test_the_command_makes_a_run_directory_that_is_judged_alike(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported(RUNS["quorum-kill_leader"], tmp_path / "export", form)
    assert main(["import", str(folder), "--out", str(tmp_path / "run")]) == 0
    assert Run(tmp_path / "run").judgement == judge(RUNS["quorum-kill_leader"])
    assert main(["recheck", str(tmp_path / "run")]) == 0
    assert "at_least_once HELD" in capsys.readouterr().out


def test_words_that_utf_8_has_no_form_for_travel_too(tmp_path: Path) -> None:
    """Half a surrogate, out of a broker's log."""
    history = history_of(publish(1).refused("log \ud800 line\n\x1b[31m"), publish(2).acked())
    for form in ("jsonl", "parquet"):
        back = read_export(exported(history, tmp_path / form, form))
        assert "\x1b[31m" in back.word(back.publications.error[0])
        assert judge(back).counts == judge(history).counts


def test_a_table_as_large_as_several_chunks_comes_back(tmp_path: Path) -> None:
    events = [publish(number).acked() for number in range(1, 12_001)]
    history = history_of(*events, *(deliver(number).acknowledged() for number in range(1, 12_001)))
    for form in ("jsonl", "parquet"):
        back = read_export(exported(history, tmp_path / form, form))
        assert all(
            (back.tables[table][column] == history.tables[table][column]).all()
            for table, columns in TABLES.items()
            for column, meaning in columns.items()
            if meaning.unit != "word"
        )


# ---- damage ----------------------------------------------------------------------------------------------------------


def row_changed(number: int, **changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        lines = path.read_text().splitlines()
        lines[number - 1] = json.dumps({**json.loads(lines[number - 1]), **changes})
        path.write_text("\n".join(lines) + "\n")

    return change


def line_instead(number: int, text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        lines = path.read_text().splitlines()
        lines[number - 1] = text
        path.write_text("\n".join(lines) + "\n")

    return change


def without_last_row(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DAMAGE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "an_unknown_outcome": ("publications", row_changed(3, outcome="ACK"), "row 3: publications.outcome: 'ACK' is no"),
    "an_unknown_field": ("deliveries", row_changed(2, redeliverd=True), "did you mean \"redelivered\""),
    "a_field_less": ("deliveries", line_instead(2, '{"client":1}'), "row 2: field 'ack_invoked_ns'"),
    "a_word_for_a_number": ("publications", row_changed(1, client="p"), "row 1: publications.client: 'p' is no whole"),
    "a_number_for_a_word": ("publications", row_changed(1, route=5), "row 1: publications.route: 5 is no word"),
    "a_number_for_a_flag": ("deliveries", row_changed(1, redelivered=1), "neither true nor false"),
    "a_number_out_of_range": ("publications", row_changed(4, client=1 << 40), "row 4: publications.client: 109"),
    "a_time_beyond_64_bits": ("publications", row_changed(4, invoked_ns=1 << 70), "row 4: publications.invoked_ns"),
    "no_time_where_one_is_needed": ("census", row_changed(1, broker_sequence=None), "row 1: census.broker_sequence"),
    "an_id_that_lost_bits": ("publications", row_changed(2, message=1 << 40), "is 1:0, and message_id says"),
    "half_a_row": ("deliveries", cut, "cut off in the middle"),
    "a_row_less": ("deliveries", without_last_row, "was cut or added to"),
    "another_row_edited": ("publications", row_changed(5, error="x"), "its SHA-256 differs"),
    "no_json": ("publications", line_instead(2, "{'client': 1}"), "row 2: it is no JSON object"),
    "a_list": ("publications", line_instead(2, "[1]"), "row 2: it is no JSON object: it is a list"),
    "deep_json": ("publications", line_instead(2, "[" * 100_000), "row 2: it is no JSON object"),
    "a_deep_value": ("publications", row_changed(2, route={"a": {}}), "row 2: publications.route"),
    "not_a_number": ("publications", line_instead(2, '{"client": NaN}'), "NaN is no number of JSON"),
    "a_name_twice": ("publications", line_instead(2, '{"client": 1, "client": 2}'), "names 'client' twice"),
    "an_endless_line": ("publications", line_instead(2, " " * (2 << 20)), "row 2: the line has more than"),
    "no_utf_8": ("publications", lambda path: path.write_bytes(b"\xff\xfe{}\n"), "row 1: it is no JSON object"),
    "no_file": ("health", Path.unlink, "lacks health.jsonl"),
    "a_folder_for_a_file": ("health", lambda path: (path.unlink(), path.mkdir())[1], "is no regular file"),
    "terms_that_are_cut": ("terms", cut, "terms.json is no JSON object"),
    "deep_terms": ("terms", lambda path: path.write_text('{"a":' * 90_000), "nested too deeply"),
    "deep_settings": ("terms", row_changed(1, settings=json.loads('{"a":' * 60 + "1" + "}" * 60)), "nested too deeply"),
    "terms_of_another_kind": ("terms", row_changed(1, seeds=1), 'unknown field "seeds"'),
    "terms_beyond_measure": ("terms", row_changed(1, silence_s="inf"), "silence_s is no sensible number"),
    "terms_that_were_edited": ("terms", row_changed(1, whole=False), "terms.json is not as it was exported"),
    "a_manifest_of_tomorrow": ("export", row_changed(1, format=99), "has format 99"),
    "a_manifest_of_another_kind": ("export", row_changed(1, assay=5), "export.json: manifest.assay: expected a word"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_refused_with_file_row_and_cure(tmp_path: Path, case: str) -> None:
    name, damage, said = DAMAGE[case]
    history = fair_history(left(1, sequence=1))
    folder = exported(history, tmp_path / "export")
    path = next(folder.glob(f"{name}.json*"))
    if path.suffix == ".json" and case not in ("terms_that_are_cut", "deep_terms"):
        path.write_text(json.dumps(json.loads(path.read_text())) + "\n")
    damage(path)
    error = refused(folder)
    assert said in error.message
    assert path.name in error.message or path.stem in error.message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-1], "ends with its end"),
        (lambda lines: lines[1:], "begins with its terms"),
        (lambda lines: lines[:5] + lines[6:], "were exported"),
        (lambda lines: [*lines, lines[3]], "behind the end"),
        (lambda lines: [*lines[:2], '{"table":"publicatons"}', *lines[2:]], 'did you mean "publications"'),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "its SHA-256 differs"),
        (lambda lines: [*lines[:2], '{"table":{"a":1}}', *lines[2:]], "row 3: it names no table"),
        (lambda lines: [*lines[:-1], lines[-1].replace('"assay"', '"essay"')], 'unknown field "essay"'),
    ],
)
def test_a_damaged_stream_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    path = streamed(RUNS["quorum-nothing"], tmp_path / "run.jsonl")
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    assert said in refused(path).message


def declares(rows: int) -> bytes:
    """A Parquet file whose footer declares so many rows, and which is small: one value, endlessly repeated."""
    stream = io.BytesIO()
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int8()), pa.array(["x"]))
    with pq.ParquetWriter(stream, pa.schema({"message": column.type}), compression="zstd") as writer:
        writer.write_table(pa.table({"message": column}))
    data = stream.getvalue()
    old, new = varint(1000), varint(rows)
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer = data[begin:-8]
    # Field 3 of the footer, num_rows, as Thrift's compact protocol writes it: after the schema, type 6, zigzag.
    at = footer.index(b"\x16" + old)
    footer = footer[: at + 1] + new + footer[at + 1 + len(old) :]
    return data[:begin] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def varint(number: int) -> bytes:
    zigzag, told = number * 2, bytearray()
    while zigzag > 0x7F:
        told.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*told, zigzag])


def parquet_cases(history: History) -> dict[str, tuple[bytes, str]]:
    folder_bytes = io.BytesIO()
    pq.write_table(pa.table({"message": [[1], [2]]}), folder_bytes)
    return {
        "a_thousand_million_rows_declared": (declares(10**9), "declares 1,000,000,000 rows: more than"),
        "more_rows_declared_than_there_are": (declares(5000), "row"),
        "lists_in_a_column": (folder_bytes.getvalue(), "holds lists or structs"),
        "no_parquet": (b"PAR1 this is none PAR1", "is no Parquet file"),
        "an_empty_file": (b"", "is no Parquet file"),
    }


@pytest.mark.parametrize("case", parquet_cases(RUNS["quorum-nothing"]))
def test_a_parquet_file_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    data, said = parquet_cases(RUNS["quorum-nothing"])[case]
    folder = exported(RUNS["quorum-nothing"], tmp_path / "export", "parquet")
    (folder / "publications.parquet").write_bytes(data)
    error = refused(folder)
    assert said in error.message
    assert "publications.parquet" in error.message


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_parquet_file_that_is_cut_is_refused(tmp_path: Path, keep: float) -> None:
    folder = exported(RUNS["quorum-nothing"], tmp_path / "export", "parquet")
    path = folder / "deliveries.parquet"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert "deliveries.parquet is no Parquet file" in refused(folder).message


def test_without_pyarrow_the_cure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = exported(RUNS["quorum-nothing"], tmp_path / "export", "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for act in (
        lambda: read_export(folder),
        lambda: export_directory(RUNS["quorum-nothing"], tmp_path / "p", "parquet"),
    ):
        with pytest.raises(Refused, match="pyarrow, which is not installed") as error:
            act()
        assert error.value.cure == "pip install 'broker-assay[parquet]'"
    assert judge(read_export(exported(RUNS["quorum-nothing"], tmp_path / "jsonl")))


# ---- what nobody vouches for -----------------------------------------------------------------------------------------


def held(history: History) -> list[str]:
    return [name for name, verdict in judge(history).verdicts.items() if verdict.status is Status.HELD]


def test_an_export_without_its_manifest_is_never_held(tmp_path: Path) -> None:
    """The same tables and terms, and nobody who vouches that they are all."""
    assert held(RUNS["quorum-kill_leader"])
    folder = exported(RUNS["quorum-kill_leader"], tmp_path / "export")
    (folder / "export.json").unlink()
    back = read_export(folder)
    assert held(back) == []
    assert "recorded by whoever wrote 'export'" in judge(back).verdicts["at_least_once"].reasons[0]


def test_only_publications_deliveries_and_hostile_terms_are_violated_or_unknown(tmp_path: Path) -> None:
    folder = exported(RUNS["r1-power_loss"], tmp_path / "export")
    for name in ("export.json", *(f"{table}.jsonl" for table in TABLES if table not in ("publications", "deliveries"))):
        (folder / name).unlink()
    row_changed(1, injections=[], faults=["nothing"], truncated_journals=[])(folder / "terms.json")
    verdicts = judge(read_export(folder)).verdicts
    assert {verdict.status for verdict in verdicts.values()} == {Status.VIOLATED, Status.UNKNOWN}
    assert verdicts["at_least_once"].status is Status.VIOLATED


def a_row_twice(path: Path) -> None:
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")


UNVOUCHED = {
    "a_completion_before_its_invocation": ("publications", row_changed(2, completed_ns=0), "row 2: completed_ns 0"),
    "a_row_twice": ("deliveries", a_row_twice, "it is row 1 again: the same client, number"),
    "words_for_a_terminal": ("publications", row_changed(2, error="\x1b[2J"), "characters that nobody can print"),
    "no_deliveries": ("deliveries", Path.unlink, "lacks deliveries.jsonl"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNVOUCHED)
def test_rows_that_nobody_vouches_for_are_looked_at_twice(tmp_path: Path, case: str) -> None:
    name, damage, said = UNVOUCHED[case]
    folder = exported(RUNS["quorum-nothing"], tmp_path / "export")
    (folder / "export.json").unlink()
    damage(folder / f"{name}.jsonl")
    assert said in refused(folder).message


def test_a_delivery_of_what_no_producer_published_is_a_phantom(tmp_path: Path) -> None:
    """Also where its number is far beyond its producer's last: no error, and no table of that size."""
    folder = exported(RUNS["quorum-nothing"], tmp_path / "export")
    (folder / "export.json").unlink()
    beyond = 1 << 40 | (1 << 40) - 1
    row_changed(2, message=beyond, message_id=f"1:{(1 << 40) - 1}")(folder / "deliveries.jsonl")
    judgement = judge(read_export(folder))
    assert judgement.counts["phantom"] == 1
    assert judgement.verdicts["genuine"].status is Status.VIOLATED


_INJECTION = st.builds(
    InjectionTerms,
    fault=st.sampled_from(["kill_leader", "nothing"]),
    number=st.integers(0, 3),
    trial=st.integers(0, 3),
    targets=st.just(("node-1",)),
    planned_ns=st.just(1_000_000_000),
    asked_ns=st.just(1_000_000_000),
    bit_ns=st.sampled_from([None, 1_005_000_000]),
    mended_ns=st.sampled_from([None, 2_000_000_000]),
    recovered_ns=st.sampled_from([None, 2_500_000_000]),
    at_risk=st.integers(0, 5),
    touches=st.sampled_from(["both", "producer", "consumer"]),
)
_COUNTER = st.builds(
    Counter, name=st.sampled_from(["published", "delivered"]), value=st.integers(0, 500), comparable=st.booleans()
)
_OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.just(True),
    "bool | None": st.just(True),
    "float": st.sampled_from([0.0, 1e-9, 1.0, 50.0, -1.0, 1e9]),
    "float | None": st.sampled_from([None, 1.0]),
    "tuple[InjectionTerms, ...]": st.lists(_INJECTION, max_size=2).map(tuple),
    "tuple[Counter, ...]": st.lists(_COUNTER, max_size=2).map(tuple),
}  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_terms_make_a_recording_held(data: st.DataObject) -> None:
    """Whatever its terms say: drained, whole, all floors met, faults that bit; with every sort of history."""
    changes = {
        one.name: data.draw(_OF_TYPE[str(one.type)], one.name) for one in fields(Terms) if str(one.type) in _OF_TYPE
    }
    history = data.draw(st.sampled_from(list(RUNS.values())))
    changes |= {"recorded_by": "somebody", "interrupted": "", "claims": (claim("at_least_once"), claim("never_again"))}
    hostile = terms(
        history.terms,
        **changes,
        ack=data.draw(st.sampled_from(list(AckKind))),
        acknowledged_by=data.draw(st.sampled_from(list(AcknowledgedBy))),
        mechanism=data.draw(st.sampled_from(["", "transaction"])),
    )
    assert held(History(history.tables, hostile, history.words)) == []


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["jsonl", "parquet"]),
    place=st.floats(0, 1, exclude_max=True),
    cut_bytes=st.integers(0, 30),
    put=st.binary(max_size=4) | st.sampled_from([b"9" * 30, b"-", b'"', b"null", b"{", b"\x00"]),
)
def test_bytes_changed_anywhere_are_refused_or_judged(
    tmp_path: Path, form: str, place: float, cut_bytes: int, put: bytes
) -> None:
    """By a clear error, never by a defect, and what is judged then is never HELD."""
    folder = exported(SMALL, tmp_path / form, form)
    (folder / "export.json").unlink()
    path = folder / f"publications.{form}"
    data = path.read_bytes()
    at = int(place * len(data))
    path.write_bytes(data[:at] + put + data[at + cut_bytes :])
    try:
        back = read_export(folder)
    except Refused:
        return
    assert held(back) == []


# ---- a run of real clients -------------------------------------------------------------------------------------------


def test_a_run_of_real_clients_comes_back_in_each_form(tmp_path: Path) -> None:
    """The memory broker, killed under load, with effects in a sink: verdicts, counts and witnesses are the same."""
    scenario = Scenario(
        configuration=Memory("there-and-back", bugs=Bugs(duplicate_every=50)),
        schedule=Repeat(Kill()),
        workload=Steady(rate_hz=200, quiet_s=0.4),
        processing=AckAfterEffect(),
        sink=SQLite(),
    )
    run = run_cell(scenario, tmp_path / "run")
    for form in ("jsonl", "parquet"):
        assert judge(read_export(exported(run.history, tmp_path / form, form))) == run.judgement
    assert run.judgement.counts["duplicate_delivery"]
