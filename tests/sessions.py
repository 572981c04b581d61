"""A session with every way in which a cell can end, made of histories written by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from histories import (
    Deliver,
    Event,
    Publish,
    claim,
    client,
    deliver,
    effect,
    fair_events,
    fair_history,
    injection,
    note,
)

from harness.history.history import History, Table
from harness.history.store import write_history, write_json
from harness.history.terms import Claimed
from harness.operation import AcknowledgedBy
from harness.report.session import Expected, NotApplicable, SessionCell, SessionFile, write_session

HOSTILE = '<script>alert("x")</script>|`*'
AT_LEAST = Claimed(
    guarantee="at_least_once",
    page="rabbitmq.com/docs/quorum-queues",
    says="a confirmed message is not lost as long as a majority is not permanently gone",
)
PERSISTED = Claimed(
    guarantee="at_least_once",
    page="docs.nats.io/nats-concepts/jetstream",
    says="an acknowledged message has been persisted",
)


def without(events: Iterable[Event], *, deliveries_of: range) -> list[Event]:
    """The events without the deliveries of these messages of producer 1."""
    return [event for event in events if not (isinstance(event, Deliver) and event.message in deliveries_of)]


def unconfirmed(events: Iterable[Event]) -> list[Event]:
    """The same, by a producer that nobody answers."""
    return [event.sent() if isinstance(event, Publish) else event for event in events]


def lossy(**changes: Any) -> History:
    """Acked messages 100 to 139 are never delivered, 150 to 153 twice."""
    events = without(fair_events(), deliveries_of=range(100, 140))
    again = [deliver(number).again().as_sequence(number).at(2600 + number).acknowledged() for number in range(150, 154)]
    return fair_history(*again, events=events, **changes)


def processed(mechanism: str, effects: Iterable[Event], **changes: Any) -> History:
    settings = {"promises": "at_most_once", "prefetch": 100, "queue": "quorum", "parts": 1}
    history = fair_history(
        *effects,
        client(1, "producer"),
        mechanism=mechanism,
        effects_audited=True,
        settings=settings,
        faults=("kill_consumer",),
        injections=(injection(fault="kill_consumer", targets=("consumer-1",), facts={"exit": -9, "pid": 4711}),),
        **changes,
    )
    published = dict(zip(history.publications.message.tolist(), history.publications.invoked_ns.tolist(), strict=True))
    return effects_at(history, [published[message] + 5_000_000 for message in history.effects.message.tolist()])


def effects_at(history: History, times_ns: Any) -> History:
    """The history with its effects written at these times."""
    effects = Table("effects", {**history.effects, "first_ns": times_ns, "last_ns": times_ns})
    return History({**history.tables, "effects": effects}, history.terms, history.words)


def histories() -> dict[str, History]:
    """The run of each cell that ran, by its id."""
    named = {"configuration": "rabbitmq-quorum-confirms", "family": "rabbitmq", "broker_version": "4.3.6"}
    nats = {"configuration": "nats-r1-file", "family": "nats", "broker_version": "2.15.1"}
    facts = {"container": "exited", "exit_code": 137, "connections_lost": 3}
    settings = {"queue": "quorum", "replicas": 3, "confirms": True, "rate_hz": 100.0, "producers": 1}
    environment = {"engine": "containers", "image": "rabbitmq:4.3.6-management", "cores": 2}
    every = sorted({event.message for event in fair_events() if isinstance(event, Publish)}, key=str)
    return {
        "quorum-nothing": fair_history(
            faults=("nothing",), injections=(), claims=(AT_LEAST,), settings=settings, environment=environment, **named
        ),
        "quorum-kill_leader": fair_history(
            claims=(AT_LEAST, claim("ordered")),
            injections=(injection(facts=facts, at_risk=12),),
            settings=settings,
            environment=environment,
            **named,
        ),
        "r1-power_loss": lossy(
            claims=(PERSISTED,),
            faults=("power_loss",),
            injections=(injection(fault="power_loss", facts=facts),),
            **nats,
        ),
        "r1-kill_leader": fair_history(
            note("ticker-gap", 1500, value=900_000_000),
            claims=(PERSISTED,),
            drained=False,
            drained_why_not="3 messages await settlement after 30 s",
            **nats,
        ),
        "fire-kill_leader": fair_history(
            events=unconfirmed(without(fair_events(), deliveries_of=range(101, 150))),
            acknowledged_by=AcknowledgedBy.NONE,
            **{**named, "configuration": "rabbitmq-fire-and-forget"},
        ),
        "before-kill_consumer": processed(
            "ack_before_effect", [effect(number) for number in every if number % 50], **named
        ),
        "after-kill_consumer": processed(
            "ack_after_effect", [effect(number, 2 if number in (120, 121) else 1) for number in every], **named
        ),
        "interrupted": fair_history(interrupted="KeyboardInterrupt", **{**named, "configuration": HOSTILE}),
        "disputed": fair_history(claims=(AT_LEAST,), **{**named, "configuration": "rabbitmq-disputed"}),
    }


def write_example(directory: Path) -> Path:
    """Write a whole session into `directory`, and return it."""
    runs = histories()
    for name, history in runs.items():
        path = directory / "runs" / name
        write_history(path, history)
        write_json(path / "scenario.json", {"id": name, "workload": {"rate_hz": 100.0}, "sink": {"type": "SQLite"}})
        write_json(path / "plan.json", {"seed": 7, "steps": []})
    damaged = directory / "runs" / "damaged"
    write_history(damaged, runs["quorum-nothing"])
    (damaged / "tables" / "publications.npz").write_bytes(b"PK\x03\x04 cut")

    def ran(name: str, outcome: str, fault: str, **changes: Any) -> SessionCell:
        values: dict[str, Any] = {
            "id": name,
            "test": f"suites/test_example.py::test_keeps[{name}]",
            "configuration": runs[name].terms.configuration if name in runs else "rabbitmq-damaged",
            "fault": fault,
            "mechanism": (runs[name].terms.mechanism or None) if name in runs else None,
            "status": "ran",
            "run": f"runs/{name}",
            "outcome": outcome,
            "wall_s": 6.5,
        }
        return SessionCell(**{**values, **changes})

    cells = (
        ran("quorum-nothing", "passed", "nothing"),
        ran("quorum-kill_leader", "passed", "kill_leader"),
        ran("fire-kill_leader", "passed", "kill_leader", expected=Expected(violate=("at_least_once",))),
        ran("r1-power_loss", "failed", "power_loss", message="at-least-once violated"),
        ran("r1-kill_leader", "unknown", "kill_leader"),
        ran(
            "before-kill_consumer",
            "passed",
            "kill_consumer",
            expected=Expected(keep=("at_most_once_processed",), violate=("at_least_once_processed",)),
        ),
        ran(
            "after-kill_consumer",
            "passed",
            "kill_consumer",
            expected=Expected(keep=("at_least_once_processed",), violate=("at_most_once_processed",)),
        ),
        ran("interrupted", "error", HOSTILE, status="error", reason=f"KeyboardInterrupt {HOSTILE}"),
        ran("disputed", "failed", "nothing", message="assert 3 == 4"),
        ran("damaged", "passed", "nothing"),
        SessionCell(
            id="partition",
            configuration="rabbitmq-quorum-confirms",
            fault="partition_leader",
            status="error",
            outcome="error",
            reason="waited in vain for rabbitmq-quorum-confirms to be whole (limit 90 s); last seen: 2 of 3 members\n"
            "missing rabbit-3 (exited 137)",
            message="waited in vain",
            expected=Expected(keep=("at_least_once",)),
        ),
        SessionCell(
            id="skew",
            configuration="nats-r1-file",
            fault="skew",
            status="not-run",
            outcome="not-run",
            reason="the session ended before it came to this cell",
        ),
    )
    senseless = NotApplicable(configuration="nats-r1-file", fault="partition_leader", reason="it has one node")
    session = SessionFile(
        session="2026-11-24-090000",
        started="2026-11-24T09:00:00+00:00",
        seed=42,
        engine="containers",
        tier="smoke",
        assay="0.1.0",
        machine={"system": "Linux", "cores": 2, "memory_gib": 24.0},
        cells=cells,
        not_applicable=(senseless,),
    )
    directory.mkdir(parents=True, exist_ok=True)
    write_session(directory, session)
    return directory
