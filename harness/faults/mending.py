"""How is a node mended that must run to be told so? Another fault may hold it frozen or down at that moment."""

from __future__ import annotations

from collections.abc import Callable

from harness.clock import until
from harness.errors import Trouble
from harness.system.topology import Node, NodeState

RUNS_WITHIN_S = 10.0
"""How long a node that is frozen or down is waited for: who holds it so mends it, too."""


def once_running(node: Node, mend: Callable[[], object], *, within_s: float = RUNS_WITHIN_S) -> None:
    """Do it as soon as the node runs and takes it: one that has just been started may need a moment. Raises Trouble
    where it does not within the limit, for then it is not mended."""
    seen = ""

    def done() -> bool:
        nonlocal seen
        status = node.status()
        if status.state is not NodeState.RUNNING:
            seen = str(status)
            return False
        try:
            mend()
        except Trouble as trouble:
            seen = trouble.message
            return False
        return True

    until(done, within_s=within_s, what=f"node {node.name} to run and be mended", last_seen=lambda: seen)
