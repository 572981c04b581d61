"""What does the pytest plugin make of cells: ids, outcomes, exit codes, the session's record? With a fake runner."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

import fake_runner
import pytest
from histories import claim, fair_history
from sessions import AT_LEAST, lossy

import harness
import harness.plugin.demanded
import harness.plugin.fixtures
import harness.plugin.session
import harness.report.build
import harness.runner.execute
from harness.cli import verify
from harness.errors import Trouble
from harness.history.history import History

# Sessions inside this process forget the modules that they were the first to import, and classes made twice differ.
_LOADED = [getattr(harness, name) for name in harness.__all__]

SUITE = fake_runner.SUITE
ONE_CELL = """
from harness import *
@matrix([Memory("one")], [{fault}])
def test_guarantee(run):
    {body}
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.Pytester:
    """A directory of suites, run in this process with a runner that runs nothing."""
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(harness.runner.execute, "execute", fake_runner.execute)
    monkeypatch.setattr(harness.plugin.fixtures.Engines, "serving", fake_runner.serving)
    return pytester


def record(pytester: pytest.Pytester) -> dict[str, Any]:
    (path,) = (pytester.path / "reports").glob("*/session.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def ended(pytester: pytest.Pytester) -> dict[str, str]:
    return {cell["id"]: cell["outcome"] for cell in record(pytester)["cells"]}


def cell(pytester: pytest.Pytester, cell_id: str) -> dict[str, Any]:
    (found,) = [one for one in record(pytester)["cells"] if one["id"] == cell_id]
    return dict(found)


# ---- collection ------------------------------------------------------------------------------------------------------


def test_ids_read_like_the_matrix(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    result = suite.runpytest("--collect-only", "-q")
    assert [line.partition("::")[2] for line in result.outlines if "::" in line] == [
        "test_guarantee[memory-one-nothing]",
        "test_guarantee[memory-one-latency_clients]",
        "test_guarantee[memory-one-acknowledgement_loss]",
        "test_guarantee[memory-two-nothing]",
        "test_guarantee[memory-two-latency_clients]",
        "test_guarantee[memory-one-kill_leader]",
        "test_guarantee[memory-two-kill_leader]",
    ]
    assert not (suite.path / "reports").exists()


def test_collecting_loads_no_driver(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    suite.makeconftest(
        """
        import sys
        def pytest_unconfigure():
            heavy = {"pika", "nats", "docker", "testcontainers", "toxiproxy", "numpy", "pydantic", "jinja2", "rich"}
            print("loaded:", sorted(heavy & set(sys.modules)))
        """
    )
    result = suite.runpytest_subprocess("--collect-only", "-q")
    result.stdout.fnmatch_lines(["loaded: [[]]"])


def test_a_refused_matrix_is_a_message_and_no_traceback(suite: pytest.Pytester) -> None:
    suite.makepyfile(ONE_CELL.format(fault="Kill(FOLLOWER)", body="pass"))
    result = suite.runpytest()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*kill_follower applies to no configuration*single node*", "*cure: take it out"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*harness/scenario*")


def test_of_several_things_that_went_wrong_each_is_named(suite: pytest.Pytester) -> None:
    raised = 'raise ExceptionGroup("two", [Trouble("the broker is gone"), OSError("no room")])'
    suite.makepyfile("from harness.errors import Trouble\n" + ONE_CELL.format(fault="Nothing()", body=raised))
    suite.runpytest().stdout.fnmatch_lines(["! ERROR    memory-one-nothing *the broker is gone; OSError: no room"])


def test_a_matrix_without_the_argument_run_is_refused(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        from harness import *
        @matrix([Memory()], [Nothing()])
        def test_guarantee():
            pass
        """
    )
    suite.runpytest().stdout.fnmatch_lines(["*test_guarantee has a matrix and no argument `run`"])


def test_two_tests_of_one_cell_are_refused(suite: pytest.Pytester) -> None:
    one = ONE_CELL.format(fault="Nothing()", body="pass")
    suite.makepyfile(one + one.replace("test_guarantee", "test_other"))
    result = suite.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*run the same cell*", "*label=*"])


BAD_OPTIONS = {
    "an_engine_misspelt": ("--assay-engine=container", 'did you mean "containers"'),
    "a_tier_misspelt": ("--assay-tier=smokes", 'did you mean "smoke"'),
    "a_seed_that_is_no_number": ("--assay-seed=x", "not a whole number"),
    "a_percentage_out_of_range": ("--assay-allow-unknown=101", "not a percentage"),
    "a_shard_beyond_the_last": ("--assay-shard=3/2", "not I/N"),
    "no_repetition": ("--assay-repeat=0", "out of range"),
    "a_configuration_misspelt": ("--assay-configuration=memory-on", 'did you mean "memory-one"'),
    "a_fault_misspelt": ("--assay-fault=kil_leader", 'did you mean "kill_leader"'),
    "a_run_that_is_none": ("--assay-replay=nowhere", "is no run directory"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_usage_is_refused_before_anything_starts(suite: pytest.Pytester, case: str) -> None:
    option, said = BAD_OPTIONS[case]
    suite.makepyfile(SUITE)
    result = suite.runpytest(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
    assert not (suite.path / "reports").exists()


def test_every_option_is_an_ini_key_and_the_command_line_comes_first(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    suite.makeini("[pytest]\nassay_seed = 11\nassay_engine = processes\nassay_fault = nothing\nassay_reports = found\n")
    result = suite.runpytest("--assay-seed", "12")
    result.stdout.fnmatch_lines(["assay: seed 12, engine processes*"])
    result.assert_outcomes(passed=2, deselected=5)
    assert len(list((suite.path / "found").glob("*-12/session.json"))) == 1


@pytest.mark.parametrize("marked", ["@pytest.mark.flaky(reruns=2)", "--reruns"])
def test_reruns_are_refused_on_guarantee_tests(suite: pytest.Pytester, marked: str) -> None:
    option = not marked.startswith("@")
    suite.makeconftest(
        "def pytest_addoption(parser):\n    parser.addoption('--reruns', dest='reruns', type=int, default=0)\n"
        "def pytest_configure(config):\n    config.addinivalue_line('markers', 'flaky: run again')\n"
    )
    decorator = "" if option else marked
    suite.makepyfile(
        f"import pytest\nfrom harness import *\n{decorator}\n"
        "@matrix([Memory()], [Nothing()])\ndef test_guarantee(run):\n    pass\n"
    )
    result = suite.runpytest(*(["--reruns", "2"] if option else []))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*would hide*violations*"])


def test_shards_share_the_cells_out_and_leave_none(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    whole = _collected(suite)
    parts = [_collected(suite, f"--assay-shard={part}/3") for part in (1, 2, 3)]
    assert sorted(chain(*parts)) == sorted(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_repeated_cells_have_names_and_seeds_of_their_own(suite: pytest.Pytester) -> None:
    suite.makepyfile(ONE_CELL.format(fault="Nothing()", body="pass"))
    suite.runpytest("--assay-repeat=3").assert_outcomes(passed=3)
    assert list(ended(suite)) == ["memory-one-nothing", "memory-one-nothing.2", "memory-one-nothing.3"]
    seeds = {json.loads(path.read_text())["seed"] for path in suite.path.glob("reports/*/runs/*/scenario.json")}
    assert len(seeds) == 3


def test_a_session_seed_gives_each_cell_the_same_seed_whatever_else_is_selected(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    seeds = []
    for selection in ([], ["-k", "memory-one-nothing"]):
        suite.runpytest("--assay-seed=5", f"--assay-reports=r{len(seeds)}", *selection)
        (path,) = suite.path.glob(f"r{len(seeds)}/*/runs/memory-one-nothing/scenario.json")
        seeds.append(json.loads(path.read_text())["seed"])
    assert seeds[0] == seeds[1]


def test_a_run_is_replayed_with_its_own_seed(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    suite.runpytest("--assay-seed=5", "--assay-reports=first")
    (run,) = suite.path.glob("first/*/runs/memory-one-nothing")
    suite.runpytest("--assay-seed=99", f"--assay-replay={run}", "--assay-reports=again").assert_outcomes(
        passed=1, deselected=6
    )
    (again,) = suite.path.glob("again/*/runs/*")
    assert json.loads((again / "scenario.json").read_text()) == json.loads((run / "scenario.json").read_text())


def test_a_higher_tier_is_left_out_until_it_is_asked_for(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        "from harness import *\n@matrix([Memory()], [Nothing()], tier='standard')\ndef test_guarantee(run):\n    pass\n"
    )
    assert suite.runpytest().ret == pytest.ExitCode.NO_TESTS_COLLECTED
    suite.runpytest("--assay-tier=standard").assert_outcomes(passed=1)


def _collected(pytester: pytest.Pytester, *options: str) -> list[str]:
    return [line for line in pytester.runpytest("--collect-only", "-q", *options).outlines if "::" in line]


# ---- outcomes --------------------------------------------------------------------------------------------------------


def test_each_end_of_a_cell_has_its_own_word_in_the_record(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    result = suite.runpytest("--assay-seed=5")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert ended(suite) == {
        "memory-one-nothing": "passed",
        "memory-one-latency_clients": "failed",
        "memory-one-acknowledgement_loss": "passed",
        "memory-two-nothing": "passed",
        "memory-two-latency_clients": "unknown",
        "memory-one-kill_leader": "error",
        "memory-two-kill_leader": "error",
    }
    codes = {one["id"]: one["exit_code"] for one in record(suite)["cells"]}
    assert (codes["memory-one-latency_clients"], codes["memory-two-latency_clients"]) == (1, 2)
    assert (codes["memory-one-kill_leader"], codes["memory-two-kill_leader"]) == (69, 70)
    assert cell(suite, "memory-one-kill_leader")["message"].startswith("memory-1 did not come back")
    result.stdout.fnmatch_lines(["*1 failed, 3 passed, 2 errors, 1 unknown*"])


def test_unknown_has_its_own_letter_and_word(suite: pytest.Pytester) -> None:
    suite.makepyfile(ONE_CELL.format(fault="Nothing()", body="raise Undecided('nothing was at risk')"))
    assert any(line.startswith("U") for line in suite.runpytest("-q").outlines)
    suite.runpytest("-v").stdout.fnmatch_lines(["*memory-one-nothing? UNKNOWN*"])
    suite.runpytest().stdout.fnmatch_lines(["[?] UNKNOWN *memory-one-nothing * nothing was at risk", "*1 unknown*"])


def test_unknown_fails_the_session_unless_it_is_allowed(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        from harness import *
        @matrix([Memory(f"n{n}") for n in range(10)], [Nothing()])
        def test_guarantee(run):
            if run.path.name == "memory-n3-nothing":
                raise Undecided("nothing was at risk")
        """
    )
    assert suite.runpytest().ret == pytest.ExitCode.TESTS_FAILED
    assert suite.runpytest("--assay-allow-unknown=9").ret == pytest.ExitCode.TESTS_FAILED
    assert suite.runpytest("--assay-allow-unknown=10").ret == pytest.ExitCode.OK
    assert suite.runpytest("--assay-allow-unknown").ret == pytest.ExitCode.OK


def test_allowed_unknowns_do_not_hide_a_violation(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    assert suite.runpytest("--assay-allow-unknown", "-k", "latency").ret == pytest.ExitCode.TESTS_FAILED


def test_a_missing_engine_is_unknown_with_its_cure_and_never_a_skip(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        "from harness import *\nthree = Nats('three', members=3)\n"
        "@matrix([three], [Kill(FOLLOWER)])\ndef test_guarantee(run):\n    pass\n"
    )
    result = suite.runpytest()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*no engine can serve it*", "*cure: assay doctor*"])
    found = cell(suite, "nats-three-kill_follower")
    assert (found["status"], found["outcome"], found["run"]) == ("not-run", "unknown", None)
    assert found["reason"].startswith("no engine can serve it")


def test_a_skip_in_a_guarantee_test_is_unknown(suite: pytest.Pytester) -> None:
    suite.makepyfile("import pytest\n" + ONE_CELL.format(fault="Nothing()", body="pytest.skip('not today')"))
    result = suite.runpytest()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert ended(suite) == {"memory-one-nothing": "unknown"}


def test_the_seed_stands_in_the_header_and_in_every_failure(suite: pytest.Pytester) -> None:
    suite.makepyfile(ONE_CELL.format(fault="Nothing()", body="raise Violated('7 of 392 acked messages lost')"))
    result = suite.runpytest("--assay-seed=424242")
    result.stdout.fnmatch_lines(
        ["assay: seed 424242*", "7 of 392 acked messages lost", "seed 424242;*runs/memory-one-nothing"]
    )
    result.stdout.no_fnmatch_line("*raise Violated*")


def test_an_assertion_of_the_suite_is_a_failure_of_the_cell(suite: pytest.Pytester) -> None:
    suite.makepyfile(ONE_CELL.format(fault="Nothing()", body="assert run.path.name == 'another'"))
    suite.runpytest().assert_outcomes(failed=1)
    assert cell(suite, "memory-one-nothing")["exit_code"] == 1


def test_the_matrix_and_what_is_not_applicable_are_shown_at_the_end(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    suite.runpytest().stdout.fnmatch_lines(
        [
            "*nothing*latency_clients*acknowledgement*kill_leader",
            "memory-one*✓ HELD*✗ VIOLATED*· NO CLAIM*! ERROR*",
            "memory-two*✓ HELD*[?] UNKNOWN*–*! ERROR*",
            "not applicable: memory-two x acknowledgement_loss: *without confirms*",
        ]
    )
    assert [row["configuration"] for row in record(suite)["not_applicable"]] == ["memory-two"]


def test_a_cell_of_which_nothing_was_demanded_is_not_called_held(suite: pytest.Pytester) -> None:
    suite.makepyfile(ONE_CELL.format(fault="Nothing()", body="pass"))
    result = suite.runpytest()
    result.stdout.fnmatch_lines(["· NO CLAIM *memory-one-nothing*", "memory-one*· NO CLAIM"])
    result.stdout.no_fnmatch_line("*HELD*")


@pytest.mark.parametrize(
    ("recorded", "body", "outcome", "code"),
    [
        (lossy(claims=(AT_LEAST,)), "run.must_violate(AT_MOST_ONCE)", "failed", 1),
        (fair_history(claims=(claim("never_again"),)), "run.must_keep(AT_LEAST_ONCE)", "unknown", 2),
        (lossy(claims=(AT_LEAST,)), "run.must_violate(AT_LEAST_ONCE)", "passed", 0),
        (fair_history(claims=(AT_LEAST,)), "pass", "passed", 0),
    ],
    ids=["a broken claim", "an unknown claim", "a claim expected to break", "nothing demanded by the test"],
)
def test_what_is_claimed_of_a_cell_is_demanded_after_what_its_test_demands(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, recorded: History, body: str, outcome: str, code: int
) -> None:
    monkeypatch.setattr(fake_runner, "HISTORY", [recorded])
    suite.makepyfile(ONE_CELL.format(fault="Nothing()", body=body))
    result = suite.runpytest()
    assert (cell(suite, "memory-one-nothing")["outcome"], cell(suite, "memory-one-nothing")["exit_code"]) == (
        outcome,
        code,
    )
    clean = "clean cells: 1; excludes, at 95 %, a defect that shows in each with a chance of 95.0 % or more (1 %: 299*"
    if body == "pass":
        result.stdout.fnmatch_lines(["✓ HELD *memory-one-nothing*", clean])
    else:
        result.stdout.no_fnmatch_line(f"*{clean}*")


def test_a_record_that_cannot_be_written_stops_the_session_in_order(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: Any, **__: Any) -> None:
        raise Trouble("no space left on device while writing session.json")

    monkeypatch.setattr(harness.plugin.session.SessionRecord, "ended", ended)
    suite.makepyfile(SUITE)
    watch = verify._Watch()
    code = int(suite.inline_run(plugins=[watch]).ret)
    ending = watch.ending(code)
    assert (ending.code, ending.reason) == (69, "no space left on device while writing session.json")
    assert watch.record is not None
    assert [cell.outcome for cell in watch.record.cells] == ["not-run"] * len(watch.record.cells)


def test_a_full_disk_is_trouble_and_said_in_words(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "proceedings.jsonl")

    monkeypatch.setattr(harness.runner.execute, "execute", execute)
    suite.makepyfile(ONE_CELL.format(fault="Nothing()", body="pass"))
    suite.runpytest().stdout.fnmatch_lines(["no space left while *proceedings.jsonl", "*cure: free some space*"])
    assert cell(suite, "memory-one-nothing")["exit_code"] == 69


def test_other_tests_are_left_alone(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_other():\n    pass\n")
    suite.runpytest().assert_outcomes(passed=1)
    assert not (suite.path / "reports").exists()


def test_what_a_test_demanded_is_recorded(suite: pytest.Pytester) -> None:
    body = "run.kept.append('at_least_once'); run.violated.append('at_most_once')"
    suite.makepyfile(ONE_CELL.format(fault="Nothing()", body=body))
    suite.runpytest()
    assert cell(suite, "memory-one-nothing")["expected"] == {"keep": ["at_least_once"], "violate": ["at_most_once"]}


def test_a_session_stopped_at_the_first_failure_knows_what_it_did_not_run(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    suite.runpytest("-x")
    assert ended(suite)["memory-two-nothing"] == "not-run"
    assert cell(suite, "memory-two-nothing")["run"] is None


# ---- processes of their own ------------------------------------------------------------------------------------------


@pytest.fixture
def apart(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.Pytester:
    """A directory of suites, run in processes of their own with a runner that runs nothing."""
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "state"))
    here = str(Path(__file__).parent)
    pytester.makeconftest(f"import sys\nsys.path.insert(0, {here!r})\nimport fake_runner\nfake_runner.install()\n")
    return pytester


def test_under_xdist_the_controller_keeps_the_record(apart: pytest.Pytester) -> None:
    apart.makepyfile(SUITE)
    result = apart.runpytest_subprocess("-n", "2", "--assay-seed=5")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert list(ended(apart).values()).count("passed") == 3
    assert ended(apart)["memory-two-latency_clients"] == "unknown"
    assert record(apart)["seed"] == 5
    result.stdout.fnmatch_lines(["*1 failed, 3 passed, 2 errors, 1 unknown*"])
    assert len(list(apart.path.glob("reports/*/runs/*"))) == 7


def test_a_killed_session_leaves_its_record(apart: pytest.Pytester) -> None:
    apart.makepyfile(
        ONE_CELL.format(fault="Nothing()", body="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        + "\n@matrix([Memory('later')], [Nothing()])\ndef test_later(run):\n    pass\n"
    )
    apart.runpytest_subprocess()
    assert ended(apart) == {"memory-one-nothing": "not-run", "memory-later-nothing": "not-run"}
    assert cell(apart, "memory-one-nothing")["run"] == "runs/memory-one-nothing"
    assert cell(apart, "memory-later-nothing")["run"] is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_session_in_order(apart: pytest.Pytester, number: int, code: int) -> None:
    apart.makepyfile(
        "import pathlib, time\n"
        + ONE_CELL.format(fault="Nothing()", body="pathlib.Path('began').touch(); time.sleep(60)")
        + "\n@matrix([Memory('later')], [Nothing()])\ndef test_later(run):\n    pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli.main", "verify", str(apart.path)],
        cwd=apart.path,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (apart.path / "began").exists():
        assert time.monotonic() < deadline, "the cell did not begin"
        time.sleep(0.02)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert output.splitlines()[-1].startswith(f"exit {code}: ended by ")
    assert ended(apart)["memory-later-nothing"] == "not-run"
