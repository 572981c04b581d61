"""What did dead owners leave in the container engine? Found by a ledger's entry, or by the label of its owner."""

from __future__ import annotations

import docker.errors

from harness.engines.containers.api import LABEL, OWNER_LABEL, asking, client, silent
from harness.engines.containers.network import remove_network
from harness.engines.containers.node import remove_container
from harness.errors import Trouble
from harness.ledger import CONTAINER, Owner, owner_alive


def undo(kind: str, name: str) -> str | None:
    """Remove what a dead owner's ledger names; None if it is gone already. Raises Trouble, also for what does not
    carry our label: whatever has that name now is not ours."""
    if why_not := silent(within_s=2.0):
        raise Trouble(why_not)
    with asking(f"look for {kind} {name}"):
        try:
            if kind == CONTAINER:
                labels = client().api.inspect_container(name)["Config"]["Labels"]
            else:
                labels = client().api.inspect_network(name)["Labels"]
        except docker.errors.NotFound:
            return None
    if LABEL not in (labels or {}):
        raise Trouble(f"{kind} {name} does not carry our label")
    (remove_container if kind == CONTAINER else remove_network)(name)
    return f"removed {kind} {name}"


def sweep_labels() -> list[str]:
    """Remove every container and network of ours whose owner is dead; says what, or why it could not."""
    if silent(within_s=1.0):
        return []  # nothing runs there, so nothing is left running; a later sweep finds it
    said = []
    try:
        with asking("list what is ours"):
            filters = {"label": LABEL}
            containers = client().api.containers(all=True, filters=filters)
            networks = client().api.networks(filters=filters)
        for container in containers:
            if owner := _dead(container["Labels"]):
                name = container["Names"][0].removeprefix("/")
                remove_container(name)
                said.append(f"removed container {name}, left by dead owner {owner.pid}")
        for network in networks:
            if owner := _dead(network["Labels"]):
                remove_network(network["Name"])
                said.append(f"removed network {network['Name']}, left by dead owner {owner.pid}")
    except Trouble as trouble:
        said.append(f"could not undo all that dead owners left: {trouble.message}")
    return said


def _dead(labels: dict[str, str]) -> Owner | None:
    owner = Owner.parse(labels.get(OWNER_LABEL, ""))
    return owner if owner is not None and not owner_alive(owner) else None
