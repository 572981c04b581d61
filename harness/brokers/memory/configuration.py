"""How is the memory broker set up? As one record: right, or with bugs to order."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from harness.brokers.memory.queue import Bugs
from harness.errors import Refused
from harness.operation import AckKind
from harness.system.needs import NO_EQUIPMENT, Equipment
from harness.system.service import Promise
from harness.system.topology import NodeSpec

SERVICE = "memory"
REDELIVERY_HORIZON_S = 2.5
"""A client that is silent for 2 s is given up (wire.SILENCE_S), which is looked at every 0.25 s."""

_ACKS = {"automatic": AckKind.AUTOMATIC, "manual": AckKind.SENT, "confirmed": AckKind.CONFIRMED}


@dataclass(frozen=True, slots=True)
class Memory:
    """One node with one queue a cell. `label` is the rest of its name: "correct" makes "memory-correct".

    `acknowledge`: "automatic", "manual" (never answered) or "confirmed". `retry`: of unanswered publishes, "none",
    "same-id" or "new-id", at most `retry_limit` times. `deduplicate`: whether the broker filters native ids.

    >>> Memory("loses", bugs=Bugs(lose_every=50)).name
    'memory-loses'
    """

    label: str = "correct"
    bugs: Bugs = field(default_factory=Bugs, kw_only=True)
    confirms: bool = field(default=True, kw_only=True)
    acknowledge: str = field(default="manual", kw_only=True)
    retry: str = field(default="none", kw_only=True)
    retry_limit: int = field(default=5, kw_only=True)
    deduplicate: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        wrong = []
        if self.acknowledge not in _ACKS:
            wrong.append(f"acknowledge={self.acknowledge!r} ({', '.join(_ACKS)})")
        if self.retry not in ("none", "same-id", "new-id"):
            wrong.append(f"retry={self.retry!r} (none, same-id, new-id)")
        if self.retry != "none" and not self.confirms:
            wrong.append(f"retry={self.retry!r} with confirms=False (nobody would know what to retry)")
        if not 0 <= self.retry_limit <= 1000:
            wrong.append(f"retry_limit={self.retry_limit} (0 to 1000)")
        if wrong:
            raise Refused(f"memory: {', '.join(wrong)}", cure="use what stands in brackets")

    @property
    def name(self) -> str:
        """memory-LABEL."""
        return f"memory-{self.label}"

    @property
    def family(self) -> str:
        """The folder."""
        return "memory"

    def nodes(self, equipment: Equipment = NO_EQUIPMENT) -> tuple[NodeSpec, ...]:
        """One; the bugs are the process's, so only configurations with the same bugs share it."""
        bugs = json.dumps(asdict(self.bugs), sort_keys=True)
        arguments = ("--listen", f"<<listen:{SERVICE}>>", "--data", "<<data>>", "--bugs", bugs)
        return (
            NodeSpec(
                name="memory-1",
                program="memory",
                services={SERVICE: 7000},
                arguments=arguments,
                equipment=equipment,
            ),
        )

    def promise(self) -> Promise:
        """What its clients may believe: of the right one, all of it."""
        return Promise(
            confirms=self.confirms,
            ack=_ACKS[self.acknowledge],
            drain="counters",
            redelivery_horizon_s=REDELIVERY_HORIZON_S,
            retry=self.retry,
            retry_limit=self.retry_limit if self.retry != "none" else 0,
            redelivered_promise=True,
            ordered=True,
            settings={
                "confirms": self.confirms,
                "acknowledge": self.acknowledge,
                "deduplicate": self.deduplicate,
                "bugs": {name: value for name, value in asdict(self.bugs).items() if value},
            },
        )
