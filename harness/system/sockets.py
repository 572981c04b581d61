"""How many bytes and segments did the kernel see on a client's connection? Asked of it by netlink, as `ss -ti` does.

A proxy tells of a connection only when it has ended, and says nothing of how it cut up what it passed on. The kernel
counts both for every living socket of this machine, and every client dials a link here; nobody need have any right.
Linux only: struct inet_diag_msg and struct tcp_info, whose first fields never move (linux/inet_diag.h, linux/tcp.h).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import Trouble
from harness.system.topology import Link

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP = 4, 20, 0x301
_ERROR, _DONE, _INFO = 2, 3, 2
_ESTABLISHED = 1 << 1
_HEAD = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_PORTS = struct.Struct(">HH")
_PORTS_AT, _QUEUED_AT, _MESSAGE_SIZE = 4, 60, 72
_BYTES_AT, _SEGMENTS_AT, _INFO_SIZE = 120, 152, 160
_RECEIVE_BYTES = 1 << 18
_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Socket:
    """One connection, as the kernel counts it at the client's end since it was opened.

    `port`: the client's own. `received`: bytes; `segments`: the TCP segments with data that these came in. `sent`:
    bytes that the client has written, taken by the other end or still on their way there.
    """

    port: int
    received: int
    segments: int
    sent: int


def sockets(links: Sequence[Link]) -> Mapping[tuple[str, str], Socket]:
    """The living connection through each of these links that has one, by (slot, node).

    Raises Trouble where the kernel does not tell.
    """
    doors = {link.address[1]: (link.slot, link.node) for link in links}
    return {doors[far]: seen for far, seen in _established() if far in doors}


def _established() -> Iterator[tuple[int, Socket]]:
    """(far port, socket) of every established IPv4 connection of this machine's own network."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_LIMIT_S)
            kernel.bind((0, 0))
            wanted = _ASKED.pack(socket.AF_INET, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, _ESTABLISHED) + bytes(48)
            kernel.send(_HEAD.pack(_HEAD.size + len(wanted), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + wanted)
            yield from _answered(kernel)
    except OSError as error:
        raise Trouble(
            f"the kernel does not tell of its sockets: {error}", cure="load its module tcp_diag, or run without"
        ) from error


def _answered(kernel: socket.socket) -> Iterator[tuple[int, Socket]]:
    while True:
        data = kernel.recv(_RECEIVE_BYTES)
        at = 0
        while at < len(data):
            size, kind, *_ = _HEAD.unpack_from(data, at)
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -struct.unpack_from("=i", data, at + _HEAD.size)[0]
                raise OSError(number, f"netlink answers {number}")
            yield from _told(data[at + _HEAD.size : at + size])
            at += _aligned(size)


def _told(message: bytes) -> Iterator[tuple[int, Socket]]:
    near, far = _PORTS.unpack_from(message, _PORTS_AT)
    (queued,) = struct.unpack_from("=I", message, _QUEUED_AT)
    at = _MESSAGE_SIZE
    while at < len(message):
        size, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _INFO and size - _ATTRIBUTE.size >= _INFO_SIZE:
            info = at + _ATTRIBUTE.size
            acked, received = struct.unpack_from("=QQ", message, info + _BYTES_AT)
            (segments,) = struct.unpack_from("=I", message, info + _SEGMENTS_AT)
            yield far, Socket(port=near, received=received, segments=segments, sent=acked + queued)
        at += _aligned(size)


def _aligned(size: int) -> int:
    return (size + 3) & ~3
