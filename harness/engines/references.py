"""Which image and which executable stand for a program?

*pinned*: what `docker/images.env` says. *resolved*: what set-up found or made under another version, in its state
directory; it comes first. Both are files of lines `program=reference`, read by the set-up scripts too; a line
`program@version=reference` names an image of another version, which is made when asked for.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

EXECUTABLES: Mapping[str, str] = {
    "nats": "nats-server",
    "rabbitmq": "rabbitmq-server",
    "toxiproxy": "toxiproxy-server",
}
SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin")


def recipes() -> Path:
    """The directory of image recipes and set-up scripts: beside the package in a checkout, inside it once installed."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "docker"
    return inside if inside.is_dir() else package.parent / "docker"


def state_directory() -> Path:
    """Where set-up notes what it started and made, below $XDG_STATE_HOME; it may not exist."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "assay"


def image_references() -> dict[str, str]:
    """Program -> image reference for "rabbitmq", "nats", "toxiproxy" and "tools", as set-up left them."""
    return {key: reference for key, reference in _all().items() if "@" not in key}


def other_images() -> dict[str, str]:
    """Image references of the brokers' other versions, by "program@version", as set-up left them."""
    return {key: reference for key, reference in _all().items() if "@" in key}


def image_reference(program: str, version: str | None = None) -> str:
    """The image of a program; with a version, the same one at that version: "rabbitmq:3.13.7-management" for "3.13.7".

    A version without its last part is the image of that line that set-up makes: "rabbitmq:3.10.8-management" for
    "3.10". Raises KeyError for a program that has no image.
    """
    reference = image_references()[program]
    if version is None or image_version(reference).startswith(f"{version}."):
        return reference
    if other := other_images().get(f"{program}@{version}"):
        return other
    name, _, tag = reference.rpartition(":")
    _, dash, flavour = tag.partition("-")
    return f"{name}:{version}{dash}{flavour}"


def image_version(reference: str) -> str:
    """The version in a reference: "rabbitmq:4.3.6-management" -> "4.3.6"."""
    return reference.rpartition(":")[2].partition("-")[0]


def executable(program: str) -> Path | None:
    """Where a program's executable is: beside this Python (a venv's own), on PATH, or where packages hide it."""
    directories = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), *SYSTEM_DIRECTORIES)
    found = shutil.which(EXECUTABLES.get(program, program), path=os.pathsep.join(directories))
    return None if found is None else Path(found)


def _all() -> dict[str, str]:
    return _read(recipes() / "images.env") | _read(state_directory() / "images.resolved")


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {program.strip(): reference.strip() for program, _, reference in pairs}
