"""List the faults that can be injected: what each does, what it needs, and where it can be had here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from harness.cli.ending import HELD, Ending

if TYPE_CHECKING:
    from harness.system.needs import Needs

NAME = "faults"
SUMMARY = "list the faults, and where they can be had here"
EXAMPLE = "assay faults --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The form of the answer."""
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")


def run(arguments: argparse.Namespace) -> Ending:
    """One line each, under what its kind does; then what composes them."""
    from harness import catalogue

    found = catalogue.faults()
    here = {name: _here(name) for name in catalogue.ENGINES}
    told = [_told(name, fault, here) for name, fault in found.items()]
    if arguments.json:
        composed = {"schedules": _composed(catalogue.SCHEDULES), "moments": _composed(catalogue.MOMENTS)}
        print(json.dumps({"format": 1, "faults": told, **composed}, indent=2, ensure_ascii=False))
    else:
        _print(told)
        for heading, names in (("Composed, in a suite:", catalogue.SCHEDULES), ("At moments:", catalogue.MOMENTS)):
            print(heading)
            for one in _composed(names):
                print(f"    {one['class']}({', '.join(one['parameters'])})  {one['says']}")
    had = sum(any(reason is None for reason in one["here"].values()) for one in told)
    return Ending(code=HELD, reason=f"{len(found)} faults, {had} of them can be had here", aside=arguments.json)


def _here(engine: str) -> tuple[Needs, Mapping[str, str]]:
    """What an engine offers, and why those cannot be served now, by verb ("" for all of them)."""
    from harness import catalogue
    from harness.errors import Refused
    from harness.system.needs import Needs

    try:
        made = catalogue.engine(engine)
    except Refused as refused:
        return Needs(), {"": str(refused)}
    offered = made.offers()
    if reason := made.unavailable([]):
        return offered, {"": reason}
    verbs = offered.verbs.union(*(fault.needs.verbs for fault in catalogue.faults().values()))
    return offered, {verb: reason for verb in verbs if (reason := made.unavailable([], frozenset({verb})))}


def _told(name: str, fault: Any, here: Mapping[str, tuple[Needs, Mapping[str, str]]]) -> dict[str, Any]:
    from harness.plain import to_plain

    def why_not(engine: str) -> str | None:
        offered, reasons = here[engine]
        lacks_verbs = fault.needs.verbs - offered.verbs
        if told := next((reasons[verb] for verb in sorted(lacks_verbs) if verb in reasons), None):
            return told
        if missing := lacks_verbs | (fault.needs.equipment.kinds() - offered.capabilities):
            return f"it does not offer {', '.join(sorted(missing))}"
        return next((reasons[verb] for verb in ("", *sorted(fault.needs.verbs)) if verb in reasons), None)

    return {
        "name": name,
        "class": type(fault).__name__,
        "says": (type(fault).__doc__ or "").strip().splitlines()[0],
        "parameters": {one.name: to_plain(getattr(fault, one.name)) for one in fields(fault)},
        "holds_s": fault.hold_s,
        "endangers": fault.touches,
        "needs": {"verbs": sorted(fault.needs.verbs), "of_the_configuration": sorted(fault.needs.capabilities)},
        "here": {engine: why_not(engine) for engine in here},
    }


def _composed(names: Sequence[str]) -> list[dict[str, Any]]:
    """Schedules, or moments, by their classes."""
    from harness import catalogue

    kinds = [catalogue.record(name) for name in names]
    return [
        {
            "class": kind.__name__,
            "says": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
            "parameters": [one.name for one in fields(kind)],
        }
        for kind in kinds
    ]


def _print(told: list[dict[str, Any]]) -> None:
    kind = None
    for one in told:
        if one["class"] != kind:
            kind = one["class"]
            print(one["says"])
        engines = [engine for engine, reason in one["here"].items() if reason is None]
        where = ", ".join(engines) or "not here: " + "; ".join(f"{name}: {why}" for name, why in one["here"].items())
        print(f"    {one['name']}  ({one['holds_s']:g} s; {where})")
