"""Which faults disturb the way between servers, and leave them all in touch? Delays of a node's routes.

Clients reach every node as quickly as before. Evidence: how long the servers' own pings to each other take, which each
of them tells of every connection to another one; read back from the proxies, the delay stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

from harness.errors import Refused
from harness.faults.partition import between
from harness.faults.roles import CALLED, holder, refuse_client_roles
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.service import View
from harness.system.system import Measure, System
from harness.system.topology import Cut

DELAY_MS_MAX = 400
"""A server pings its routes every second, and takes an answer to the one before for one to the last: a round trip that
took longer than a second would be told as a short one."""

PINGED_S = 2.5
"""How long a measurement waits, beyond the hold, for every route to have been pinged since the delay was set."""

_PART = 0.9
"""The part of twice the delay that a ping and its answer must have taken."""


@dataclass(frozen=True, slots=True)
class RouteLatency:
    """Delays every byte between the server that holds a role and the others, both ways; nothing is lost.

    There is no jitter: what draws it in the proxy has no seed, so that no run with it could be replayed.
    """

    role: Role = Role.LEADER
    delay_ms: int = 100
    hold_s: float = 3.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"delay"}), capabilities=frozenset({"several", "routes"}))
    touches: ClassVar[str] = "both"
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_client_roles("route_latency", self.role)
        if not 20 <= self.delay_ms <= DELAY_MS_MAX:
            raise Refused(
                f"route_latency: delay_ms={self.delay_ms} (20 to {DELAY_MS_MAX})", cure="choose a delay in that range"
            )

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"route_latency_{CALLED[self.role]}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Delay both directions of its routes to every other server; the pings on all of them, and on no others, must
        take so much longer, as both ends tell."""
        node, told = holder(system, self.role, choice)
        names = list(system.topology.nodes)
        cuts = between([node.name], [name for name in names if name != node.name])
        before: Mapping[Cut, float] = {}

        def known() -> int | None:
            nonlocal before
            before = trips_ms(system.broker.views())
            return system.now_ns() if all(cut in before for cut in cuts) else None

        system.watch(known, within_s=PINGED_S, poll_s=0.1)
        try:
            system.topology.delay(cuts, self.delay_ms)
            bit_ns = system.now_ns()

            def measure() -> Evidence:
                held: Mapping[Cut, float] = {}

                def pinged() -> int | None:
                    nonlocal held
                    held = trips_ms(system.broker.views())
                    return None if self._quick(cuts, held) else system.now_ns()

                system.watch(pinged, within_s=PINGED_S, poll_s=0.1)
                settings = system.topology.delayed()
                facts = {
                    "asked_ms": self.delay_ms,
                    "round_trip_ms_before": _told(before),
                    "round_trip_ms_held": _told(held),
                    "read_back_ms": {str(cut): ms for cut, ms in sorted(settings.items())},
                    **told,
                }
                why_not = self._why_not(names, cuts, before, held, settings)
                return Evidence((node.name,), bit_ns if why_not is None else None, facts, why_not)

            yield measure
        finally:
            system.topology.rejoin()

    def _why_not(
        self,
        names: Sequence[str],
        cuts: Sequence[Cut],
        before: Mapping[Cut, float],
        held: Mapping[Cut, float],
        settings: Mapping[Cut, int],
    ) -> str | None:
        """Why these measurements are no evidence that just these routes were delayed."""
        others = [Cut(*pair) for pair in permutations(names, 2) if Cut(*pair) not in cuts]
        if slow := [cut for cut in cuts if before.get(cut, self.delay_ms) >= self.delay_ms]:
            return f"pings were slow before, or unknown: {_listed(slow)}"
        if quick := self._quick(cuts, held):
            told = ", ".join(f"{cut} {held[cut]:.1f} ms" if cut in held else f"{cut} silent" for cut in quick)
            return f"a delay of {self.delay_ms} ms makes a ping and its answer take twice that, and they took: {told}"
        if slow := [cut for cut in others if not self._quick([cut], held) and cut in held]:
            return f"pings were slow on other routes, too: {_listed(slow)}"
        if mended := [cut for cut in cuts if settings.get(cut) != self.delay_ms]:
            return f"the proxy says that nothing holds {_listed(mended)} back any more: somebody mended it"
        return None

    def _quick(self, cuts: Iterable[Cut], held: Mapping[Cut, float]) -> list[Cut]:
        """Of these, who was pinged and did not take a ping's and an answer's delay, or is silent."""
        return [cut for cut in cuts if held.get(cut, 0.0) < 2 * self.delay_ms * _PART]


def trips_ms(views: Mapping[str, View | None]) -> dict[Cut, float]:
    """Who pinged whom -> the quickest of the last round trips on the connections between them, in ms.

    >>> trips_ms({"a": View(("b",), "a", 1.0, {"b": (3.0, 1.5)}), "b": None})
    {Cut(source='a', target='b'): 1.5}
    """
    return {
        Cut(node, other): min(took)
        for node, view in views.items()
        if view is not None
        for other, took in view.round_trips_ms.items()
    }


def _told(trips: Mapping[Cut, float]) -> dict[str, float]:
    return {str(cut): round(ms, 1) for cut, ms in sorted(trips.items())}


def _listed(cuts: Iterable[Cut]) -> str:
    return ", ".join(map(str, sorted(cuts)))
