"""How does a node in a container get a disk of its own, and how does that disk lose its power?

*ContainerDisk*: an image in the state directory, the loop device that it is attached to, and a volume that the engine
mounts from it wherever a container with that volume runs. *Sidecar*: a container with tools on the same volume and, for
a loss of power, the one capability SYS_ADMIN. *Disks*: those of a topology.

A loss of power is the ioctl that shuts an ext4 down without writing its log: what the kernel holds for it is gone, as
if the machine had stopped, and the next mount replays the journal of what had reached the disk. While a container still
has the volume it stays mounted, and dead: so the sidecar ends too, and whether it is free is asked of the kernel.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import docker.errors

from harness.clock import until
from harness.engines import loops
from harness.engines.containers.api import asking, client, labels
from harness.engines.containers.box import Box, run_in
from harness.engines.containers.images import reference
from harness.engines.containers.network import Yard, one_by_one
from harness.engines.containers.sidecar import TOOLS
from harness.errors import Refused, Trouble
from harness.ledger import IMAGE, LOOP, VOLUME, Ledger, state_directory
from harness.parallel import at_once
from harness.system.disk import Altered, Found, Space
from harness.system.topology import NodeSpec

SYS_ADMIN = "SYS_ADMIN"
IMAGE_LABEL = "assay.image"
MOUNTED_AT = "/disk"
THROTTLES = "/sys/fs/cgroup/blkio"
_RELEASED_WITHIN_S = 10.0
# FS_IOC_SHUTDOWN with FS_SHUTDOWN_FLAGS_NOLOGFLUSH (linux/fs.h); the argument must be a variable.
_LOSE_POWER = (
    "perl",
    "-e",
    f'open(my $d, "<", "{MOUNTED_AT}") or die "open: $!"; my $how = pack("L", 2); '
    f'defined(ioctl($d, 0x8004587d, $how)) or die "ioctl: $!"; print "ok"',
)
_PROBED = f"{MOUNTED_AT}/.assay-probe"
_PROBE = (
    "perl",
    "-e",
    f'open(my $f, ">", "{_PROBED}") or do {{ print "$!"; exit }}; print $f "x"; close($f) or print "$!"; '
    f'unlink "{_PROBED}"',
)
_FILLER = f"{MOUNTED_AT}/.assay-filler"
# What one allocation cannot take is taken block by block: the file system keeps some back from large ones.
_FILL = f"""
free() {{ echo $(($(stat -f -c '%a * %S' {MOUNTED_AT}))); }}
take=$(($(free) - $1)); [ $take -gt 0 ] || exit 0
fallocate -l $take {_FILLER} 2>/dev/null || true
while left=$(($(free) - $1)); [ $left -ge 4096 ]; do
  dd if=/dev/zero of={_FILLER} bs=4096 count=$((left / 4096)) oflag=append conv=notrunc,fsync 2>/dev/null || break
done
"""
_FLIP = """
open(my $f, "+<:raw", $ARGV[0]) or die "open: $!"; sysseek($f, $ARGV[1], 0); sysread($f, my $old, 1) == 1 or die "read";
my $new = chr(ord($old) ^ (1 << $ARGV[2])); sysseek($f, $ARGV[1], 0); syswrite($f, $new) == 1 or die "write: $!";
sysseek($f, $ARGV[1], 0); sysread($f, my $now, 1); print unpack("H*", $old), " ", unpack("H*", $now);
"""
_CUT = """
open(my $f, "+<:raw", $ARGV[0]) or die "open: $!"; my $size = -s $f; my $to = $size - $ARGV[1]; $to = 0 if $to < 0;
sysseek($f, $to, 0); sysread($f, my $old, 32); truncate($f, $to) or die "truncate: $!";
sysseek($f, $to, 0); sysread($f, my $now, 32); print "$to ", unpack("H*", $old), " ", unpack("H*", $now);
"""


def images_directory() -> Path:
    """Where the images of disks are."""
    return state_directory() / "disks"


@dataclass(slots=True)
class ContainerDisk:
    """The disk of one node, from before its image is made until that is gone, with its entries in the ledger."""

    node: str
    name: str
    size_mb: int
    ledger: Ledger
    sidecar: Box
    box: Box
    device: str = ""
    _entries: dict[str, int] = field(default_factory=dict)

    @property
    def image(self) -> Path:
        """The file that stands for the disk."""
        return images_directory() / f"{self.name}.img"

    def make(self, run: str) -> None:
        """Image, loop device, volume; nothing mounts it yet."""
        images_directory().mkdir(parents=True, exist_ok=True)
        self._entries[IMAGE] = self.ledger.add(IMAGE, path=str(self.image))
        loops.make_image(self.image, self.size_mb)
        self._entries[LOOP] = self.ledger.add(LOOP, path=str(self.image))
        self.device = loops.attach(self.image)
        self._entries[VOLUME] = self.ledger.add(VOLUME, name=self.name)
        with asking(f"make the volume {self.name}"):
            client().volumes.create(
                self.name,
                driver="local",
                driver_opts={"type": "ext4", "device": self.device, "o": "noatime"},
                labels={**labels(run), IMAGE_LABEL: str(self.image)},
            )

    def watch(self, *, run: str, host: Box, capabilities: tuple[str, ...]) -> None:
        """Start the sidecar."""
        self.sidecar.make(
            reference(TOOLS), run=run, host=host, capabilities=capabilities, volumes={self.name: MOUNTED_AT}
        )

    def lose_power(self) -> str:
        """Shut the file system down without writing its log."""
        return self._tell(_LOSE_POWER)

    def probe(self) -> str:
        """Write a file, as the sidecar sees the volume."""
        return self._tell(_PROBE)

    def release(self) -> None:
        """End the sidecar, and wait until the kernel says that nobody has it mounted."""
        if self.sidecar.made:
            with asking(f"end {self.sidecar.name}"):
                try:
                    self.sidecar.container.kill()
                except docker.errors.APIError as error:
                    if error.status_code != 409:  # it had ended already
                        raise
        until(
            lambda: not loops.mounted(self.device),
            within_s=_RELEASED_WITHIN_S,
            what=f"the disk of {self.node} to be unmounted",
            poll_s=0.005,
        )

    def attend(self) -> None:
        """Start the sidecar again, if it was prepared and has ended."""
        if self.sidecar.made and not self.sidecar.inspect()["State"]["Running"]:
            with asking(f"start {self.sidecar.name}"):
                self.sidecar.container.start()

    def needs_recovery(self) -> bool:
        """What the superblock says."""
        return loops.needs_recovery(self.image)

    def space(self) -> Space:
        """As the file system answers."""
        blocks, free, size = map(int, self._tell(("stat", "-f", "-c", "%b %a %S", MOUNTED_AT)).split())
        return Space(total=blocks * size, free=free * size)

    def fill(self, leave_bytes: int) -> None:
        """Take room by a file at the root of the volume."""
        self._tell(("sh", "-c", _FILL, "fill", str(leave_bytes)))

    def empty(self) -> None:
        """Take that file away."""
        self._tell(("rm", "-f", _FILLER))

    def files(self, patterns: Sequence[str]) -> Sequence[Found]:
        """As the sidecar finds them."""
        names = [word for pattern in patterns for word in ("-o", "-name", pattern)][1:]
        told = self._tell(("find", MOUNTED_AT, "-type", "f", "-size", "+0", "(", *names, ")", "-printf", "%s %P\n"))
        found = [line.partition(" ") for line in told.splitlines()]
        return sorted((Found(path, int(size)) for size, _, path in found), key=lambda file: file.path)

    def flip(self, path: str, offset: int, bit: int) -> Altered:
        """Turn one bit round, and read it back."""
        before, after = self._tell(("perl", "-e", _FLIP, f"{MOUNTED_AT}/{path}", str(offset), str(bit))).split()
        return Altered(path, offset, before, after)

    def cut(self, path: str, bytes_count: int) -> Altered:
        """Take the tail away; of what was there the first 32 bytes are told."""
        told = self._tell(("perl", "-e", _CUT, f"{MOUNTED_AT}/{path}", str(bytes_count)))
        offset, before, after = told.split(" ")
        return Altered(path, int(offset), before, after.strip())

    def slow(self, bytes_per_s: int) -> None:
        """Set the limit of the node's cgroup for this device. Without a limit, one that has no cgroup is as good."""
        try:
            self._throttle("write_bps_device").write_text(f"{loops.number(self.device)} {bytes_per_s}\n")
        except FileNotFoundError as gone:
            if bytes_per_s:
                raise Trouble(f"{self.node} has no cgroup to be slowed in") from gone
        except OSError as error:
            raise Trouble(f"the disk of {self.node} cannot be slowed: {error}") from error

    def throttled(self) -> int:
        """As the kernel counts them in the node's cgroup, which it does only where a limit was set."""
        try:
            told = self._throttle("io_service_bytes").read_text()
        except OSError:
            return 0
        written = re.search(rf"^{loops.number(self.device)} Write (\d+)$", told, re.MULTILINE)
        return int(written[1]) if written else 0

    def _throttle(self, what: str) -> Path:
        return Path(f"{THROTTLES}/docker/{self.box.container.id}/blkio.throttle.{what}")

    def flush(self) -> None:
        """Write everything that the kernel holds for it."""
        self._tell(("sync", "-f", MOUNTED_AT))

    def remove(self) -> None:
        """Remove it, after its node. Idempotent, and right after half a creation."""
        one_by_one([self.sidecar.remove, self._remove_volume, self._detach, self._delete])

    def _remove_volume(self) -> None:
        if VOLUME in self._entries:
            remove_volume(self.name)
            self.ledger.strike(self._entries.pop(VOLUME))

    def _detach(self) -> None:
        if LOOP in self._entries:
            loops.detach(self.image)
            self.ledger.strike(self._entries.pop(LOOP))

    def _delete(self) -> None:
        if IMAGE in self._entries and LOOP not in self._entries:
            self.image.unlink(missing_ok=True)
            self.ledger.strike(self._entries.pop(IMAGE))

    def _tell(self, argv: Sequence[str]) -> str:
        self.attend()
        return run_in(self.sidecar, argv, f"the sidecar of the disk of {self.node}")


def cannot_slow() -> str | None:
    """Why no disk can be slowed here, with the cure, or None."""
    if os.access(f"{THROTTLES}/blkio.throttle.write_bps_device", os.F_OK):
        return None
    refusal = Refused(
        f"slow disks need the throttle of cgroup v1, and there is no {THROTTLES}",
        cure="start the machine with systemd.unified_cgroup_hierarchy=0",
    )
    return str(refusal)


def remove_volume(name: str) -> None:
    """Remove a volume, after its containers; none of that name is as good."""
    with asking(f"remove the volume {name}"):
        try:
            client().api.remove_volume(name)
        except docker.errors.NotFound:
            return


@dataclass(slots=True)
class Disks:
    """The disks of those nodes of a topology that shall have one."""

    run: str
    _disks: dict[str, ContainerDisk] = field(default_factory=dict)

    @classmethod
    def of(cls, specs: Sequence[NodeSpec], boxes: Mapping[str, Box], *, stem: str, run: str, ledger: Ledger) -> Disks:
        """Nothing is made yet. `boxes`: the container of each node."""
        return cls(
            run,
            {
                spec.name: ContainerDisk(
                    node=spec.name,
                    name=f"{stem}-{spec.name}",
                    size_mb=size_mb,
                    ledger=ledger,
                    sidecar=Box(f"{stem}-disk-{spec.name}", ledger),
                    box=boxes[spec.name],
                )
                for spec in specs
                if (size_mb := spec.equipment.disk_mb) is not None
            },
        )

    def make(self) -> None:
        """Make all of them."""
        at_once([partial(disk.make, self.run) for disk in self._disks.values()])

    def prepare(self, verbs: frozenset[str], yard: Yard) -> None:
        """Start the sidecars for these verbs. Idempotent."""
        capabilities = (SYS_ADMIN,) if "lose_power" in verbs else ()
        at_once(
            [
                partial(disk.watch, run=self.run, host=yard.anchors[disk.node], capabilities=capabilities)
                for disk in self._disks.values()
                if not disk.sidecar.made
            ]
        )

    def volumes(self, node: str, path: str) -> Mapping[str, str]:
        """Name of the node's volume -> where it is mounted; nothing where it has no disk."""
        return {self._disks[node].name: path} if node in self._disks else {}

    def of_node(self, node: str) -> ContainerDisk:
        """The disk of a node. Raises Refused where it has none."""
        if node not in self._disks:
            raise Refused(f"node {node!r} has no disk of its own", cure="ask for it in the fault's needs: disk_mb")
        return self._disks[node]

    def settle(self) -> None:
        """Flush all of them that have a sidecar."""
        self._each([disk.flush for disk in self._disks.values() if disk.sidecar.made])

    def remove(self) -> None:
        """Remove all of them, after their nodes. Idempotent, and right after half a creation."""
        self._each([disk.remove for disk in self._disks.values()])

    def _each(self, jobs: Sequence[Callable[[], None]]) -> None:
        at_once(list(jobs))
