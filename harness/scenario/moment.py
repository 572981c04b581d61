"""At which moment of a run shall a fault come, if not after a time? Conditions on what clients and brokers do.

A moment is waited for once a trial has begun: what it counts, it counts from there, so that it comes in every trial,
and after a quiet phase of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.errors import Refused, Trouble
from harness.operation import Role
from harness.system.system import System

Come = Callable[[], str | None]
"""Why the moment has not come yet, in words; None once it has."""


class Moment(Protocol):
    """A frozen value that says what to wait for."""

    @property
    def name(self) -> str:
        """Part of a pytest id: "after_100_acked"."""
        ...

    def watch(self, system: System) -> Come:
        """Begin to count now. What is returned is asked often, and is as quick as a look at live counters."""
        ...


@dataclass(frozen=True, slots=True)
class Acked:
    """When so many more messages have been acked: by the broker, or handed over where nobody confirms."""

    count: int

    def __post_init__(self) -> None:
        if not 0 < self.count <= 10_000_000:
            raise Refused(
                f"acked: count={self.count} (1 to 10000000)", cure="count messages from the trial's beginning"
            )

    @property
    def name(self) -> str:
        """Part of a pytest id."""
        return f"after_{self.count}_acked"

    def watch(self, system: System) -> Come:
        """Count the acknowledgements of all producers there ever were."""

        def acked() -> int:
            counters = [client.counters() for client in system.crew.all() if client.role is Role.PRODUCER]
            return sum(one.acked if one.answered else one.handed for one in counters)

        before = acked()

        def come() -> str | None:
            since = acked() - before
            return None if since >= self.count else f"{since} of {self.count} messages were acked"

        return come


@dataclass(frozen=True, slots=True)
class Elected:
    """When another leader has been elected than the one that led when the trial began."""

    @property
    def name(self) -> str:
        """Part of a pytest id."""
        return "after_election"

    def watch(self, system: System) -> Come:
        """Ask the broker who leads."""
        before = system.find(Role.LEADER).name

        def come() -> str | None:
            try:
                now = system.broker.leader()
            except Trouble as nobody:
                return nobody.message
            return None if now != before else f"{before} led all the while"

        return come


@dataclass(frozen=True, slots=True)
class Holding:
    """When one consumer holds so many deliveries that it has not settled."""

    count: int

    def __post_init__(self) -> None:
        if not 0 < self.count <= 65_535:
            raise Refused(f"holding: count={self.count} (1 to 65535)", cure="no more than the workload's prefetch")

    @property
    def name(self) -> str:
        """Part of a pytest id."""
        return f"while_{self.count}_held"

    def watch(self, system: System) -> Come:
        """Look at every living consumer."""

        def come() -> str | None:
            most = max((client.counters().holding for client in system.crew.living(Role.CONSUMER)), default=0)
            return None if most >= self.count else f"no consumer held more than {most} of {self.count} deliveries"

        return come
