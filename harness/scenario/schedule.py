"""When is which fault injected, as a suite writes it? A schedule; drawn from a seed it becomes a plan.

*Repeat*: one after the other, each a trial of its own. *InTurn*: different ones, one trial after the other. *Overlap*:
several in one trial. *Randomly*: a trial in which they come as the seed has it. *At*: at a moment, not at a time.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Protocol, TypeGuard, cast

from harness.errors import Refused
from harness.faults.fault import Fault
from harness.scenario.moment import Moment
from harness.system.needs import LINK_VERBS

_BETWEEN_NODES = frozenset({"sever", "delay"})
_OF_NODES = frozenset({"start", "stop", "kill", "pause", "resume"})
"""What two faults may do to nodes side by side: each sees whether its own node was as it should be to the end."""

_PARTS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One fault of a trial, before the seed has drawn its length and target: due `at_s` after the trial begins, or
    after that at a `moment`."""

    fault: Fault
    at_s: float = 0.0
    moment: Moment | None = None


class Schedule(Protocol):
    """Data that says when which fault is injected."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every fault that it can inject."""
        ...

    @property
    def name(self) -> str:
        """A pytest id."""
        ...

    def trials(self, chance: random.Random) -> Iterator[tuple[Due, ...]]:
        """What is due in each trial. All randomness comes from `chance`."""
        ...


def is_fault(part: Fault | Schedule) -> TypeGuard[Fault]:
    """Whether it is a fault, and no schedule of faults."""
    return hasattr(part, "inject")


def as_schedule(part: Fault | Schedule) -> Schedule:
    """A schedule as it is; a fault, once."""
    return Repeat(part) if is_fault(part) else cast(Schedule, part)


@dataclass(frozen=True, slots=True)
class Repeat:
    """One fault, or schedule, `times` times one after the other; each trial has its own quiet and recovered phase."""

    of: Fault | Schedule
    times: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.times <= 10_000:
            raise Refused(f"schedule: times={self.times} (1 to 10000)", cure="repeat a fault at least once")

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those of what it repeats."""
        return _faults([self.of])

    @property
    def name(self) -> str:
        """That of what it repeats: how often is no other experiment."""
        return self.of.name

    def trials(self, chance: random.Random) -> Iterator[tuple[Due, ...]]:
        """So many of the same."""
        for _ in range(self.times):
            yield from _trials(self.of, chance)


@dataclass(frozen=True, slots=True)
class At:
    """One fault, injected not after a time but at a moment, such as `Acked(100)` or `Elected()`."""

    moment: Moment
    fault: Fault

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The one fault."""
        return (self.fault,)

    @property
    def name(self) -> str:
        """Fault and moment."""
        return f"{self.fault.name}_{self.moment.name}"

    def trials(self, chance: random.Random) -> Iterator[tuple[Due, ...]]:
        """One."""
        yield (Due(fault=self.fault, moment=self.moment),)


@dataclass(frozen=True, slots=True)
class InTurn:
    """Several faults or schedules, one trial after the other in one run, each with its quiet and recovered phase."""

    parts: tuple[Fault | Schedule, ...]

    def __post_init__(self) -> None:
        _refuse_few("in turn", self.parts)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those of all parts."""
        return _faults(self.parts)

    @property
    def name(self) -> str:
        """The names of its parts."""
        return "_then_".join(part.name for part in self.parts)

    def trials(self, chance: random.Random) -> Iterator[tuple[Due, ...]]:
        """Those of each part."""
        for part in self.parts:
            yield from _trials(part, chance)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Several faults in one trial, each `apart_s` seconds after the one before, or at its moment after that.

    Refuses pairs of which one would mend the other: two faults of the same clients' links, two partitions.
    """

    parts: tuple[Fault | At, ...]
    apart_s: float = 0.2

    def __post_init__(self) -> None:
        _refuse_few("overlap", self.parts)
        if not 0 <= self.apart_s <= 60:
            raise Refused(f"overlap: apart_s={self.apart_s:g} (0 to 60)", cure="choose a time in that range")
        for one, other in combinations(self.faults, 2):
            if reason := quarrel(one, other):
                raise Refused(f"overlap: {reason}", cure="let them come in turn")

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those of all parts."""
        return _faults(self.parts)

    @property
    def name(self) -> str:
        """The names of its parts."""
        return "_with_".join(part.name for part in self.parts)

    def trials(self, chance: random.Random) -> Iterator[tuple[Due, ...]]:
        """One, with all of them."""
        yield tuple(
            replace(one, at_s=place * self.apart_s)
            for place, part in enumerate(self.parts)
            for due in as_schedule(part).trials(chance)
            for one in due
        )


@dataclass(frozen=True, slots=True)
class Randomly:
    """A trial of `during_s` seconds in which these faults come and go as the seed has it, `density` of them holding at
    a time on average. Those of which one would mend the other never hold together. `label` ends its name."""

    of: tuple[Fault, ...]
    during_s: float = 5.0
    density: float = 0.5
    label: str = "faults"

    def __post_init__(self) -> None:
        if not self.of:
            raise Refused("randomly: no faults", cure="name at least one")
        if not 0 < self.during_s <= 3600:
            raise Refused(
                f"randomly: during_s={self.during_s:g} (above 0, at most 3600)", cure="choose it in that range"
            )
        if not 0 < self.density <= 10:
            raise Refused(f"randomly: density={self.density:g} (above 0, at most 10)", cure="choose it in that range")
        if any(fault.hold_s <= 0 for fault in self.of):
            raise Refused("randomly: a fault that holds for no time has no density", cure="set its hold_s")
        if self.during_s * self.density / min(fault.hold_s for fault in self.of) > _PARTS_MAX:
            raise Refused(f"randomly: more than {_PARTS_MAX} injections in one trial", cure="less time or less density")

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those it draws from."""
        return self.of

    @property
    def name(self) -> str:
        """As labelled: names of a dozen faults are no name."""
        return f"random_{self.label}"

    def trials(self, chance: random.Random) -> Iterator[tuple[Due, ...]]:
        """One: intervals between beginnings are exponential (a Poisson process), of a mean that gives the density."""
        mean_s = sum(fault.hold_s for fault in self.of) / len(self.of) / self.density
        due: list[Due] = []
        free_s: dict[Fault, float] = {}
        begin_s = 0.0
        while begin_s < self.during_s or not due:
            fault = chance.choice(self.of)
            at_s = max([begin_s, *(free for other, free in free_s.items() if quarrel(fault, other))])
            if at_s < self.during_s or not due:
                due.append(Due(fault=fault, at_s=round(at_s, 3)))
                free_s[fault] = at_s + _LENGTHENED * fault.hold_s + _BETWEEN_S
            begin_s += chance.expovariate(1 / mean_s)
        yield tuple(sorted(due, key=lambda one: one.at_s))


_LENGTHENED = 1.1
"""A plan makes a fault hold up to a tenth longer."""
_BETWEEN_S = 0.3
"""What injecting and mending may take, so that two that must not overlap don't."""

_ON_STORES = "store_limit"
"""Needs of a fault that asks no verb of a node, and hits servers all the same."""


def quarrel(one: Fault, other: Fault) -> str | None:
    """Why mending one of two faults that hold together would mend the other, or None.

    A link is healed as a whole, and so is a network. What changes a node otherwise than by ending, starting or freezing
    it is mended by a node that runs, which must not be ended meanwhile. Ballast in the servers' stores is taken away by
    kind. Clients of a role may be the same one, and one client behaves in one way at a time.
    """
    if one == other:
        return f"{one.name} with itself"
    alike = one.touches == other.touches or "both" in (one.touches, other.touches)
    if alike and one.needs.verbs & LINK_VERBS and other.needs.verbs & LINK_VERBS:
        return f"{one.name} and {other.name} disturb the same links, and mending one would mend the other"
    if all(_BETWEEN_NODES & fault.needs.verbs for fault in (one, other)):
        return f"{one.name} and {other.name} are both between nodes, and mending one would mend the other"
    ours, theirs = (fault.needs.verbs - LINK_VERBS - _BETWEEN_NODES for fault in (one, other))
    if ours and theirs and not (ours | theirs) <= _OF_NODES:
        return f"{one.name} and {other.name} both change nodes, and one may need a node that the other has ended"
    on_stores = [_ON_STORES in fault.needs.capabilities for fault in (one, other)]
    if all(on_stores) and one.name == other.name:
        return f"{one.name} and {other.name} use up the same room, and mending one would mend the other"
    if alike and not one.needs.verbs and not other.needs.verbs and not any(on_stores):
        return f"{one.name} and {other.name} may hit the same client"
    return None


def _faults(parts: Iterable[Fault | Schedule]) -> tuple[Fault, ...]:
    return tuple(fault for part in parts for fault in ((part,) if is_fault(part) else as_schedule(part).faults))


def _trials(part: Fault | Schedule, chance: random.Random) -> Iterator[tuple[Due, ...]]:
    if is_fault(part):
        yield (Due(fault=part),)
    else:
        yield from as_schedule(part).trials(chance)


def _refuse_few(what: str, parts: tuple[object, ...]) -> None:
    if len(parts) < 2:
        raise Refused(f"{what}: {len(parts)} parts", cure="a composition has at least two")
