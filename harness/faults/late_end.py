"""Which fault lets an end be heard late? A client dies, and to the broker it is there still.

Its evidence is the broker's own list of connections, asked until the dead client is on it no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused, Trouble
from harness.faults.links import BITE_WATCH_S, each_way, links_of, mended, mended_meanwhile, settings_of
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Measure, System
from harness.system.topology import Direction

_LISTED_BEYOND_S = 1.5
"""How long a broker may take, after a dead client's connection was closed at last, to list it no more."""

_LEAST_PART = 0.95
"""The part of the delay after which a connection may be listed no more: the proxy counts from the client's FIN, which a
dying process sends a little before it is dead, and it is its death that is dated."""

_HELD_PART = 0.5
"""The part of the delay for which it may hold: after that its evidence waits for the end itself."""

_SHOWN_PART, _DELAY_MS_MIN = 0.25, 200
"""The part of the delay at which the broker must still have listed it, asked then or later: an end that it hears of, it
takes off its list by then. It may be long in answering, so it is not asked at the end alone."""


@dataclass(frozen=True, slots=True)
class SlowClose:
    """Kills a client whose end the broker hears of only `delay_ms` later; then a successor takes its slot."""

    role: Role = Role.CONSUMER
    delay_ms: int = 2000
    hold_s: float = 1.0
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"slow_close"}))
    hides_ends: ClassVar[bool] = False  # it is heard late, and once links are mended at the latest

    def __post_init__(self) -> None:
        if self.role not in (Role.PRODUCER, Role.CONSUMER):
            raise Refused(f"slow_close: role={self.role!s}", cure="one client is killed: producer or consumer")
        if not _DELAY_MS_MIN <= self.delay_ms <= 60_000:
            raise Refused(
                f"slow_close: delay_ms={self.delay_ms} ({_DELAY_MS_MIN} to 60000)", cure="choose a delay in that range"
            )
        if self.hold_s > _HELD_PART * self.delay_ms / 1e3:
            raise Refused(
                f"slow_close: hold_s={self.hold_s} of delay_ms={self.delay_ms}",
                cure=f"hold it for at most {_HELD_PART:g} of the delay: then the end of the delay is measured",
            )

    @property
    def touches(self) -> str:
        """The role of the client that it kills."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"slow_close_{self.role}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Hold back ends on the victim's links, kill it, and ask the broker for how long it still lists it."""
        victim = system.client(self.role, choice)
        links = [link for link in links_of(system, self.role) if link.slot == victim.slot]

        def listed() -> bool:
            return any(peer.client == victim.name for peer in system.broker.peers())

        def listed_since() -> int | None:
            """When it was asked for, if it is on the list that answers."""
            asked_ns = system.now_ns()
            return asked_ns if listed() else None

        def died() -> int | None:
            seen_ns = victim.died_ns()
            return None if seen_ns is None else system.raw_to_run_ns(seen_ns)

        with mended(links):
            each_way(links, lambda link, direction: link.slow_close(self.delay_ms, direction), (Direction.UP,))
            try:
                victim.kill()
                bit_ns = system.watch(died, within_s=BITE_WATCH_S)
                shown_ns = (bit_ns or system.now_ns()) + int(_SHOWN_PART * self.delay_ms * 1e6)
                system.watch(lambda: shown_ns if system.now_ns() >= shown_ns else None, within_s=self.delay_ms / 1e3)
                still_ns: int | None = None

                def gone() -> int | None:
                    """When an answer came that did not list it; None while it is listed."""
                    nonlocal still_ns
                    if (since_ns := listed_since()) is None:
                        return system.now_ns()
                    still_ns = since_ns
                    return None

                with suppress(Trouble):  # it will be asked again
                    gone()

                def measure() -> Evidence:
                    gone_ns, silent = None, ""
                    within_s = self.delay_ms / 1e3 + _LISTED_BEYOND_S
                    try:
                        gone_ns = system.watch(gone, within_s=within_s)
                    except Trouble as trouble:
                        silent = trouble.message
                    settings = settings_of(links)
                    facts = {
                        "pid": victim.pid,
                        "asked_ms": self.delay_ms,
                        "still_listed_ms": _since_ms(bit_ns, still_ns),
                        "listed_no_more_ms": _since_ms(bit_ns, gone_ns),
                        "read_back": settings,
                    }
                    why_not = mended_meanwhile(settings)
                    if bit_ns is None:
                        why_not = f"{victim.name} outlived its SIGKILL"
                    elif silent:
                        why_not = f"nobody says whom the broker lists: {silent}"
                    elif still_ns is None or still_ns < shown_ns:
                        why_not = f"the broker did not list {victim.name} any more when it was asked"
                    elif gone_ns is None:
                        why_not = f"the broker still lists {victim.name}, {within_s:.1f} s after it was asked first"
                    elif gone_ns - bit_ns < _LEAST_PART * self.delay_ms * 1_000_000:
                        why_not = f"the broker listed {victim.name} for {facts['listed_no_more_ms']} ms only"
                    return Evidence((victim.name,), bit_ns if why_not is None else None, facts, why_not)

                yield measure
            finally:
                if victim.alive():
                    victim.kill()
                system.crew.replace(victim)  # not before: a broker whose list lags would be asked until it has this one


def _since_ms(from_ns: int | None, to_ns: int | None) -> float | None:
    return None if from_ns is None or to_ns is None else round((to_ns - from_ns) / 1e6, 1)
