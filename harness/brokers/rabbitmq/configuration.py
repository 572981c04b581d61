"""How can RabbitMQ and its clients be set up? One frozen record; no driver behind it.

*Classic*: a queue on one node. *Quorum*: a queue whose replicas agree by Raft. Producers publish to the default
exchange, so that exactly one queue, the cell's own, gets the message; consumers are pushed its deliveries.
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

AMQP = "amqp"
MANAGEMENT = "management"
METRICS = "metrics"
DIST = "dist"
FIGURES_S = 1
"""How often what management shows of connections is renewed (its default is 5 s)."""

_PORTS: Mapping[str, int] = {AMQP: 5672, MANAGEMENT: 15672, METRICS: 15692}
_DIST_PORT = 25672
_CONFIG = "/etc/rabbitmq/rabbitmq.conf"
_ADVANCED = "/etc/rabbitmq/advanced.config"
_PLUGINS = "/etc/rabbitmq/enabled_plugins"
_COOKIE = "/var/lib/rabbitmq/.erlang.cookie"
_DATA = "/var/lib/rabbitmq"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")
_OVERFLOWS = ("drop-head", "reject-publish")
_DISCONNECTED_TIMEOUT_SINCE = (4, 3)

Overflow = Literal["drop-head", "reject-publish"]
_Rule = tuple[str, object, str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classic:
    """A queue on one node, not replicated. `durable`: whether it is there again after its node was restarted.

    `length_max`: messages at most, None for no limit; `overflow`: what gives way then.
    """

    durable: bool = True
    length_max: int | None = None
    overflow: Overflow = "drop-head"

    def __post_init__(self) -> None:
        _refuse("Classic", _length_rules(self.length_max, self.overflow))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """A replicated, always durable queue, with a replica on every member.

    `delivery_limit`: deliveries of one message before it is dropped (the death of a consumer counts for all it held);
    None for the broker's own, 20 since 4.0. `consumer_disconnected_timeout_s`: how long a consumer whose node
    vanished keeps what it was sent, from 4.3 on; None for the broker's own, 60 s. `length_max`, `overflow`: as Classic.
    """

    delivery_limit: int | None = 1000
    consumer_disconnected_timeout_s: float | None = 2.0
    length_max: int | None = None
    overflow: Overflow = "drop-head"

    def __post_init__(self) -> None:
        timeout_s = self.consumer_disconnected_timeout_s
        _refuse(
            "Quorum",
            (
                (
                    "delivery_limit",
                    self.delivery_limit,
                    "1 and up, or None",
                    self.delivery_limit is None or self.delivery_limit >= 1,
                ),
                (
                    "consumer_disconnected_timeout_s",
                    timeout_s,
                    "0.1 to 3600, or None",
                    timeout_s is None or 0.1 <= timeout_s <= 3600,
                ),
                *_length_rules(self.length_max, self.overflow),
            ),
        )

    @property
    def durable(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, slots=True)
class RabbitMQ:
    """One way to set up RabbitMQ and its clients. `name` is completed to "rabbitmq-<name>", as the report calls it.

    `members`: nodes of the cluster. `confirms`: whether the broker answers publishes. `acknowledge`: whether a delivery
    is settled by the client, or by the broker as it sends it. `persistent`: delivery mode of each message.
    `mandatory`: whether an unroutable message is returned; only with confirms, which tell when a return may come no
    more. `heartbeat_s`: of both ends. `net_ticktime_s`: after about so long a member gives up another one that it hears
    nothing from, and calls it down; None for Erlang's own, 60 s. `version`: of the broker, such as "4.3.6", or "3.10"
    for the one of that line that set-up makes; None for the pinned one.

    >>> RabbitMQ("quorum-confirms", members=3).name
    'rabbitmq-quorum-confirms'
    >>> RabbitMQ("Big", heartbeat_s=0)
    Traceback (most recent call last):
    harness.errors.Refused: rabbitmq-Big: name='rabbitmq-Big' (lower-case letters, digits, single hyphens), \
heartbeat_s=0 (1 to 60)
      cure: use the values in brackets
    """

    name: str
    _: KW_ONLY
    members: int = 1
    queue: Quorum | Classic = field(default_factory=Quorum)
    confirms: bool = True
    acknowledge: Literal["manual", "automatic"] = "manual"
    persistent: bool = True
    mandatory: bool = True
    heartbeat_s: int = 2
    net_ticktime_s: int | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if not self.name.startswith("rabbitmq-"):
            object.__setattr__(self, "name", f"rabbitmq-{self.name}")
        _refuse(
            self.name,
            (
                ("name", self.name, "lower-case letters, digits, single hyphens", _NAME.fullmatch(self.name)),
                ("members", self.members, "1, 3 or 5", self.members in (1, 3, 5)),
                ("queue", self.queue, "Classic(...) or Quorum(...)", isinstance(self.queue, Classic | Quorum)),
                ("acknowledge", self.acknowledge, "manual or automatic", self.acknowledge in ("manual", "automatic")),
                ("heartbeat_s", self.heartbeat_s, "1 to 60", 1 <= self.heartbeat_s <= 60),
                (
                    "net_ticktime_s",
                    self.net_ticktime_s,
                    "4 to 120 in a cluster, or None",
                    self.net_ticktime_s is None or (4 <= self.net_ticktime_s <= 120 and self.members > 1),
                ),
                (
                    "version",
                    self.version,
                    "such as 4.3.6, or None",
                    self.version is None or _VERSION.fullmatch(self.version),
                ),
                (
                    "overflow",
                    getattr(self.queue, "overflow", ""),
                    "drop-head: without confirms a refused publish is refused in silence",
                    self.confirms or getattr(self.queue, "overflow", "") != "reject-publish",
                ),
            ),
        )

    @property
    def family(self) -> str:
        """Which folder of brokers serves it."""
        return "rabbitmq"

    @property
    def returns(self) -> bool:
        """Whether publishes are sent with the mandatory flag."""
        return self.mandatory and self.confirms

    def nodes(self, equipment: Equipment = NO_EQUIPMENT) -> tuple[NodeSpec, ...]:
        """One broker each. They depend on nothing but the number of members, heartbeat, net_ticktime and version."""
        names = [f"rabbit-{number}" for number in range(1, self.members + 1)]
        return tuple(self._node(name, names, equipment) for name in names)

    def _node(self, name: str, names: list[str], equipment: Equipment) -> NodeSpec:
        files = {
            _CONFIG: self._conf(names),
            _ADVANCED: self._advanced(),
            _PLUGINS: "[rabbitmq_management,rabbitmq_prometheus].\n",
        }
        # Both are the defaults inside a container; as a local process a node has directories of its own.
        environment = {
            "RABBITMQ_CONFIG_FILE": f"<<file:{_CONFIG}>>",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"<<file:{_ADVANCED}>>",
            # Schedulers that spin while they wait take the processor from everybody else on a small machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }
        if len(names) > 1:
            environment["RABBITMQ_NODENAME"] = _erlang_node(name)
            files[_COOKIE] = "ASSAYCLUSTER"
        return NodeSpec(
            name=name,
            program="rabbitmq",
            version=self.version,
            services=_PORTS if len(names) == 1 else {**_PORTS, DIST: _DIST_PORT},
            files=files,
            environment=environment,
            data_path=_DATA,
            equipment=equipment,
        )

    def _conf(self, names: list[str]) -> str:
        lines = [
            f"listeners.tcp.1 = <<listen:{AMQP}>>",
            "management.tcp.ip = <<listen_host>>",
            f"management.tcp.port = <<port:{MANAGEMENT}>>",
            "prometheus.tcp.ip = <<listen_host>>",
            f"prometheus.tcp.port = <<port:{METRICS}>>",
            "loopback_users = none",
            f"heartbeat = {self.heartbeat_s}",
            "log.console = true",
            "log.console.level = info",
            "log.file = false",
            # Machines that run experiments are small and full; alarms would block publishers without any fault.
            "disk_free_limit.absolute = 64MB",
        ]
        if len(names) > 1:
            lines += [
                "cluster_name = assay",
                "cluster_formation.peer_discovery_backend = classic_config",
                *(
                    f"cluster_formation.classic_config.nodes.{number} = {_erlang_node(name)}"
                    for number, name in enumerate(names, 1)
                ),
                # Nodes start at the same time: each waits until the one that they all choose as the first is there.
                f"cluster_formation.target_cluster_size_hint = {len(names)}",
                "cluster_formation.discovery_retry_limit = 60",
                "cluster_formation.discovery_retry_interval = 500",
            ]
        return "\n".join(lines) + "\n"

    def _advanced(self) -> str:
        if self.net_ticktime_s is None:
            return _ADVANCED_TEXT
        return _ADVANCED_TEXT.replace("[\n", f"[\n  {{kernel, [{{net_ticktime, {self.net_ticktime_s}}}]}},\n", 1)

    @property
    def knows_disconnected_timeout(self) -> bool:
        """Whether the broker's version has `x-consumer-disconnected-timeout`; the pinned one has."""
        if self.version is None:
            return True
        return tuple(int(part) for part in self.version.split("."))[:2] >= _DISCONNECTED_TIMEOUT_SINCE

    @property
    def redelivery_horizon_s(self) -> float:
        """Longest time that an unsettled delivery stays with a client whose end went unseen: three heartbeats, and on a
        quorum queue from 4.3 on the time that a consumer on a vanished node is waited for.

        Three, for the broker looks once in each interval whether anything came, and gives up when it saw nothing twice
        in a row (rabbit_heartbeat.erl): what came just after a look counts as seen at the next one.
        """
        noticed_s = 3.0 * self.heartbeat_s
        if isinstance(self.queue, Classic) or not self.knows_disconnected_timeout:
            return noticed_s
        timeout_s = self.queue.consumer_disconnected_timeout_s
        return max(noticed_s, 60.0 if timeout_s is None else timeout_s)

    def promise(self) -> Promise:
        """What its clients may believe."""
        queue = self.queue
        limited = queue.length_max is not None
        return Promise(
            confirms=self.confirms,
            ack=AckKind.SENT if self.acknowledge == "manual" else AckKind.AUTOMATIC,
            drain="declare",
            redelivery_horizon_s=self.redelivery_horizon_s,
            redelivered_promise=True,
            replicas=1 if isinstance(queue, Classic) else self.members,
            policies=tuple(
                policy
                for policy, asked in (
                    ("delivery-limit", isinstance(queue, Quorum)),
                    (f"max-length {queue.overflow}", limited),
                )
                if asked
            ),
            settings={
                "members": self.members,
                "version": self.version or "pinned",
                "confirms": self.confirms,
                "acknowledge": self.acknowledge,
                "persistent": self.persistent,
                "mandatory": self.returns,
                "heartbeat_s": self.heartbeat_s,
                "net_ticktime_s": self.net_ticktime_s,
                "queue": type(queue).__name__.lower(),
                "durable": queue.durable,
                **{f"queue.{name}": value for name, value in asdict(queue).items() if name != "durable"},
            },
        )


def defaults() -> tuple[RabbitMQ, ...]:
    """The configurations of the default matrix, the weakest first."""
    return (FIRE_AND_FORGET, CLASSIC_CONFIRMS, QUORUM_CONFIRMS)


def _erlang_node(name: str) -> str:
    return f"{name}@<<host:{name}>>"


def _length_rules(length_max: int | None, overflow: str) -> tuple[_Rule, ...]:
    return (
        ("length_max", length_max, "1 and up, or None", length_max is None or length_max >= 1),
        ("overflow", overflow, " or ".join(_OVERFLOWS), overflow in _OVERFLOWS),
        (
            "overflow",
            overflow,
            "drop-head: nothing overflows without length_max",
            length_max is not None or overflow == "drop-head",
        ),
    )


def _refuse(subject: str, rules: Iterable[_Rule]) -> None:
    """Raise Refused that names every broken rule: (field, its value, what is allowed, whether it is)."""
    wrong = [f"{field}={value!r} ({allowed})" for field, value, allowed, good in rules if not good]
    if wrong:
        raise Refused(f"{subject}: {', '.join(wrong)}", cure="use the values in brackets")


# As Erlang terms, because a key of rabbitmq.conf that a version does not know keeps it from starting, and a term that
# it does not know is ignored: transient queues for others than their owner, which later versions permit only if told;
# and how often what management shows is collected, for which there is no key (its default is 5 s).
_ADVANCED_TEXT = f"""[
  {{rabbit, [
    {{permit_deprecated_features, #{{transient_nonexcl_queues => true}}}}
  ]}},
  {{rabbitmq_management_agent, [
    {{sample_retention_policies, [
      {{global, [{{600, {FIGURES_S}}}]}},
      {{basic, [{{600, {FIGURES_S}}}]}},
      {{detailed, [{{10, {FIGURES_S}}}]}}
    ]}}
  ]}}
].
"""

FIRE_AND_FORGET = RabbitMQ(
    "fire-and-forget", queue=Classic(durable=False), confirms=False, acknowledge="automatic", persistent=False
)
"""Nothing is asked and nothing is kept: transient queue and messages, no confirms, automatic acknowledgement."""

CLASSIC_CONFIRMS = RabbitMQ("classic-confirms", queue=Classic())
"""A durable queue on one node; persistent messages, confirms, acknowledgements by the client."""

QUORUM_CONFIRMS = RabbitMQ("quorum-confirms", members=3)
"""Three replicas; persistent messages, confirms, acknowledgements by the client."""
