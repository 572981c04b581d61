"""Was every call to an HTTP server answered in time, and by no failure? A few lines over http.client.

A fault must bite within milliseconds and takes dozens of calls; a client that does more for each of them (sessions,
cookies, redirects, a proxy of the user's environment) takes three times as long.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from dataclasses import dataclass
from typing import Any

from harness.errors import Trouble

CONNECT_LIMIT_S = 2.0
_KEPT_MAX = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. `status`: below 400."""

    status: int
    text: str

    def json(self) -> Any:
        """Its body as data. Raises ValueError where it is none."""
        return json.loads(self.text)


class Calls:
    """Calls to one server, over connections that are kept open. Thread-safe.

    `limit_s`: how long each step of an answer may take, in seconds.
    """

    def __init__(self, who: str, host: str, port: int, limit_s: float) -> None:
        self.where = f"{host}:{port}"
        self._who, self._host, self._port = who, host, port
        self._limit_s = limit_s
        self._kept: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def request(self, method: str, path: str, body: object = None, *, limit_s: float | None = None) -> Answer:
        """Ask the server. Raises Trouble when it does not answer, or answers that it failed."""
        connection = None
        try:
            connection = self._connection()
            if connection.sock is not None:
                connection.sock.settimeout(self._limit_s if limit_s is None else limit_s)
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {} if sent is None else {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = Answer(response.status, response.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException) as error:
            if connection is not None:
                connection.close()
            why = str(error) or type(error).__name__
            raise Trouble(f"{self._who} at {self.where} did not answer {method} {path}: {why}") from error
        except BaseException:  # also Ctrl-C: half an answer would be the next caller's
            if connection is not None:
                connection.close()
            raise
        self._keep(connection)
        if answer.status >= 400:
            raise Trouble(f"{self._who} at {self.where} answered {answer.status} to {method} {path}: {_told(answer)}")
        return answer

    def close(self) -> None:
        """Close the connections that are kept; a later call opens one anew."""
        with self._lock:
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                connection = self._kept.pop() if self._kept else None
            if connection is None:
                break
            if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()  # the server ended it while it was idle: readable, and nothing was asked
        connection = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_LIMIT_S)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if connection.sock is not None and len(self._kept) < _KEPT_MAX:
                self._kept.append(connection)
                return
        connection.close()


def _told(answer: Answer) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:500]
