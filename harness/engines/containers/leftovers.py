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
    said: list[str] = []
    # One kind after the other, and each listed when it is its turn: volumes may have gone with their containers.
    for kind in (CONTAINER, NETWORK, VOLUME):
        try:
            listed = _listed(kind)
        except Trouble as trouble:
            said.append(f"could not undo all that dead owners left: {trouble.message}")
            continue
        for name, labels in listed:
            if owner := _dead(labels):
                try:
                    _REMOVE[kind](name)
                    done = [f"removed {kind} {name}", *_under(labels)]
                except (Trouble, OSError) as error:  # the others must have their turn, too
                    said.append(f"could not undo {kind} {name} of dead owner {owner.pid}: {error}")
                else:
                    said += [f"{one}, left by dead owner {owner.pid}" for one in done]
    return said


def _listed(kind: str) -> list[tuple[str, dict[str, str]]]:
    """Name and labels of everything of that kind that carries our label. Raises Trouble."""
    with asking(f"list what is ours: {kind}s"):
        api, filters = client().api, {"label": LABEL}
        if kind == CONTAINER:
            found = api.containers(all=True, filters=filters)
            # One that is half made or half removed may have no name.
            return [((one["Names"] or [one["Id"]])[0].removeprefix("/"), one["Labels"] or {}) for one in found]
        found = api.networks(filters=filters) if kind == NETWORK else api.volumes(filters=filters)["Volumes"] or []
        return [(one["Name"], one["Labels"] or {}) for one in found]


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
