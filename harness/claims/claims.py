"""What does documentation claim of a configuration, in its version, while these faults happen?

Claims stand in the `*.toml` files beside this module, one `[[claim]]` each:

    [[claim]]
    configurations = ["rabbitmq-quorum-*"]      # globs of configuration names
    guarantee = "at_least_once"
    page = "rabbitmq.com/docs/quorum-queues"
    says = "a confirmed message is not lost as long as a majority is not permanently gone"
    faults = ["kill_*", "blackhole_*"]          # globs of fault names; absent: every fault
    versions = ">=4.0, <5"                      # of the broker; absent: every version

A claim is in scope of a run only if *every* fault of the run matches one of its patterns: a page that speaks of one
fault says nothing of it together with another. The fault "nothing" breaks nothing and needs no pattern.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from harness.errors import Refused
from harness.guarantee import GUARANTEES, Claim
from harness.history.terms import Claimed
from harness.plain import did_you_mean

DIRECTORY = Path(__file__).parent
NO_FAULT = "nothing"
UNCLAIMED = ("flip_bits_*", "truncate_*")
"""Faults of which no page speaks, whatever its patterns say: files that somebody else changed."""

_REQUIRED = ("configurations", "guarantee", "page", "says")
_OPTIONAL = ("faults", "versions")
_LISTS = frozenset({"configurations", "faults"})
_BOUND = re.compile(r"(>=|<=|==|!=|<|>)\s*(\d+(?:\.\d+)*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One claim, the configurations it speaks of, and where it stands ("nats.toml:14")."""

    configurations: tuple[str, ...]
    claim: Claim
    where: str

    def covers(self, configuration: str, version: str, faults: Iterable[str]) -> bool:
        """Whether the claim is in scope."""
        return (
            _matches(configuration, self.configurations)
            and in_versions(version, self.claim.versions)
            and all(fault == NO_FAULT or _matches(fault, self.claim.faults) for fault in faults)
            and not any(_matches(fault, UNCLAIMED) for fault in faults)
        )


def claims_for(
    configuration_name: str, broker_version: str, fault_names: Sequence[str], *, directory: Path = DIRECTORY
) -> tuple[Claim, ...]:
    """The claims in scope of a run, in the order of the files. Raises Refused where a file is wrong."""
    return tuple(
        entry.claim for entry in entries(directory) if entry.covers(configuration_name, broker_version, fault_names)
    )


def claimed(
    configuration_name: str, broker_version: str, fault_names: Sequence[str], *, directory: Path = DIRECTORY
) -> tuple[Claimed, ...]:
    """The same, in the form in which claims travel in the terms of a history."""
    return tuple(
        Claimed(guarantee=claim.guarantee, page=claim.page, says=claim.says)
        for claim in claims_for(configuration_name, broker_version, fault_names, directory=directory)
    )


@cache
def entries(directory: Path = DIRECTORY) -> tuple[Entry, ...]:
    """Every claim of every file, by file name and place. Raises one Refused that names all mistakes."""
    found: list[Entry] = []
    mistakes: list[str] = []
    for path in sorted(directory.glob("*.toml")):
        _read(path, found, mistakes)
    if mistakes:
        raise Refused("\n".join(mistakes), cure="correct the claims; harness/claims/claims.py shows their form")
    return tuple(found)


def in_versions(version: str, wanted: str) -> bool:
    """Whether a broker's version satisfies bounds such as ">=4.0, <5" ("*": any).

    >>> in_versions("4.3.6", ">=4.0, <5"), in_versions("3.10.8", ">=4.0"), in_versions("2.15.1", "*")
    (True, False, True)
    """
    if wanted == "*":
        return True
    numbers = _numbers(version)
    if not numbers:
        return False
    return all(_satisfies(numbers, *bound) for bound in _BOUND.findall(wanted))


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(path: Path, found: list[Entry], mistakes: list[str]) -> None:
    text = path.read_text(encoding="utf-8")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        mistakes.append(f"{path.name}: {error}")
        return
    mistakes.extend(f"{path.name}: unknown {name!r}{did_you_mean(name, ['claim'])}" for name in data if name != "claim")
    claims = data.get("claim", [])
    if not isinstance(claims, list):
        mistakes.append(f"{path.name}: write [[claim]], with two brackets")
        return
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith("[[claim]]")]
    for claim, line in zip(claims, lines, strict=False):
        where = f"{path.name}:{line}"
        wrong = list(_mistakes(claim))
        mistakes.extend(f"{where}: {mistake}" for mistake in wrong)
        if not wrong:
            found.append(_entry(claim, where))


def _mistakes(claim: Mapping[str, object]) -> Iterable[str]:
    known = (*_REQUIRED, *_OPTIONAL)
    for name in claim:
        if name not in known:
            yield f"unknown {name!r}{did_you_mean(name, known)}"
    for name in known:
        if name not in claim:
            if name in _REQUIRED:
                yield f"{name!r} is missing"
            continue
        value = claim[name]
        if name in _LISTS:
            if not (isinstance(value, list) and value and all(isinstance(one, str) and one for one in value)):
                yield f"{name} = {value!r}: a list of patterns is needed, at least one"
        elif not (isinstance(value, str) and value):
            yield f"{name} = {value!r}: text is needed"
    guarantee = claim.get("guarantee")
    if isinstance(guarantee, str) and guarantee and guarantee not in GUARANTEES:
        yield f"unknown guarantee {guarantee!r}{did_you_mean(guarantee, GUARANTEES)}"
    versions = claim.get("versions")
    if isinstance(versions, str) and versions and versions != "*":
        for bound in versions.split(","):
            if not _BOUND.fullmatch(bound.strip()):
                yield f'versions = {versions!r}: {bound.strip()!r} is no bound such as ">=4.0"'


def _entry(claim: Mapping[str, object], where: str) -> Entry:
    return Entry(
        configurations=_texts(claim["configurations"]),
        claim=Claim(
            guarantee=str(claim["guarantee"]),
            page=str(claim["page"]),
            says=str(claim["says"]),
            faults=_texts(claim.get("faults", ["*"])),
            versions=str(claim.get("versions", "*")),
        ),
        where=where,
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\D*(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def _satisfies(version: tuple[int, ...], relation: str, bound: str) -> bool:
    """Compares as many parts as the longer has, the shorter one filled with zeros; "==4.3" means 4.3 and all of it."""
    limit = _numbers(bound)
    if relation in ("==", "!="):
        return (version[: len(limit)] == limit) is (relation == "==")
    length = max(len(version), len(limit))
    left, right = (parts + (0,) * (length - len(parts)) for parts in (version, limit))
    return {">=": left >= right, "<=": left <= right, ">": left > right, "<": left < right}[relation]
