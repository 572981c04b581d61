"""A small language for writing histories by hand. What is not said takes a sensible value; time runs by itself.

    history(
        publish(1).acked(),
        deliver(1).acknowledged(),
        publish(2).acked(),                  # acked, never delivered: lost
        terms=terms(),                       # drained and read to the end, by default
    )

A number names a message of producer 1; (2, 7) is message 7 of producer 2. Each event takes one millisecond, one after
the other as written; `at` and `until` say otherwise, in ms. Consumers have the numbers 101 and up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from harness.history.columns import NEVER, TABLES
from harness.history.history import History, Table
from harness.history.terms import Claimed, Counter, InjectionTerms, Terms
from harness.operation import AckKind, AcknowledgedBy, MessageId, Outcome

MS = 1_000_000
CONSUMER = 101
Message = int | tuple[int, int]


def packed(message: Message) -> int:
    """The packed id of a message."""
    return MessageId(*(message if isinstance(message, tuple) else (1, message))).packed


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    message: Message
    attempt: int = 1
    epoch: int = 1
    outcome: Outcome = Outcome.INFO
    by: AcknowledgedBy = AcknowledgedBy.BROKER
    sequence: int = 0
    duplicate: bool = False
    error: str = ""
    at_ms: float | None = None
    until_ms: float | None = None
    unsent: bool = False
    route: str = "route"

    def acked(self, sequence: int = 0, *, duplicate: bool = False) -> Publish:
        return replace(self, outcome=Outcome.OK, sequence=sequence, duplicate=duplicate)

    def sent(self) -> Publish:
        return replace(self, outcome=Outcome.OK, by=AcknowledgedBy.NONE)

    def refused(self, error: str = "nack") -> Publish:
        return replace(self, outcome=Outcome.FAIL, error=error)

    def never_sent(self) -> Publish:
        return replace(self, outcome=Outcome.FAIL, error="no-connection", epoch=0, unsent=True)

    def retry(self, attempt: int) -> Publish:
        return replace(self, attempt=attempt)

    def to(self, route: str) -> Publish:
        return replace(self, route=route)

    def over(self, epoch: int) -> Publish:
        return replace(self, epoch=epoch)

    def at(self, ms: float) -> Publish:
        return replace(self, at_ms=ms)

    def until(self, ms: float) -> Publish:
        return replace(self, until_ms=ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    message: Message
    attempt: int = 1
    client: int = CONSUMER
    epoch: int = 1
    group: str = "group"
    sequence: int = 0
    redelivered: bool = False
    fetch_ms: float | None = None
    at_ms: float | None = None
    ack: AckKind = AckKind.SENT
    ack_ms: float | None = None
    acks: bool = False
    handled_ms: float | None = None
    settled_ms: float | None = None
    settles: bool = False
    corrupt: bool = False
    foreign: bool = False

    def acknowledged(self, at_ms: float | None = None) -> Deliver:
        return replace(self, ack=AckKind.SENT, acks=True, ack_ms=at_ms)

    def confirmed(self, at_ms: float | None = None, *, asked_ms: float | None = None) -> Deliver:
        return replace(self, ack=AckKind.CONFIRMED, acks=True, settles=True, settled_ms=at_ms, ack_ms=asked_ms)

    def unconfirmed(self) -> Deliver:
        """Acknowledged, and the answer was lost."""
        return replace(self, ack=AckKind.CONFIRMED, acks=True)

    def automatic(self) -> Deliver:
        return replace(self, ack=AckKind.AUTOMATIC)

    def again(self) -> Deliver:
        return replace(self, redelivered=True)

    def of_attempt(self, attempt: int) -> Deliver:
        return replace(self, attempt=attempt)

    def to(self, client: int) -> Deliver:
        return replace(self, client=client)

    def over(self, epoch: int) -> Deliver:
        return replace(self, epoch=epoch)

    def within(self, group: str) -> Deliver:
        return replace(self, group=group)

    def as_sequence(self, sequence: int) -> Deliver:
        return replace(self, sequence=sequence)

    def fetched(self, ms: float) -> Deliver:
        return replace(self, fetch_ms=ms)

    def at(self, ms: float) -> Deliver:
        return replace(self, at_ms=ms)

    def damaged(self) -> Deliver:
        return replace(self, message=0, corrupt=True)

    def of_another_run(self) -> Deliver:
        return replace(self, foreign=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One pull of one message: answered by it, by "empty" (no message), or, without an end, not at all."""

    message: Message | None = None
    at_ms: float | None = None
    until_ms: float | None = None
    redelivered: bool = False
    client: int = 2
    group: str = "group"

    def at(self, ms: float) -> Pull:
        return replace(self, at_ms=ms)

    def until(self, ms: float) -> Pull:
        return replace(self, until_ms=ms)

    def again(self) -> Pull:
        return replace(self, redelivered=True)

    def by(self, client: int) -> Pull:
        return replace(self, client=client)

    def within(self, group: str) -> Pull:
        return replace(self, group=group)


@dataclass(frozen=True, slots=True)
class Left:
    message: Message
    place: str = "owed"
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Effect:
    message: Message
    times: int = 1


@dataclass(frozen=True, slots=True)
class Dropped:
    message: Message
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    state: str
    at_ms: float
    client: int = 1
    value: int = 0
    planned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRow:
    number: int
    role: str
    slot: str = ""
    start_ms: float = 0.0
    end_ms: float | None = 1e6
    exit: int = 0
    planned: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    phase: str
    trial: int
    begin_ms: float
    end_ms: float


Event = Publish | Deliver | Pull | Left | Effect | Dropped | Note | ClientRow | Phase


def publish(message: Message) -> Publish:
    """One publish of a message; nothing came back, unless said."""
    return Publish(message=message)


def deliver(message: Message) -> Deliver:
    """One receipt; nothing was acknowledged, unless said."""
    return Deliver(message=message)


def pull(message: Message | None = None) -> Pull:
    """One pull of one message, and what came; without a message, and with an end, the answer was "empty"."""
    return Pull(message=message)


def left(message: Message, place: str = "owed", sequence: int = 0) -> Left:
    """The auditor read it."""
    return Left(message, place, sequence)


def effect(message: Message, times: int = 1) -> Effect:
    """The sink holds its effect."""
    return Effect(message, times)


def dropped(message: Message, policy: str = "ttl") -> Dropped:
    """A policy dropped it."""
    return Dropped(message, policy)


def note(state: str, at_ms: float, client: int = 1, value: int = 0, planned: bool = False) -> Note:
    """A client or member noted a state."""
    return Note(state=state, at_ms=at_ms, client=client, value=value, planned=planned)


def client(number: int, role: str, **changes: Any) -> ClientRow:
    """A client process."""
    return ClientRow(number=number, role=role, **{"slot": f"{role}-{number}", **changes})


def phase(name: str, trial: int, begin_ms: float, end_ms: float) -> Phase:
    """A phase of the run."""
    return Phase(phase=name, trial=trial, begin_ms=begin_ms, end_ms=end_ms)


TERMS = Terms(
    cell="cell",
    seed=7,
    run=1,
    configuration="memory-correct",
    family="memory",
    broker_version="1.0",
    faults=("nothing",),
    acknowledged_by=AcknowledgedBy.BROKER,
    ack=AckKind.SENT,
    drained=True,
    silence_s=5.0,
    exhaustive=True,
    brokers_up=True,
    whole=True,
    peers_all_proxy=True,
    floor_hz=50.0,
    offered_hz=100.0,
)
"""Terms of a run that was drained, read to the end, and found in order."""


def terms(base: Terms = TERMS, **changes: Any) -> Terms:
    """Terms of a run that was read to the end, with changes."""
    return Terms(**{**{field.name: getattr(base, field.name) for field in fields(Terms)}, **changes})


def injection(**changes: Any) -> InjectionTerms:
    """A kill of the leader at 1 s that bit at once, was mended at 2 s, and from which all recovered at 2.5 s."""
    values: dict[str, Any] = {
        "fault": "kill_leader",
        "number": 0,
        "trial": 0,
        "targets": ("node-1",),
        "planned_ns": 1000 * MS,
        "asked_ns": 1000 * MS,
        "bit_ns": 1005 * MS,
        "mended_ns": 2000 * MS,
        "recovered_ns": 2500 * MS,
        "at_risk": 1,
        "touches": "both",
    }
    return InjectionTerms(**{**values, **changes})


def claim(guarantee: str) -> Claimed:
    """A claim in scope."""
    return Claimed(guarantee=guarantee, page="the manual", says="it does")


def counter(name: str, value: int, *, comparable: bool = True) -> Counter:
    """A counter of the broker."""
    return Counter(name=name, value=value, comparable=comparable)


def history(*events: Event, terms: Terms = TERMS) -> History:
    """The history of these events. Clients that publish or receive are made up where no row names them."""
    return _Writer(terms).write(events)


class _Writer:
    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.words: dict[str, int] = {"": 0}
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self.now_ms = 0.0
        self.numbers: dict[int, int] = {}

    def word(self, text: str) -> int:
        return self.words.setdefault(text, len(self.words))

    def write(self, events: Iterable[Event]) -> History:
        writers: dict[type, Callable[[Any], None]] = {
            Publish: self.publish,
            Deliver: self.deliver,
            Pull: self.pull,
            Left: lambda left: self.add(
                "census",
                message=packed(left.message),
                place=self.word(left.place),
                broker_sequence=left.sequence,
            ),
            Effect: self.effect,
            Dropped: lambda one: self.add("dropped", message=packed(one.message), policy=self.word(one.policy)),
            Note: self.note,
            ClientRow: self.client,
            Phase: self.phase,
        }
        for event in events:
            writers[type(event)](event)
        self.make_up_clients()
        tables = {}
        for name, columns in TABLES.items():
            rows = self.rows[name]
            tables[name] = (
                Table(name, {column: [row[column] for row in rows] for column in columns})
                if rows
                else Table.empty(name)
            )
        return History(tables, self.terms, tuple(self.words))

    def add(self, table: str, **row: Any) -> None:
        self.rows[table].append(row)

    def time_ns(self, ms: float | None) -> int:
        if ms is not None:
            return int(ms * MS)
        self.now_ms += 1
        return int(self.now_ms * MS)

    def publish(self, event: Publish) -> None:
        invoked_ns = self.time_ns(event.at_ms)
        completed_ns = NEVER
        if event.unsent:
            completed_ns = invoked_ns
        elif event.outcome is not Outcome.INFO or event.until_ms is not None:
            completed_ns = int(event.until_ms * MS) if event.until_ms is not None else invoked_ns + MS // 2
        self.add(
            "publications",
            client=packed(event.message) >> 40,
            epoch=event.epoch,
            route=self.word(event.route),
            message=packed(event.message),
            attempt=event.attempt,
            native_id=0,
            intended_ns=invoked_ns,
            invoked_ns=invoked_ns,
            written_ns=NEVER,
            completed_ns=completed_ns,
            outcome=event.outcome,
            acknowledged_by=event.by,
            broker_sequence=event.sequence,
            duplicate=event.duplicate,
            error=self.word(event.error),
        )

    def deliver(self, event: Deliver) -> None:
        received_ns = self.time_ns(event.at_ms)
        number = self.numbers[event.client] = self.numbers.get(event.client, 0) + 1
        ack_ns = NEVER
        if event.acks:
            ack_ns = int(event.ack_ms * MS) if event.ack_ms is not None else received_ns + MS // 4
        settled_ns = NEVER
        if event.settles:
            settled_ns = int(event.settled_ms * MS) if event.settled_ms is not None else ack_ns + MS // 4
        self.add(
            "deliveries",
            client=event.client,
            epoch=event.epoch,
            group=self.word(event.group),
            message=packed(event.message),
            attempt=event.attempt,
            number=number,
            broker_sequence=event.sequence,
            redelivered=event.redelivered,
            delivery_count=0,
            fetch_invoked_ns=NEVER if event.fetch_ms is None else int(event.fetch_ms * MS),
            received_ns=received_ns,
            handled_ns=ack_ns if event.handled_ms is None else int(event.handled_ms * MS),
            ack_kind=event.ack,
            ack_invoked_ns=ack_ns,
            settled_ns=settled_ns,
            settlement=Outcome.OK if event.settles else Outcome.INFO,
            corrupt=event.corrupt,
            foreign=event.foreign,
        )

    def pull(self, event: Pull) -> None:
        invoked_ns = self.time_ns(event.at_ms)
        number = 0
        if event.message is not None and event.until_ms is not None:
            number = self.numbers.get(event.client, 0) + 1
            came = Deliver(message=event.message, client=event.client, group=event.group, redelivered=event.redelivered)
            self.deliver(came.fetched(invoked_ns / MS).at(event.until_ms).acknowledged())
        self.add(
            "dequeues",
            client=event.client,
            epoch=1,
            group=self.word(event.group),
            message=packed(event.message) if number and event.message is not None else 0,
            delivery=number,
            redelivered=event.redelivered,
            found_empty=event.until_ms is not None and not number,
            invoked_ns=invoked_ns,
            completed_ns=NEVER if event.until_ms is None else int(event.until_ms * MS),
            outcome=Outcome.INFO if event.until_ms is None else Outcome.OK,
        )

    def effect(self, event: Effect) -> None:
        at_ns = self.time_ns(None)
        order = len(self.rows["effects"])
        self.add(
            "effects", message=packed(event.message), count=event.times, first_ns=at_ns, last_ns=at_ns, order=order
        )

    def note(self, event: Note) -> None:
        self.add(
            "health",
            time_ns=int(event.at_ms * MS),
            client=event.client,
            member=self.word(f"client-{event.client}" if event.client >= 0 else "runner"),
            state=self.word(event.state),
            value=event.value,
            planned=event.planned,
        )

    def client(self, event: ClientRow) -> None:
        self.add(
            "clients",
            client=event.number,
            name=self.word(f"{event.role}-{event.number}"),
            slot=self.word(event.slot),
            role=self.word(event.role),
            group=self.word("group" if event.role == "consumer" else ""),
            start_ns=int(event.start_ms * MS),
            end_ns=NEVER if event.end_ms is None else int(event.end_ms * MS),
            exit=event.exit,
            planned=event.planned,
            peer_is_proxy=1,
            crash_point=0,
            crash_ns=NEVER,
        )

    def phase(self, event: Phase) -> None:
        self.add(
            "phases",
            phase=self.word(event.phase),
            trial=event.trial,
            begin_ns=int(event.begin_ms * MS),
            end_ns=int(event.end_ms * MS),
        )

    def make_up_clients(self) -> None:
        known = {row["client"] for row in self.rows["clients"]}
        for table, role in (("publications", "producer"), ("deliveries", "consumer"), ("dequeues", "consumer")):
            for number in dict.fromkeys(row["client"] for row in self.rows[table]):
                if number not in known:
                    known.add(number)
                    self.client(client(number, role))


# ---- a fair run ------------------------------------------------------------------------------------------------------


def fair_events(*, until_ms: int = 4000, hz: int = 100) -> list[Event]:
    """A producer at `hz` for `until_ms`, each message acked after 2 ms, received after 3 and acknowledged after 8."""
    step = 1000 // hz
    events: list[Event] = [
        phase("deploy", -1, 0, 0),
        phase("quiet", 0, 0, 1000),
        phase("break", 0, 1000, 1900),
        phase("mend", 0, 1900, 2000),
        phase("recover", 0, 2000, 2500),
        phase("quiet", 1, 2500, until_ms),
        phase("drain", -1, until_ms, until_ms + 2000),
        phase("audit", -1, until_ms + 2000, until_ms + 2100),
    ]
    for number, at_ms in enumerate(range(2, until_ms, step), 1):
        events.append(publish(number).acked(number).at(at_ms).until(at_ms + 2))
        events.append(deliver(number).as_sequence(number).at(at_ms + 3).acknowledged(at_ms + 8))
    return events


def fair_history(*more: Event, events: list[Event] | None = None, **changes: Any) -> History:
    """A run with one fair trial of kill_leader, in which every guarantee that can be judged is HELD."""
    values = {"faults": ("kill_leader",), "injections": (injection(),), **changes}
    return history(*(fair_events() if events is None else events), *more, terms=terms(**values))


def as_dict(terms_: Terms) -> dict[str, Any]:
    """The terms as plain data, for comparison."""
    return asdict(terms_)
