"""Is a history that somebody's own client recorded judged for what it shows, never more, and is bad input refused?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkers.judge import Judgement, judge
from harness.cli.main import main
from harness.errors import Refused
from harness.guarantee import Status
from harness.history import recording
from harness.history.foreign import Said, history_of, identities
from harness.history.history import History
from harness.history.identities import read_identities
from harness.history.mapping import read_map
from harness.history.recording import read_recording
from harness.operation import AckKind

Row = dict[str, Any]


def sent(message: object, at: float, until: float | None = None, outcome: str | None = "OK", **more: Any) -> Row:
    row = {"kind": "publication", "client": "p", "message": message, "invoked": at}
    ends = {} if until is None else {"completed": until, "outcome": outcome}
    return {**row, **ends, **more}


def got(message: object, at: float, **more: Any) -> Row:
    return {"kind": "delivery", "client": "c", "message": message, "received": at, **more}


def written(rows: Iterable[Row], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, *given: str, unit: str = "ns", ignored: Iterable[str] = (), **said: Any) -> History:
    made = read_recording(path, read_map(given), unit=unit, ignored=ignored)
    return history_of(made, Said(name="imported", recorded_by="somebody", **said))


def judged(rows: Iterable[Row], tmp_path: Path, **said: Any) -> Judgement:
    return judge(read(written(rows, tmp_path / "rows.jsonl"), **said))


def violated(judgement: Judgement) -> set[str]:
    return {name for name, verdict in judgement.verdicts.items() if verdict.status is Status.VIOLATED}


EVERYTHING = {"at_least_once", "at_most_once", "exactly_once", "publish_once", "ordered", "genuine"}
CLEAN = [sent("a", 1, 2), sent("b", 3, 4), got("a", 5, redelivered=False), got("b", 6, redelivered=False)]

SHOWN: dict[str, tuple[list[Row], dict[str, Any], set[str], dict[str, int]]] = {
    "nothing": (CLEAN, {}, set(), {"acked": 2, "discharged": 2}),
    "nothing_drained": (CLEAN, {"drained": True}, set(), {"acked": 2}),
    "not_read_to_the_end": (CLEAN[:3], {}, set(), {"lost": 0, "lost_so_far": 1}),
    "lost": (CLEAN[:3], {"drained": True}, {"at_least_once", "exactly_once"}, {"lost": 1}),
    "lost_where_the_call_returned": (
        [sent("a", 1, 2, acknowledged_by="nobody"), sent("b", 3, 4, acknowledged_by="nobody"), got("b", 5)],
        {"drained": True}, {"at_least_once", "exactly_once"}, {"lost_unconfirmed": 1}),
    "received_and_never_acknowledged": (
        [sent("a", 1, 2), sent("b", 3, 4), got("a", 5, acknowledged=6), got("b", 7, acknowledged=None)],
        {"drained": True}, {"at_least_once", "exactly_once"}, {"lost_after_delivery": 1}),
    "never_answered_is_not_lost": ([sent("a", 1), sent("b", 2, 3), got("b", 4)], {"drained": True}, set(), {"lost": 0}),
    "delivered_twice": ([*CLEAN, got("b", 9, redelivered=True)], {}, {"at_most_once", "exactly_once"},
                        {"duplicate_delivery": 1}),
    "delivered_to_two_groups": ([sent("a", 1, 2), got("a", 5, group="x"), got("a", 6, group="y")], {}, set(),
                                {"duplicate_delivery": 0}),
    "one_of_two_groups_got_nothing": (
        [sent("a", 1, 2), sent("b", 3, 4), got("a", 5, group="x"), got("a", 6, group="y"), got("b", 7, group="x")],
        {"drained": True, "fan_out": True}, {"at_least_once", "exactly_once"}, {"lost": 1}),
    "two_queues_with_messages_of_their_own": ([*CLEAN[:2], got("a", 5, group="x"), got("b", 6, group="y")],
                                              {"drained": True}, set(), {"lost": 0}),
    "stored_twice": ([sent("a", 1, 2, broker_sequence=7), got("a", 3, broker_sequence=8)], {},
                     {"publish_once", "at_most_once", "exactly_once", "log_consistent"},
                     {"duplicate_publish": 1, "inconsistent_offset": 1}),
    "out_of_order": ([*CLEAN[:2], CLEAN[3], got("a", 7, redelivered=False)], {}, {"ordered"}, {"reordered": 1}),
    "out_of_order_by_the_brokers_count": ([*CLEAN[:2], got("b", 6, delivery_count=1), got("a", 7, delivery_count=1)],
                                          {}, {"ordered"}, {"reordered": 1}),
    "out_of_order_when_redelivered": ([*CLEAN[:2], CLEAN[3], got("a", 7, redelivered=True)], {}, set(),
                                      {"reordered": 0}),
    "out_of_order_and_nobody_knows_of_flags": ([*CLEAN[:2], got("b", 6), got("a", 7)], {}, set(), {}),
    "a_retry_that_came_late": (
        [sent("a", 1), sent("b", 2, 3), sent("a", 4, 5),
         got("b", 6, redelivered=False), got("a", 7, redelivered=False)],
        {}, set(), {"reordered": 0}),
    "refused_yet_delivered": ([sent("a", 1, 2, "FAIL"), got("a", 3)], {}, {"genuine"}, {"visible_failure": 1}),
    "refused_in_one_tick_yet_delivered": ([sent("a", 1, 1, "FAIL"), got("a", 3)], {}, {"genuine"}, {"phantom": 0}),
    "again_after_a_confirmed_acknowledgement": (
        [sent("a", 1, 2), got("a", 3, fetched=2, acknowledged=4, settled=5), got("a", 7, fetched=6)],
        {"ack_wait_s": 30.0}, {"never_again", "at_most_once", "exactly_once"}, {"again_after_confirmed_ack": 1}),
    "again_and_nobody_knows_of_which_attempt": (
        [sent("a", 1), sent("a", 2, 3), got("a", 3, fetched=2, acknowledged=4, settled=5), got("a", 7, fetched=6)],
        {"ack_wait_s": 30.0}, {"at_most_once", "exactly_once"}, {"again_after_confirmed_ack": 0}),
    "corrupt": ([*CLEAN, {"kind": "delivery", "client": "c", "received": 9, "corrupt": True, "redelivered": False}], {},
                EVERYTHING, {"corrupt": 1}),
    "published_by_nobody": ([*CLEAN, got("z", 9, redelivered=False)], {},
                            EVERYTHING, {"phantom": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", SHOWN)
def test_a_recording_shows(tmp_path: Path, case: str) -> None:
    rows, said, broken, counted = SHOWN[case]
    judgement = judged(rows, tmp_path, **said)
    assert violated(judgement) == broken
    assert {name: judgement.counts.get(name, 0) for name in counted} == counted


def _identity(row: Row) -> tuple[object, ...]:
    return row["kind"], row["message"], row.get("invoked"), row.get("received")


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_no_recording_is_held(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever was recorded and vouched for: messages lost, repeated, refused; none at all."""
    message, when = st.sampled_from(["a", "b", 3]), st.integers(0, 9)
    publications = st.builds(
        lambda m, at, took, outcome: sent(m, at, None if outcome is None else at + took, outcome),
        message, when, when, st.sampled_from([None, "OK", "INFO", "FAIL"]),
    )  # fmt: skip
    deliveries = st.builds(
        lambda m, at, flag: got(m, at, redelivered=flag, acknowledged=at), message, when, st.booleans()
    )
    rows = data.draw(st.lists(publications | deliveries, max_size=12, unique_by=_identity))
    said = {name: data.draw(st.booleans()) for name in ("drained", "fan_out")}
    judgement = judged(
        rows, tmp_path_factory.mktemp("rows"), **said, ack_wait_s=data.draw(st.sampled_from([None, 1.0]))
    )
    assert {verdict.status for verdict in judgement.verdicts.values()} <= {Status.VIOLATED, Status.UNKNOWN}
    assert judgement.trial.trials == ()


# ---- forms -----------------------------------------------------------------------------------------------------------


def test_fields_words_and_units_are_the_users_own(tmp_path: Path) -> None:
    rows = [
        {"type": "sent", "who": 1, "order_id": 17, "t0": 1000.5, "t1": 1000.75, "result": "acked", "host": "x"},
        {"type": "sent", "who": 1, "order_id": 18, "t0": 1001.0, "t1": 1001.5, "result": "timeout", "host": "x"},
        {"type": "got", "who": 1, "order_id": "17", "at": 1002.25, "host": "x"},
    ]
    given = [
        "kind=type", "kind.publication=sent", "kind.delivery=got", "publication.client=who", "delivery.client=who",
        "publication.message=order_id", "delivery.message=order_id",
        "publication.invoked=t0", "publication.completed=t1",
        "publication.outcome=result", "outcome.OK=acked", "outcome.INFO=timeout", "delivery.received=at",
    ]  # fmt: skip
    history = read(written(rows, tmp_path / "rows.jsonl"), *given, unit="s", ignored=["host"])
    assert history.publications.invoked_ns.tolist() == [0, 500_000_000]
    assert history.publications.completed_ns.tolist() == [250_000_000, 1_000_000_000]
    assert history.publications.outcome.tolist() == [1, 0]
    assert history.deliveries.received_ns.tolist() == [1_750_000_000]
    assert history.deliveries.message.tolist() == history.publications.message[:1].tolist()
    assert history.clients.client.tolist() == [1, 2]  # a producer and a consumer of one name are two clients
    assert history.terms.ack is AckKind.AUTOMATIC


def test_true_false_and_codes_are_outcomes_where_they_are_mapped(tmp_path: Path) -> None:
    rows = written([sent("a", 1, 2, True), sent("b", 3, 4, 503)], tmp_path / "rows.jsonl")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="outcome True is no outcome"):
        read(rows)
    assert read(rows, "outcome.OK=true", "outcome.INFO=503").publications.outcome.tolist() == [1, 0]


def test_a_recording_has_a_number_of_rows_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "RECORDING_ROWS_MAX", 3)
    with pytest.raises(Refused, match=r"rows.jsonl has too many rows: more than 3"):
        read(written(CLEAN, tmp_path / "rows.jsonl"))


def test_a_text_that_every_row_names_is_not_made_for_every_row(tmp_path: Path) -> None:
    """A small Parquet file, and gigabytes of text in it."""
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"kind": long}), tmp_path / "rows.parquet")
    pq.write_table(pa.table({"kind": ["x" * 100_000] * 1_000}), tmp_path / "plain.parquet")
    for name in ("rows", "plain"):
        assert (tmp_path / f"{name}.parquet").stat().st_size < 2_000_000
        with pytest.raises(Refused, match="a text here or further on has"):
            read(tmp_path / f"{name}.parquet")


def test_a_call_may_be_written_down_before_and_after(tmp_path: Path) -> None:
    """So a client that is killed in between leaves a publication without answer, and no gap."""
    rows = [sent("a", 1), sent("a", 1, 2), sent("b", 3), got("a", 4), got("a", 4, acknowledged=5), got("b", 6)]
    history = read(written(rows, tmp_path / "rows.jsonl"))
    assert history.publications.completed_ns.tolist() == [1, -1]
    assert history.deliveries.ack_invoked_ns.tolist() == [4, -1]
    assert history.terms.ack is AckKind.SENT


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_folder_has_a_file_of_each_kind(tmp_path: Path, form: str) -> None:
    for name, kind in (("publications", "publication"), ("deliveries", "delivery")):
        rows = [{key: value for key, value in row.items() if key != "kind"} for row in CLEAN if row["kind"] == kind]
        if form == "jsonl":
            written(rows, tmp_path / f"{name}.jsonl")
        else:
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    assert judge(read(tmp_path)).counts["discharged"] == 2


def test_one_parquet_file_holds_both_kinds(tmp_path: Path) -> None:
    """Each row null in the columns of the other kind."""
    names = {name: None for row in CLEAN for name in row}
    pq.write_table(pa.Table.from_pylist([{**names, **row} for row in CLEAN]), tmp_path / "all.parquet")
    assert judge(read(tmp_path / "all.parquet")) == judged(CLEAN, tmp_path)


def test_messages_are_numbered_as_their_producer_first_published_them(tmp_path: Path) -> None:
    rows = [sent("b", 5, 6), sent("a", 1, 2), sent("x", 3, 4, client="q"), sent("a", 7, 8), got("z", 9), got("a", 9)]
    made = read_recording(written(rows, tmp_path / "rows.jsonl"), read_map([]))
    assert dict(identities(made)) == {"1:1": "a", "1:2": "b", "2:1": "x", "0:1": "z"}
    history = history_of(made, Said(name="x", recorded_by="somebody"))
    assert history.publications.attempt.tolist() == [1, 1, 1, 2]


def test_nothing_is_a_recording_too(tmp_path: Path) -> None:
    judgement = judged([], tmp_path, drained=True)
    assert {verdict.status for verdict in judgement.verdicts.values()} == {Status.UNKNOWN}


# ---- bad input -------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Row | str, str, str]] = {
    "a_completion_before_its_invocation": (sent("c", 5, 4), "it was completed before it was invoked", "correct"),
    "a_receipt_before_its_fetch": (got("c", 5, fetched=6), "it was received before it was fetched", "correct"),
    "an_acknowledgement_before_its_receipt": (got("c", 5, acknowledged=4), "acknowledged before", "correct"),
    "an_unknown_outcome": (sent("c", 5, 6, "nack"), "outcome 'nack' is no outcome", "--map outcome.OK=WORD"),
    "an_outcome_without_its_time": (sent("c", 5, outcome="OK") | {"outcome": "OK"}, "when it was completed", "correct"),
    "an_unknown_field": (got("c", 5, redeliverd=True), 'did you mean "redelivered"', "--ignore"),
    "a_field_of_the_other_kind": (sent("c", 5, 6, received=7), "says nothing of a publication", "leave it out"),
    "a_row_again": (CLEAN[0], "it is row 1 again", "finer time"),
    "a_delivery_again": (CLEAN[2], "it is row 3 again", "finer time"),
    "an_attempt_again": (sent("a", 8, 9, attempt=1), "are calls for one message, and both are attempt 1", "1, 2, 3"),
    "no_kind": ({"client": "p"}, "no 'kind', so it is neither", "--map kind=FIELD"),
    "another_kind": ({"kind": "ack"}, "field 'kind' says 'ack'", "--map kind.publication=WORD"),
    "no_message": ({"kind": "publication", "client": "p", "invoked": 5}, "a publication needs message", "--map"),
    "no_time": ({"kind": "delivery", "client": "c", "message": "c"}, "a delivery needs received", "--map"),
    "a_time_that_is_text": (got("c", "2026-11-24"), "received '2026-11-24' is no number", "--unit"),
    "a_time_beyond_measure": (got("c", 1 << 80), "is out of range", "--unit"),
    "an_endless_time": ('{"kind":"delivery","client":"c","message":"c","received":1e999}', "is no number", "--unit"),
    "a_message_that_is_a_list": (got([1], 5), "neither a text nor a whole number", "correct"),
    "a_message_that_is_true": (got(True, 5), "neither a text nor a whole number", "correct"),
    "a_message_without_end": (got("x" * 5000, 5), "has 5000 characters", "correct"),
    "a_client_for_a_terminal": (got("c", 5, client="\x1b[2J"), "characters that nobody can print", "correct"),
    "a_count_below_one": (got("c", 5, delivery_count=0), "is no whole number from 1", "correct"),
    "a_flag_that_is_text": (got("c", 5, redelivered="no"), "neither true nor false", "correct"),
    "half_a_row": ('{"kind":"delivery","cl', "cut off in the middle", "correct"),
    "deep_json": ('{"a":' * 200_000 + "\n", "it is no JSON object: it is nested too deeply", "one JSON object a line"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_64_with_file_row_and_cure(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    row, said, cure = REFUSED[case]
    path = written(CLEAN, tmp_path / "rows.jsonl")
    with open(path, "a", encoding="utf-8") as file:
        file.write(row if isinstance(row, str) else json.dumps(row) + "\n")
    assert main(["import", str(path), "--out", str(tmp_path / "run")]) == 64
    captured = capsys.readouterr()
    assert said in captured.err
    assert cure in captured.err.partition("cure: ")[2]
    if case != "an_attempt_again":  # two rows, of two kinds of numbers
        assert "rows.jsonl, row 5: " in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["publication.mesage=x"], 'did you mean "publication.message"'),
        (["publication.message"], "is not of the form MEANING=FIELD"),
        (["=x"], "is not of the form MEANING=FIELD"),
        (["outcome.SURE=x"], "there is no meaning"),
        (["publication.message=client"], "would say both client and message"),
    ],
)
def test_a_map_that_is_none_is_refused(given: list[str], said: str) -> None:
    with pytest.raises(Refused) as refused:
        read_map(given)
    assert said in refused.value.message
    assert refused.value.cure


USAGE: dict[str, tuple[list[str], str]] = {
    "nothing_there": (["nowhere.jsonl"], "there is no nowhere.jsonl"),
    "another_form": (["rows.csv"], "neither JSON lines nor Parquet"),
    "a_folder_of_something_else": (["empty"], "holds 0 files of publications"),
    "a_guarantee_that_is_none": (["rows.jsonl", "--keep", "at_lest_once"], 'did you mean "at_least_once"'),
    "a_wait_that_is_none": (["rows.jsonl", "--ack-wait", "nan"], "is no number of seconds"),
    "a_unit_that_is_none": (["rows.jsonl", "--unit", "min"], "invalid choice"),
    "a_run_that_is_there": (["rows.jsonl", "--out", "full"], "is there already"),
    "an_endless_device": (["/dev/zero"], "is neither JSON lines nor Parquet"),
}


@pytest.mark.parametrize("case", USAGE)
def test_bad_usage_is_64_with_a_cure(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(CLEAN, Path("rows.jsonl"))
    Path("rows.csv").write_text("client,message\n")
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/file").touch()
    argv, said = USAGE[case]
    assert main(["import", *argv, *([] if "--out" in argv else ["--out", "run"])]) == 64
    captured = capsys.readouterr()
    assert "cure: " in captured.err
    assert said in captured.err or case == "an_endless_device"


def test_no_name_in_a_row_becomes_a_path(tmp_path: Path) -> None:
    rows = [
        sent("../../etc/passwd", 1, 2, client="/tmp/x", route="../r"),
        got("../../etc/passwd", 3, client="../../c", group="/g"),
    ]
    path = written(rows, tmp_path / "rows.jsonl")
    assert main(["import", str(path), "--out", str(tmp_path / "deep" / "run")]) == 0
    made = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert all(name.startswith("deep/run/") for name in made - {"rows.jsonl"})


# ---- the command -----------------------------------------------------------------------------------------------------


def test_what_is_demanded_of_a_recording_decides_how_recheck_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = written([*CLEAN, got("b", 9, redelivered=True)], tmp_path / "rows.jsonl")
    for name, keep, code in (("a", "at_most_once", 1), ("b", "at_least_once", 2), ("c", None, 0)):
        demanded = [] if keep is None else ["--keep", keep]
        assert main(["import", str(rows), "--out", str(tmp_path / name), *demanded]) == 0
        assert "can be VIOLATED or UNKNOWN, not HELD" in capsys.readouterr().out
        assert main(["recheck", str(tmp_path / name)]) == code
        told = capsys.readouterr().out
        assert "HELD" not in told
        assert "message 1:2 was recorded as 'b'" in told
    assert read_identities(tmp_path / "a", ["1:1"]) == {"1:1": "a"}


def test_an_export_takes_no_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(CLEAN, tmp_path / "rows.jsonl")
    assert main(["import", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "export")]) == 0
    argv = ["import", str(tmp_path / "export"), "--out", str(tmp_path / "again")]
    assert main([*argv, "--drained"]) == 64
    assert "is an export, which needs no --drained" in capsys.readouterr().err
    assert main(argv) == 0  # a recording, exported and imported again, is one still
    assert main(["recheck", str(tmp_path / "again")]) == 0
    assert "HELD" not in capsys.readouterr().out.rpartition("exit 0")[0].rpartition("imported: ")[2]
