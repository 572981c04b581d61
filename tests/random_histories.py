"""Histories of whole runs, drawn from a seed: everything that a verdict may depend on, in good order or not.

A run is drawn in order: phases, faults, clients, publishes, deliveries, what was left, effects, terms. Then, in
`mess` of them, things go wrong, each with a probability of its own, so that the same seed gives the same history. No
event is one that no client could have recorded: an attempt is published once, a receipt precedes its acknowledgement.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from harness.history.columns import NEVER, TABLES
from harness.history.history import History, Table
from harness.history.terms import InjectionTerms, Terms
from harness.operation import AckKind, AcknowledgedBy, MessageId, Outcome
from tests.histories import claim, counter, terms

MS = 1_000_000
GROUPS = ("group", "other")
FAULTS = ("kill_leader", "pause_leader", "disconnect_clients")
ZERO = {name: dict.fromkeys(columns, 0) for name, columns in TABLES.items()}


def drawn(seed: random.Random) -> History:
    """A random history."""
    return _Draw(seed).history()


def in_order(seed: random.Random) -> History:
    """A random history of a run in which nothing went wrong, without the broker's counters."""
    draw = _Draw(seed)
    draw.mess = draw.trouble = 0.0
    past = draw.history()
    return replace(past, terms=replace(past.terms, counters=(), ordered=True, ack_wait_s=None))


class _Draw:
    def __init__(self, seed: random.Random) -> None:
        self.seed = seed
        # Half of all runs go well but for little: HELD has to be put to the test as well.
        self.mess = seed.choice([0.0, 0.0, 0.0, 0.01, 0.03, 0.1, 0.3])
        self.trouble = seed.choice([0.0, 0.0, 0.0, 0.0, 0.02, 0.1])
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self.words: dict[str, int] = {"": 0}
        self.step_ms = seed.choice([30, 40, 60])
        # Some phases last longer than the second by which the end of a phase is judged.
        self.phase_ms = seed.choice([150, 150, 200, 200, 250, 300, 1200])
        self.producers = list(range(1, 1 + seed.choice([1, 1, 2])))
        self.consumers = list(range(101, 101 + seed.choice([1, 1, 2])))
        self.groups = GROUPS[: seed.choice([1, 1, 1, 2])]
        self.acknowledged_by = seed.choice([AcknowledgedBy.BROKER] * 4 + [AcknowledgedBy.NONE])
        self.ack = seed.choice([AckKind.SENT, AckKind.CONFIRMED, AckKind.CONFIRMED, AckKind.AUTOMATIC])
        self.pulled = seed.random() < 0.5
        self.numbered = seed.random() < 0.7
        self.mechanism = seed.choice(["", "ack_after_effect"])
        self.first = seed.choice([0, 1, 1, 1_000, 3 << 30])
        self.sparse = seed.choice([1, 1, 1, 50_000])
        self.sequence = 0
        self.lost_at: list[int] = []

    # ---- chance ------------------------------------------------------------------------------------------------------

    def messy(self, weight: float = 1.0) -> bool:
        return self.seed.random() < self.mess * weight

    def troubled(self, weight: float = 1.0) -> bool:
        return self.seed.random() < self.trouble * weight

    def word(self, text: str) -> int:
        return self.words.setdefault(text, len(self.words))

    def add(self, table: str, **row: Any) -> dict[str, Any]:
        self.rows[table].append({**ZERO[table], **row})
        return self.rows[table][-1]

    # ---- the run -----------------------------------------------------------------------------------------------------

    def history(self) -> History:
        self.time_line()
        self.clients()
        for producer in self.producers:
            self.publish_all(producer)
        self.strange()
        self.leave()
        self.effects()
        self.notes()
        told = self.terms()
        if self.messy(3):
            for rows in self.rows.values():
                self.seed.shuffle(rows)
        tables = {
            name: Table(name, {column: [row[column] for row in self.rows[name]] for column in columns})
            for name, columns in TABLES.items()
        }
        return History(tables, told, tuple(self.words))

    def phase(self, name: str, length_ms: int, trial: int = -1) -> None:
        begin_ms = self.now_ms
        self.now_ms += length_ms
        if not self.troubled():
            self.add(
                "phases", phase=self.word(name), trial=trial, begin_ns=begin_ms * MS, end_ns=self.now_ms * MS
            )  # fmt: skip

    def time_line(self) -> None:
        """Phases, and the injections in them."""
        seed = self.seed
        self.now_ms = 0
        self.injections: list[InjectionTerms] = []
        self.phase("deploy", seed.choice([5, 5, 300]))
        self.begin_ms = self.now_ms
        self.phase("quiet", self.phase_ms, 0)
        for trial in range(seed.choice([0, 0, 0, 1, 1, 1, 1, 1, 2, 3])):
            begin_ms, held_ms, back_ms = self.now_ms, seed.randint(100, 200), seed.randint(10, 60)
            for number in range(seed.choice([1, 1, 1, 2])):
                self.inject(trial, number, begin_ms, held_ms, back_ms)
            self.phase("break", held_ms - 10, trial)
            self.phase("mend", 10, trial)
            self.phase("recover", back_ms, trial)
            self.phase("quiet", self.phase_ms, trial + 1)
        self.load_ends_ms = self.now_ms
        self.phase("drain", 200)
        self.phase("audit", 20)

    def inject(self, trial: int, number: int, begin_ms: int, held_ms: int, back_ms: int) -> None:
        seed, trouble = self.seed, self.troubled
        asked_ms = begin_ms + seed.randint(0, 30) * number
        bit_ms = asked_ms + seed.randint(0, 40)
        self.lost_at.append(bit_ms)
        targets = seed.choice([("node-1",), ("node-1",), ("producer-1.1",), ("consumer-101->node-1", "producer-1")])
        self.injections.append(
            InjectionTerms(
                fault=seed.choice(FAULTS),
                number=len(self.injections),
                trial=trial if not trouble() else seed.randint(0, 1),
                targets=targets,
                planned_ns=asked_ms * MS,
                asked_ns=asked_ms * MS,
                bit_ns=None if trouble() else bit_ms * MS,
                mended_ns=None if trouble() else (begin_ms + held_ms) * MS,
                recovered_ns=None if trouble() else (begin_ms + held_ms + back_ms) * MS,
                at_risk=1,
                touches=seed.choice(["both", "both", "producer", "consumer"]),
                why_not="it missed" if trouble(10) else None,
            )
        )

    def clients(self) -> None:
        for role, numbers in (("producer", self.producers), ("consumer", self.consumers)):
            for place, number in enumerate(numbers):
                ends_ms = self.seed.randint(0, self.now_ms) if self.troubled(2) else self.now_ms + 10
                slot = f"{role}-{numbers[0] if self.messy() else number}"
                self.add(
                    "clients",
                    client=number,
                    name=self.word("" if self.troubled() else f"{role}-{number}.{number}"),
                    slot=self.word(slot),
                    role=self.word(role),
                    group=self.word(self.groups[place % len(self.groups)] if role == "consumer" else ""),
                    start_ns=1 * MS,
                    end_ns=NEVER if self.troubled() else ends_ms * MS,
                    exit=self.seed.choice([0, 1, -9]),
                    planned=int(not self.troubled()),
                    crash_ns=NEVER,
                )

    # ---- publishes and deliveries ------------------------------------------------------------------------------------

    def publish_all(self, producer: int) -> None:
        """One message a step until the load ends; each is published, perhaps again, and delivered, perhaps again."""
        seed = self.seed
        number, at_ms, epoch = self.first, float(self.begin_ms + seed.randint(1, 20)), 1
        slow = 3 if self.troubled(2) else 1
        while at_ms < self.load_ends_ms:
            if any(at_ms - self.step_ms < lost_ms <= at_ms for lost_ms in self.lost_at) and seed.random() < 0.5:
                epoch += 1
            message = MessageId(producer, number).packed
            self.message(producer, message, at_ms, epoch)
            number += 1 + (seed.randint(0, 2) if self.messy() else 0) * self.sparse
            at_ms += self.step_ms * slow * (0.01 if self.messy() else 1)
            at_ms += self.step_ms * 8 if self.troubled() else 0

    def message(self, producer: int, message: int, at_ms: float, epoch: int) -> None:
        seed = self.seed
        fate = "acked"
        if self.messy(2):
            fate = seed.choice(["refused", "unanswered", "unsent", "retried", "retried", "duplicate", "refused once"])
        copies: list[tuple[int, int]] = []  # (attempt, sequence) of each copy that the broker stored
        sequence = self.next_sequence()
        attempts = {
            "acked": [Outcome.OK],
            "duplicate": [Outcome.OK],
            "refused": [Outcome.FAIL],
            "unanswered": [Outcome.INFO],
            "unsent": [None],
            "retried": [Outcome.INFO, seed.choice(list(Outcome))],
            "refused once": [seed.choice([Outcome.FAIL, None]), Outcome.OK, seed.choice([Outcome.OK, Outcome.INFO])],
        }[fate]
        for attempt, outcome in enumerate(attempts, 1):
            again = fate == "duplicate" or (attempt > 1 and seed.random() < 0.6)
            if not again and outcome is not Outcome.FAIL and outcome is not None:
                copies.append((attempt, sequence))
            self.attempt(producer, message, attempt, outcome, at_ms, epoch, sequence, again)
            at_ms += seed.choice([1, 20])
            if attempt < len(attempts) and self.messy():
                epoch += 1
            sequence = sequence if again else self.next_sequence()
        if fate == "refused" and self.messy():
            copies.append((1, sequence))
        for copy in copies[: 2 if self.messy(2) else 1]:
            for group in self.groups:
                self.deliver(message, copy, group, at_ms)

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence if self.numbered else 0

    def attempt(
        self,
        producer: int,
        message: int,
        attempt: int,
        outcome: Outcome | None,
        at_ms: float,
        epoch: int,
        sequence: int,
        duplicate: bool,
    ) -> None:
        seed = self.seed
        at_ns, unsent = int(at_ms * MS), outcome is None
        took_ns = 0 if unsent else seed.choice([1, 2, 5, seed.choice([60, 130]) if self.messy(3) else 10]) * MS
        by = self.acknowledged_by
        if self.messy():
            by = seed.choice(list(AcknowledgedBy))
        done = Outcome.FAIL if outcome is None else outcome
        self.add(
            "publications",
            client=producer,
            epoch=0 if unsent else epoch,
            message=message,
            attempt=attempt,
            intended_ns=at_ns - (0 if not self.messy() else MS),
            invoked_ns=at_ns,
            written_ns=NEVER,
            completed_ns=at_ns + took_ns if done is not Outcome.INFO or self.messy() else NEVER,
            outcome=done,
            acknowledged_by=by,
            broker_sequence=sequence if done is Outcome.OK and by else 0,
            duplicate=duplicate and done is Outcome.OK,
        )

    def deliver(self, message: int, copy: tuple[int, int], group: str, at_ms: float) -> None:
        """The receipts of one copy by one group."""
        seed = self.seed
        if self.messy():
            return
        at_ms += seed.choice([3, 8, self.step_ms - 1])
        if self.messy(2):
            at_ms += seed.choice([-10, -1, 50, 100, 400])
        for receipt in range(1 + (seed.choice([1, 1, 2]) if self.messy() else 0)):
            self.receipt(message, copy, group, at_ms, redelivered=receipt > 0 and seed.random() < 0.7)
            at_ms += seed.choice([0, 2, 30])

    def receipt(
        self, message: int, copy: tuple[int, int], group: str, at_ms: float, *, redelivered: bool, **changes: Any
    ) -> None:
        seed = self.seed
        mine = [c for place, c in enumerate(self.consumers) if self.groups[place % len(self.groups)] == group]
        # A group whose only consumer sits in another process of the same number is no trouble for any definition.
        client = seed.choice(mine or self.consumers)
        kind = seed.choice(list(AckKind)) if self.messy(0.5) else self.ack
        acks = kind is not AckKind.AUTOMATIC and not self.messy()
        settles = acks and kind is AckKind.CONFIRMED and not self.messy()
        received_ns = max(int(at_ms * MS), 2 * MS)
        acked_ns = received_ns + seed.choice([4, 6, self.step_ms * 2 if self.messy(3) else 5]) * MS
        handled_ns = acked_ns + seed.choice([-1, -1, 3]) * MS if self.mechanism and not self.messy() else NEVER
        self.add(
            "deliveries",
            **{
                "client": client,
                "epoch": 1 + sum(received_ns > lost_ms * MS for lost_ms in self.lost_at if self.mess),
                "group": self.word(group),
                "message": message,
                "attempt": copy[0],
                "broker_sequence": copy[1],
                "number": 1 + len(self.rows["deliveries"]),
                "redelivered": redelivered,
                "fetch_invoked_ns": received_ns - 2 * MS if self.pulled and not self.messy() else NEVER,
                "received_ns": received_ns,
                "handled_ns": handled_ns,
                "ack_kind": kind,
                "ack_invoked_ns": acked_ns if acks else NEVER,
                "settled_ns": acked_ns + MS if settles else NEVER,
                "settlement": Outcome.OK if settles else Outcome.INFO,
                **changes,
            },
        )

    def strange(self) -> None:
        """Deliveries of what is not ours."""
        seed = self.seed
        for _ in range(seed.randint(1, 2) if self.messy(3) else 0):
            known = self.rows["publications"]
            ours = seed.choice(known)["message"] if known else 5
            kind = seed.choice(["corrupt", "foreign", "both", "phantom", "phantom beside"])
            message = {"corrupt": 0, "phantom": MessageId(77, 1).packed, "phantom beside": ours + 999}.get(kind, ours)
            group = seed.choice(self.groups)
            corrupt, foreign = int(kind in ("corrupt", "both")), int(kind in ("foreign", "both"))
            at_ms = seed.randint(3, self.now_ms)
            self.receipt(message, (1, 0), group, at_ms, redelivered=False, corrupt=corrupt, foreign=foreign)

    # ---- what is left ------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        seed = self.seed
        received = {row["message"] for row in self.rows["deliveries"]}
        seen = set()
        for row in list(self.rows["publications"]):
            message = row["message"]
            if message in seen:
                continue
            seen.add(message)
            if self.messy():
                place = seed.choice(["owed", "stored", "dead-letter", "queue"])
                self.add("census", message=message, place=self.word(place), broker_sequence=row["broker_sequence"])
            if (message not in received and seed.random() < 0.3 * bool(self.mess)) or self.messy(0.3):
                place = seed.choice(["owed", "dead-letter", "stored"])
                self.add("census", message=message, place=self.word(place), broker_sequence=self.sequence)
            if self.messy():
                policies = seed.sample(["ttl", "max-length"], seed.choice([1, 1, 2]))
                for policy in policies:
                    self.add("dropped", message=message, policy=self.word(policy))
        if self.messy():
            self.add("census", message=MessageId(78, 2).packed, place=self.word("owed"))
        if self.messy():
            self.add("dropped", message=MessageId(78, 2).packed, policy=self.word("ttl"))

    def effects(self) -> None:
        if not self.mechanism:
            return
        messages = [row["message"] for row in self.rows["deliveries"] if not row["corrupt"] and not row["foreign"]]
        if self.messy():
            messages += [row["message"] for row in self.rows["publications"]]
        for order, message in enumerate(dict.fromkeys(messages)):
            if not self.messy():
                times = self.seed.choice([0, 2, 3]) if self.messy() else 1
                self.add("effects", message=message, count=times, first_ns=MS, last_ns=MS, order=order)

    def notes(self) -> None:
        """What clients and the runner noted of themselves."""
        seed = self.seed
        states = (
            "ticker-gap", "ticker-gap", "lost", "connected", "unanswered-end", "error:no responders", "cpu-steal",
            "unreachable", "lost:reset", "basic.cancel",
        )  # fmt: skip
        for _ in range(seed.randint(1, 6) if self.troubled(5) or self.messy() else 0):
            client = seed.choice([*self.producers, *self.consumers, NEVER])
            self.add(
                "health",
                time_ns=seed.randint(0, self.now_ms) * MS,
                client=client,
                member=self.word(seed.choice(["", f"client-{client}"])),
                state=self.word(seed.choice(states)),
                value=seed.choice([20, 240, 251, 400]) * MS,
                planned=seed.random() < 0.4,
            )

    # ---- terms -------------------------------------------------------------------------------------------------------

    def terms(self) -> Terms:
        seed, trouble = self.seed, self.troubled
        offered_hz = len(self.producers) * 1000 / self.step_ms
        told = terms(
            faults=tuple(dict.fromkeys(one.fault for one in self.injections)) or ("nothing",),
            acknowledged_by=self.acknowledged_by,
            ack=self.ack,
            pulled=self.pulled,
            ordered=seed.random() < 0.8,
            groups=self.groups,
            floor_hz=offered_hz / 2,
            offered_hz=offered_hz,
            at_risk_min=seed.choice([0, 1, 1, 3]),
            redelivery_horizon_s=seed.choice([0.05, 0.2]),
            silence_s=0.2,
            ack_wait_s=seed.choice([None, 0.0055, 0.05]),
            drain=seed.choice(["silence", "counters"]),
            effects_audited=bool(self.mechanism) and not trouble(),
            mechanism=self.mechanism,
            settings=seed.choice(
                [{}, {"prefetch": 2}, {"prefetch": 100, "confirm_timeout_s": 0.05}, {"confirm_timeout_s": 0.1}]
            ),
            injections=tuple(self.injections),
            claims=tuple(claim(name) for name in seed.sample(CLAIMABLE, seed.choice([0, 0, 1, 2]))),
            counters=self.counters() if seed.random() < 0.5 else (),
        )
        changes = {name: seed.choice(values) for name, values in TROUBLES.items() if trouble()}
        if self.messy():
            changes |= {"census_corrupt": seed.randint(0, 2), "census_foreign": seed.randint(0, 2)}
        return replace(told, **changes) if changes else told

    def counters(self) -> tuple[Any, ...]:
        """The broker's books: what clients wrote down, or nearly."""
        publications, deliveries = self.rows["publications"], self.rows["deliveries"]
        true = {
            "published": sum(row["outcome"] == Outcome.OK and not row["duplicate"] for row in publications),
            "delivered": len(deliveries),
            "acked": sum(row["ack_invoked_ns"] != NEVER for row in deliveries),
            "undelivered": 0,
            "unsettled": 0,
        }
        return tuple(
            counter(
                name,
                max(0, value + (self.seed.choice([-9, -1, 1, 9]) if self.troubled() else 0)),
                comparable=self.seed.random() < 0.9,
            )
            for name, value in true.items()
        )


CLAIMABLE = ("at_least_once", "at_most_once", "never_again", "publish_once", "ordered", "at_least_once_processed")
TROUBLES: dict[str, tuple[Any, ...]] = {
    "interrupted": ("Ctrl-C",),
    "truncated_journals": (("producer-1", "consumer-101"),),
    "recorded_by": ("somebody else",),
    "brokers_up": (False,),
    "drained": (False,),
    "drained_why_not": ("", "4 are left"),
    "whole_why_not": ("", "two replicas are missing"),
    "exhaustive": (False,),
    "exhaustive_why_not": ("", "it was cut off"),
    "silence_s": (0.0, 0.1),
    "silence_needed": (True,),
    "whole": (False,),
    "peers_all_proxy": (None, False),
    "proxy_trouble": ("a toxic was lost",),
    "floor_hz": (0.0, 1000.0),
    "offered_hz": (0.0, 1000.0),
    "faults": (("kill_leader", "pause_leader"), ("disk_full",)),
    "mechanism": ("", "ack_before_effect"),
    "groups": (("group", "nobody"), ()),
    "ticker_limit_ms": (10.0, 240.0, 251.0),
}
