"""Which roles of nodes can a fault hit, and who holds one now? What the faults of nodes share."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import Refused
from harness.operation import Role
from harness.system.system import System
from harness.system.topology import Node

CALLED: Mapping[Role, str] = {
    Role.LEADER: "leader",
    Role.FOLLOWER: "follower",
    Role.ANY_NODE: "node",
    Role.CLIENT_NODE: "client_node",
}
"""Role of a node -> how the name of a fault calls it."""


def refuse_client_roles(fault: str, role: Role) -> None:
    """Raise Refused for a role that no node holds."""
    if role not in CALLED:
        raise Refused(
            f"{fault}: role={role!s}",
            cure="nodes are leader, follower, any_node or client_node; clients have KillClient",
        )


def holder(system: System, role: Role, choice: int) -> tuple[Node, dict[str, object]]:
    """The node that holds a role now, and facts that tell why it is that one."""
    if role is not Role.CLIENT_NODE:
        return system.find(role, choice), {}
    client, node = system.seat(choice)
    return node, {"client": client.name}
