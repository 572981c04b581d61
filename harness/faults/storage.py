"""What does a broker do that may store no more? JetStream has limits of its own, of memory and of files, below those of
the machine; messages that are not the cell's use them up.

Evidence: what each server stores, beside its limit, as it says itself; that the cell's stream took no message while it
held, read back from the servers; and that producers went on to offer some.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.errors import Refused
from harness.operation import Evidence, Role
from harness.system.needs import Equipment, Needs
from harness.system.storage import Room, Storage
from harness.system.system import Measure, System

STORE_MB = 32
FULL_S = 5.0
_SETTLED_S, _LOOK_S = 1.0, 0.1
_STORES: Mapping[str, Equipment] = {
    "file": Equipment(file_store_mb=STORE_MB),
    "memory": Equipment(memory_store_mb=STORE_MB),
}


@dataclass(frozen=True, slots=True)
class StorageLimit:
    """Brings every JetStream server of the cell to its limit of what it stores in files, or in memory, by ballast
    beside the cell's stream; mended, the ballast is gone."""

    storage: Literal["file", "memory"] = "file"
    hold_s: float = 2.0
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.storage not in _STORES:
            raise Refused(f"storage_limit: storage={self.storage!r}", cure="JetStream stores in file or in memory")

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"jetstream_{self.storage}_limit"

    @property
    def needs(self) -> Needs:
        """Servers that were started with a limit of that kind, and a stream that is stored so."""
        return Needs(capabilities=frozenset({"store_limit"}), fresh=True, equipment=_STORES[self.storage])

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Use the room up; it bites when most of the servers say that they are beyond their limit."""
        storage = system.broker.storage()
        nodes, before = tuple(system.topology.nodes), storage.room(self.storage)

        def full() -> int | None:
            return system.now_ns() if _most_over(storage.room(self.storage), nodes) else None

        try:
            said = storage.fill(self.storage)
            full_ns = system.watch(full, within_s=FULL_S, poll_s=0.02)
            stored = _settled(system, storage)
            begun = _Told.by_producers(system)

            def measure() -> Evidence:
                room, stored_held = storage.room(self.storage), _most(storage)
                told = _Told.by_producers(system)
                attempted = told.attempted - begun.attempted
                facts = {
                    "ballast_ended_with": said,
                    "bytes_before": {node: each.used for node, each in before.items()},
                    "bytes_held": {node: each.used for node, each in room.items()},
                    "bytes_allowed": {node: each.limit for node, each in room.items()},
                    "messages_stored_as_it_began": stored,
                    "messages_stored_as_it_held": stored_held,
                    "attempted": attempted,
                    "answered": told.answered - begun.answered,
                    "acked": told.acked - begun.acked,
                }
                why_not = None
                if _most_over(before, nodes):
                    why_not = "the servers were beyond their limit before there was any ballast"
                elif full_ns is None or not _most_over(room, nodes):
                    why_not = f"servers have room: {_listed(room) or 'none says how much'}"
                elif stored is None or stored_held is None:
                    why_not = "no server says what the cell's stream holds"
                elif stored_held > stored:
                    why_not = f"the stream took {stored_held - stored} messages while it held"
                elif attempted <= 0:
                    why_not = "no producer offered a message while it held"
                return Evidence(tuple(sorted(room)), full_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            storage.empty(self.storage)


@dataclass(frozen=True, slots=True)
class _Told:
    """What producers have offered, and heard of it, so far."""

    attempted: int
    answered: int
    acked: int

    @classmethod
    def by_producers(cls, system: System) -> _Told:
        counts = [client.counters() for client in system.crew.all() if client.role is Role.PRODUCER]
        return cls(
            attempted=sum(each.attempted for each in counts),
            answered=sum(each.answered for each in counts),
            acked=sum(each.acked for each in counts),
        )


def _most_over(room: Mapping[str, Room], nodes: Sequence[str]) -> bool:
    """Whether so many are beyond their limit that the others are too few to store anything."""
    return 2 * sum(each.over for each in room.values()) > len(nodes)


def _most(storage: Storage) -> int | None:
    """How many messages the server that has most of them has stored."""
    return max(storage.stored().values(), default=None)


def _settled(system: System, storage: Storage) -> int | None:
    """The same, once what was under way has come."""
    seen = _most(storage)

    def stands_still() -> int | None:
        nonlocal seen
        before, seen = seen, _most(storage)
        return system.now_ns() if seen == before else None

    system.watch(stands_still, within_s=_SETTLED_S, poll_s=_LOOK_S)
    return seen


def _listed(room: Mapping[str, Room]) -> str:
    return ", ".join(f"{node} stores {each.used} of {each.limit} bytes" for node, each in sorted(room.items()))
