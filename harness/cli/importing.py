"""Make a run directory, to be judged, of a history that was exported, or that your own client recorded.

What was exported as JSON lines or Parquet comes back as it was. A recording is one .jsonl or .parquet file of
publications and deliveries, or a folder with publications.* and deliveries.*; it can be VIOLATED or UNKNOWN, not HELD.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.ending import HELD, Ending
from harness.errors import Refused
from harness.guarantee import GUARANTEES
from harness.plain import did_you_mean

if TYPE_CHECKING:
    from harness.history.history import History
    from harness.history.recording import Recording

NAME = "import"
SUMMARY = "make a run directory of an export, or of a recording of your own"
EXAMPLE = "assay import orders.jsonl --map publication.message=order_id --unit ms --out /tmp/orders"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the history is, what its fields mean, and where the run directory goes."""
    parser.add_argument("history", type=Path, metavar="HISTORY", help="a file or folder: an export or a recording")
    parser.add_argument("--out", type=Path, metavar="RUN", required=True, help="the run directory to make")
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="MEANING=FIELD",
        help="of a recording: which field says what, such as publication.message=order_id, kind=type, "
        "kind.delivery=received, outcome.OK=acked; again for each (default: fields are called by their meaning)",
    )
    parser.add_argument(
        "--unit", choices=["ns", "us", "ms", "s"], default="ns", help="of a recording: the unit of times (default: ns)"
    )
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="FIELD", help="of a recording: a field to pass over; '*': any"
    )
    parser.add_argument(
        "--drained",
        action="store_true",
        help="of a recording: you vouch that consumers read all there was, so that the rest is lost",
    )
    parser.add_argument(
        "--fan-out", action="store_true", help="of a recording: every group is due a copy of every message"
    )
    parser.add_argument(
        "--ack-wait",
        type=float,
        metavar="SECONDS",
        help="of a recording: when the broker delivers again what is not acknowledged; never_again needs it",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="GUARANTEE",
        help="of a recording: what it must keep: `recheck` ends with 1 where that is violated, with 2 where unknown",
    )


def run(arguments: argparse.Namespace) -> Ending:
    """Import it."""
    from harness.history.foreign import identities
    from harness.history.identities import write_identities
    from harness.history.reimport import is_export, read_export
    from harness.history.store import write_history

    source, target = arguments.history, arguments.out
    _free(target)
    recording: Recording | None = None
    if is_export(source):
        _no_recording(arguments)
        history = read_export(source)
    else:
        history, recording = _read_recording(arguments)
    write_history(target, history)
    if recording is not None:
        write_identities(target, identities(recording))
    return Ending(code=HELD, reason=_said(history), path=target)


def _free(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Refused(f"{target} is there already, and not empty", cure="name a new run directory with --out")


def _no_recording(arguments: argparse.Namespace) -> None:
    given = [name for name in ("map", "ignore", "drained", "fan_out", "ack_wait", "keep") if getattr(arguments, name)]
    if given or arguments.unit != "ns":
        told = f"--{(given or ['unit'])[0].replace('_', '-')}"
        raise Refused(f"{arguments.history} is an export, which needs no {told}", cure=f"leave {told} out")


def _read_recording(arguments: argparse.Namespace) -> tuple[History, Recording]:
    from harness.history.foreign import Said, history_of
    from harness.history.mapping import read_map
    from harness.history.recording import read_recording
    from harness.history.values import show

    source = arguments.history
    if not source.exists():
        raise Refused(f"there is no {source}", cure="name a file or folder that is there")
    if (ack_wait_s := arguments.ack_wait) is not None and not 0 < ack_wait_s < 1e9:
        raise Refused(f"--ack-wait {ack_wait_s} is no number of seconds", cure="a number above 0")
    for name in arguments.keep:
        if name not in GUARANTEES:
            raise Refused(
                f"--keep {name}: there is no such guarantee{did_you_mean(name, GUARANTEES)}",
                cure=f"one of {', '.join(GUARANTEES)}",
            )
    fields = read_map(arguments.map)
    recording = read_recording(source, fields, unit=arguments.unit, ignored=arguments.ignore)
    said = Said(
        name="imported",
        recorded_by=f"whoever wrote {show(source.name)}",
        drained=arguments.drained,
        fan_out=arguments.fan_out,
        ack_wait_s=ack_wait_s,
        keep=tuple(dict.fromkeys(arguments.keep)),
    )
    return history_of(recording, said), recording


def _said(history: History) -> str:
    counted = f"{history.publications.rows} publications and {history.deliveries.rows} deliveries are imported"
    return f"{counted}, which can be VIOLATED or UNKNOWN, not HELD" if history.terms.recorded_by else counted
