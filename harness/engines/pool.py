"""Which warm topology can serve the next cell, and which must be thrown away?

*Pool*: one per harness process. *Lease*: one cell's use of a topology: fresh or warm, handed back warm only if nobody
touched a node, every link is healed, the caller finds it healthy, and the cell ended without an error.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, cast

from harness.errors import Trouble
from harness.system.topology import Engine, NodeSpec, Topology

Healthy = Callable[[Topology], str | None]
Key = tuple[object, ...]


class Poolable(Topology, Protocol):
    """What our engines' topologies can do besides, so that they can be handed on."""

    def renew_links(self) -> None:
        """Delete the links of all client slots."""
        ...

    def disturbed(self) -> object:
        """What is wrong with any link; false if nothing is."""
        ...


@dataclass(slots=True)
class Pool:
    """Warm topologies by engine and nodes; at most `keep` of them, the least recently used go first.

    Thread-safe. A context manager; `close` removes everything, and runs at the interpreter's end as a last resort.
    """

    keep: int = 2
    said: list[str] = field(default_factory=list)
    """Why topologies were thrown away, one sentence each."""
    left: list[str] = field(default_factory=list)
    """What could not be removed, and why; the ledger keeps it for the next start."""
    _warm: dict[Key, list[Poolable]] = field(default_factory=dict)
    _ahead: tuple[Key, Future[Topology]] | None = None
    _leased: list[Topology] = field(default_factory=list)
    _engines: dict[int, Engine] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closed: bool = False

    def __post_init__(self) -> None:
        atexit.register(self.close)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def lease(
        self,
        engine: Engine,
        specs: Sequence[NodeSpec],
        *,
        run: str,
        fresh: bool = False,
        healthy: Healthy | None = None,
    ) -> Iterator[Topology]:
        """A topology of these nodes, for the body alone. `fresh`: one that served nobody, and will serve nobody else.

        `healthy` says what is wrong with a topology that is about to be handed on, or None. Raises what the engine
        raises.
        """
        key = _key(engine, specs)
        topology = (None if fresh else self._take(key, healthy)) or self._made(key, engine, specs, run)
        with self._lock:
            self._leased.append(topology)
        good = False
        try:
            yield topology
            good = not fresh
        finally:
            self._back(key, cast("Poolable", topology), "the cell failed or asked for a fresh one", good, healthy)

    def prefetch(self, engine: Engine, specs: Sequence[NodeSpec], *, run: str) -> None:
        """Start making a topology for a coming lease, in the background; one ahead at most, else it does nothing."""
        key = _key(engine, specs)
        with self._lock:
            if self._closed or self._ahead is not None or self._warm.get(key):
                return
            future: Future[Topology] = Future()
            self._ahead = (key, future)

        def make() -> None:
            try:
                future.set_result(engine.create(specs, run=run))
            except BaseException as error:  # the lease that waits for it raises it, in its own thread
                future.set_exception(error)

        threading.Thread(target=make, name="assay-prefetch", daemon=True).start()

    def _made(self, key: Key, engine: Engine, specs: Sequence[NodeSpec], run: str) -> Topology:
        with self._lock:
            if self._closed:
                raise Trouble("the pool of topologies is closed")
            self._engines[id(engine)] = engine
            if retain := getattr(engine, "retain", None):
                retain()
            ahead = self._ahead if self._ahead is not None and self._ahead[0] == key else None
            if ahead is not None:
                self._ahead = None
        if ahead is not None:
            return ahead[1].result()
        self._evict(room_for=1)
        return engine.create(specs, run=run)

    def _take(self, key: Key, healthy: Healthy | None) -> Poolable | None:
        while True:
            with self._lock:
                warm = self._warm.get(key)
                topology = warm.pop() if warm else None
            if topology is None:
                return None
            if (why_not := _unfit(topology, healthy)) is None:
                return topology
            self._throw_away(topology, why_not)

    def _back(self, key: Key, topology: Poolable, why_not: str | None, good: bool, healthy: Healthy | None) -> None:
        with self._lock:
            if topology in self._leased:
                self._leased.remove(topology)
        if good:
            why_not = _unfit(topology, healthy)
            if why_not is None:
                try:
                    topology.renew_links()
                except Trouble as trouble:
                    why_not = trouble.message
        with self._lock:
            keep = why_not is None and not self._closed and self.keep > 0
            if keep:
                warm = self._warm.pop(key, [])  # put at the end: the most recently used
                self._warm[key] = [*warm, topology]
        if keep:
            self._evict(room_for=0)
        else:
            self._throw_away(topology, why_not or "the pool keeps none")

    def _evict(self, *, room_for: int) -> None:
        while True:
            with self._lock:
                if sum(map(len, self._warm.values())) + room_for <= max(self.keep, room_for):
                    return
                key = next(key for key, warm in self._warm.items() if warm)
                topology = self._warm[key].pop(0)
            self._throw_away(topology, "the pool keeps no more")

    def _throw_away(self, topology: Topology, why: str) -> None:
        self.said.append(f"topology of {', '.join(topology.nodes)} removed: {why}")
        self._remove([topology.remove])

    def _remove(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Do all of it, whatever becomes of those before; trouble is noted: no cell is to blame for it."""
        failures: list[Exception] = []
        for job in jobs:
            try:
                job()
            except Trouble as trouble:
                self.left.append(str(trouble))
            except Exception as error:  # the others must go, too; the first is raised below
                failures.append(error)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Remove every topology, leased or warm, and what engines kept for the next. Idempotent."""
        with self._lock:
            self._closed = True
            topologies: list[Topology] = [*self._leased, *(one for warm in self._warm.values() for one in warm)]
            ahead, self._ahead = self._ahead, None
            engines = list(self._engines.values())
            self._leased.clear()
            self._warm.clear()
            self._engines.clear()
        if ahead is not None and ahead[1].exception() is None:
            topologies.append(ahead[1].result())
        releases = [release for engine in engines if (release := getattr(engine, "release", None))]
        atexit.unregister(self.close)
        self._remove([*(topology.remove for topology in topologies), *releases])


def _unfit(topology: Poolable, healthy: Healthy | None) -> str | None:
    """Why a topology must not serve another cell, or None."""
    try:
        if topology.dirty:
            return "a verb was used on a node"
        if why_not := topology.proxy_alive():
            return why_not
        if disturbed := topology.disturbed():
            return f"links are not healed: {disturbed}"
        return healthy(topology) if healthy is not None else None
    except Trouble as trouble:
        return trouble.message


def _key(engine: Engine, specs: Sequence[NodeSpec]) -> Key:
    return (engine.name, *(spec.key() for spec in specs))
