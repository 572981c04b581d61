"""Would the tests notice if a checker were wrong? Small wrongs are put into the checkers, one at a time.

    .venv/bin/python -m tests.mutation.mutate --sample 200 --seed 7
    .venv/bin/python -m tests.mutation.mutate --file fifo.py --json /tmp/fifo.json

Each mutant (tests/mutation/mutants.py) is judged by the tests that concern its file: *killed* if one of them fails, if
the module cannot be imported, or if they take far longer than they should; else it *survives*, and either a test is
missing or the mutant is none (tests/mutation/equivalent.py: those are not counted). No file is written: a process that
has imported everything but the checkers forks one for each mutant, which imports the one module from the changed text.

Prints the survivors, each with its place and its difference, and the score: killed / (killed + survived). Exit code 1
if any survived, 2 if the tests fail without any change. A mutant that is killed by a table takes about a second; one
that survives takes as long as its tests.
"""

from __future__ import annotations

import argparse
import atexit
import importlib
import importlib.abc
import importlib.machinery
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from difflib import unified_diff
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import Phase, settings

from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
CHECKERS = ROOT / "harness" / "checkers"
PACKAGE = "harness.checkers"
HISTORIES = "240"
"""Random histories of whole runs that a mutant is tried on, where no table has killed it."""

PREPARED = ("numpy", "docker", "harness.engines.doctor", "tests.histories", "tests.reference_verdicts")
_TABLES = ("delivery", "ordering", "processing", "idle", "judge", "trial")
_QUEUE = ("fifo",)
TESTS: Mapping[str, tuple[str, ...]] = {
    "fifo.py": _QUEUE,
    "emptiness.py": _QUEUE,
    "queue_operations.py": _QUEUE,
    "queue_witnesses.py": _QUEUE,
    "places.py": ("places", "delivery", "ordering", "fifo", "reference"),
    "bounds.py": ("judge", "latency"),
    "chunk_index.py": ("chunk_index", "delivery", "reference"),
    "invocations.py": ("invocations", "ordering", "reference"),
    "judge.py": (*_TABLES, "latency", "availability", "streams", "linearizability", "reference"),
    "sentences.py": ("judge", "delivery", "trial", "latency", "availability"),
}
"""Which tests/test_checkers_*.py concern a file; for all others that of its name, the tables, and the reference."""

OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout")
_LIMIT_S, _LIMIT_FACTOR = 30.0, 5.0
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"


def tests_of(file: str) -> list[str]:
    """The test files that concern a checker, the fastest first."""
    names = TESTS.get(file, dict.fromkeys((Path(file).stem, *_TABLES, "reference")))
    paths = [f"tests/test_checkers_{name}.py" for name in names]
    return [path for path in paths if (ROOT / path).exists()]


# ---- one mutant, in a process of its own -----------------------------------------------------------------------------


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module of the checkers from a text."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = f"{PACKAGE}.{Path(mutant.file).stem}"

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.source, f"mutant of {self._mutant.file}", "exec"), module.__dict__)


def prepare() -> None:
    """Import what every mutant's tests need, but for the checkers. Hypothesis draws the same each time, and does not
    look for the smallest example: that something fails is all that is asked."""
    os.chdir(ROOT)
    # What the first process compiles (pytest rewrites every test) the others read, from beside the work tree.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = tempfile.mkdtemp(prefix="assay-mutation-")
    atexit.register(shutil.rmtree, sys.pycache_prefix)
    os.environ["ASSAY_REFERENCE_HISTORIES"] = HISTORIES
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none of them is needed, and each wants to be imported first
    for name in PREPARED:
        importlib.import_module(name)
    settings.register_profile(
        "mutation", derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
    )
    settings.load_profile("mutation")
    if early := [name for name in sys.modules if name.startswith(PACKAGE)]:
        raise RuntimeError(f"imported too early to be changed: {early}")


def start(mutant: Mutant | None, tests: list[str], log: int) -> int:
    """Fork a process that runs the tests with this mutant (None: with no change); its number."""
    if pid := os.fork():
        return pid
    code = 70
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        if mutant is not None:
            sys.meta_path.insert(0, _Changed(mutant))
        code = int(pytest.main([*OPTIONS, *tests]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def wait(pid: int, within_s: float) -> int | None:
    """The exit code of a process; None if it was not done in time, and was killed."""
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def verdict(code: int | None) -> str:
    """What an exit code says of a mutant. Raises RuntimeError for one that says nothing."""
    if code is None:
        return TIMED_OUT
    if code == pytest.ExitCode.OK:
        return SURVIVED
    # A module that cannot be imported interrupts the collection; one that recurses without end is ended by a signal.
    if code in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED) or code < 0:
        return KILLED
    raise RuntimeError(f"pytest ended with {code}, which says nothing of the mutant")


# ---- all of them -----------------------------------------------------------------------------------------------------


def every(files: Iterable[Path]) -> Iterator[Mutant]:
    """Every mutant of these files."""
    for path in files:
        yield from mutants(path.name, path.read_text(encoding="utf-8"))


def difference(mutant: Mutant) -> str:
    """A mutant as a difference of its file."""
    before = (CHECKERS / mutant.file).read_text(encoding="utf-8").splitlines()
    lines = list(unified_diff(before, mutant.source.splitlines(), n=0, lineterm=""))
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def judge(chosen: list[Mutant], jobs: int, within_s: float) -> Iterator[tuple[Mutant, str]]:
    """Each mutant and what became of it, as it becomes known; none is begun after `within_s`. Raises SystemExit if the
    tests fail by themselves."""
    stops = time.monotonic() + within_s
    log = os.open(os.devnull, os.O_WRONLY)
    limits: dict[str, float] = {}
    for file in dict.fromkeys(mutant.file for mutant in chosen):
        key = " ".join(tests_of(file))
        if key not in limits:
            began = time.monotonic()
            with tempfile.TemporaryFile() as said:
                if code := wait(start(None, tests_of(file), said.fileno()), 1800):
                    said.seek(0)
                    print(said.read().decode(errors="replace"), file=sys.stderr)
                    print(f"without any change the tests of {file} end with {code}", file=sys.stderr)
                    raise SystemExit(2)
            limits[key] = _LIMIT_S + _LIMIT_FACTOR * (time.monotonic() - began)
    running: dict[int, tuple[Mutant, float]] = {}
    left = iter(chosen)
    while True:
        while len(running) < jobs and time.monotonic() < stops and (mutant := next(left, None)) is not None:
            limit_s = limits[" ".join(tests_of(mutant.file))]
            running[start(mutant, tests_of(mutant.file), log)] = (mutant, time.monotonic() + limit_s)
        if not running:
            return
        for pid, (mutant, ends) in list(running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                yield mutant, verdict(os.waitstatus_to_exitcode(status))
            elif time.monotonic() > ends:
                yield mutant, verdict(wait(pid, 0))
            else:
                continue
            del running[pid]
        time.sleep(0.02)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", action="append", help="only this file of harness/checkers (may be repeated)")
    parser.add_argument("--match", default="", help="only mutants whose name contains this")
    parser.add_argument("--sample", type=int, help="so many of them, at random")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no more of them after this time")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--equivalent", action="store_true", help="only those of equivalent.py, which must all survive")
    parser.add_argument("--json", type=Path, help="write the results here, too")
    told = parser.parse_args(arguments)
    files = sorted(path for path in CHECKERS.glob("*.py") if not told.file or path.name in told.file)
    named = [mutant for mutant in every(files) if told.match in mutant.name]
    chosen = [mutant for mutant in named if (mutant.name in EQUIVALENT) is told.equivalent]
    if told.sample is not None and told.sample < len(chosen):
        chosen = random.Random(told.seed).sample(chosen, told.sample)
    if not chosen:
        print("no mutant is meant by that", file=sys.stderr)
        return 2
    prepare()
    ends: Counter[str] = Counter()
    survivors = []
    for mutant, end in judge(chosen, told.jobs, told.minutes * 60):
        ends[end] += 1
        if ends.total() % 10 == 0:
            print(f"{ends.total()} of {len(chosen)}", file=sys.stderr, flush=True)
        if end is SURVIVED:
            survivors.append(mutant)
            print(f"harness/checkers/{mutant.file}:{mutant.line} ({mutant.where})\n{difference(mutant)}", flush=True)
    killed, tried = ends[KILLED] + ends[TIMED_OUT], ends.total()
    if not tried:
        print("there was no time for any", file=sys.stderr)
        return 2
    print(
        f"{killed} of {tried} mutants killed ({ends[TIMED_OUT]} of them by time), {len(survivors)} survived; "
        f"score {killed / tried:.1%}; {len(named) - tried} more were not tried, or are equivalent"
    )
    if told.json:
        told.json.write_text(
            json.dumps(
                {
                    "mutants": tried,
                    "killed": killed,
                    "timed_out": ends[TIMED_OUT],
                    "survived": len(survivors),
                    "score": killed / tried,
                    "survivors": [
                        {key: value for key, value in asdict(mutant).items() if key != "source"}
                        | {"difference": difference(mutant)}
                        for mutant in survivors
                    ],
                },
                indent=1,
            )
            + "\n",
            encoding="utf-8",
        )
    return int(killed > 0 if told.equivalent else len(survivors) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
