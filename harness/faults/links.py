"""Which links does a fault of a role hit, and how are they mended? What the faults of links share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from harness.errors import Refused
from harness.operation import Role
from harness.parallel import at_once
from harness.system.system import System
from harness.system.topology import Direction, Link

_AT_ONCE = 8
BITE_WATCH_S = 0.5
"""How long an injection watches for its first bite; a later one is dated by when it was measured."""


def side(role: Role) -> str:
    """The clients of a role, as the name of a fault calls them."""
    return {Role.PRODUCER: "producers", Role.CONSUMER: "consumers", Role.BOTH: "clients"}[role]


def refuse_node_roles(fault: str, role: Role) -> None:
    """Raise Refused for a role that has no links."""
    if role not in (Role.PRODUCER, Role.CONSUMER, Role.BOTH):
        raise Refused(f"{fault}: role={role!s}", cure="links belong to clients: producer, consumer or both")


def links_of(system: System, role: Role) -> list[Link]:
    """Every link of the clients of a role. Raises Refused where there is none."""
    links = system.client_links(role)
    if not links:
        raise Refused(f"no link of any {role} to break", cure="run a workload with such clients")
    return links


def on_each(links: Sequence[Link], verb: Callable[[Link], None]) -> None:
    """Do it to every link, several at a time, to the end; then raise the first failure. One after another, the links of
    a few clients to three nodes take longer than a fault may take to bite."""
    at_once([partial(verb, link) for link in links], most=_AT_ONCE)


def each_way(
    links: Sequence[Link], verb: Callable[[Link, Direction], None], directions: Iterable[Direction] = Direction
) -> None:
    """Do it to these directions of every link, several links at a time."""
    ways = tuple(directions)

    def on(link: Link) -> None:
        for direction in ways:
            verb(link, direction)

    on_each(links, on)


@contextmanager
def mended(links: Sequence[Link]) -> Iterator[None]:
    """Heal every link on the way out, also when breaking one of them failed halfway; then raise the first failure."""
    try:
        yield
    finally:
        on_each(links, lambda link: link.heal())


def names_of(links: Sequence[Link]) -> tuple[str, ...]:
    """Each as "slot->node": the targets of an injection."""
    return tuple(f"{link.slot}->{link.node}" for link in links)


def settings_of(links: Sequence[Link]) -> dict[str, dict[str, object]]:
    """What the proxy's server says is set on each, read back now."""
    return {name: dict(link.disturbed()) for name, link in zip(names_of(links), links, strict=True)}


def mended_meanwhile(settings: Mapping[str, object]) -> str | None:
    """Why what was read back while it should hold is no evidence; None where every link is still disturbed."""
    well = [name for name, set_there in settings.items() if not set_there]
    return f"the proxy says that nothing is wrong with {', '.join(well)} any more: somebody mended it" if well else None


def published(system: System) -> int:
    """Messages that producers have handed over so far, those that have ended, too: so it never falls."""
    return sum(client.counters().handed for client in system.crew.all() if client.role is Role.PRODUCER)


def first_published(system: System, before: int) -> int | None:
    """When a message was first seen to be handed over, beyond `before`: it, its answer or its delivery is then hit."""

    def seen() -> int | None:
        return system.now_ns() if published(system) > before else None

    return system.watch(seen, within_s=BITE_WATCH_S)
