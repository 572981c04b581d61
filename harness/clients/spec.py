"""What is one client told before it starts? Its orders, as plain data in one JSON file.

The client's process reads the file, opens its journal, connects, and works until its control words, its deadline, its
message cap or the end of the harness's pipe (standard input at end of file) tell it to stop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.operation import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSpec:
    """Orders of one client.

    `number`: unique in the run, names the producer in message ids. `slot`: "producer-1": its links; a successor has
    its predecessor's. `family`: which brokers' folder its connection comes from; `orders`: what that connection needs
    (from Broker.orders()). `addresses`: (node, host, port) of its links, dialled in turn, the first first.
    `origin_ns`: raw monotonic time of the run's begin. `deadline_ns`: raw monotonic time at which it ends by itself.
    `wait_for_go`: do not publish before the head's word `pause_publishing` is 0.

    `messages_max`: of messages published, or deliveries received.
    Producers: `rate_hz` is offered, open loop; `window`: unanswered publishes at most;
    `confirm_timeout_s`: an unanswered attempt is given up (INFO) after it; `retry`: none, same-id or new-id;
    `sequence_first`: first sequence number. `confirms`: whether answers come at all.
    Consumers: `prefetch`; `mechanism`: name and fields of a processing mechanism, or None: receive and acknowledge;
    `sink`: name and fields of the sink, with `sink_path`; `service_ms`: work on each delivery before it is acknowledged
    or before its mechanism's first step; `ack`: AckKind as a number; `pull_one`: pull one message
    at a time instead of consuming as the configuration does. `reconnect_s`: pause between two attempts to
    connect.
    """

    number: int
    name: str
    slot: str
    role: Role
    group: str
    run: int
    family: str
    orders: Mapping[str, Any]
    addresses: tuple[tuple[str, str, int], ...]
    journal: str
    origin_ns: int
    deadline_ns: int
    ticker_limit_ms: float = 100.0
    reconnect_s: float = 0.05
    wait_for_go: bool = True
    rate_hz: float = 0.0
    messages_max: int = 1_000_000
    payload_size: int = 128
    window: int = 1000
    confirm_timeout_s: float = 5.0
    confirms: bool = True
    retry: str = "none"
    retry_limit: int = 0
    sequence_first: int = 0
    prefetch: int = 100
    ack: int = 1
    pulled: bool = False
    pull_one: bool = False
    service_ms: float = 0.0
    mechanism: Mapping[str, Any] | None = None
    sink: Mapping[str, Any] | None = None
    sink_path: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the orders to `path`."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> ClientSpec:
        """Read orders back. Raises OSError, ValueError or TypeError where the file is none."""
        data = json.loads(path.read_text())
        data["role"] = Role(data["role"])
        data["addresses"] = tuple((node, host, int(port)) for node, host, port in data["addresses"])
        return cls(**data)
