"""What does each server say of its cluster? Its own routes, whom it takes for a stream's leader, how long it is up."""

from __future__ import annotations

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
    return View(tuple(sorted(sees)), leaders[0] if leaders else "", up.total_seconds())
