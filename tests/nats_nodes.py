"""NATS nodes for tests of the engines: what a broker's configuration would ask for, without a broker's room."""

from __future__ import annotations

import socket

from harness.clock import until
from harness.system.topology import Link, NodeSpec

FILE = "/etc/nats/nats-server.conf"
_CONF = """server_name: "{name}"
listen: "<<listen:client>>"
http: "<<listen:monitor>>"
jetstream {{ store_dir: "<<data>>" }}
"""
_CLUSTER = """cluster {{
  name: "test", listen: "<<listen:cluster>>", no_advertise: true
  routes: [{routes}]
}}
"""


def nats_nodes(count: int) -> list[NodeSpec]:
    names = [f"nats-{number}" for number in range(1, count + 1)]
    routes = ", ".join(f'"nats://<<address:{name}:cluster>>"' for name in names)
    return [
        NodeSpec(
            name=name,
            program="nats",
            services={"client": 4222, "monitor": 8222, "cluster": 6222},
            files={FILE: _CONF.format(name=name) + (_CLUSTER.format(routes=routes) if count > 1 else "")},
            arguments=("--config", f"<<file:{FILE}>>"),
        )
        for name in names
    ]


def info(link: Link) -> bytes:
    """The line with which a NATS server greets, or nothing."""
    try:
        with socket.create_connection(link.address, timeout=3) as peer:
            return peer.recv(4096)
    except OSError:
        return b""


def greeted(link: Link, within_s: float = 10.0) -> bytes:
    """That line, once the server is up."""

    def line() -> bytes | None:
        said = info(link)
        return said if said.startswith(b"INFO") else None

    return until(line, within_s=within_s, what=f"{link.node} to greet")


def asked(link: Link, subject: str, body: bytes = b"") -> bytes:
    """What the server, or who is behind it, answers to a request."""
    with socket.create_connection(link.address, timeout=3) as peer:
        peer.recv(4096)
        peer.sendall(b'CONNECT {"verbose":false}\r\nSUB answers 1\r\n')
        peer.sendall(b"PUB %s answers %d\r\n%s\r\n" % (subject.encode(), len(body), body))
        answer = b""
        while b"}\r\n" not in answer and b"]\r\n" not in answer:
            answer += peer.recv(65_536)
        return answer


def http_get(link: Link, path: str) -> str:
    with socket.create_connection(link.address, timeout=3) as peer:
        peer.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while chunk := peer.recv(65_536):
            answer += chunk
    return answer.decode()
