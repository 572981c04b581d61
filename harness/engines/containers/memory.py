"""How does a node in a container run out of memory? Something beside it takes all that is left of what both may use.

*Hog*: a container with tools in a cgroup below the node's own, so that what it takes is taken from the node's limit.
Nodes that have a limit are the first that the kernel kills for it (their score is raised), so that the broker dies and
not the hog. The kernel's count of kills is read from the node's cgroup, which stays while the hog's is in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.clock import happens
from harness.engines.containers.box import Box
from harness.engines.containers.images import reference
from harness.engines.containers.sidecar import TOOLS

_TAKE = """
my @taken; my $end = time + $ARGV[0];
while (time < $end) {
  push @taken, chr(120 + @taken % 2) x (1 << 20) if @taken < $ARGV[1];
  select(undef, undef, undef, 0.001);
}
"""
_LASTS_S = 30
_KILLED_WITHIN_S = 10.0
_OWN_MB = 8
"""What the hog itself uses, and a little."""

_COUNTS = ("/sys/fs/cgroup/memory/docker/{}/memory.oom_control", "/sys/fs/cgroup/docker/{}/memory.events")
"""Where the kernel counts, by the number of the cgroups' version."""


@dataclass(slots=True)
class Hog:
    """Takes the memory of one node, from when it is made until it is removed. `size_mb`: the node's limit."""

    box: Box
    node: Box
    host: Box
    run: str
    size_mb: int

    def take(self) -> int | None:
        """Take what is left; returns how many processes the kernel killed in the node's cgroup for want of memory, when
        the node has ended, or after a limit. None where that cannot be read here."""
        before = self._kills() or 0
        self.box.make(
            reference(TOOLS),
            run=self.run,
            host=self.host,
            # It stays below the limit itself: with the broker gone, there is room for it.
            arguments=("perl", "-e", _TAKE, str(_LASTS_S), str(self.size_mb - _OWN_MB)),
            below=f"/docker/{self.node.container.id}",
        )
        after: int | None = None

        def ended() -> bool:
            nonlocal after
            running = self.node.inspect()["State"]["Running"]
            if (counted := self._kills()) is not None:  # the last that can be read: its cgroup may go with the node
                after = counted
            return not running

        happens(ended, within_s=_KILLED_WITHIN_S, poll_s=0.001)
        return None if after is None else after - before

    def remove(self) -> None:
        """Give it back. Idempotent."""
        self.box.remove()

    def _kills(self) -> int | None:
        for root in _COUNTS:
            try:
                told = Path(root.format(self.node.container.id)).read_text()
            except OSError:
                continue
            counted = re.search(r"^oom_kill (\d+)$", told, re.MULTILINE)
            return int(counted[1]) if counted else None
        return None
