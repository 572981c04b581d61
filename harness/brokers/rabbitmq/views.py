"""What does each member say of its cluster? Whom it calls running, who leads the cell's queue, how long it is up.

A member that has not noticed yet that another one is cut off waits for it before it answers, for as long as its
net_ticktime; so it may be silent for that long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from harness.brokers.rabbitmq.management import Management, leader_of, queue_path, read_replicas, replicas_path
from harness.system.service import View

_WITHIN_S = 1.0


def ask_views(
    management: Management, names: Sequence[str], vhost: str, queue: str, *, replicated: bool
) -> Mapping[str, View | None]:
    """The view of every member, all asked at once; None of one that does not answer in time."""

    def view(name: str) -> View | None:
        path = "/api/nodes?columns=name,running,uptime"
        members = management.ask(name, "GET", path, within_s=_WITHIN_S)
        if members is None or not isinstance(members.body, list):
            return None
        running = {_short(member.get("name")): member.get("uptime") for member in members.body if member.get("running")}
        up_ms = running.pop(name, None)
        path = replicas_path(vhost, queue) if replicated else f"{queue_path(vhost, queue)}?columns=node,state"
        held = management.ask(name, "GET", path, within_s=_WITHIN_S)
        leader = ""
        if held is not None and replicated:
            leads = leader_of(read_replicas(held.body))
            leader = "" if leads is None else _short(leads.node)
        elif held is not None and isinstance(held.body, dict) and held.body.get("state") == "running":
            leader = _short(held.body.get("node"))
        return View(tuple(sorted(running)), leader, None if up_ms is None else int(up_ms) / 1000)

    with ThreadPoolExecutor(max_workers=len(names)) as workers:
        return dict(zip(names, workers.map(view, names), strict=True))


def _short(erlang_node: object) -> str:
    """The topology's name of a member that calls itself "rabbit-1@host"."""
    return str(erlang_node).partition("@")[0]
