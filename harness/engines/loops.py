"""How is a file made a disk? Images with an ext4 file system, attached to loop devices and found again by their path.

Nothing is mounted here. An image is sparse, so that it costs what is written to it and not what it could hold.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

from harness.clock import happens
from harness.engines.references import executable
from harness.errors import Refused, Trouble

CONTROL = "/dev/loop-control"
PROGRAMS = {"losetup": "mount", "mkfs.ext4": "e2fsprogs"}
"""What is called, and the package of Debian that has it."""

_DEVICES = Path("/sys/block")
_WITHIN_S = 20.0
_GONE_WITHIN_S = 5.0
_SUPERBLOCK_AT = 1024
_MAGIC_AT, _MAGIC = 0x38, 0xEF53
_INCOMPATIBLE_AT, _RECOVER = 0x60, 0x4


def unavailable() -> str | None:
    """Why no disks can be made here, with the cure, or None."""
    for program, package in PROGRAMS.items():
        if executable(program) is None:
            return str(Refused(f"disks need {program}, which is not here", cure=f"apt-get install {package}"))
    if not os.access(CONTROL, os.R_OK | os.W_OK):
        refusal = Refused(f"disks need loop devices, and this process may not use {CONTROL}", cure="run as root")
        return str(refusal)
    return None


def make_image(path: Path, size_mb: int) -> None:
    """Make a file of that size in MiB with an empty file system in it. Raises Trouble."""
    try:
        with open(path, "xb") as image:
            image.truncate(size_mb << 20)
    except OSError as error:
        raise Trouble(f"the image of a disk could not be made: {error}") from error
    # Everything is laid out at once: a kernel thread that does it later would write while a cell is measured.
    options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
    _call("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "8192", "-J", "size=16", "-E", options, str(path))


def attach(path: Path) -> str:
    """Attach an image to a free loop device and return that. Raises Trouble."""
    return _call("losetup", "--find", "--show", "--nooverlap", str(path)).strip()


def attached(path: Path) -> list[str]:
    """The loop devices that an image is attached to, also one that was deleted meanwhile."""
    names = {str(path), os.path.realpath(path)}  # the kernel tells the real one
    found = []
    for told in _DEVICES.glob("loop*/loop/backing_file"):
        try:
            file = told.read_text().rstrip("\n")
        except OSError:  # detached meanwhile
            continue
        if file.removesuffix(" (deleted)") in names:
            found.append(f"/dev/{told.parent.parent.name}")
    return sorted(found)


def detach(path: Path) -> bool:
    """Detach an image from every loop device; whether there was one. Raises Trouble while somebody still mounts it: it
    is then detached as soon as it is unmounted."""
    devices = attached(path)
    for device in devices:
        try:
            _call("losetup", "--detach", device)
        except Trouble:
            if device in attached(path):
                raise
    if not happens(lambda: not attached(path), within_s=_GONE_WITHIN_S, poll_s=0.01):
        raise Trouble(f"{path} is still attached to {', '.join(attached(path))}: it is mounted somewhere")
    return bool(devices)


def mounted(device: str) -> bool:
    """Whether a device is mounted, in whatever namespace: the kernel then lets nobody have it alone."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError:
        return True
    return False


def number(device: str) -> str:
    """A device's number, major:minor, as cgroups name it."""
    told = os.stat(device).st_rdev
    return f"{os.major(told)}:{os.minor(told)}"


def needs_recovery(path: Path) -> bool:
    """Whether the superblock says that the journal must be replayed. Raises Trouble where there is no superblock."""
    with open(path, "rb") as image:
        image.seek(_SUPERBLOCK_AT)
        block = image.read(1024)
    if len(block) < 1024 or struct.unpack_from("<H", block, _MAGIC_AT)[0] != _MAGIC:
        raise Trouble(f"{path} has no ext4 file system any more")
    return bool(struct.unpack_from("<I", block, _INCOMPATIBLE_AT)[0] & _RECOVER)


def _call(program: str, *arguments: str) -> str:
    path = executable(program)
    if path is None:
        raise Trouble(f"{program} is not here", cure=f"apt-get install {PROGRAMS[program]}")
    try:
        done = subprocess.run((str(path), *arguments), capture_output=True, text=True, timeout=_WITHIN_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise Trouble(f"{program} failed: {error}") from error
    if done.returncode != 0:
        raise Trouble(f"{program} {' '.join(arguments)} exited {done.returncode}: {done.stderr.strip()}")
    return done.stdout
