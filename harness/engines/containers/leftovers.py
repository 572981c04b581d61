"""What did dead owners leave in the container engine? Found by a ledger's entry, or by the label of its owner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import docker.errors

from harness.engines import loops
from harness.engines.containers.api import LABEL, OWNER_LABEL, asking, client, silent
from harness.engines.containers.box import remove_container
from harness.engines.containers.disk import IMAGE_LABEL, remove_volume
from harness.engines.containers.network import remove_network
from harness.errors import Trouble
from harness.ledger import CONTAINER, NETWORK, VOLUME, Owner, owner_alive

_REMOVE: Mapping[str, Callable[[str], None]] = {
    CONTAINER: remove_container,
    NETWORK: remove_network,
    VOLUME: remove_volume,
}


def undo(kind: str, name: str) -> str | None:
    """Remove what a dead owner's ledger names; None if it is gone already. Raises Trouble, also for what does not
    carry our label: whatever has that name now is not ours."""
    if why_not := silent(within_s=2.0):
        raise Trouble(why_not)
    with asking(f"look for {kind} {name}"):
        try:
            if kind == CONTAINER:
                labels = client().api.inspect_container(name)["Config"]["Labels"]
            elif kind == NETWORK:
                labels = client().api.inspect_network(name)["Labels"]
            else:
                labels = client().api.inspect_volume(name)["Labels"]
        except docker.errors.NotFound:
            return None
    if LABEL not in (labels or {}):
        raise Trouble(f"{kind} {name} does not carry our label")
    _REMOVE[kind](name)
    return f"removed {kind} {name}"


def sweep_labels() -> list[str]:
    """Remove every container, network and volume of ours whose owner is dead, with the image under a volume; says what,
    or why it could not."""
    if silent(within_s=1.0):
        return []  # nothing runs there, so nothing is left running; a later sweep finds it
    said = []
    try:
        with asking("list what is ours"):
            filters = {"label": LABEL}
            containers = client().api.containers(all=True, filters=filters)
            networks = client().api.networks(filters=filters)
            volumes = client().api.volumes(filters=filters)["Volumes"] or ()
        for container in containers:
            if owner := _dead(container["Labels"]):
                name = container["Names"][0].removeprefix("/")
                remove_container(name)
                said.append(f"removed container {name}, left by dead owner {owner.pid}")
        for network in networks:
            if owner := _dead(network["Labels"]):
                remove_network(network["Name"])
                said.append(f"removed network {network['Name']}, left by dead owner {owner.pid}")
        for volume in volumes:
            if owner := _dead(volume["Labels"]):
                remove_volume(volume["Name"])
                said.append(f"removed volume {volume['Name']}, left by dead owner {owner.pid}")
                said += [f"{done}, left by dead owner {owner.pid}" for done in _under(volume["Labels"])]
    except Trouble as trouble:
        said.append(f"could not undo all that dead owners left: {trouble.message}")
    return said


def _under(labels: dict[str, str]) -> list[str]:
    """Undo what lies under a volume: only an image where ours are, by its name."""
    image = Path(labels.get(IMAGE_LABEL, ""))
    if not image.is_absolute() or not image.name.startswith("assay-") or image.suffix != ".img":
        return []
    done = [f"detached {image} from its loop device"] if loops.detach(image) else []
    if image.is_file():
        image.unlink()
        done.append(f"deleted {image}")
    return done


def _dead(labels: dict[str, str]) -> Owner | None:
    owner = Owner.parse(labels.get(OWNER_LABEL, ""))
    return owner if owner is not None and not owner_alive(owner) else None
