"""What may disturb the bytes of one direction of a proxy? Each kind of toxic, with its closed set of attributes.

Toxicity is always 1 and jitter 0: the server's `--seed` does nothing, so its randomness could not be replayed.
`packet_loss` is not offered: it cuts bytes out of a TCP stream, which is corruption and not loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.errors import Refused
from harness.system.topology import Direction

_DAY_MS = 86_400_000

# Attributes that a toxic may have, each with its closed range. What randomness needs may only be 0.
ATTRIBUTES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "latency": {"latency": (0, _DAY_MS), "jitter": (0, 0)},
    "timeout": {"timeout": (0, _DAY_MS)},
    "bandwidth": {"rate": (0, 10_000_000)},
    "limit_data": {"bytes": (0, 1 << 40)},
    "reset_peer": {"timeout": (0, _DAY_MS)},
    "slicer": {"average_size": (1, 1 << 20), "size_variation": (0, 0), "delay": (0, 60_000_000)},
    "slow_close": {"delay": (0, _DAY_MS)},
}

CHANGEABLE = frozenset({"latency"})
"""Toxics that may be changed while they hold something: changed, they are as if they were new. (The server reads a new
rate in the middle of a chunk that waits for the old one, and may panic: a bandwidth is taken away and added anew.)"""


@dataclass(frozen=True, slots=True)
class Toxic:
    """One disturbance of the bytes that flow in `stream`. Refuses unknown types, attributes and values at birth.

    >>> Toxic.latency(50, Direction.DOWN).attributes
    {'latency': 50, 'jitter': 0}
    """

    type: str
    stream: Direction
    attributes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.type not in ATTRIBUTES:
            raise Refused(f"unknown toxic {self.type!r}", cure=f"use one of {', '.join(ATTRIBUTES)}")
        ranges = ATTRIBUTES[self.type]
        if set(self.attributes) != set(ranges):
            given = ", ".join(self.attributes) or "none"
            raise Refused(f"toxic {self.type!r} has the attributes {', '.join(ranges)}, not {given}")
        for name, (low, high) in ranges.items():
            value = self.attributes[name]
            if type(value) is not int or not low <= value <= high:
                raise Refused(f"{name} of toxic {self.type!r} is {value!r}: not a whole number from {low} to {high}")

    @property
    def name(self) -> str:
        """One toxic of each type and direction: "latency_downstream"."""
        return f"{self.type}_{self.stream}"

    def is_seen_as(self, seen: Mapping[str, object] | None) -> bool:
        """Whether this is what a server's description of a toxic says."""
        wanted = {"type": self.type, "stream": str(self.stream), "toxicity": 1, "attributes": dict(self.attributes)}
        return seen is not None and all(seen.get(key) == value for key, value in wanted.items())

    @classmethod
    def latency(cls, latency_ms: int, stream: Direction) -> Toxic:
        """Delay every chunk; taking it away lets go of all that is held, at once."""
        return cls("latency", stream, {"latency": latency_ms, "jitter": 0})

    @classmethod
    def blackhole(cls, stream: Direction) -> Toxic:
        """Drop every byte; connections stay open, and are closed when it is taken away."""
        return cls("timeout", stream, {"timeout": 0})

    @classmethod
    def stall(cls, stream: Direction) -> Toxic:
        """Let nothing through and lose nothing: back-pressure."""
        return cls("bandwidth", stream, {"rate": 0})

    @classmethod
    def bandwidth(cls, rate_kb_per_s: int, stream: Direction) -> Toxic:
        """At most that many thousand bytes a second."""
        return cls("bandwidth", stream, {"rate": rate_kb_per_s})

    @classmethod
    def limit_data(cls, size_bytes: int, stream: Direction) -> Toxic:
        """Close each connection after exactly that many bytes."""
        return cls("limit_data", stream, {"bytes": size_bytes})

    @classmethod
    def reset_peer(cls, after_ms: int, stream: Direction) -> Toxic:
        """Reset connections that are opened from now on; those that live get FIN with their next bytes."""
        return cls("reset_peer", stream, {"timeout": after_ms})

    @classmethod
    def slicer(cls, size_bytes: int, delay_us: int, stream: Direction) -> Toxic:
        """Cut chunks into pieces of about that size (by halving: the same every time), with a delay between them."""
        return cls("slicer", stream, {"average_size": size_bytes, "size_variation": 0, "delay": delay_us})

    @classmethod
    def slow_close(cls, delay_ms: int, stream: Direction) -> Toxic:
        """Hold back the end of a connection for that long."""
        return cls("slow_close", stream, {"delay": delay_ms})


def letting_go(seen: Mapping[str, object]) -> Toxic | None:
    """What lets go of all that a toxic like that holds back, and holds nothing; None where it cannot be changed."""
    return Toxic.latency(0, Direction(str(seen["stream"]))) if seen["type"] in CHANGEABLE else None
