"""What can a session be told? The `--assay-*` options, each also an ini key, read once into `Settings`.

This is the plugin's entry point: it loads in every pytest run of the environment, so it imports next to nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness import catalogue
from harness.errors import Refused
from harness.plain import did_you_mean
from harness.scenario.matrix import TIERS

AUTO = "auto"
WORKER_INPUT = "assay"
UNKNOWN_ALL = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What this session was told.

    `seed`: every cell's seed is drawn from it. `directory`: reports/<UTC stamp>-<seed>, made when the first cell is
    known. `allow_unknown`: per cent of the cells that may be UNKNOWN without failing the session. `shard`: (i, n), the
    i-th of n parts. `configuration`, `fault`: globs; only matching cells run.
    """

    seed: int
    engine: str
    tier: str
    repeat: int
    replay: Path | None
    allow_unknown: float
    fresh: bool
    shard: tuple[int, int]
    directory: Path
    configuration: str | None
    fault: str | None


SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()

_OPTIONS: tuple[tuple[str, str, str | None, str], ...] = (
    ("seed", "NUMBER", None, "seed of the session: the same seed draws the same plans (default: a new one, printed)"),
    ("engine", "NAME", AUTO, "what runs the brokers: containers, processes or auto (the first that can)"),
    ("tier", "NAME", "smoke", "how much is run: smoke, standard or soak"),
    ("repeat", "TIMES", "1", "run each cell so many times, each time with a seed of its own"),
    ("replay", "RUN", None, "run the cell of this run directory again, with its seed"),
    ("shard", "I/N", "1/1", "run the I-th of N parts of the cells"),
    ("reports", "DIR", "reports", "where session directories go"),
    ("configuration", "GLOB", None, "run only cells of matching configurations"),
    ("fault", "GLOB", None, "run only cells with matching faults"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and an ini key for each: `--assay-seed` is `assay_seed`."""
    group = parser.getgroup("assay", "assay: delivery guarantees of brokers under faults")
    for name, metavar, _, help_text in _OPTIONS:
        group.addoption(f"--assay-{name}", dest=f"assay_{name}", metavar=metavar, default=None, help=help_text)
        parser.addini(f"assay_{name}", help_text, default=None)
    allow = "let up to so many per cent of the cells be UNKNOWN (without a number: all) and still succeed"
    group.addoption(
        "--assay-allow-unknown", dest="assay_allow_unknown", metavar="PERCENT", nargs="?", const="100", help=allow
    )
    parser.addini("assay_allow_unknown", allow, default=None)
    fresh = "give every cell a topology of its own, never a warm one"
    group.addoption("--assay-fresh", dest="assay_fresh", action="store_true", default=None, help=fresh)
    parser.addini("assay_fresh", fresh, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings, and load the rest of the plugin."""
    try:
        config.stash[SETTINGS] = _settings(config)
    except Refused as refused:
        raise pytest.UsageError(str(refused)) from None
    from harness.plugin import collect, fixtures, outcome, summary

    for name, module in (("collect", collect), ("fixtures", fixtures), ("outcome", outcome), ("summary", summary)):
        config.pluginmanager.register(module, f"assay-{name}")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist what only the controller can know: the seed and the session's directory."""
    settings = node.config.stash[SETTINGS]
    node.workerinput[WORKER_INPUT] = {"seed": settings.seed, "directory": str(settings.directory)}


def on_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of pytest-xdist, which runs cells and leaves the session to its controller."""
    return hasattr(config, "workerinput")


def distributed(config: pytest.Config) -> bool:
    """Whether this process is a controller of pytest-xdist, which runs no cell itself."""
    return not on_worker(config) and str(config.getoption("dist", "no")) != "no" and bool(config.getoption("tx", None))


# ---- reading ---------------------------------------------------------------------------------------------------------


def _settings(config: pytest.Config) -> Settings:
    asked = {name: _asked(config, name) or default for name, _, default, _ in _OPTIONS}
    seed = _number("seed", asked["seed"], 0, 2**63 - 1) if asked["seed"] is not None else secrets.randbelow(10**9)
    base = Path(asked["reports"] or "reports")
    if not base.is_absolute():
        base = config.invocation_params.dir / base
    told: dict[str, Any] = getattr(config, "workerinput", {}).get(WORKER_INPUT, {})
    seed = told.get("seed", seed)
    directory = Path(told.get("directory", base / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{seed}"))
    replay = Path(asked["replay"]) if asked["replay"] else None
    if replay is not None and not replay.is_absolute():
        replay = config.invocation_params.dir / replay
    return Settings(
        seed=seed,
        engine=_word("engine", asked["engine"] or AUTO, (AUTO, *catalogue.ENGINES)),
        tier=_word("tier", asked["tier"] or "smoke", TIERS),
        repeat=_number("repeat", asked["repeat"] or "1", 1, 10_000),
        replay=replay,
        allow_unknown=_percent(_asked(config, "allow_unknown")),
        fresh=_truth(_asked(config, "fresh")),
        shard=_shard(asked["shard"] or "1/1"),
        directory=directory,
        configuration=asked["configuration"],
        fault=asked["fault"],
    )


def _asked(config: pytest.Config, name: str) -> str | None:
    """The command line's word, else the ini file's."""
    given = config.getoption(f"assay_{name}", None)
    if given is None:
        given = config.getini(f"assay_{name}")
    return None if given is None or given == "" else str(given)


def _word(name: str, given: str, allowed: tuple[str, ...]) -> str:
    if given not in allowed:
        raise Refused(
            f'--assay-{name}: "{given}" is unknown{did_you_mean(given, allowed)}', cure=f"one of {', '.join(allowed)}"
        )
    return given


def _number(name: str, given: str, least: int, most: int) -> int:
    try:
        number = int(given)
    except ValueError:
        raise Refused(f'--assay-{name}: "{given}" is not a whole number', cure=f"{least} to {most}") from None
    if not least <= number <= most:
        raise Refused(f"--assay-{name}: {number} is out of range", cure=f"{least} to {most}")
    return number


def _percent(given: str | None) -> float:
    if given is None:
        return 0.0
    try:
        percent = float(given)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= UNKNOWN_ALL:
        raise Refused(f'--assay-allow-unknown: "{given}" is not a percentage', cure="--assay-allow-unknown=5")
    return percent


def _truth(given: str | None) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if given is None:
        return False
    if given.lower() not in words:
        raise Refused(f'assay_fresh: "{given}" is neither true nor false', cure="true or false")
    return words[given.lower()]


def _shard(given: str) -> tuple[int, int]:
    part, slash, parts = given.partition("/")
    if not (slash and part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise Refused(f'--assay-shard: "{given}" is not I/N with 1 <= I <= N', cure="--assay-shard 1/4")
    return int(part), int(parts)


def shares(parts: tuple[int, int], count: int) -> Iterator[bool]:
    """For each of `count` ordered cells: whether it belongs to the shard (i, n).

    >>> list(shares((2, 3), 5))
    [False, True, False, False, True]
    """
    part, total = parts
    return (place % total == part - 1 for place in range(count))
