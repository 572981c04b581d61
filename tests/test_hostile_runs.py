"""Is a run that cannot be, or that was changed, refused with file, table, row and cure? And no other?"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import Event, deliver, effect, fair_history, left, publish

from harness.checkers.judge import judge
from harness.cli.main import main
from harness.errors import Refused
from harness.history import journal as j
from harness.history import plausible, proceedings, store
from harness.history.history import History
from harness.history.join import Words, publications_of, read_journal
from harness.run import Run
from tests.mutations import one_value, with_rows

FAIR = fair_history(left(3, place="stored", sequence=3), effect(1), effect(2))


def written(history: History, folder: Path) -> Path:
    store.write_history(folder / "run", history)
    return folder / "run"


def refusal(run: Path) -> Refused:
    with pytest.raises(Refused) as refused:
        Run(run).history  # noqa: B018 - reading it is the point
    assert refused.value.cure
    return refused.value


# ---- what cannot have happened ---------------------------------------------------------------------------------------


def without(name: str, row: int) -> History:
    return with_rows(FAIR, name, np.arange(FAIR.tables[name].rows) != row)


def twice(name: str, row: int) -> History:
    return with_rows(FAIR, name, np.sort(np.append(np.arange(FAIR.tables[name].rows), row)))


def told(**changes: Any) -> History:
    return History(FAIR.tables, replace(FAIR.terms, **changes), FAIR.words)


RETRIED: list[Event] = [publish(1).acked(), publish(1).retry(2).acked(), publish(1).retry(3).acked()]

IMPOSSIBLE: dict[str, tuple[History, str]] = {
    "an_unknown_outcome": (
        one_value(FAIR, "publications", "outcome", 4, 3), "publications, row 5: outcome 3 is none of 0 to 2"),
    "a_flag_of_two": (one_value(FAIR, "deliveries", "corrupt", 0, 2), "deliveries, row 1: corrupt 2 is none of 0 to 1"),
    "completed_before_invoked": (
        one_value(FAIR, "publications", "completed_ns", 1, 7),
        "publications, row 2: completed_ns 7 comes before invoked_ns 12000000"),
    "settled_before_acknowledged": (
        one_value(FAIR, "deliveries", "settled_ns", 1, 7), "settled_ns 7 comes before ack_invoked_ns"),
    "a_negative_time": (
        one_value(FAIR, "deliveries", "received_ns", 2, -3), "deliveries, row 3: received_ns -3 is no time of a run"),
    "a_time_beyond_all": (one_value(FAIR, "phases", "end_ns", 2, 1 << 62), "phases, row 3: end_ns"),
    "an_answer_without_its_time": (
        one_value(FAIR, "publications", "completed_ns", 0, -1), "row 1: outcome 1 has no completed_ns"),
    "a_client_that_is_none": (
        one_value(FAIR, "deliveries", "client", 9, 77), "deliveries, row 10: client 77 is in no row of clients"),
    "another_ones_message": (
        one_value(FAIR, "publications", "message", 9, 5 << 40), "is not of the client that published it"),
    "a_publication_cut_out": (without("publications", 6), "publications, row 7: message 1:8 does not follow"),
    "a_publication_twice": (twice("publications", 6), "publications, row 8: message 1:7 does not follow"),
    "a_delivery_cut_out": (without("deliveries", 6), "deliveries, row 7: number 8 does not follow"),
    "the_first_delivery_cut_off": (without("deliveries", 0), "deliveries, row 1: number 2 does not follow"),
    "a_delivery_twice": (twice("deliveries", 6), "deliveries, row 8: number 7 does not follow"),
    "an_effect_twice": (twice("effects", 0), "effects, row 2: message 1099511627777 stands in row 1 already"),
    "a_client_twice": (twice("clients", 1), "clients, row 3: client 101 stands in row 2 already"),
    "a_retry_cut_out": (fair_history(events=[RETRIED[0], RETRIED[2]]), "attempt 3 of message 1:1 follows no attempt"),
    "a_retry_twice": (fair_history(events=[*RETRIED[:2], RETRIED[1]]), "attempt 2 of message 1:1 follows no attempt"),
    "a_retry_of_nothing": (fair_history(events=RETRIED[1:]), "attempt 2 of message 1:1 follows no attempt"),
    "silence_that_is_no_number": (told(silence_s=float("nan")), "terms.silence_s is no sensible number"),
    "an_endless_horizon": (told(redelivery_horizon_s=float("inf")), "terms.redelivery_horizon_s is no sensible number"),
    "a_bite_before_the_run": (
        told(injections=(replace(FAIR.terms.injections[0], bit_ns=-7),)), "terms.injections.0.bit_ns -7 is out of"),
}  # fmt: skip


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_have_happened_is_refused_with_its_row(tmp_path: Path, case: str) -> None:
    history, said = IMPOSSIBLE[case]
    run = written(history, tmp_path)
    error = refusal(run)
    assert said in error.message
    assert str(run) in error.message


POSSIBLE: dict[str, History] = {
    "a_fair_run": FAIR,
    "nothing": fair_history(events=[]),
    "retries": fair_history(events=RETRIED),
    "a_retry_behind_others": fair_history(events=[publish(1), publish(2).acked(), publish(1).retry(2).acked()]),
    "two_producers_mixed": fair_history(
        events=[publish((1, 1)).acked(), publish((2, 8)).acked(), publish((1, 2)).acked(), publish((2, 9)).acked()]),
    "two_consumers_mixed": fair_history(
        events=[publish(1).acked(), deliver(1), deliver(1).to(102), deliver(1), deliver(1).to(102)]),
    "a_phantom": fair_history(deliver(9999)),
    "a_delivery_before_its_publication": fair_history(deliver(1).at(0)),
    "damaged_and_foreign": fair_history(deliver(1).damaged(), deliver(1).of_another_run()),
    "never_answered_never_settled": fair_history(publish(401), deliver(401)),
    "somebodys_own_with_gaps": History(without("publications", 6).tables,
                                       replace(FAIR.terms, recorded_by="somebody"), FAIR.words),
}  # fmt: skip


@pytest.mark.parametrize("case", POSSIBLE)
def test_what_can_happen_is_judged(case: str) -> None:
    assert judge(plausible.check(POSSIBLE[case], "here", cure="none")).verdicts


# ---- what was changed since ------------------------------------------------------------------------------------------


def word_changed(run: Path) -> None:
    path = run / "words.json"
    path.write_text(path.read_text().replace("quiet", "quoet"))


def terms_changed(run: Path) -> None:
    path = run / "terms.json"
    path.write_text(path.read_text().replace('"floor_hz": 50.0', '"floor_hz": 10.0'))


def table_of_another_run(run: Path) -> None:
    other = written(one_value(FAIR, "deliveries", "redelivered", 5, 1), run.parent / "other")
    (other / "tables/deliveries.npz").replace(run / "tables/deliveries.npz")


@pytest.mark.parametrize(
    ("change", "file"),
    [(word_changed, "words.json"), (terms_changed, "terms.json"), (table_of_another_run, "deliveries.npz")],
)
def test_a_file_that_makes_sense_and_is_another_is_refused(
    tmp_path: Path, change: Callable[[Path], None], file: str
) -> None:
    run = written(FAIR, tmp_path)
    assert Run(run).judgement.verdicts
    change(run)
    error = refusal(run)
    assert re.search(rf"{file} is damaged or foreign: its SHA-256 is not the one", error.message)


def test_a_row_less_of_a_table_whose_columns_are_even_is_refused(tmp_path: Path) -> None:
    """Nothing but format.json says how many there are, and all their files are as they were."""
    past = fair_history(*(effect(number) for number in range(1, 401)))
    run = written(past, tmp_path)
    head = json.loads((run / "format.json").read_text())
    assert head["rows"]["effects"] == 400
    head["rows"]["effects"] = 399
    (run / "format.json").write_text(json.dumps(head))
    assert "format.json is damaged or foreign: its own SHA-256 is not the one" in refusal(run).message


def test_a_run_from_before_there_were_sums_is_read(tmp_path: Path) -> None:
    run = written(FAIR, tmp_path)
    head = json.loads((run / "format.json").read_text())
    del head["sha256"], head["sum"]
    (run / "format.json").write_text(json.dumps(head))
    assert Run(run).judgement.verdicts


# ---- what is too much ------------------------------------------------------------------------------------------------


def rows_said(run: Path, rows: object) -> None:
    head = json.loads((run / "format.json").read_text())
    head["rows"]["deliveries"] = rows
    (run / "format.json").write_text(json.dumps(head))


@pytest.mark.parametrize("rows", [10**12, -1, "many", None, [1]])
def test_more_rows_than_any_memory_holds_are_refused(tmp_path: Path, rows: object) -> None:
    run = written(FAIR, tmp_path)
    rows_said(run, rows)
    assert re.search(r"format\.json says|too small for 1,000,000,000,000 rows", refusal(run).message)


def test_deep_and_huge_terms_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(FAIR, tmp_path)
    terms = json.loads((run / "terms.json").read_text())
    terms["settings"] = json.loads("[" * 500 + "]" * 500)
    (run / "terms.json").write_text(json.dumps(terms))
    assert "nested too deeply" in refusal(run).message
    monkeypatch.setattr(store, "OBJECT_BYTES_MAX", 1000)
    assert "at most 1,000 are read" in refusal(run).message


# ---- journals and proceedings ----------------------------------------------------------------------------------------

TERMS = {"kind": "terms", "cell": "c", "seed": 1, "run": 1, "configuration": "c", "family": "memory",
         "broker_version": "1", "faults": [], "acknowledged_by": 1, "ack": 1, "clock_pairs": []}  # fmt: skip
CLIENT = {"kind": "client", "number": 1, "name": "producer-1.1", "slot": "producer-1", "role": "producer",
          "group": "", "start_ns": 5}  # fmt: skip

DAMAGED: dict[str, tuple[list[object], str]] = {
    "half_a_line_in_the_middle": ([TERMS, '{"kind": "cl', CLIENT], "proceedings.jsonl, line 2, is damaged"),
    "no_text": ([TERMS, b"\xff\xfe", CLIENT], "proceedings.jsonl, line 2, is damaged"),
    "deep_json": ([TERMS, "[" * 100_000, CLIENT], "proceedings.jsonl, line 2, is damaged"),
    "a_list": ([TERMS, [1], CLIENT], "line 2, is damaged: it is no object with its kind"),
    "no_kind": ([TERMS, {"number": 1}, CLIENT], "line 2, is damaged: it is no object with its kind"),
    "a_client_without_its_number": ([TERMS, {**CLIENT, "number": None}], "damaged"),
    "a_client_without_its_name": ([TERMS, {"kind": "client", "number": 1}], "damaged: KeyError: 'name'"),
    "a_name_that_is_a_number": ([TERMS, {**CLIENT, "name": 7}], "damaged: TypeError: 7 is no word"),
    "a_time_that_is_a_word": ([TERMS, {**CLIENT, "start_ns": "soon"}], "damaged: ValueError"),
    "a_time_beyond_64_bits": ([TERMS, {**CLIENT, "start_ns": 1 << 70}], "damaged: OverflowError"),
    "terms_of_another_kind": ([{**TERMS, "silence_s": "long"}, CLIENT], "silence_s: expected a number"),
    "terms_without_a_cell": ([{**TERMS, "cell": None}], "cell: expected a word"),
    "an_unknown_kind_of_answer": ([{**TERMS, "ack": 9}], "9 is not a valid AckKind"),
    "effects_that_are_none": ([TERMS, {"kind": "effects", "rows": [[1, 2]]}], "damaged"),
    "half_a_census": ([TERMS, {"kind": "census", "found": [1]}], "damaged: KeyError"),
    "a_time_before_the_run": ([TERMS, {**CLIENT, "start_ns": -9}], "table clients, row 1: start_ns -9"),
}  # fmt: skip


def proceeded(lines: list[object], folder: Path) -> Path:
    folder.mkdir()
    data = [line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
            for line in lines]  # fmt: skip
    (folder / proceedings.FILE).write_bytes(b"\n".join(data) + b"\n")
    return folder


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_proceedings_are_refused(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines, said = DAMAGED[case]
    run = proceeded(lines, tmp_path / "run")
    assert said in refusal(run).message
    assert main(["recheck", str(run)]) == 64
    assert "Traceback" not in capsys.readouterr().err


def test_proceedings_that_are_whole_are_judged(tmp_path: Path) -> None:
    assert Run(proceeded([TERMS, CLIENT], tmp_path / "run")).history.terms.interrupted


def test_an_answer_to_more_publishes_than_there_are_is_refused(tmp_path: Path) -> None:
    """A bit of a journal that flipped, and a billion rows would be made of one record."""
    path = tmp_path / "producer-1.1.journal"
    journal = j.Journal(path, client=1, origin_ns=1)
    journal.write(j.PUBLISH, 0, 1, 1, 0, 1 << 40, 5, 6, 1)
    journal.write(j.CONFIRM, 1, 1, 0, 0, 1, 1, 8, 0)
    journal.close()
    assert publications_of(read_journal(path, Words()), confirms=True)["outcome"].tolist() == [1]
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, j.HEAD_SIZE + j.RECORD_SIZE + 8, 1 << 40)
    path.write_bytes(data)
    with pytest.raises(Refused, match=r"producer-1\.1\.journal: it answers more publishes than there are"):
        publications_of(read_journal(path, Words()), confirms=True)
