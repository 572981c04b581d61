"""Which cells does a suite ask for? Configurations x faults, without pairs that mean nothing, in a cheap order.

*Matrix*: what a suite writes above a test function; the pytest plugin makes one test of each of its scenarios. A pair
that cannot be is *not applicable*, with its reason, and is shown as such; a matrix in which nothing is left is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.errors import Refused
from harness.faults.fault import Fault
from harness.operation import AckKind, CrashPoint, Role
from harness.plain import did_you_mean
from harness.processing.mechanism import Mechanism
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat, Schedule, as_schedule, is_fault
from harness.scenario.workload import Steady
from harness.system.service import Configuration, Promise, Sink

TIERS = ("smoke", "standard", "soak")
"""How much is run, the least first; each tier runs the cells of those before it too."""

ATTRIBUTE = "assay_matrices"
"""Where a test function carries its matrices."""

Rule = Callable[[Configuration, Fault | Schedule], str | None]
"""Why a pair is not to be run, or None."""

Function = TypeVar("Function", bound=Callable[..., Any])

_DIRTIES = frozenset({"start", "stop", "kill", "pause", "resume", "replace", "renew", "set_clock"})
_TRIALS: Mapping[str, tuple[int, int]] = {"smoke": (2, 1), "standard": (5, 4), "soak": (20, 12)}
"""Tier -> trials of a fault on links or clients, and of one that costs the topology."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """A pair that is not run, and why: names of the configuration, the mechanism ("" without) and the fault."""

    configuration: str
    fault: str
    reason: str
    mechanism: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Configurations x faults, or schedules of faults, under one workload. `times`: trials of each cell, or how often a
    schedule is carried out; None: as many as the tier gives, and a schedule once.

    `tier`: the least tier that runs it. `unless`: a rule of the suite's own. `label`: distinguishes two tests that run
    the same scenarios. `sabotage`: how the clients lie, `recovery_limit_s`: how long a system may take to be back, and
    `drain`: whether everything is read at the end, as Scenario says. Refuses at birth what can never be run.
    """

    configurations: tuple[Configuration, ...]
    faults: tuple[Fault | Schedule, ...]
    workload: Steady = field(default_factory=Steady)
    processing: Mechanism | None = None
    sink: Sink | None = None
    tier: str = "smoke"
    times: int | None = None
    unless: Rule | None = None
    label: str = ""
    sabotage: str = ""
    recovery_limit_s: float = 40.0
    drain: bool = True

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise Refused(f'"{self.tier}" is not a tier{did_you_mean(self.tier, TIERS)}', cure=f"one of {list(TIERS)}")
        if not self.configurations or not self.faults:
            raise Refused(
                "a matrix without configurations or without faults has no cells", cure="give at least one each"
            )
        if (self.processing is None) != (self.sink is None):
            given = "processing without a sink" if self.sink is None else "a sink without processing"
            raise Refused(f"a matrix with {given}", cure="a mechanism needs a sink to leave its effects in: give both")
        for what, names in (
            ("configuration", [configuration.name for configuration in self.configurations]),
            ("fault", [fault.name for fault in self.faults]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise Refused(f"a matrix names {what} {', '.join(twice)} twice", cure="give each a name of its own")
        left = {(row.configuration, row.fault) for row in self.not_applicable()}
        for fault in self.faults:
            pairs = {(configuration.name, fault.name) for configuration in self.configurations}
            if pairs <= left:
                reason = next(row.reason for row in self.not_applicable() if row.fault == fault.name)
                raise Refused(f"{fault.name} applies to no configuration of the matrix: {reason}", cure="take it out")

    def scenarios(self, tier: str) -> tuple[Scenario, ...]:
        """The scenarios to run, row by row, with as many trials as the session's tier gives."""
        return tuple(
            Scenario(
                configuration=configuration,
                schedule=Repeat(fault, self.times if self.times is not None else trials(fault, tier)),
                workload=self.workload,
                processing=self.processing,
                sink=self.sink,
                sabotage=self.sabotage,
                recovery_limit_s=self.recovery_limit_s,
                drain=self.drain,
            )
            for configuration in self.configurations
            for fault in self.faults
            if self._reason(configuration, fault) is None
        )

    def not_applicable(self) -> tuple[NotApplicable, ...]:
        """The pairs left out, each with its reason."""
        return tuple(
            NotApplicable(
                configuration=configuration.name,
                fault=fault.name,
                reason=reason,
                mechanism="" if self.processing is None else self.processing.name,
            )
            for configuration in self.configurations
            for fault in self.faults
            if (reason := self._reason(configuration, fault)) is not None
        )

    def _reason(self, configuration: Configuration, fault: Fault | Schedule) -> str | None:
        for one in as_schedule(fault).faults:
            if reason := inapplicable(configuration, one, processed=self.processing is not None):
                return reason
        return self.unless(configuration, fault) if self.unless is not None else None


def matrix(
    configurations: Sequence[Configuration],
    faults: Sequence[Fault | Schedule],
    *,
    workload: Steady | None = None,
    processing: Mechanism | None = None,
    sink: Sink | None = None,
    tier: str = "smoke",
    times: int | None = None,
    unless: Rule | None = None,
    label: str = "",
    sabotage: str = "",
    recovery_limit_s: float = 40.0,
    drain: bool = True,
) -> Callable[[Function], Function]:
    """Run the test function below once for each configuration and fault: its argument `run` is the finished run.

    `unless(configuration, fault)` answers why a pair is left out, or None. Raises Refused for what cannot be.
    """
    asked = Matrix(
        configurations=tuple(configurations),
        faults=tuple(faults),
        workload=workload if workload is not None else Steady(),
        processing=processing,
        sink=sink,
        tier=tier,
        times=times,
        unless=unless,
        label=label,
        sabotage=sabotage,
        recovery_limit_s=recovery_limit_s,
        drain=drain,
    )

    def attach(function: Function) -> Function:
        setattr(function, ATTRIBUTE, (asked, *getattr(function, ATTRIBUTE, ())))
        return function

    return attach


# ---- rules ---------------------------------------------------------------------------------------------------------


def trials(fault: Fault | Schedule, tier: str) -> int:
    """How often a tier injects a fault: no fault is one trial however long it lasts; one that costs a boot is dear. A
    schedule says itself how often."""
    if not is_fault(fault) or fault.name == "nothing":
        return 1
    cheap, dear = _TRIALS[tier]
    return dear if dirties(fault) else cheap


def dirties(fault: Fault) -> bool:
    """Whether a topology that has seen this fault serves no other cell."""
    return fault.needs.fresh or bool(fault.needs.verbs & _DIRTIES)


def inapplicable(configuration: Configuration, fault: Fault, *, processed: bool) -> str | None:
    """Why this fault means nothing to this configuration, in one sentence; None where it does."""
    promise = configuration.promise()
    if "confirms" in fault.needs.capabilities and not promise.confirms:
        return f"{configuration.name} publishes without confirms: there is no acknowledgement to lose"
    if "acknowledgements" in fault.needs.capabilities and promise.ack is AckKind.AUTOMATIC:
        return f"{configuration.name} acknowledges as it sends: consumers have nothing to say that could be lost"
    if "memory_alarm" in fault.needs.capabilities and configuration.family != "rabbitmq":
        return f"{configuration.name} knows no memory alarm: RabbitMQ does"
    if "store_limit" in fault.needs.capabilities and (why_not := _limitless(configuration, fault)):
        return why_not
    if "routes" in fault.needs.capabilities and configuration.family != "nats":
        return f"nodes of {configuration.name} tell no round trips: NATS servers do, and reach each other by proxies"
    if why_not := _unchangeable(configuration, fault, promise):
        return why_not
    if "several" in fault.needs.capabilities and len(configuration.nodes()) == 1:
        return f"{configuration.name} has a single node: there is none beside it"
    if getattr(fault, "role", None) is Role.FOLLOWER and len(configuration.nodes()) == 1:
        return f"{configuration.name} has a single node, which has no follower"
    at = getattr(fault, "at", None)
    if at in (CrashPoint.BETWEEN_ACK_AND_EFFECT, CrashPoint.BETWEEN_EFFECT_AND_ACK) and not processed:
        return f"without processing nobody passes {at}"
    if at is CrashPoint.BETWEEN_PUBLISH_AND_CONFIRM and not promise.confirms:
        return f"{configuration.name} publishes without confirms: nobody passes {at}"
    if at is CrashPoint.BETWEEN_ACK_AND_CONFIRM and promise.ack is not AckKind.CONFIRMED:
        return f"acknowledgements of {configuration.name} are not confirmed: nobody passes {at}"
    if at is CrashPoint.BETWEEN_EFFECT_AND_ACK and promise.ack is AckKind.AUTOMATIC:
        return f"{configuration.name} acknowledges as it sends: nobody passes {at}"
    return None


def _limitless(configuration: Configuration, fault: Fault) -> str | None:
    """Why no limit of what is stored so could be reached."""
    storage = getattr(fault, "storage", "")
    if configuration.family != "nats":
        instead = "for RabbitMQ there are MemoryAlarm and DiskNearlyFull"
        return f"{configuration.name} has no limit of what a server stores: use NATS with JetStream; {instead}"
    jetstream = getattr(configuration, "jetstream", None)
    if jetstream is None:
        return f"{configuration.name} stores nothing: use JetStream(storage={storage!r})"
    if jetstream.storage != storage:
        return f"{configuration.name} stores in {jetstream.storage}: use JetStream(storage={storage!r})"
    return None


def _unchangeable(configuration: Configuration, fault: Fault, promise: Promise) -> str | None:
    """Why this configuration's membership cannot change as the fault would have it."""
    needed = fault.needs.capabilities
    if "replicated" in needed and promise.replicas < 2:
        return f"{configuration.name} keeps one copy of each message: there is no other replica"
    if fault.needs.equipment.clock and configuration.family == "nats":
        return "a NATS server is a static Go program, whose clock cannot be set apart from the machine's"
    leads = getattr(fault, "role", None) is Role.LEADER
    if "replicated" in needed and leads and "leaves" not in needed and configuration.family == "nats":
        return "JetStream gives up a follower's replica, and never its leader's"
    chosen = getattr(configuration, "version", None)
    if "upgrade" in needed and fault.needs.versions == (chosen,):
        return f"{configuration.name} has that version from the start: give it an older one, as version=..."
    if "upgrade" in needed and configuration.family == "rabbitmq" and _too_far(chosen, fault.needs.versions[0]):
        return f"RabbitMQ 4.3 starts on the data of 4.2 and later only, and {configuration.name} has {chosen}"
    return None


def _too_far(of: str | None, to: str | None) -> bool:
    """Whether RabbitMQ cannot be upgraded so far at once. 4.3.6 refused what 4.0.5 had left, also with every feature
    flag and Khepri enabled: "application_start_failure, unsupported". The pinned version is of 4.3."""
    return of is not None and _numbers(of) < (4, 2) and (to is None or _numbers(to) >= (4, 3))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


# ---- order ---------------------------------------------------------------------------------------------------------

Item = TypeVar("Item")


def grouped(items: Iterable[Item], scenario: Callable[[Item], Scenario]) -> list[Item]:
    """`items` with equal nodes next to each other (one warm topology serves them), what costs the topology last.

    Otherwise in the order given: groups by their first member, members as they came.
    """
    groups: dict[tuple[object, ...], list[Item]] = {}
    for item in items:
        key = tuple(node.key() for node in scenario(item).nodes())
        groups.setdefault(key, []).append(item)
    return [
        item
        for group in groups.values()
        for item in sorted(group, key=lambda item: any(dirties(fault) for fault in scenario(item).schedule.faults))
    ]
