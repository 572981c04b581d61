"""What lies under the data of one node, where a fault of its cell needs a disk of its own?

*Disk*: a small volume that holds nothing but the data of one node, so that it can be broken and no other is touched.
It is the node's that is meant where a disk is unmounted or mounted: a node that starts mounts it, one that has ended
lets go of it.
"""

from __future__ import annotations

from typing import Protocol


class Disk(Protocol):
    """The volume of one node. Verbs return when they are done, and raise Trouble when they fail."""

    node: str

    def lose_power(self) -> str:
        """From now on nothing reaches the disk, what the kernel had not written yet included; whoever writes gets an
        error. Returns what the kernel answered. The node's processes go on: they are to be frozen before and killed
        after it. Over when the disk was let go of and is mounted again."""
        ...

    def probe(self) -> str:
        """What becomes of a file that is written now, as a process on the same volume sees it: "" if it was written,
        else the error."""
        ...

    def release(self) -> None:
        """Unmount it: returns when nobody has it any more, so that the next mount is one after a power failure. The
        node must have ended. Idempotent."""
        ...

    def needs_recovery(self) -> bool:
        """Whether the file system, as it lies on the disk, says that it was not unmounted in order. Also true of one
        that is mounted."""
        ...
