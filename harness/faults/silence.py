"""What comes back from the broker while a fault holds, and how long was nothing heard? Clients' counters.

*heard*: answers to producers and deliveries to consumers, as far as a fault on these links would hold them up. A
producer that nobody answers is heard of by the consumers alone. Bytes that a proxy says it withheld prove little by
themselves, for every connection that is cut withholds some: silence is what they must have caused.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from harness.operation import Role
from harness.system.system import Client, System
from harness.system.topology import Direction

BOTH_WAYS = frozenset(Direction)
_SILENT_PART = 0.5
"""The part of the time for which a fault holds in which nothing may be heard."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The clients whose answers, and whose deliveries, a fault would hold up."""

    system: System
    answered: tuple[Client, ...]
    delivered: tuple[Client, ...]

    @classmethod
    def of(cls, system: System, role: Role, directions: Collection[Direction] = BOTH_WAYS) -> Heard:
        """What a fault in these directions of the links of a role would hold up.

        Of consumers that are only cut off from the broker, nothing is certain: what they are owed may go on to come.
        """
        producers = tuple(system.crew.living(Role.PRODUCER))
        consumers = tuple(system.crew.living(Role.CONSUMER))
        answered = any(client.counters().answered for client in producers)
        hits_producers, hits_consumers = role is not Role.CONSUMER, role is not Role.PRODUCER
        of_consumers = hits_consumers and Direction.DOWN in directions
        of_producers = hits_producers and not answered and Direction.UP in directions
        return cls(
            system=system,
            answered=producers if hits_producers and answered else (),
            delivered=consumers if of_consumers or of_producers else (),
        )

    def __bool__(self) -> bool:
        """Whether there is anything that would be held up."""
        return bool(self.answered or self.delivered)

    def marks(self) -> list[tuple[int, int]]:
        """How much each of them has heard so far, and when it heard the last of it, in ns of the run, by its own clock
        readings; of nothing, when the run began."""
        answers = [(told.answered, told.answered_ns) for told in (client.counters() for client in self.answered)]
        answers += [(told.received, told.received_ns) for told in (client.counters() for client in self.delivered)]
        return [(count, self.system.raw_to_run_ns(raw_ns) if raw_ns else 0) for count, raw_ns in answers]

    def last_ns(self) -> int:
        """When something was last heard, in ns of the run; of nothing, when the run began."""
        return max((last_ns for _, last_ns in self.marks()), default=0)


def unheard(heard: Heard, placed_ns: int, now_ns: int) -> tuple[int, str | None]:
    """How long, in ns up to now, nothing was heard of what is held up since `placed_ns`; and why that is no evidence,
    or None: what was under way comes first, and then there must be silence for half of the time at least."""
    last_ns = max(heard.last_ns(), placed_ns)
    if not heard or now_ns - last_ns >= _SILENT_PART * (now_ns - placed_ns):
        return now_ns - last_ns, None
    return (
        now_ns - last_ns,
        f"clients still heard from the broker {(last_ns - placed_ns) / 1e6:.0f} ms after it was set",
    )
