"""What does a fault need of an engine, and what must it have made of every node? Compared before anything starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a node has only where a fault of its cell needs it.

    `disk_mb`: its data lies on a volume of its own, of that size in MiB. `memory_mb`: it may use no more memory, in
    MiB. `clock`: its time can be set apart from ours. `file_store_mb`, `memory_store_mb`: its server stores no more
    messages in files, or in memory, in MiB, as its configuration tells it. None, or False, where nobody needs it.
    """

    disk_mb: int | None = None
    memory_mb: int | None = None
    clock: bool = False
    file_store_mb: int | None = None
    memory_store_mb: int | None = None

    def kinds(self) -> frozenset[str]:
        """The capabilities that an engine needs to make it: of "disk", "memory" and "clock". What a server stores is
        the broker's own business.

        >>> sorted(Equipment(disk_mb=64, clock=True).kinds())
        ['clock', 'disk']
        """
        asked = {"disk": self.disk_mb is not None, "memory": self.memory_mb is not None, "clock": self.clock}
        return frozenset(kind for kind, wanted in asked.items() if wanted)

    def with_also(self, other: Equipment) -> Equipment:
        """What serves both: of two sizes the smaller one.

        >>> Equipment(disk_mb=256).with_also(Equipment(disk_mb=64, clock=True))
        Equipment(disk_mb=64, memory_mb=None, clock=True, file_store_mb=None, memory_store_mb=None)
        """
        return Equipment(
            disk_mb=_smaller(self.disk_mb, other.disk_mb),
            memory_mb=_smaller(self.memory_mb, other.memory_mb),
            clock=self.clock or other.clock,
            file_store_mb=_smaller(self.file_store_mb, other.file_store_mb),
            memory_store_mb=_smaller(self.memory_store_mb, other.memory_store_mb),
        )


def _smaller(one: int | None, other: int | None) -> int | None:
    return min((size for size in (one, other) if size is not None), default=None)


LINK_VERBS = frozenset(
    {
        "disconnect",
        "latency",
        "blackhole",
        "stall",
        "limit",
        "cut_after",
        "fragment",
        "slow_close",
        "reset_new",
        "heal",
    }
)
"""What can be done to the link of a client; healing undoes all of it."""

NO_EQUIPMENT = Equipment()
"""What a node is made with where no fault needs more."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a fault or a configuration needs of an engine, compared with what it offers before anything starts.

    `verbs`: names of Node and Link methods that it calls. `capabilities`: "containers", "cluster", ...; what an engine
    offers holds the kinds of equipment that it makes, too. `fresh`: the topology may not be handed on to another cell
    afterwards. `equipment`: what every node must have. `versions`: of the nodes' program (None: the pinned one) that
    must be to be had besides the one that they start with.
    """

    verbs: frozenset[str] = frozenset()
    capabilities: frozenset[str] = frozenset()
    fresh: bool = False
    equipment: Equipment = NO_EQUIPMENT
    versions: tuple[str | None, ...] = ()
