"""Which faults swallow what clients and brokers say to each other? Silence in one direction or both, by role.

Their evidence is the silence that clients see while more is published, and the bytes withheld: Toxiproxy counts a
connection's bytes when it ends, so they are counted by cutting its connections just before it is mended (which would
end them anyway). It is dated by the first message that a producer handed over after the toxic was read back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.faults.links import (
    each_way,
    first_published,
    links_of,
    mended,
    mended_meanwhile,
    names_of,
    on_each,
    published,
    refuse_node_roles,
    settings_of,
)
from harness.faults.links import side as side_of
from harness.faults.silence import Heard, unheard
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Measure, System
from harness.system.topology import Direction, Link, Traffic

_KEEPALIVE_BYTES = 64
"""What heartbeats and pings alone may leave in a swallowed direction of one link."""


@contextmanager
def _swallowed(system: System, role: Role, directions: tuple[Direction, ...], heard: Heard) -> Iterator[Measure]:
    """Blackhole these directions of every link of a role, which holds up what is `heard`."""
    links = links_of(system, role)
    before = [link.traffic() for link in links]
    with mended(links):
        each_way(links, lambda link, direction: link.blackhole(direction), directions)
        placed_ns, published_before = system.now_ns(), published(system)
        bit_ns = first_published(system, published_before)

        def measure() -> Evidence:
            now_ns = system.now_ns()
            meanwhile = published(system) - published_before
            silence_ns, why_not = unheard(heard, placed_ns, now_ns)
            settings = settings_of(links)
            after: dict[str, Traffic] = {}
            on_each(links, lambda link: after.update(dict.fromkeys(names_of([link]), link.cut())))
            withheld = {
                f"{name} {direction}": count
                for name, prior in zip(names_of(links), before, strict=True)
                for direction in directions
                if (count := after[name].withheld(direction) - prior.withheld(direction)) > 0
            }
            facts = {
                "silence_ms": round(silence_ns / 1e6, 1) if heard else None,
                "held_ms": round((now_ns - placed_ns) / 1e6, 1),
                "published_meanwhile": meanwhile,
                "bytes_withheld": withheld,
                "read_back": settings,
            }
            if spared := spared_side(links, withheld, directions):
                why_not = f"no more than keep-alives was withheld on the links of {spared}"
            elif heard and meanwhile <= 0 and role is not Role.CONSUMER:
                why_not = "nothing was published while it held, so nothing could be swallowed"
            why_not = mended_meanwhile(settings) or why_not
            when = bit_ns if bit_ns is not None else now_ns
            return Evidence(names_of(links), when if why_not is None else None, facts, why_not)

        yield measure


def spared_side(links: Sequence[Link], withheld: Mapping[str, int], directions: Sequence[Direction]) -> str | None:
    """Clients of which no more than keep-alives was withheld, although there was more: of both sides, that is what
    producers say, without which nothing comes to consumers; and if they are heard, what consumers are sent."""
    sides = [side for side in ("producer", "consumer") if any(link.slot.startswith(side) for link in links)]
    if len(sides) > 1:
        sides = ["producer" if Direction.UP in directions else "consumer"]
    for side in sides:
        names = [name for name, link in zip(names_of(links), links, strict=True) if link.slot.startswith(side)]
        count = sum(withheld.get(f"{name} {direction}", 0) for name in names for direction in Direction)
        if names and count <= _KEEPALIVE_BYTES * len(names):
            return f"{side}s"
    return None


@dataclass(frozen=True, slots=True)
class Blackhole:
    """Drops every byte of these clients' links in one or both directions; connections stay open until it is mended."""

    role: Role = Role.BOTH
    direction: Direction | None = None
    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"blackhole"}))

    def __post_init__(self) -> None:
        refuse_node_roles("blackhole", self.role)

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def hides_ends(self) -> bool:
        """A consumer behind it may end unseen; to a producer the broker owes nothing."""
        return self.role is not Role.PRODUCER

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        way = {None: "", Direction.UP: "_up", Direction.DOWN: "_down"}[self.direction]
        return f"blackhole{way}_{side_of(self.role)}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Swallow the direction's bytes on every link of the role."""
        directions = tuple(Direction) if self.direction is None else (self.direction,)
        with _swallowed(system, self.role, directions, Heard.of(system, self.role, directions)) as bite:
            yield bite


@dataclass(frozen=True, slots=True)
class AcknowledgementLoss:
    """Loses the broker's answers to producers: publishes land, and nobody is told."""

    hold_s: float = 0.8
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"blackhole"}), capabilities=frozenset({"confirms"}))
    touches: ClassVar[str] = "producer"
    hides_ends: ClassVar[bool] = False  # of producers alone, to whom the broker owes nothing

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "acknowledgement_loss"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Swallow what flows from broker to producers."""
        heard = Heard.of(system, Role.PRODUCER, (Direction.DOWN,))
        with _swallowed(system, Role.PRODUCER, (Direction.DOWN,), heard) as bite:
            yield bite


@dataclass(frozen=True, slots=True)
class ConsumerAcknowledgementLoss:
    """Loses what consumers say to the broker: they work on, their acknowledgements never arrive.

    Deliveries go on until the broker has sent as many as it may without an answer: then consumers hear nothing more.
    """

    hold_s: float = 1.2
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"blackhole"}), capabilities=frozenset({"acknowledgements"}))
    touches: ClassVar[str] = "consumer"
    hides_ends: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return "consumer_acknowledgement_loss"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Swallow what flows from consumers to the broker."""
        heard = Heard(system=system, answered=(), delivered=tuple(system.crew.living(Role.CONSUMER)))
        with _swallowed(system, Role.CONSUMER, (Direction.UP,), heard) as bite:
            yield bite
