"""Who holds the replicas of a cell's queue or stream, who leads them, which nodes are members: asked, and changed.

The protocol that a broker's folder implements where it has replicas. What is asked is what the broker itself says now;
what is changed is changed by the broker's own means, as an operator would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Membership(Protocol):
    """Of one cell's queue or stream. Nodes are called by their names in the topology.

    Questions raise Trouble where nobody answers. Changes return when the broker has accepted them, and raise Trouble
    where it refuses; what has come of them is to be asked. `add` and `join` are idempotent, also after half a change.
    """

    def replicas(self) -> Mapping[str, str]:
        """Node -> what the broker calls its replica's state ("leader", "follower", ...)."""
        ...

    def members(self) -> Mapping[str, frozenset[str]]:
        """Node that answers -> the nodes that it lists as members of the cluster, running."""
        ...

    def versions(self) -> Mapping[str, str]:
        """Node that answers -> the version that it declares, asked anew."""
        ...

    def transfer(self, node: str) -> None:
        """Have the replica on `node` lead."""
        ...

    def remove(self, node: str) -> None:
        """Take the replica on `node` away, or another follower's where the broker leaves us no choice; the node stays
        a member."""
        ...

    def add(self, node: str) -> None:
        """Have a replica on `node` (again)."""
        ...

    def leave(self, node: str) -> None:
        """Take `node` out of the cluster, its replica first."""
        ...

    def join(self, node: str) -> None:
        """Take `node` into the cluster (again), empty, with a replica."""
        ...

    def settle(self, versions: str) -> None:
        """What the broker's documentation asks for before a rolling upgrade to `versions` ("" for the pinned one)."""
        ...
