"""How do the pages become one HTML file that needs nothing else? Templates, styles, scripts and data, all inside it.

Everything shown is escaped by Jinja2. Above the size budget, the cells that went best lose their charts and lives
first, and say so.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.checkers import sentences
from harness.guarantee import GUARANTEES
from harness.operation import MessageId
from harness.plain import to_plain
from harness.report.evidence import told
from harness.report.markdown import WORDS
from harness.report.matrix import figures
from harness.report.model import GRADES, Ran, Report
from harness.run import found

BYTES_MAX = 3_000_000
_PAGE_SHARE = 400_000
"""What is kept free for everything but the cells."""
_MATRIX_SHARE = 1_000
"""What a cell takes in the matrix."""
_PAGE = re.compile(r"^(https?://)?[a-z0-9-]+(\.[a-z0-9-]+)+(/[^\s]*)?$", re.IGNORECASE)

FLOW = {
    "published": ("attempted", "acked", "sent", "indeterminate", "failed"),
    "became": ("delivered", "recovered", "effects"),
    "anomalies": (
        "lost",
        "lost_unconfirmed",
        "unprocessed",
        "never_processed",
        "stranded",
        "dropped_acked",
        "duplicate_publish",
        "duplicate_delivery",
        "duplicate_effect",
        "again_after_confirmed_ack",
        "visible_failure",
        "phantom",
        "corrupt",
        "foreign",
        "reordered",
        "gap",
        "inconsistent_offset",
        "divergence",
        "non_monotonic_read",
    ),
}
"""Which counts a cell shows, in which group; others stand in its table of all counts."""


def page(report: Report, *, bytes_max: int = BYTES_MAX) -> str:
    """The whole page, at most `bytes_max` bytes as long as one line a cell fits into them."""
    environment = _environment()
    full, short = environment.get_template("cell.html"), environment.get_template("short.html")
    sections = {view.anchor: short.render(view=view) for view in report.cells}
    left = bytes_max - _PAGE_SHARE - len(report.cells) * _MATRIX_SHARE - sum(map(_size, sections.values()))
    for view in sorted(report.cells, key=lambda view: GRADES.index(view.grade)):
        text = full.render(view=view, ran=view.ran)
        left -= _size(text) - _size(sections[view.anchor])
        if left < 0:
            break
        sections[view.anchor] = text
    return environment.get_template("page.html").render(
        report=report,
        sections=[Markup(sections[view.anchor]) for view in report.cells],
        style=_raw("templates/style.css"),
        script=_raw("templates/page.js"),
        chart_script=_raw("vendor/uPlot.iife.min.js"),
        chart_style=_raw("vendor/uPlot.min.css"),
        chart_license=_raw("vendor/LICENSE.uPlot"),
    )


def packed(ran: Ran) -> str:
    """The columns of a cell's charts, with its fault windows: JSON, gzip, base64."""
    if ran.series is None:
        return ""
    windows = [
        {
            "name": injection.fault,
            "bit": injection.bit_ns is not None,
            "begin_s": _seconds(injection.asked_ns if injection.bit_ns is None else injection.bit_ns),
            "mended_s": _seconds(injection.mended_ns),
            "recovered_s": _seconds(injection.recovered_ns),
        }
        for injection in ran.terms.injections
    ]
    data = json.dumps({**asdict(ran.series), "faults": windows}, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(data, compresslevel=9, mtime=0)).decode()


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "number": _number,
        "seconds": _time,
        "spoken": lambda name: str(name).replace("_", "-"),
        "words": lambda name: str(name).replace("_", " "),
        "plain": _plain,
        "link": _link,
        "packed": packed,
        "bound": _bound,
        "found": found,
        "evidence": told,
        "message_id": lambda value: str(MessageId.unpack(value)),
    }
    environment.globals |= {
        "GUARANTEES": GUARANTEES,
        "WORDS": WORDS,
        "FLOW": FLOW,
        "settings": settings,
        "figures": figures,
        "answered": sentences.answered,
        "available": sentences.available,
    }
    return environment


def settings(ran: Ran) -> Mapping[str, Any]:
    """What a cell ran with, by group: the settings, the environment, and the scenario's own words."""
    terms = ran.terms
    groups = {
        "Settings": to_plain(terms.settings),
        "Environment": to_plain(terms.environment),
        "Terms of judgement": {
            "floor, attempts/s": terms.floor_hz,
            "offered/s": terms.offered_hz,
            "at risk at least": terms.at_risk_min,
            "ticker limit, ms": terms.ticker_limit_ms,
            "redelivery horizon, s": terms.redelivery_horizon_s,
            "drained": terms.drained or terms.drained_why_not or "no",
            "silence, s": terms.silence_s,
            "read to the end": terms.exhaustive or terms.exhaustive_why_not or "no",
            "clients through the proxy alone": terms.peers_all_proxy,
            "policies asked for": list(terms.policies) or "none",
        },
        "Broker's own counters": {
            counter.name: counter.value if counter.comparable else f"{counter.value} (reset by a restart)"
            for counter in terms.counters
        },
    }
    return {name: group for name, group in groups.items() if group}


def _size(text: str) -> int:
    return len(text.encode("utf-8", errors="replace"))


def _raw(name: str) -> Markup:
    text = resources.files("harness.report.html").joinpath(name).read_text(encoding="utf-8")
    return Markup(text)


def _seconds(at_ns: int | None) -> float | None:
    return None if at_ns is None else round(at_ns / 1e9, 4)


def _time(at_ns: int | None) -> str:
    return "never" if at_ns is None or at_ns < 0 else f"{at_ns / 1e9:,.3f} s"


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "not measured"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{unit}"


def _bound(upper_bound: float) -> str:
    """A probability as one in how many, which is easier to picture: never less than it is.

    >>> _bound(0.1175)
    '11.8 %, 1 in 8.5'
    """
    share = f"{upper_bound * 100:.3g} %"
    return f"{share}, 1 in {1 / upper_bound:.2g}" if 0 < upper_bound < 1 else share


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _link(where: str | None) -> str:
    """An address that a browser may follow, from the page that a claim names; empty for anything else."""
    if not where or not _PAGE.match(where):
        return ""
    return where if where.startswith("http") else f"https://{where}"
