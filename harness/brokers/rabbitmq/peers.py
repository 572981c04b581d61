"""Whose connections does the broker list, and is its list whole?

That somebody is not listed means something only where everybody answered, and where the list has all that is there:
the one with clients' names lags; another one, which does not, has no names. Early versions (3.10) have no such other
one: there the first is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.brokers.rabbitmq.configuration import FIGURES_S
from harness.brokers.rabbitmq.management import NOT_FOUND, Answer, Management
from harness.clock import happens
from harness.errors import Trouble

LISTED_S = 2.5 * FIGURES_S
_ANSWER_S = 1.0
_OK = 200
_UNKNOWN_PATH = (NOT_FOUND, 405)  # 405: what is there can be deleted, and not read


def connections_of(
    management: Management, names: Sequence[str], user: str, *, ended: Callable[[str], bool]
) -> Sequence[Mapping[str, Any]]:
    """Every connection of a user, with its client's name. `ended`: whether a node's process is gone, and with it its
    connections. Raises Trouble where another node does not answer, or where the list stays incomplete."""
    silent = [name for name in names if not _answers(management, name) and not ended(name)]
    if silent:
        raise Trouble(f"management of {', '.join(silent)} does not answer, so nobody knows all connections")
    listed: list[Mapping[str, Any]] = []
    seen = ""

    def complete() -> bool:
        nonlocal seen
        # Asked anew each time: one that ends meanwhile would be waited for in vain.
        answer = management.ask_any("GET", f"/api/connections/username/{user}")
        tracked = [] if answer.status in _UNKNOWN_PATH else _listed(answer)
        columns = "name,user_provided_name,peer_host,peer_port,node"
        found = _listed(management.ask_any("GET", f"/api/connections?columns={columns}"))
        if tracked is None or found is None:
            seen = "management lists no connections"
            return False
        listed[:] = found
        missing = {str(each.get("name")) for each in tracked} - {str(each.get("name")) for each in found}
        seen = f"management does not list {', '.join(sorted(missing))} yet"
        return not missing

    if not happens(complete, within_s=LISTED_S):
        raise Trouble(f"the broker's list of connections stayed incomplete for {LISTED_S:g} s: {seen}")
    return listed


def _answers(management: Management, name: str) -> bool:
    answer = management.ask(name, "GET", "/api/overview?columns=node", within_s=_ANSWER_S)
    return answer is not None and answer.status == _OK


def _listed(answer: Answer) -> Sequence[Mapping[str, Any]] | None:
    return answer.body if isinstance(answer.body, list) else None
