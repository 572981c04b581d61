"""Does the command line teach, refuse, judge again from files alone, and end with the right code and last line?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sessions import write_example  # a session with every way in which a cell can end

from harness.cli.ending import Ending, worst
from harness.cli.main import COMMANDS, main
from harness.errors import Trouble

DRIVERS = ("pika", "nats", "docker", "testcontainers", "toxiproxy")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example(tmp_path_factory.mktemp("reports") / "20261124T080000Z-7")


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


# ---- help and bad usage ----------------------------------------------------------------------------------------------


def test_help_names_every_command_and_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {command.NAME}" in text for command in COMMANDS)
    assert "examples:" in text
    assert "143 SIGTERM" in text


@pytest.mark.parametrize("command", [command.NAME for command in COMMANDS])
def test_every_commands_help_has_an_example_of_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"example:\n  assay {command}" in capsys.readouterr().out


def test_help_loads_next_to_nothing() -> None:
    code = """
import sys
sys.argv = ["assay", "--help"]
from harness.cli.main import main
try:
    main()
except SystemExit:
    heavy = {"pika", "nats", "docker", "numpy", "pydantic", "jinja2", "rich", "pytest", "requests", "pyarrow", "duckdb"}
    print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stderr.strip() == "[]"


BAD_USAGE = {
    "a_command_misspelt": (["verfy"], 'did you mean "verify"'),
    "an_option_misspelt": (["verify", "--sed", "7"], 'did you mean "--seed"'),
    "an_option_of_another": (["recheck", "--labels", "x"], "unrecognized arguments"),
    "no_run_named": (["recheck"], "RUN"),
    "words_for_pytest_to_another": (["doctor", "--", "-x"], "unrecognized arguments"),
    "a_form_that_is_none": (["export", "x", "--to", "jsnl"], 'did you mean "jsonl"'),
    "no_such_suite": (["verify", "nowhere"], "there is no suite nowhere"),
    "claims_of_nobody": (["claims", "--configuration", "kafka-*"], "no claim speaks of"),
}


@pytest.mark.parametrize("case", BAD_USAGE)
def test_bad_usage_is_64_with_a_cure_and_no_traceback(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv, said = BAD_USAGE[case]
    assert main(argv) == 64
    captured = capsys.readouterr()
    assert said in captured.err
    assert "cure: " in captured.err
    assert "Traceback" not in captured.err
    assert captured.out.splitlines()[-1].startswith("exit 64: ")


# ---- endings ---------------------------------------------------------------------------------------------------------


def test_the_last_line_is_one_line() -> None:
    assert str(Ending(code=2, reason="two\nlines", path=Path("reports/x"))) == "exit 2: two lines; reports/x"
    assert str(Ending(code=0, reason="nothing left behind")) == "exit 0: nothing left behind; -"


@pytest.mark.parametrize(
    ("codes", "expected"), [([0, 2], 2), ([2, 1], 1), ([1, 69], 69), ([69, 70], 70), ([0, 0], 0), ([], 0)]
)
def test_the_worst_code_wins(codes: list[int], expected: int) -> None:
    assert worst(codes) == expected


def _ends(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    import harness.engines.sweep

    def fail(**_: Any) -> list[str]:
        raise error

    monkeypatch.setattr(harness.engines.sweep, "sweep", fail)


def test_trouble_is_69_with_its_cure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _ends(monkeypatch, Trouble("the engine is silent", cure="start it"))
    assert main(["sweep"]) == 69
    captured = capsys.readouterr()
    assert captured.err == "assay: the engine is silent\n  cure: start it\n"
    assert captured.out == "exit 69: the engine is silent; -\n"


def test_a_defect_is_70_and_its_traceback_is_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _ends(monkeypatch, ZeroDivisionError("by nought"))
    assert main(["sweep"]) == 70
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    assert "please report it" in captured.err
    path = Path(captured.out.splitlines()[-1].rpartition("; ")[2])
    assert "ZeroDivisionError: by nought" in path.read_text()
    path.unlink()


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _ends(monkeypatch, KeyboardInterrupt())
    assert main(["sweep"]) == 130
    assert last_line(capsys) == "exit 130: ended by Ctrl-C; -"


# ---- from files ------------------------------------------------------------------------------------------------------


def test_recheck_loads_no_driver(session: Path) -> None:
    run = next((session / "runs").iterdir())
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {DRIVERS!r}:
            raise ImportError(f"{{name}} is a driver")
sys.meta_path.insert(0, Refuse())
from harness.cli.main import main
sys.exit(main(["recheck", {str(run)!r}]))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode in (0, 1, 2), answer.stderr
    assert answer.stdout.splitlines()[-1].startswith(f"exit {answer.returncode}: ")


def test_recheck_weighs_what_the_session_demanded(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((session / "session.json").read_text())
    codes = {"passed": 0, "failed": 1, "unknown": 2}
    # "disputed" failed by an assertion of its suite's own, "damaged" cannot be read: files alone say neither.
    beyond_files = {"disputed", "damaged"}
    checked = [cell for cell in record["cells"] if cell["status"] == "ran" and cell["id"] not in beyond_files]
    assert {cell["outcome"] for cell in checked} == set(codes)
    for cell in checked:
        assert main(["recheck", str(session / cell["run"])]) == codes[cell["outcome"]], cell["id"]
        capsys.readouterr()


def test_recheck_as_json_is_one_document(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = next((session / "runs").iterdir())
    code = main(["recheck", str(run), "--json"])
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["run"] == str(run)
    assert set(document["verdicts"]["at_least_once"]) >= {"status", "sentence", "witnesses", "reasons"}
    assert captured.err.startswith(f"exit {code}: ")


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["recheck", str(tmp_path)], ["export", str(tmp_path)], ["report", str(tmp_path)]):
        assert main(command) == 64, command
        assert str(tmp_path) in capsys.readouterr().err


def test_a_run_that_was_cut_short_is_refused_by_name(session: Path, tmp_path: Path) -> None:
    run = next((session / "runs").iterdir())
    for name in ("format.json", "terms.json", "words.json", "tables/deliveries.npz"):
        copy = tmp_path / name.replace("/", "-")
        subprocess.run(["cp", "-r", str(run), str(copy)], check=True)
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(whole[: len(whole) // 2])
        answer = subprocess.run(
            [sys.executable, "-m", "harness.cli.main", "recheck", str(copy)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert answer.returncode == 64, (name, answer.stderr)
        assert Path(name).name in answer.stderr


def test_export_writes_one_object_a_line(session: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = next((session / "runs").iterdir())
    assert main(["export", str(run), "--to", "jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["table"] == "terms"
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "publications.jsonl").is_file()
    assert last_line(capsys).startswith("exit 0: ")


def test_report_says_where_the_page_is(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(session)]) == 0
    line = last_line(capsys)
    assert line == f"exit 0: the report is written; {session / 'index.html'}"
    assert (session / "index.html").is_file()


# ---- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("faults", "kill_leader"),
        ("claims", "at_least_once"),
        ("configurations", "rabbitmq-quorum-confirms  (3 nodes)"),
    ],
)
def test_lists(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 0
    captured = capsys.readouterr().out
    assert said in captured
    assert captured.splitlines()[-1].startswith("exit 0: ")


def test_verify_lists_cells_and_runs_none(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "harness.cli.main", "verify", "--list", "--configuration", "*quorum-confirms"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert answer.returncode == 0, answer.stderr
    assert "[rabbitmq-quorum-confirms-kill_leader]" in answer.stdout
    assert "nats" not in answer.stdout.replace("suites/nats", "")
    assert answer.stdout.splitlines()[-1].startswith("exit 0: 6 cells, none was run; ")
    assert not list(tmp_path.iterdir())


def test_verify_of_names_that_are_none_is_64_with_the_closest_one(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "harness.cli.main", "verify", "--fault", "kil_leader"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert answer.returncode == 64
    assert 'did you mean "kill_leader"' in answer.stderr
    assert answer.stdout.splitlines()[-1] == "exit 64: bad usage, said above; -"
