"""Does any spoilt history deceive or upset a judge? Run directories, journals and imports are mutated, and judged.

    python tests/soak/fuzz_histories.py --count 100000 --seed 7 [RUN ...]

Every case ends in an error for a reader (Refused, Trouble) or in a judgement; never in another exception, beyond 2 GiB
of memory, after more than 30 s, or with a script of the history's in its report. And never in a false HELD, which is
argued by what a mutation leaves of the evidence:

- *sealed*: one file of a frozen run, or of an export with its manifest, is changed. Its sum is not, so what is judged
  all the same is what was recorded, and every verdict must be as before. Nothing is excluded here.
- *rows*: whoever changes rows and seals the run again can write any history, so nothing general can be asked. What can:
  a row cut out of the middle, one that stands there twice, and what no client can have written are refused; evidence
  against a guarantee that is added keeps it from being HELD; a run that says of itself that it was unfair shows
  nothing as HELD. Each mutator names the guarantees that may rise, and why. Out of reach are rows cut off a client's
  end, where no counter of the broker is left to miss them.
- *resealed*: a file is changed and sealed again. Its terms may then say whatever makes a trial fair, so only errors are
  looked for.
- *journals*: of a run that was not frozen nothing is HELD. What is only cut off makes no violation that there was not.
  A changed bit can: records have no sums (they would cost more than writing them), so another message's number in one
  may be a phantom.
- *unvouched*: an export without its manifest, and a recording, show nothing as HELD.

What fails is printed with its number; `--only NUMBER` plays that case again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from histories import claim, deliver, effect, fair_history, left, note, publish  # noqa: E402

from harness.checkers.judge import judge  # noqa: E402
from harness.cli import importing, recheck  # noqa: E402
from harness.errors import AssayError, Refused  # noqa: E402
from harness.guarantee import Status  # noqa: E402
from harness.history import proceedings, seal, store  # noqa: E402
from harness.history.exchange import export_directory, export_stream  # noqa: E402
from harness.history.history import History  # noqa: E402
from harness.history.query import ask  # noqa: E402
from harness.report.build import build  # noqa: E402
from harness.report.session import SessionCell, SessionFile, write_session  # noqa: E402
from harness.run import Run  # noqa: E402
from tests.mutations import ROWS, SCRIPT, Files, spoil, truncate  # noqa: E402

MEMORY_BYTES = 2 << 30
CASE_S = 30
SHOWN_EVERY = 40
Statuses = dict[str, Status]


class Deceived(Exception):
    """An invariant is broken."""


@dataclass(frozen=True, slots=True)
class Stock:
    """One run to spoil. `frozen`, `raw`: its files, frozen and as its clients left them; `exports`: by form."""

    name: str
    history: History
    statuses: Statuses
    frozen: Files
    raw: Files
    exports: dict[str, Files]


def stock_of(run: Path, name: str) -> Stock:
    """A run directory as stock. It is frozen anew, so that it is sealed."""
    history, files = Run(run).history, _read(run)
    journals = {name: data for name, data in files.items() if name.endswith(".journal")}
    with tempfile.TemporaryDirectory() as folder:
        store.write_history(Path(folder, "run"), history)
        for form in ("jsonl", "parquet"):
            export_directory(history, Path(folder, form), form)
        stream = io.StringIO()
        export_stream(history, stream)
        frozen = _read(Path(folder, "run"))
        frozen |= {name: files[name] for name in (store.SCENARIO_FILE, store.PLAN_FILE) if name in files}
        exports = {form: _read(Path(folder, form)) for form in ("jsonl", "parquet")}
    exports["stream"] = {"run.jsonl": stream.getvalue().encode()}
    raw = {**journals, proceedings.FILE: files[proceedings.FILE]} if journals else {}
    return Stock(name, history, statuses(history), frozen, raw, exports)


def synthetic(folder: Path) -> Iterator[Stock]:
    """Runs written by hand: all HELD, one message lost, one delivered twice, with effects, without any fault."""
    shown: dict[str, Any] = {"claims": (claim("at_least_once"),), "cell": "by-hand"}
    deduplicated: dict[str, Any] = {
        "mechanism": "transaction",
        "effects_audited": True,
        "faults": ("nothing",),
        "injections": (),
    }
    runs = {
        "held": fair_history(**shown),
        "lost": fair_history(publish(401).acked(401).at(3000).until(3001), **shown),
        "twice": fair_history(deliver(7).as_sequence(7).again().at(3100).acknowledged(), **shown),
        "owed": fair_history(left(5, sequence=5), note("ticker-gap", 3000, value=10**9), **shown),
        "effects": fair_history(*(effect(number) for number in range(1, 401)), **shown, **deduplicated),
    }
    for name, history in runs.items():
        store.write_history(folder / name, history)
        yield stock_of(folder / name, name)


def statuses(history: History) -> Statuses:
    return {name: verdict.status for name, verdict in judge(history).verdicts.items()}


# ---- one case --------------------------------------------------------------------------------------------------------


def sealed(one: Stock, other: Stock, chance: Random, where: Path) -> tuple[str, Statuses]:
    done, files = spoil(one.frozen, other.frozen, chance, sorted(one.frozen))
    found = _judged(files, where, chance)
    if files.keys() == one.frozen.keys() and found != one.statuses:
        raise Deceived(f"{done}: {_differing(one.statuses, found)}")
    return done, found


def resealed(one: Stock, other: Stock, chance: Random, where: Path) -> tuple[str, Statuses]:
    names = [name for name in one.frozen if name != store.FORMAT_FILE]
    done, files = spoil(one.frozen, other.frozen, chance, sorted(names))
    head = json.loads(one.frozen[store.FORMAT_FILE])
    head["sha256"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    if chance.random() < 0.3:
        head["rows"] = json.loads(other.frozen[store.FORMAT_FILE])["rows"]
    del head["sum"]
    head["sum"] = seal.sum_of(head)
    return done, _judged({**files, store.FORMAT_FILE: json.dumps(head).encode()}, where, chance)


def rows(one: Stock, _other: Stock, chance: Random, where: Path) -> tuple[str, Statuses]:
    how = chance.choice(ROWS)
    altered = how(one.history, chance)
    if altered is None:
        return f"{how.__name__}: not of this run", {}
    store.write_history(where / "runs" / "case", altered.history)
    found = _judged({}, where, chance)
    if altered.refused:
        raise Deceived(f"{how.__name__}: judged: {_held(found)} HELD")
    held = _held(found)
    if wrong := held if "all" in altered.unheld else held & altered.unheld:
        raise Deceived(f"{how.__name__}: HELD: {sorted(wrong)}")
    risen = held - _held(one.statuses)
    if "all" not in altered.may_rise and (wrong := risen - altered.may_rise):
        raise Deceived(f"{how.__name__}: became HELD: {sorted(wrong)}")
    return how.__name__, found


def journals(one: Stock, other: Stock, chance: Random, where: Path) -> tuple[str, Statuses]:
    if not one.raw:
        return "no journals", {}
    if cut := chance.random() < 0.5:
        name = chance.choice(sorted(one.raw))
        done, files = f"truncate {name}", {**one.raw, name: truncate(one.raw[name], b"", chance)}
    else:
        done, files = spoil(one.raw, other.raw or one.raw, chance, sorted(one.raw))
    found = _judged(files, where, chance)
    if held := _held(found):
        raise Deceived(f"{done}: HELD: {sorted(held)}")
    violated = {name for name, status in found.items() if status is Status.VIOLATED}
    if cut and (new := {name for name in violated if one.statuses.get(name) is not Status.VIOLATED}):
        raise Deceived(f"{done}: VIOLATED, and was not: {sorted(new)}")
    return done, found


def exported(one: Stock, other: Stock, chance: Random, where: Path) -> tuple[str, Statuses]:
    form = chance.choice(sorted(one.exports))
    done, files = spoil(one.exports[form], other.exports[form], chance, sorted(one.exports[form]))
    found = _imported(files, form, where, chance)
    if files.keys() != one.exports[form].keys():
        if held := _held(found):
            raise Deceived(f"{form}, {done}: HELD: {sorted(held)}")
    elif found != one.statuses and not (found == other.statuses and "exchange" in done):
        raise Deceived(f"{form}, {done}: {_differing(one.statuses, found)}")
    return f"{form}, {done}", found


def unvouched(one: Stock, other: Stock, chance: Random, where: Path) -> tuple[str, Statuses]:
    form = chance.choice(["jsonl", "parquet"])
    given = {name: data for name, data in one.exports[form].items() if name != "export.json"}
    done, files = spoil(given, other.exports[form], chance, sorted(given))
    found = _imported(files, form, where, chance)
    if held := _held(found):
        raise Deceived(f"{form} without manifest, {done}: HELD: {sorted(held)}")
    return f"{form} without manifest, {done}", found


def recording(one: Stock, other: Stock, chance: Random, where: Path) -> tuple[str, Statuses]:
    files = {"rows.jsonl": _recorded(one.history, chance)}
    done, files = spoil(files, {"rows.jsonl": _recorded(other.history, chance)}, chance, ["rows.jsonl"])
    found = _imported(files, "recording", where, chance)
    if held := _held(found):
        raise Deceived(f"recording, {done}: HELD: {sorted(held)}")
    return f"recording, {done}", found


KINDS: tuple[Callable[[Stock, Stock, Random, Path], tuple[str, Statuses]], ...] = (
    sealed, resealed, resealed, rows, rows, journals, journals, exported, unvouched, recording,
)  # fmt: skip


def _recorded(history: History, chance: Random) -> bytes:
    """A part of a history as a client of somebody's own would record it."""
    published, delivered = history.publications, history.deliveries
    begin = chance.randrange(max(published.rows - 40, 1))
    lines: list[dict[str, object]] = [
        {
            "kind": "publication",
            "client": f"p{published.client[row]}",
            "message": str(published.message[row]),
            "invoked": int(published.invoked_ns[row]),
            **({"completed": int(published.completed_ns[row]), "outcome": "OK"} if published.outcome[row] == 1 else {}),
        }
        for row in range(begin, min(begin + 40, published.rows))
    ]
    lines += [
        {
            "kind": "delivery",
            "client": f"c{delivered.client[row]}",
            "message": str(delivered.message[row]),
            "received": int(delivered.received_ns[row]),
            "redelivered": bool(delivered.redelivered[row]),
        }
        for row in range(begin, min(begin + 40, delivered.rows))
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _judged(files: Files, where: Path, chance: Random) -> Statuses:
    """The verdicts on a run of these files; now and then also all that is made of one for a reader."""
    run = where / "runs" / "case"
    _write(files, run)
    finished = Run(run)
    found = {name: verdict.status for name, verdict in finished.judgement.verdicts.items()}
    if chance.randrange(SHOWN_EVERY) == 0:
        _show(where, run, finished.history)
    return found


def _show(where: Path, run: Path, history: History) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        recheck.run(_parsed(recheck, [str(run)]))
        recheck.run(_parsed(recheck, [str(run), "--json"]))
    if any(not letter.isprintable() and letter != "\n" for letter in said.getvalue()):
        raise Deceived("recheck prints what a terminal takes for commands")
    for form in ("jsonl", "edn"):
        export_stream(history, io.StringIO(), form)
    ask(history, "select count(*) from publications, terms")
    cell = SessionCell(id="case", configuration="c", fault="f", status="ran", run="runs/case")
    write_session(where, SessionFile(session="s", started="2026-11-24T08:00:00Z", seed=7, cells=(cell,)))
    if SCRIPT in build(where).html.read_text(encoding="utf-8"):
        raise Deceived("the report runs a script out of the history")


def _imported(files: Files, form: str, where: Path, chance: Random) -> Statuses:
    source, run = where / "source", where / "runs" / "case"
    _write(files, source)
    path = source / next(iter(files), "none") if form in ("stream", "recording") else source
    importing.run(_parsed(importing, [str(path), "--out", str(run), *(["--drained"] if form == "recording" else [])]))
    return _judged({}, where, chance)


def _parsed(command: object, argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)  # type: ignore[attr-defined]
    return parser.parse_args(argv)


def _read(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _write(files: Files, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def _held(found: Statuses) -> set[str]:
    return {name for name, status in found.items() if status is Status.HELD}


def _differing(before: Statuses, after: Statuses) -> str:
    return ", ".join(
        f"{name} {before.get(name)} -> {after.get(name)}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    )


# ---- all of them -----------------------------------------------------------------------------------------------------


def limit_memory(more_bytes: int = MEMORY_BYTES) -> None:
    """From now on this process gets so much more memory, and no more."""
    now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now_bytes + more_bytes, now_bytes + more_bytes))


def fuzz(stock: Sequence[Stock], numbers: Sequence[int], seed: int, where: Path) -> tuple[Counter[str], list[str]]:
    """How the cases with these numbers ended, counted, and each that failed, in words; these are printed at once."""
    ended: Counter[str] = Counter()
    failed: list[str] = []
    signal.signal(signal.SIGALRM, _too_long)
    for number in numbers:
        chance = Random(f"{seed}:{number}")
        kind, one, other = chance.choice(KINDS), chance.choice(stock), chance.choice(stock)
        case = where / str(number)
        case.mkdir()
        wrong = ""
        signal.alarm(CASE_S)
        try:
            _, found = kind(one, other, chance, case)
            ended[f"{kind.__name__}: {'judged' if found else 'nothing to do'}"] += 1
        except AssayError as error:
            ended[f"{kind.__name__}: refused"] += 1
            if isinstance(error, Refused) and not error.cure:
                wrong = f"no cure: {error!r}"
        except Exception as error:
            wrong = str(error) if isinstance(error, Deceived) else traceback.format_exc(limit=-6)
        finally:
            signal.alarm(0)
            shutil.rmtree(case)
        if wrong:
            failed.append(f"case {number} ({kind.__name__}, {one.name}): {wrong}")
            print(failed[-1], file=sys.stderr, flush=True)
    return ended, failed


def _too_long(*_: object) -> None:
    raise TimeoutError(f"it takes longer than {CASE_S} s")


def main() -> int:
    """Fuzz; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="further run directories to spoil")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", type=int, help="play one case again")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="assay-fuzz-") as folder:
        stock = [*synthetic(Path(folder, "stock")), *(stock_of(run, run.name) for run in arguments.runs)]
        Path(folder, "cases").mkdir()
        limit_memory()
        numbers: Sequence[int] = range(arguments.count) if arguments.only is None else [arguments.only]
        ended, failed = fuzz(stock, numbers, arguments.seed, Path(folder, "cases"))
    took_s = time.monotonic() - began_s
    told = ", ".join(f"{how} {count}" for how, count in sorted(ended.items()))
    print(f"{len(numbers)} cases in {took_s:.0f} s, {len(failed)} failed; {told}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
