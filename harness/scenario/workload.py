"""What is published, and when? Plain data; the clients carry it out."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import Refused
from harness.operation import PAYLOAD_SIZE_MAX, PAYLOAD_SIZE_MIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """An open-loop load: each producer's share of `rate_hz` falls due at even intervals, whatever the broker does.

    `rate_hz`: messages a second, of all producers together. `quiet_s`: load before the first fault, between two trials
    (drawn from the plan between this and 1.25 times this) and after the last. `distance_ms`: one-way latency of every
    client's link, as between sites: on loopback nothing is ever under way, so nothing would be at risk. `service_ms`: a
    consumer's work on each delivery before it acknowledges; it overlaps, but with a mechanism, where it is serial.
    `prefetch`: deliveries that a consumer may hold. `pull_one`: consumers pull one message at a time (basic.get, a
    fetch of one), whatever the configuration does else, and each pull is recorded: nothing else shows whether a queue
    is linearizable. A pull takes the distance twice, which bounds what a consumer can take. `floor`: part of the
    offered rate below which a phase is no load.

    >>> Steady(rate_hz=500).floor_hz
    250.0
    """

    rate_hz: float = 500.0
    quiet_s: float = 1.0
    producers: int = 1
    consumers: int = 1
    payload_size: int = 128
    distance_ms: int = 4
    service_ms: float = 20.0
    prefetch: int = 100
    pull_one: bool = False
    window: int = 1000
    confirm_timeout_s: float = 3.0
    floor: float = 0.5

    def __post_init__(self) -> None:
        wrong = [
            f"{name}={getattr(self, name)!r} ({allowed})"
            for name, allowed, good in (
                ("rate_hz", "above 0, at most 100000", 0 < self.rate_hz <= 100_000),
                ("quiet_s", "above 0, at most 3600", 0 < self.quiet_s <= 3600),
                ("producers", "1 to 64", 1 <= self.producers <= 64),
                ("consumers", "1 to 64", 1 <= self.consumers <= 64),
                (
                    "payload_size",
                    f"{PAYLOAD_SIZE_MIN} to {PAYLOAD_SIZE_MAX} bytes",
                    PAYLOAD_SIZE_MIN <= self.payload_size <= PAYLOAD_SIZE_MAX,
                ),
                ("distance_ms", "0 to 1000", 0 <= self.distance_ms <= 1000),
                ("service_ms", "0 to 10000", 0 <= self.service_ms <= 10_000),
                ("prefetch", "1 to 65535", 1 <= self.prefetch <= 65_535),
                ("window", "1 to 65535", 1 <= self.window <= 65_535),
                ("confirm_timeout_s", "above 0", self.confirm_timeout_s > 0),
                ("floor", "above 0, at most 1", 0 < self.floor <= 1),
            )
            if not good
        ]
        if wrong:
            raise Refused(f"workload: {', '.join(wrong)}", cure="use values in the ranges in brackets")

    @property
    def floor_hz(self) -> float:
        """Attempts a second below which a phase is no load."""
        return self.rate_hz * self.floor
