"""How is JetStream brought to the limit of what its servers store? By a ballast stream beside the cell's own.

A server counts what all its streams store, in files and in memory apart, and refuses every message while it has more
than its limit (`max_file_store`, `max_memory_store`): it looks before it stores, so the last message may exceed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.brokers.nats.audit import STREAM_NOT_FOUND
from harness.brokers.nats.gateway import Gateway, Reply, error_code, error_of
from harness.brokers.nats.monitor import Monitor
from harness.clock import until
from harness.errors import Refused
from harness.system.storage import Room

BALLAST_BYTES = 256 << 10
"""Of a message: few enough for the servers' limit of 1 MiB, and many enough to be more than what a cell takes away
again by settling its deliveries."""

WINDOW = 3
"""Messages of ballast under way at a time: as many as our connection takes."""

FILL_MAX_BYTES = 256 << 20
_SPARE = 8
"""Messages beyond what there is room for: the first that is too much is taken, and who must say so may just change."""

_ROUNDS_MAX = 5
_ANSWER_S = 2.0
MAKE_S = 30.0
EMPTY_S = 30.0
_TELL_S = 5.0


class Storage:
    """Of the servers that a cell's stream is on."""

    def __init__(self, gateway: Gateway, monitor: Monitor, nodes: Sequence[str], cell: str, stream: str) -> None:
        self._gateway = gateway
        self._monitor = monitor
        self._nodes = tuple(nodes)
        self._cell = cell
        self._stream = stream

    def room(self, kind: str) -> Mapping[str, Room]:
        """By each server's monitoring."""
        used, limit = ("storage", "max_storage") if kind == "file" else ("memory", "max_memory")
        told = {node: self._monitor.get(node, "/jsz") for node in self._nodes}
        return {
            node: Room(used=int(jsz[used]), limit=int(jsz["config"][limit]))
            for node, jsz in told.items()
            if jsz is not None and "config" in jsz
        }

    def stored(self) -> Mapping[str, int]:
        """The number of the last message that each server has of the stream, by its monitoring: also where nobody
        leads the stream."""
        told = {node: self._monitor.get(node, "/jsz?streams=true") for node in self._nodes}
        found: dict[str, int] = {}
        for node, jsz in told.items():
            for account in (jsz or {}).get("account_details") or ():
                for stream in account.get("stream_detail") or ():
                    if stream.get("name") == self._stream:
                        found[node] = int(stream["state"]["last_seq"])
        return found

    def fill(self, kind: str) -> str:
        """Publish ballast until it is refused, or not answered, with every server full: one whose leader is full has
        another one then, which may have room."""
        room = self.room(kind)
        left = max((each.limit - each.used for each in room.values()), default=0)
        if left > FILL_MAX_BYTES:
            raise Refused(
                f"the servers have room for {left} bytes in {kind}: too many to use up",
                cure="let the fault say in its needs how much they may store: Equipment",
            )
        self._make(kind)
        count = max(0, left) // BALLAST_BYTES + _SPARE
        refusal: Reply | None = None
        for _ in range(_ROUNDS_MAX):
            refusal = self._gateway.store(
                _subject(kind, self._cell), bytes(BALLAST_BYTES), count=count, window=WINDOW, within_s=_ANSWER_S
            )
            if refusal is None or all(each.over for each in self.room(kind).values()):
                break
        return "" if refusal is None else error_of(refusal)

    def empty(self, kind: str) -> None:
        """Delete the ballast stream; where there is none it is gone."""
        reply: Reply | None = None

        def gone() -> bool:
            nonlocal reply
            reply = self._gateway.tell(f"$JS.API.STREAM.DELETE.{_name(kind, self._cell)}", {}, within_s=_TELL_S)
            return reply is not None and error_code(reply) in (0, STREAM_NOT_FOUND)

        until(gone, within_s=EMPTY_S, what="the ballast stream to be gone", last_seen=lambda: error_of(reply))

    def _make(self, kind: str) -> None:
        name, reply = _name(kind, self._cell), None
        body = {
            "name": name,
            "subjects": [_subject(kind, self._cell)],
            "storage": kind,
            "num_replicas": len(self._nodes),
            "retention": "limits",
        }

        def made() -> bool:
            nonlocal reply
            reply = self._gateway.tell(f"$JS.API.STREAM.CREATE.{name}", body, within_s=_TELL_S)
            return reply is not None and not error_code(reply)

        until(made, within_s=MAKE_S, what="the ballast stream", last_seen=lambda: error_of(reply))


def _name(kind: str, cell: str) -> str:
    return f"ballast-{kind}-{cell}"


def _subject(kind: str, cell: str) -> str:
    return f"ballast.{kind}.{cell}"
