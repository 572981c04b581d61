"""How can NATS and its clients be set up? One frozen record; no driver behind it.

*Core*: a subject with subscribers, nothing stored. *JetStream*: a stream that stores what is published on the subject
and one durable pull consumer, the group whose members share the messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Literal

from harness.errors import Refused
from harness.operation import AckKind
from harness.system.needs import NO_EQUIPMENT, Equipment
from harness.system.service import Promise
from harness.system.topology import NodeSpec

PING_INTERVAL_S = 1
PING_MAX = 2
NOTICE_S = float(PING_INTERVAL_S * (PING_MAX + 1))
"""How long a server may take to notice that a client is gone: so many pings go unanswered, and then one more is due."""

SYSTEM = ("system", "system")
"""The user of the system account of a cluster, and its password."""

CLIENT = "client"
CLUSTER = "cluster"
MONITOR = "monitor"
_PORTS: Mapping[str, int] = {CLIENT: 4222, CLUSTER: 6222, MONITOR: 8222}
_FILE = "/etc/nats/nats-server.conf"
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ACK = {"none": AckKind.AUTOMATIC, "sent": AckKind.SENT, "confirmed": AckKind.CONFIRMED}


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStream:
    """A stream and its one durable pull consumer.

    `replicas`: copies of both. `storage`, `retention`: as JetStream names them. `ack_wait_s`: after it an unsettled
    delivery is made again. `max_ack_pending`: unsettled deliveries at most; times the work on each it stays well below
    `ack_wait_s`, else healthy deliveries are repeated. `max_deliver`: deliveries of one message at most, -1 for no
    limit. `duplicate_window_s`: how long deduplication ids are remembered. `messages_max`: of the stream, -1 for no
    limit; `discard`: which end gives way then. `sync_interval`: of the server's fsync ("always", "10s"), None for its
    default (2 minutes).
    """

    replicas: int = 1
    storage: Literal["file", "memory"] = "file"
    retention: Literal["limits", "workqueue", "interest"] = "limits"
    ack_wait_s: float = 2.0
    max_ack_pending: int = 256
    max_deliver: int = -1
    duplicate_window_s: float = 120.0
    messages_max: int = -1
    discard: Literal["old", "new"] = "old"
    sync_interval: str | None = None

    def __post_init__(self) -> None:
        _refuse(
            "JetStream",
            (
                ("replicas", self.replicas, "1, 3 or 5", self.replicas in (1, 3, 5)),
                ("storage", self.storage, "file or memory", self.storage in ("file", "memory")),
                (
                    "retention",
                    self.retention,
                    "limits, workqueue or interest",
                    self.retention in ("limits", "workqueue", "interest"),
                ),
                ("ack_wait_s", self.ack_wait_s, "0.1 to 3600", 0.1 <= self.ack_wait_s <= 3600),
                ("max_ack_pending", self.max_ack_pending, "1 to 1000000", 1 <= self.max_ack_pending <= 1_000_000),
                ("max_deliver", self.max_deliver, "-1, or 1 and up", self.max_deliver == -1 or self.max_deliver >= 1),
                (
                    "duplicate_window_s",
                    self.duplicate_window_s,
                    "0.1 to 86400",
                    0.1 <= self.duplicate_window_s <= 86_400,
                ),
                (
                    "messages_max",
                    self.messages_max,
                    "-1, or 1 and up",
                    self.messages_max == -1 or self.messages_max > 0,
                ),
                ("discard", self.discard, "old or new", self.discard in ("old", "new")),
                (
                    "sync_interval",
                    self.sync_interval,
                    "always, or a duration such as 10s",
                    self.sync_interval is None or re.fullmatch(r"always|\d+(ms|s|m|h)", self.sync_interval),
                ),
            ),
        )


@dataclass(frozen=True, slots=True)
class Nats:
    """One way to set up NATS and its clients. `name` is completed to "nats-<name>", as the report calls it.

    `members`: nodes of the cluster. `jetstream`: None for core NATS. `confirms`: whether the server answers publishes.
    `acknowledge`: how a delivery is settled: not at all (the server forgets it as it sends it), by a message that is
    never answered ("sent"), or with an answer ("confirmed"). `retry`: what a producer does about an unanswered publish,
    up to `retry_limit` times: "same-id" and "new-id" speak of the deduplication id, `Nats-Msg-Id`. `version`: of the
    server, such as "2.15.1", or "2.12" for the one of that line that set-up makes; None for the pinned one.

    >>> Nats("r1").name
    'nats-r1'
    >>> Nats("core", jetstream=None)
    Traceback (most recent call last):
    harness.errors.Refused: nats-core: confirms=True (False: core NATS answers no publish), acknowledge='sent' (none: \
core NATS knows no acknowledgement)
      cure: use the values in brackets
    """

    name: str
    _: KW_ONLY
    members: int = 1
    jetstream: JetStream | None = field(default_factory=JetStream)
    confirms: bool = True
    acknowledge: Literal["none", "sent", "confirmed"] = "sent"
    retry: Literal["none", "same-id", "new-id"] = "none"
    retry_limit: int = 0
    version: str | None = None

    def __post_init__(self) -> None:
        if not self.name.startswith("nats-"):
            object.__setattr__(self, "name", f"nats-{self.name}")
        js = self.jetstream
        stores = js is not None
        _refuse(
            self.name,
            (
                ("name", self.name, "lower-case letters, digits, single hyphens", _NAME.fullmatch(self.name)),
                ("members", self.members, "1, 3 or 5", self.members in (1, 3, 5)),
                ("acknowledge", self.acknowledge, "none, sent or confirmed", self.acknowledge in _ACK),
                (
                    "version",
                    self.version,
                    "such as 2.15.1, or None",
                    self.version is None or _VERSION.fullmatch(self.version),
                ),
                ("retry", self.retry, "none, same-id or new-id", self.retry in ("none", "same-id", "new-id")),
                ("confirms", self.confirms, "False: core NATS answers no publish", stores or not self.confirms),
                (
                    "acknowledge",
                    self.acknowledge,
                    "none: core NATS knows no acknowledgement",
                    stores or self.acknowledge == "none",
                ),
                (
                    "retry",
                    self.retry,
                    "none: without confirms nothing is unanswered",
                    self.confirms or self.retry == "none",
                ),
                (
                    "retry_limit",
                    self.retry_limit,
                    "1 to 1000 with a retry, 0 without",
                    1 <= self.retry_limit <= 1000 if self.retry != "none" else self.retry_limit == 0,
                ),
                (
                    "replicas",
                    js and js.replicas,
                    f"at most the cluster's {self.members} member(s)",
                    js is None or js.replicas <= self.members,
                ),
                (
                    "acknowledge",
                    self.acknowledge,
                    "sent or confirmed: a work queue removes what is acknowledged",
                    js is None or js.retention == "limits" or self.acknowledge != "none",
                ),
            ),
        )

    @property
    def family(self) -> str:
        """Which folder of brokers serves it."""
        return "nats"

    def nodes(self, equipment: Equipment = NO_EQUIPMENT) -> tuple[NodeSpec, ...]:
        """One server each. Single nodes have JetStream whether it is used or not, so that all share a warm server."""
        names = [f"nats-{number}" for number in range(1, self.members + 1)]
        return tuple(
            NodeSpec(
                name=name,
                program="nats",
                version=self.version,
                services=_PORTS if len(names) > 1 else {CLIENT: _PORTS[CLIENT], MONITOR: _PORTS[MONITOR]},
                files={_FILE: self._server_conf(name, [other for other in names if other != name], equipment)},
                arguments=("--config", f"<<file:{_FILE}>>"),
                equipment=equipment,
            )
            for name in names
        )

    def _server_conf(self, name: str, others: list[str], equipment: Equipment) -> str:
        sync = self.jetstream.sync_interval if self.jetstream is not None else None
        stores = {
            "store_dir": '"<<data>>"',
            "sync_interval": sync,
            "max_file_store": _bytes(equipment.file_store_mb),
            "max_memory_store": _bytes(equipment.memory_store_mb),
        }
        lines = [
            f"server_name: {name}",
            f'listen: "<<listen:{CLIENT}>>"',
            f'http: "<<listen:{MONITOR}>>"',
            # The server's own pings decide how long a dead client keeps what it was sent (their default is 2 minutes).
            f'ping_interval: "{PING_INTERVAL_S}s"',
            f"ping_max: {PING_MAX}",
            "jetstream { " + ", ".join(f"{key}: {value}" for key, value in stores.items() if value is not None) + " }",
        ]
        if others:
            lines += [
                # Only the system account can take a server out of a cluster. With no other user anywhere, a client that
                # names none has the global account, as it has without this. Every cluster has it, and not only where
                # a server leaves: so that no fault is tried on other servers than the rest.
                f"accounts {{ $SYS {{ users: [ {{ user: {SYSTEM[0]}, password: {SYSTEM[1]} }} ] }} }}",
                "cluster {",
                "  name: assay",
                f'  listen: "<<listen:{CLUSTER}>>"',
                # Where others are told that this one is: they go the way that they were given, and learn no other.
                f'  advertise: "<<address:{name}:{CLUSTER}>>"',
                "  no_advertise: true  # a client that learns of other servers could go round its proxy",
                "  routes: [",
                *(f'    "nats://<<address:{other}:{CLUSTER}>>"' for other in others),
                "  ]",
                "}",
            ]
        return "\n".join(lines) + "\n"

    def promise(self) -> Promise:
        """What its clients may believe."""
        js = self.jetstream
        settings: dict[str, object] = {
            "members": self.members,
            "version": self.version or "pinned",
            "confirms": self.confirms,
            "acknowledge": self.acknowledge,
            "retry": self.retry,
            "retry_limit": self.retry_limit,
            "ping_interval_s": PING_INTERVAL_S,
            "ping_max": PING_MAX,
        }
        if js is None:
            return Promise(
                confirms=False,
                ack=AckKind.AUTOMATIC,
                drain="silence",
                redelivery_horizon_s=NOTICE_S,
                stores=False,
                policies=("no-interest",),
                settings={**settings, "jetstream": "none"},
            )
        return Promise(
            confirms=self.confirms,
            ack=_ACK[self.acknowledge],
            drain="consumer-info",
            # A client that vanished may be sent messages until the server notices; each is then due after ack_wait.
            redelivery_horizon_s=NOTICE_S + (js.ack_wait_s if self.acknowledge != "none" else 0.0),
            retry=self.retry,
            retry_limit=self.retry_limit,
            pulled=True,
            replicas=js.replicas,
            ack_wait_s=js.ack_wait_s if self.acknowledge != "none" else None,
            policies=tuple(
                policy
                for policy, asked in (
                    ("max-deliver", js.max_deliver > 0),
                    (f"discard-{js.discard}", js.messages_max > 0),
                    ("no-interest", js.retention == "interest"),
                )
                if asked
            ),
            settings={**settings, **{f"jetstream.{name}": value for name, value in asdict(js).items()}},
        )


def defaults() -> tuple[Nats, ...]:
    """The configurations of the default matrix, the weakest first."""
    return (CORE, JETSTREAM_R1, JETSTREAM_R1_NEW_ID, JETSTREAM_R3_EXACTLY_ONCE)


def _bytes(size_mb: int | None) -> int | None:
    return None if size_mb is None else size_mb << 20


def _refuse(subject: str, rules: Iterable[tuple[str, object, str, object]]) -> None:
    """Raise Refused that names every broken rule: (field, its value, what is allowed, whether it is)."""
    wrong = [f"{field}={value!r} ({allowed})" for field, value, allowed, good in rules if not good]
    if wrong:
        raise Refused(f"{subject}: {', '.join(wrong)}", cure="use the values in brackets")


CORE = Nats("core", jetstream=None, confirms=False, acknowledge="none")
"""Core NATS: nothing stored, nothing answered."""

JETSTREAM_R1 = Nats("jetstream-r1")
"""One copy in a file; acknowledged publishes, explicit acknowledgements, no retry."""

JETSTREAM_R1_CONFIRMED = Nats("jetstream-r1-confirmed", acknowledge="confirmed")
"""One copy, every acknowledgement confirmed. Not in the default matrix: after a SIGKILL of the server, JetStream 2.15.1
delivered again 132 to 152 of some 740 messages whose acknowledgement it had confirmed, most of them unflagged."""

JETSTREAM_R1_NEW_ID = Nats("jetstream-r1-new-id", retry="new-id", retry_limit=5)
"""The wrong way to retry: every attempt has a deduplication id of its own, so none is ever recognised."""

JETSTREAM_R1_WORKQUEUE = Nats(
    "jetstream-r1-workqueue", jetstream=JetStream(retention="workqueue"), acknowledge="confirmed"
)
"""A work queue with confirmed acknowledgements, for mechanisms of processing."""

JETSTREAM_R3_EXACTLY_ONCE = Nats(
    "jetstream-r3-exactly-once",
    members=3,
    jetstream=JetStream(replicas=3),
    acknowledge="confirmed",
    retry="same-id",
    retry_limit=5,
)
"""What the documentation calls exactly once: three copies, deduplication by message, confirmed acknowledgements."""
