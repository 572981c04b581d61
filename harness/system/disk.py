"""What lies under the data of one node, where a fault of its cell needs a disk of its own?

*Disk*: a small volume that holds nothing but the data of one node, so that it can be broken and no other is touched.
It is the node's that is meant where a disk is unmounted or mounted: a node that starts mounts it, one that has ended
lets go of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Space:
    """Of a file system: all that it has, and what anybody may still write, in bytes."""

    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Found:
    """A file on a disk: its path below the mount, its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Altered:
    """What was done to a file: where (in bytes from its begin), and the bytes there before and after, in hexadecimal;
    after a cut there are none."""

    path: str
    offset: int
    before: str
    after: str


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

    def space(self) -> Space:
        """How much room there is now."""
        ...

    def fill(self, leave_bytes: int) -> None:
        """Take room by a file of ours until no more than so much is left; less than there is now, nothing is done."""
        ...

    def empty(self) -> None:
        """Take that file away. Idempotent."""
        ...

    def files(self, patterns: Sequence[str]) -> Sequence[Found]:
        """Files that are not empty and whose names match one of these patterns of a shell, by path."""
        ...

    def flip(self, path: str, offset: int, bit: int) -> Altered:
        """Turn one bit of a file round, while its node is down."""
        ...

    def cut(self, path: str, bytes_count: int) -> Altered:
        """Take so many bytes from a file's end, while its node is down."""
        ...

    def slow(self, bytes_per_s: int) -> None:
        """Let the node flush no more than so much in a second; 0 for as much as it can."""
        ...

    def throttled(self) -> int:
        """Bytes that the node has written to the disk itself while it was slowed, since it was last started."""
        ...
