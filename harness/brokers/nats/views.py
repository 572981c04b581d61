"""What does each server say of its cluster? Its own routes, whom it takes for a stream's leader, how long it is up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from harness.brokers.nats.monitor import Monitor
from harness.system.service import View


def ask_views(monitor: Monitor, nodes: Sequence[str], stream: str) -> Mapping[str, View | None]:
    """The view of every node, all asked at once; None of one whose monitoring does not answer."""
    with ThreadPoolExecutor(max_workers=len(nodes)) as workers:
        views = list(workers.map(lambda node: _view(monitor, node, stream), nodes))
    return dict(zip(nodes, views, strict=True))


def _view(monitor: Monitor, node: str, stream: str) -> View | None:
    routes, life = monitor.get(node, "/routez"), monitor.get(node, "/varz")
    if routes is None or life is None:
        return None
    sees = {str(route.get("remote_name")) for route in routes.get("routes") or ()}
    # Asked over the client's protocol, the stream's leader would answer, wherever it is: this is the node's own word.
    held = (monitor.get(node, "/jsz?streams=true") or {}).get("account_details") or ()
    leaders = [
        str((told.get("cluster") or {}).get("leader") or "")
        for account in held
        for told in account.get("stream_detail") or ()
        if told.get("name") == stream
    ]
    up = datetime.fromisoformat(life["now"]) - datetime.fromisoformat(life["start"])
    trips: dict[str, tuple[float, ...]] = {}
    for route in routes.get("routes") or ():
        if took_ms := read_duration_ms(str(route.get("rtt", ""))):  # 0 before the first answer
            other = str(route.get("remote_name"))
            trips[other] = (*trips.get(other, ()), took_ms)
    return View(tuple(sorted(sees)), leaders[0] if leaders else "", up.total_seconds(), trips)


_UNITS_MS = {"h": 3_600_000.0, "m": 60_000.0, "s": 1_000.0, "ms": 1.0, "µs": 1e-3, "us": 1e-3, "ns": 1e-6}
_PARTS = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|µs|us|ns)")


def read_duration_ms(text: str) -> float:
    """A duration as Go prints it, in ms; 0 for what is none.

    >>> [read_duration_ms(text) for text in ("1.5s", "203.25ms", "850µs", "1m2s", "0s", "")]
    [1500.0, 203.25, 0.85, 62000.0, 0.0, 0.0]
    """
    return sum(float(count) * _UNITS_MS[unit] for count, unit in _PARTS.findall(text))
