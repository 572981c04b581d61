"""Judge a finished run again, from its files alone: after a fix of a checker, or on another machine."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.ending import HELD, UNKNOWN, VIOLATED, Ending

if TYPE_CHECKING:
    from harness.checkers.judge import Judgement
    from harness.run import Run

NAME = "recheck"
SUMMARY = "judge a finished run again, from its files"
GLYPHS = {"HELD": "✓", "VIOLATED": "✗", "UNKNOWN": "?"}
EXAMPLE = "assay recheck reports/20261124T080000Z-7/runs/nats-core-nothing --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and the form of the answer."""
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="a run directory: reports/SESSION/runs/CELL")
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")


def run(arguments: argparse.Namespace) -> Ending:
    """Print every verdict; the code is that of the demands on the run: claims in scope, and what its suite expected."""
    from harness.run import Run

    finished = Run(arguments.run_directory)
    judgement = finished.judgement
    keep, violate = _demands(finished)
    if arguments.json:
        print(json.dumps(_document(finished, judgement, keep, violate), indent=2, ensure_ascii=False))
    else:
        _print(finished, judgement)
    code, reason = _weigh(finished, keep, violate)
    if code == HELD and (interrupted := finished.history.terms.interrupted):
        code, reason = UNKNOWN, f"the run did not come to its end: {interrupted}"
    return Ending(code=code, reason=reason, path=arguments.run_directory, aside=arguments.json)


def _demands(finished: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of guarantees to be kept and to be violated: what the suite that ran it demanded, and the claims in scope
    that it did not expect to break."""
    keep: tuple[str, ...] = ()
    violate: tuple[str, ...] = ()
    session = finished.path.resolve().parent.parent
    if (session / "session.json").is_file():
        from harness.report.session import read_session

        for cell in read_session(session).cells:
            if cell.run is not None and (session / cell.run) == finished.path.resolve():
                keep, violate = cell.expected.keep, cell.expected.violate
    claims = [guarantee.name for guarantee in finished.claims if guarantee.name not in violate]
    return tuple(dict.fromkeys([*keep, *claims])), violate


def _weigh(finished: Run, keep: tuple[str, ...], violate: tuple[str, ...]) -> tuple[int, str]:
    from harness.guarantee import Status

    def of(names: tuple[str, ...], status: Status) -> list[str]:
        return [name for name in names if finished.verdict(name).status is status]

    if broken := of(keep, Status.VIOLATED):
        return VIOLATED, f"violated: {', '.join(broken)}"
    if unseen := of(violate, Status.HELD):
        return VIOLATED, f"expected to break, and held: {', '.join(unseen)}"
    if unknown := of((*keep, *violate), Status.UNKNOWN):
        return UNKNOWN, f"unknown: {', '.join(unknown)}"
    said = [*(f"{name} held" for name in keep), *(f"{name} violated, as expected" for name in violate)]
    return HELD, ", ".join(said) or "nothing is claimed of this run"


def _print(finished: Run, judgement: Judgement) -> None:
    from harness.checkers.sentences import answered, available

    terms = finished.history.terms

    def say(text: str) -> None:
        # Words of a history that came from elsewhere are no commands for a terminal.
        print("".join(character if character.isprintable() else " " for character in text))

    setting = [terms.configuration, *terms.faults, f"{terms.family} {terms.broker_version}".strip()]
    say(f"{terms.cell}: {', '.join(word for word in setting if word)}")
    say(f"observed: {judgement.observed}")
    for verdict in judgement.verdicts.values():
        claimed = f"  (claimed: {verdict.page})" if verdict.claimed else ""
        say(f"{GLYPHS[verdict.status]} {verdict.sentence}{claimed}")
        for reason in verdict.reasons:
            say(f"    because: {reason}")
        for witness in verdict.witnesses[:3]:
            say(f"    witness: {witness.story}")
    for told, own in _identities(finished, judgement).items():
        say(f"message {told} was recorded as {own}")
    say(available(judgement.availability))
    say(answered(judgement.latency))
    say("counts: " + ", ".join(f"{name} {count}" for name, count in judgement.counts.items() if count))


def _identities(finished: Run, judgement: Judgement) -> dict[str, str]:
    """What the recorder of an imported history called the messages that witnesses name, printable."""
    from harness.history.identities import read_identities
    from harness.history.values import show
    from harness.operation import MessageId

    witnesses = [witness for verdict in judgement.verdicts.values() for witness in verdict.witnesses[:3]]
    named = {str(MessageId.unpack(one.message)) for one in witnesses if one.message is not None}
    return {told: show(own) for told, own in sorted(read_identities(finished.path, named).items())}


def _document(
    finished: Run, judgement: Judgement, keep: tuple[str, ...], violate: tuple[str, ...]
) -> dict[str, object]:
    from harness.plain import to_plain

    terms = finished.history.terms
    return {
        "format": 1,
        "run": str(finished.path),
        "cell": terms.cell,
        "configuration": terms.configuration,
        "faults": list(terms.faults),
        "seed": terms.seed,
        "interrupted": terms.interrupted,
        "observed": judgement.observed,
        "demanded": {"keep": list(keep), "violate": list(violate)},
        "counts": dict(judgement.counts),
        "verdicts": {name: to_plain(verdict) for name, verdict in judgement.verdicts.items()},
    }
