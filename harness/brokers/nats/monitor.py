"""What does a server say of itself over HTTP? Its monitoring endpoint, one persistent connection to each node.

Threads share it: a connection carries one question and its answer at a time.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Mapping
from typing import Any

WITHIN_S = 0.5


class Monitor:
    """Monitoring of every node. `addresses`: of the link to each node's monitoring port."""

    def __init__(self, addresses: Mapping[str, tuple[str, int]]) -> None:
        self._addresses = addresses
        self._connections: dict[str, http.client.HTTPConnection] = {}
        self._locks = {node: threading.Lock() for node in addresses}

    def get(self, node: str, path: str) -> Mapping[str, Any] | None:
        """What `node` answers at `path`, or None where it does not answer in time; never raises for a dead node."""
        with self._locks[node]:
            return self._get(node, path)

    def _get(self, node: str, path: str) -> Mapping[str, Any] | None:
        for _ in range(2):  # a connection kept from earlier may have ended meanwhile, with its server
            connection = self._connections.get(node)
            fresh = connection is None
            if connection is None:
                host, port = self._addresses[node]
                connection = self._connections[node] = http.client.HTTPConnection(host, port, timeout=WITHIN_S)
            try:
                connection.request("GET", path)
                found = json.loads(connection.getresponse().read())
                return found if isinstance(found, dict) else None
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._drop(node)
                if fresh or isinstance(error, TimeoutError):
                    return None
        return None

    def ill(self, node: str) -> str | None:
        """None when `node` says that it is healthy and current in all that it replicates; else what it says."""
        health = self.get(node, "/healthz")
        if health is None:
            return "its monitoring does not answer"
        return None if health.get("status") == "ok" else str(health.get("error") or health.get("status"))

    def close(self) -> None:
        """Close all connections. Idempotent."""
        for node, lock in self._locks.items():
            with lock:
                self._drop(node)

    def _drop(self, node: str) -> None:
        connection = self._connections.pop(node, None)
        if connection is not None:
            connection.close()
