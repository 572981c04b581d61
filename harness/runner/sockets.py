"""Whom is a process connected to? As the kernel lists it, so without asking the process."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from pathlib import Path

_ESTABLISHED = "01"


def remotes(pid: int) -> set[tuple[str, int]]:
    """The far ends of all TCP connections of a process, as the kernel lists them; none of one that has ended."""
    inodes = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
        tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    except OSError:
        return set()
    # A machine may have thousands of connections, most of which have ended: those are not worth being taken apart.
    rows = [row.split() for table in tables for row in table if f" {_ESTABLISHED} " in row]
    return {_address(row[2]) for row in rows if row[3] == _ESTABLISHED and row[9] in inodes}


def _address(text: str) -> tuple[str, int]:
    """An address as /proc/net/tcp writes it: 32-bit words, each as this machine stores it.

    >>> _address("0100007F:1F90")
    ('127.0.0.1', 8080)
    """
    digits, _, port = text.partition(":")
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), int(port, 16)
