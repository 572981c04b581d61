"""What is asked of `assay`? Finds the command, carries it out, and says how it ended in the last line.

Commands import what they need when they run, so that `assay --help` starts at once.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from harness.cli import (
    bench,
    claims,
    configurations,
    doctor,
    export,
    faults,
    importing,
    recheck,
    replay,
    report,
    sql,
    sweep,
    verify,
)
from harness.cli.ending import CODES, INTERNAL, INTERRUPTED, TERMINATED, Ending
from harness.cli.parser import Parser
from harness.errors import AssayError
from harness.plugin.termination import Terminated, terminating

COMMANDS: tuple[ModuleType, ...] = (
    verify, replay, recheck, report, export, importing, sql, doctor, configurations, faults, claims, bench, sweep,
)  # fmt: skip
"""In the order of `--help`. Each has NAME, SUMMARY, EXAMPLE, `add_arguments(parser)` and `run(arguments) -> Ending`."""

DESCRIPTION = """Finds out which delivery guarantee RabbitMQ and NATS configurations keep under faults."""

EPILOG = f"""examples:
  assay verify                                             the default matrix, then a report
  assay verify --configuration '*quorum*' --fault 'kill_*' some cells of it
  assay recheck reports/SESSION/runs/CELL                  judge a finished run again
  assay doctor                                             what is missing here, and the cure

{CODES}"""


def parser() -> Parser:
    """The parser of the whole command line."""
    whole = Parser(prog="assay", description=DESCRIPTION, epilog=EPILOG)
    whole.add_argument("--version", action="store_true", help="say which Assay this is")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    for command in COMMANDS:
        one = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.__doc__,
            epilog=f"example:\n  {command.EXAMPLE}\n\n{CODES}",
        )
        command.add_arguments(one)
        one.set_defaults(run=command.run, parser=one)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line; returns its exit code."""
    # numpy starts a thread for each core, for an algebra that nobody here asks for: a quarter of a recheck's CPU.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        ending = _carried_out(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if ending is None:
        return 0
    print(ending, file=sys.stderr if ending.aside else sys.stdout, flush=True)
    return ending.code


def _carried_out(argv: list[str]) -> Ending | None:
    """None for what has no ending: a version or a list of commands."""
    try:
        with terminating():
            whole = parser()
            own, beyond = _split(argv)
            arguments, unknown = whole.parse_known_args(own)
            if arguments.version:
                print(_version())
                return None
            if arguments.command is None:
                whole.refuse(unknown)
                whole.print_help()
                return None
            arguments.parser.refuse(unknown)
            if beyond and arguments.command not in (verify.NAME, replay.NAME):
                arguments.parser.refuse(beyond)
            arguments.beyond = beyond
            ending: Ending = arguments.run(arguments)
            return ending
    except Terminated:
        return Ending(code=TERMINATED, reason="ended by SIGTERM")
    except KeyboardInterrupt:
        return Ending(code=INTERRUPTED, reason="ended by Ctrl-C")
    except BrokenPipeError:
        raise
    except AssayError as error:
        print(f"assay: {error}", file=sys.stderr)
        return Ending(code=error.exit_code, reason=error.message.splitlines()[0])
    except Exception as error:  # a defect of ours: said in one line, kept in a file, never shown as a wall of text
        return _defect(error)


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """What is ours, and what stands after `--`: pytest's."""
    if "--" not in argv:
        return argv, []
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


def _defect(error: Exception) -> Ending:
    text = "".join(traceback.format_exception(error))
    path = Path(tempfile.gettempdir()) / f"assay-defect-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        print(text, file=sys.stderr)
        return Ending(code=INTERNAL, reason=f"internal error: {type(error).__name__}: {error}")
    print(
        f"assay: internal error: {type(error).__name__}: {error}\n"
        f"  cure: this is a defect of Assay; please report it to its issue tracker, with {path}",
        file=sys.stderr,
    )
    return Ending(code=INTERNAL, reason=f"internal error: {type(error).__name__}", path=path)


def _version() -> str:
    from importlib import metadata

    try:
        return f"assay {metadata.version('broker-assay')}"
    except metadata.PackageNotFoundError:
        return "assay, a checkout that is not installed"


if __name__ == "__main__":
    sys.exit(main())
