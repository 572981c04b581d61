"""Which fault takes links down and up again, several times? Its evidence is what each flap ended, one by one: a client
has to have come back from one to be hit by the next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import Refused
from harness.faults.ends import Ends
from harness.faults.links import BITE_WATCH_S, links_of, mended, names_of, on_each, refuse_node_roles
from harness.faults.links import side as side_of
from harness.operation import Evidence, Role
from harness.system.needs import Needs
from harness.system.system import Measure, System
from harness.system.topology import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Flap:
    """Links went down once, and up again. Times in ns of the run; `ended`: connections of each client that it ended."""

    down_ns: int
    up_ns: int
    ended: Mapping[str, int]


class _Flapping(threading.Thread):
    """Takes links down and up until it is stopped."""

    def __init__(self, system: System, links: Sequence[Link], role: Role, half_s: float) -> None:
        super().__init__(name="assay-flapping", daemon=True)
        self.ends = Ends(system, role)
        self.flaps: list[Flap] = []
        self._system, self._links, self._half_s = system, links, half_s
        self._over = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self.flaps.append(self._flap())
                self._over.wait(self._half_s)
                self.ends.mark()
        except BaseException as error:  # raised again in the thread that mends
            self._error = error

    def _flap(self) -> Flap:
        down_ns = self._system.now_ns()
        on_each(self._links, lambda link: link.disconnect())
        self._over.wait(self._half_s)
        ended = self.ends.counts()
        on_each(self._links, lambda link: link.heal())
        return Flap(down_ns=down_ns, up_ns=self._system.now_ns(), ended=ended)

    def stop(self) -> None:
        """Let it come to an end, and raise what it failed with."""
        self._over.set()
        self.join()
        if self._error is not None:
            raise self._error


@dataclass(frozen=True, slots=True)
class Flapping:
    """Takes the links of these clients down and up again, half of each period down, for as long as it holds."""

    role: Role = Role.BOTH
    period_ms: int = 800
    hold_s: float = 2.2
    needs: ClassVar[Needs] = Needs(verbs=frozenset({"disconnect"}))
    hides_ends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_node_roles("flapping", self.role)
        if not 20 <= self.period_ms <= 500 * self.hold_s:
            raise Refused(
                f"flapping: period_ms={self.period_ms} of hold_s={self.hold_s}",
                cure="at least 20 ms, and at most half of the time that it holds: once down is Disconnect",
            )

    @property
    def touches(self) -> str:
        """The role whose links it hits."""
        return str(self.role)

    @property
    def name(self) -> str:
        """Printable, a pytest id."""
        return f"flapping_{side_of(self.role)}"

    @contextmanager
    def inject(self, system: System, choice: int) -> Iterator[Measure]:
        """Flap until it is mended; each flap must have ended connections that had come back since the one before."""
        links = links_of(system, self.role)
        with mended(links):
            flapping = _Flapping(system, links, self.role, self.period_ms / 2e3)
            ends = Ends(system, self.role)
            flapping.start()
            try:
                bit_ns = system.watch(ends.first_ns, within_s=BITE_WATCH_S)

                def measure() -> Evidence:
                    flaps = tuple(flapping.flaps)
                    facts = {
                        "flaps": [
                            {
                                "down_ms": round((flap.up_ns - flap.down_ns) / 1e6),
                                "connections_ended": dict(flap.ended),
                            }
                            for flap in flaps
                        ],
                        "connections_ended": ends.counts(),
                    }
                    idle = [place + 1 for place, flap in enumerate(flaps) if not any(flap.ended.values())]
                    why_not = None
                    if bit_ns is None:
                        why_not = f"no connection of {len(ends.clients)} clients ended"
                    elif len(flaps) < 2:
                        why_not = f"links went down and up {len(flaps)} times only"
                    elif idle:
                        why_not = f"flap {', '.join(map(str, idle))} of {len(flaps)} ended no connection"
                    elif once := [name for name, count in ends.counts().items() if count < 2]:
                        why_not = f"{', '.join(once)} lost fewer than 2 connections in {len(flaps)} flaps"
                    return Evidence(names_of(links), bit_ns if why_not is None else None, facts, why_not)

                yield measure
            finally:
                flapping.stop()
