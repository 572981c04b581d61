"""Is everything that the code has in its page, and nothing that it has not?"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, bare, blocks, headings, read, spans, table

import harness
from harness import catalogue
from harness.checkers import delivery, facts, linearizability, ordering, processing, sentences, streams
from harness.cli import ending
from harness.cli.main import COMMANDS, main
from harness.guarantee import GUARANTEES
from harness.history import store
from harness.history.columns import TABLES
from harness.history.identities import IDENTITIES_FILE
from harness.history.mapping import MEANINGS
from harness.operation import CrashPoint
from harness.report.build import build
from harness.scenario.matrix import TIERS, matrix, trials

sys.path.append(str(ROOT / "tests"))
import histories
import sessions

GUARANTEES_PAGE, SUITE_PAGE, FAULTS_PAGE = "docs/guarantees.md", "docs/writing-a-suite.md", "docs/faults.md"


def named(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of a page's table by the name in their first cell."""
    return {bare(row[0]): row[1:] for row in table(read(page), heading)}


# ---- guarantees ------------------------------------------------------------------------------------------------------


def test_every_guarantee_has_its_promise_and_an_example() -> None:
    listed = named(GUARANTEES_PAGE, "Guarantees")
    assert {name: row[0] for name, row in listed.items()} == {one.name: one.promise for one in GUARANTEES.values()}
    assert all(row[1] for row in listed.values())


def anomalies() -> set[str]:
    """The name of every anomaly that a checker can find, from the findings of a small history of processing."""
    history = histories.history(
        histories.publish(1).acked(),
        histories.deliver(1),
        terms=histories.terms(mechanism="transaction", effects_audited=True),
    )
    gathered = facts.gather(history)
    found = {*delivery.check(gathered).anomalies, *processing.check(gathered).anomalies}
    ordered = {ordering.check(gathered).reordered.name}
    return found | ordered | set(streams.check(gathered).anomalies) | set(linearizability.PATTERNS)


def test_every_anomaly_has_its_words() -> None:
    assert set(sentences.ANOMALIES) == anomalies()


def test_the_example_of_a_queue_prints_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    exec(next(body for language, body in blocks(read(GUARANTEES_PAGE)) if language == "python"), {})
    assert capsys.readouterr().out == (
        "linearizable_fifo VIOLATED: 1 values dequeued after one that was enqueued later\n"
    )


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_every_class_of_faults_has_its_section_and_no_other_has() -> None:
    text = read(FAULTS_PAGE).partition("## What each does")[2].partition("\n## ")[0]
    kinds = dict.fromkeys(type(fault).__name__ for fault in catalogue.faults().values())
    assert headings(text) == list(kinds)


def test_every_crash_point_is_listed() -> None:
    assert list(named(FAULTS_PAGE, "KillClient")) == [str(point) for point in CrashPoint]


# ---- suites ----------------------------------------------------------------------------------------------------------


def shown(default: Any) -> str:
    return "" if default in (MISSING, inspect.Parameter.empty) else f"`{default!r}`"


def test_every_argument_of_the_matrix_is_listed_with_its_default() -> None:
    arguments = inspect.signature(matrix).parameters.values()
    listed = {name: row[0] for name, row in named(SUITE_PAGE, "The matrix").items()}
    assert listed == {one.name: shown(one.default) for one in arguments}


@pytest.mark.parametrize(
    ("heading", "record"),
    [
        ("Load", "Steady"),
        ("RabbitMQ", "RabbitMQ"),
        ("Quorum", "Quorum"),
        ("Classic", "Classic"),
        ("Nats", "Nats"),
        ("JetStream", "JetStream"),
    ],
)
def test_every_field_of_a_record_is_listed_with_its_default(heading: str, record: str) -> None:
    listed = {name: row[0] for name, row in named(SUITE_PAGE, heading).items()}
    told = {}
    for one in fields(catalogue.record(record)):
        made = one.default_factory() if one.default_factory is not MISSING else None
        told[one.name] = shown(one.default) if made is None else f"`{type(made).__name__}()`"
    assert listed == told


def test_every_mechanism_is_listed_with_its_promise() -> None:
    listed = {bare(row[1]): (bare(row[0]), row[3]) for row in table(read(SUITE_PAGE), "Processing")}
    made = {name: catalogue.mechanism(name) for name in catalogue.MECHANISMS}
    assert listed == {name: (type(one).__name__, one.promises) for name, one in made.items()}


def test_every_tier_is_listed_with_its_trials() -> None:
    cheap, dear = catalogue.fault("latency_clients"), catalogue.fault("kill_leader")
    told = {tier: [str(trials(cheap, tier)), str(trials(dear, tier))] for tier in TIERS}
    assert named(SUITE_PAGE, "Tiers") == told


def test_every_public_name_is_listed() -> None:
    assert set(spans(read(SUITE_PAGE).partition("## Public names")[2])) - {"harness"} == set(harness.__all__)


def test_every_file_of_a_session_is_listed(tmp_path: Path) -> None:
    session = sessions.write_example(tmp_path / "20261124T080000Z-7")
    build(session)
    listed = set(spans(read(SUITE_PAGE).partition("Below a session's directory")[2].partition("## ")[0]))
    for path in session.iterdir():
        assert f"{path.name}/" in listed if path.is_dir() else path.name in listed


def test_what_a_run_offers_is_there() -> None:
    listed = {
        name
        for row in table(read(SUITE_PAGE), "What a test may ask of its run")
        for name in re.findall(r"`(\w+)", row[0])
    }
    offered = {name for name in dir(harness.Run) if not name.startswith("_")} | {"path"}
    assert listed == offered


# ---- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md"])
def test_every_exit_code_is_listed(page: str) -> None:
    listed = [int(code) for code in named(page, "Exit codes")]
    assert listed == [int(code) for code in re.findall(r"\b(\d+) [A-Za-z]", ending.CODES)]
    assert set(listed) == {
        getattr(ending, name)
        for name in ("HELD", "VIOLATED", "UNKNOWN", "USAGE", "TROUBLE", "INTERNAL", "INTERRUPTED", "TERMINATED")
    }


def test_every_command_has_its_section() -> None:
    text = read("docs/commands.md").partition("## All commands")[2].partition("\n## ")[0]
    assert headings(text) == [command.NAME for command in COMMANDS]


def test_every_target_and_every_variable_of_set_up_is_listed() -> None:
    text = read("docs/commands.md")
    targets = re.findall(r"^([a-z]+):.*## ", read("Makefile"), re.MULTILINE)
    assert {re.match(r"`make (\w+)", row[0])[1] for row in table(text, "make")} == set(targets)
    for variable in re.findall(r"^# (ASSAY_\w+)", read("docker/bootstrap.sh"), re.MULTILINE):
        assert f"| `{variable}` |" in text


# ---- the rest --------------------------------------------------------------------------------------------------------


def test_every_room_of_the_package_is_described() -> None:
    inside = [path for path in (ROOT / "harness").iterdir() if not path.name.startswith("__")]
    rooms = {
        f"harness/{path.name}{'/' if path.is_dir() else ''}" for path in inside if path.is_dir() or path.suffix == ".py"
    }
    assert set(named("docs/architecture.md", "The rooms")) == rooms


def test_every_file_and_every_column_of_a_run_is_described() -> None:
    text = read("docs/run-format.md")
    constants = ("SCENARIO_FILE", "PLAN_FILE", "PROGRESS_FILE", "TERMS_FILE", "WORDS_FILE", "FORMAT_FILE")
    for name in (
        *(getattr(store, constant) for constant in constants),
        "proceedings.jsonl",
        "sink.sqlite",
        IDENTITIES_FILE,
    ):
        assert f"| `{name}` |" in text
    assert {folder for folder in ("journals", "tables", "clients") if f"`{folder}/" in text} == {
        "journals",
        "tables",
        "clients",
    }
    for kind, meanings in MEANINGS.items():
        assert all(f"| `{kind}.{meaning}` |" in text for meaning in meanings)
    for heading, columns in TABLES.items():
        assert list(named("docs/run-format.md", heading)) == list(columns)


def python_blocks() -> list[str]:
    return [body for language, body in blocks(read("docs/run-format.md")) if language == "python"]


def test_the_pages_recorder_writes_what_can_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A queue in memory that loses one message of ten and delivers another twice; and a producer that is killed."""
    recorder = python_blocks()[1]
    assert len(recorder.splitlines()) <= 35
    told: dict[str, Any] = {}
    exec(recorder, told)
    monkeypatch.chdir(tmp_path)
    producer, consumer = told["Recorder"]("recorded.jsonl", "p"), told["Recorder"]("recorded.jsonl", "c")
    queue: list[tuple[str, bool]] = []

    def send(number: int) -> None:
        if number == 6:
            raise TimeoutError
        if number == 9:
            raise SystemExit  # the process ends in the middle of a call
        queue.extend([(f"order-{number}", False)] * (number != 3) + [(f"order-{number}", True)] * (number == 4))

    for number in range(9):
        producer.publish(f"order-{number}", lambda number=number: send(number))
    with pytest.raises(SystemExit):
        producer.publish("order-9", lambda: send(9))
    for message, again in queue:
        consumer.deliver(message, again, lambda: None)
    producer.file.close()
    consumer.file.close()
    lines = [line for line in read("docs/run-format.md").splitlines() if line.startswith("    assay ")]
    codes = [main([word.replace("/tmp/mine", "mine") for word in line.split()[1:]]) for line in lines]
    assert codes == [0, 1]
    out = capsys.readouterr().out
    assert "at_least_once VIOLATED: 1 of 8 acked messages lost" in out
    assert "at_most_once VIOLATED: 1 of 7 messages delivered more than once" in out
    assert "message 1:4 was recorded as 'order-3'" in out
    assert "indeterminate 2" in out
    assert "genuine UNKNOWN" in out


def test_a_written_run_is_read_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's few lines of numpy give what Assay itself reads."""
    history = histories.history(histories.publish(1).acked(), histories.deliver(1), histories.deliver(1))
    store.write_history(tmp_path, history)
    monkeypatch.chdir(tmp_path)
    code = python_blocks()[0]
    told: dict[str, Any] = {}
    exec(code, told)
    assert told["received_ns"].tolist() == history.deliveries.received_ns.tolist()
    assert told["groups"] == ["group", "group"]
