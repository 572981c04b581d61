"""Which parts of the pages are made from the code? Each stands between two comments, and this is what stands there.

python tests/docs/made.py       writes them anew; test_made.py refuses a page that differs
"""

from __future__ import annotations

import argparse
import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any

from pages import PAGES, ROOT, name_of

from harness import catalogue
from harness.checkers import delivery, fifo, judge, sentences
from harness.cli.main import COMMANDS, parser
from harness.history.mapping import describe_meanings
from harness.history.store import describe_columns
from harness.plugin import options
from harness.scenario.matrix import dirties

BEGIN = "<!-- made by tests/docs/made.py: {} -->"
END = "<!-- made: end -->"
_PART = re.compile(r"<!-- made by tests/docs/made\.py: (\w+) -->\n(.*?)<!-- made: end -->", re.DOTALL)


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# ---- faults ----------------------------------------------------------------------------------------------------------


def _written(value: object) -> str:
    """A field's value as a suite writes it."""
    if isinstance(value, Enum):
        kind = type(value).__name__
        return value.name if kind == "Role" else f"{kind}.{value.name}"
    return repr(value)


def _default(one: Field[Any]) -> object:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _as_written(fault: Any) -> str:
    told = []
    for place, one in enumerate(fields(fault)):
        value = getattr(fault, one.name)
        if value != _default(one) or (place == 0 and one.name == "role"):
            told.append(_written(value) if place == 0 and one.name == "role" else f"{one.name}={_written(value)}")
    return f"{type(fault).__name__}({', '.join(told)})"


def faults() -> str:
    """Every fault that `assay faults` lists."""

    def row(name: str, fault: Any) -> list[str]:
        verbs = ", ".join(sorted(fault.needs.verbs)) or "-"
        confirms = "; confirms" if "confirms" in fault.needs.capabilities else ""
        used_up = "yes" if dirties(fault) else "no"
        return [f"`{name}`", f"`{_as_written(fault)}`", f"{fault.hold_s:g}", fault.touches, verbs + confirms, used_up]

    head = ("name", "in a suite", "holds, s", "endangers", "needs", "uses up its broker")
    return rows(head, (row(name, fault) for name, fault in catalogue.faults().items()))


def parameters() -> str:
    """The fields of every class of faults."""
    kinds = dict.fromkeys(type(fault) for fault in catalogue.faults().values())
    body = [
        [f"`{kind.__name__}`", f"`{one.name}`", f"`{_written(_default(one))}`"]
        for kind in kinds
        for one in fields(kind)
    ]
    return rows(("class", "parameter", "default"), body)


# ---- guarantees ------------------------------------------------------------------------------------------------------


def anomalies() -> str:
    """Every anomaly in the words of a verdict, and what it breaks."""

    def breaks(name: str) -> str:
        if name in delivery.STRANGE:
            return "every guarantee"
        broken = [f"`{guarantee}`" for guarantee, names in judge.BREAKS.items() if name in names]
        return ", ".join(broken) or "nothing by itself"

    told = {name: re.sub(r"\{\w+\}", "N", said) for name, said in sentences.ANOMALIES.items()}
    return rows(
        ("name", "in words", "breaks"), ([f"[`{name}`](#{name})", said, breaks(name)] for name, said in told.items())
    )


def patterns() -> str:
    """The bad patterns of a queue's history."""
    return rows(("name", "in words"), ([f"`{name}`", said.format(n="N")] for name, said in fifo.PATTERNS.items()))


# ---- commands --------------------------------------------------------------------------------------------------------


def _commands() -> Mapping[str, argparse.ArgumentParser]:
    found = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return found.choices


def _argument(action: argparse.Action) -> list[str]:
    value = str(action.metavar or (" or ".join(action.choices) if action.choices else "")) if action.nargs != 0 else ""
    if not action.option_strings:
        return [f"`{value}{' ...' if action.nargs == '*' else ''}`", str(action.help)]
    if value and action.nargs == "?":
        value = f"[{value}]"
    names = [f"`{name}{' ' + value if value else ''}`" for name in action.option_strings]
    return [names[0], str(action.help) + (f"; also {', '.join(names[1:])}" if len(names) > 1 else "")]


def commands() -> str:
    """Every command, with its arguments and options."""
    parts: list[str] = []
    verified: list[list[str]] = []
    for command in COMMANDS:
        one = _commands()[command.NAME]
        arguments = [_argument(action) for action in one._actions if not isinstance(action, argparse._HelpAction)]
        arguments.sort(key=lambda row: row[0].startswith("`--"))
        parts += [f"### {command.NAME}", "", inspect.cleandoc(str(one.description)), ""]
        if verified and all(row in arguments for row in verified):
            arguments = [row for row in arguments if row not in verified]
            arguments.append(["...", "and every argument of `verify`, but `--replay`"])
        if command.NAME == "verify":
            verified = arguments
        if arguments:
            parts += [rows(("argument", "meaning"), arguments), ""]
        parts += [f"Example: `{command.EXAMPLE}`", ""]
    return "\n".join(parts).rstrip()


# ---- options of the plugin -------------------------------------------------------------------------------------------


class Listening:
    """Stands where pytest's parser stands, and hears what the plugin adds to it."""

    def __init__(self) -> None:
        self.options: list[tuple[str, str, str]] = []
        self.keys: list[str] = []

    def getgroup(self, name: str, description: str) -> Listening:
        return self

    def addoption(self, name: str, **given: Any) -> None:
        value = given.get("metavar", "")
        self.options.append((name, f"[{value}]" if given.get("nargs") == "?" else value, given["help"]))

    def addini(self, name: str, help_text: str, default: object) -> None:
        self.keys.append(name)


def plugin_options() -> str:
    """Every option of the plugin, with its key in pytest's ini file."""
    listening = Listening()
    options.pytest_addoption(listening)  # type: ignore[arg-type]
    body = [
        [f"`{name}{' ' + value if value else ''}`", f"`{key}`", meaning]
        for (name, value, meaning), key in zip(listening.options, listening.keys, strict=True)
    ]
    return rows(("option", "ini key", "meaning"), body)


def configurations() -> str:
    """The configurations of the default matrix."""
    body = [
        [
            f"`{name}`",
            str(len(one.nodes())),
            "yes" if promise.confirms else "no",
            promise.ack.name.lower(),
            promise.retry,
        ]
        for name, one in catalogue.configurations().items()
        for promise in (one.promise(),)
    ]
    return rows(("name", "nodes", "publishes answered", "deliveries settled", "retry"), body)


def layers() -> str:
    """The layers of the package, from the contract in pyproject.toml, the highest first."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    contract = next(one for one in told if one["type"] == "layers")
    lines = []
    for layer in contract["layers"]:
        rooms = [room for room in re.findall(r"\w+", layer) if list((ROOT / "harness").glob(f"{room}*"))]
        lines += [f"1. {', '.join(rooms)}"] if rooms else []
    return "\n".join(lines)


# ---- pages -----------------------------------------------------------------------------------------------------------

PARTS: Mapping[str, Callable[[], str]] = {
    "faults": faults,
    "parameters": parameters,
    "anomalies": anomalies,
    "patterns": patterns,
    "commands": commands,
    "options": plugin_options,
    "configurations": configurations,
    "columns": describe_columns,
    "meanings": describe_meanings,
    "layers": layers,
}


def made(text: str) -> Iterator[tuple[str, str]]:
    """(name, text) of every made part of a page, as it stands there."""
    yield from _PART.findall(text)


def anew(text: str) -> str:
    """A page with its made parts written anew."""
    return _PART.sub(lambda part: f"{BEGIN.format(part[1])}\n\n{PARTS[part[1]]().strip()}\n\n{END}", text)


def main() -> None:
    """Write every page's made parts anew."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := anew(text)) != text:
            page.write_text(new, encoding="utf-8")
            print(f"{name_of(page)} is written anew")


if __name__ == "__main__":
    main()
