"""Did each crash land where it was asked for, and did the broker receive what its stage says?

A crash point is only worth its name if the broker's side agrees. What is comparable, of the one message in hand:

    point                        stage              what must be seen of it
    before-publish               -                  nobody ever receives it, and the broker does not hold it
    between-publish-and-confirm  handed             the same: the frame died in the client's buffer
    between-publish-and-confirm  written            somebody receives it, or the broker holds it
    after-receive                -                  it comes again, for nobody acknowledged it
    between-ack-and-effect       handed             it comes again: the acknowledgement died in the buffer
    between-ack-and-effect       written, answered  it never comes again
    between-effect-and-ack       -, handed          it comes again
    between-ack-and-confirm      handed             it comes again
    between-ack-and-confirm      written            it never comes again

"Comes again": delivered after the crash, or still owed when the auditor reads what is left. (Whoever received it before
and died is no witness; nor is a stream, which stores what it owes to nobody any more.) A run that was cut short, and so
never drained and read, compares nothing.
Under automatic acknowledgement nothing comes again, whatever a client does, so consumers' points compare nothing there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from harness import CrashPoint, Run

LANDED_MIN = 0.99
"""The part of the tries that must land at their point, and agree with the broker."""

_REACHES = {
    (CrashPoint.BEFORE_PUBLISH, ""): False,
    (CrashPoint.BETWEEN_PUBLISH_AND_CONFIRM, "handed"): False,
    (CrashPoint.BETWEEN_PUBLISH_AND_CONFIRM, "written"): True,
}
_COMES_AGAIN = {
    (CrashPoint.AFTER_RECEIVE, ""): True,
    (CrashPoint.BETWEEN_ACK_AND_EFFECT, "handed"): True,
    (CrashPoint.BETWEEN_ACK_AND_EFFECT, "written"): False,
    (CrashPoint.BETWEEN_ACK_AND_EFFECT, "answered"): False,
    (CrashPoint.BETWEEN_EFFECT_AND_ACK, ""): True,
    (CrashPoint.BETWEEN_EFFECT_AND_ACK, "handed"): True,
    (CrashPoint.BETWEEN_ACK_AND_CONFIRM, "handed"): True,
    (CrashPoint.BETWEEN_ACK_AND_CONFIRM, "written"): False,
}


@dataclass(frozen=True, slots=True)
class Tries:
    """All crashes of one run: how many were tried, landed at their point, and agree with the broker; `why`: of those
    that did not land, the reason; `against`: of those that do not agree, "stage of message: what was seen"."""

    tried: int
    landed: int
    agreeing: int
    stages: dict[str, int]
    why: tuple[str, ...]
    against: tuple[str, ...]

    def __str__(self) -> str:
        stages = ", ".join(f"{count} {stage or 'without a send'}" for stage, count in sorted(self.stages.items()))
        said = (
            f"{self.landed} of {self.tried} landed ({stages}), {self.agreeing} of {self.landed} agree with the broker"
        )
        return "; ".join([said, *self.why, *self.against])


def tries(run: Run) -> Tries:
    """The crashes of a run, against what the broker delivered and held."""
    history = run.history
    assert not history.terms.interrupted, history.terms.interrupted
    deliveries, names = history.deliveries, {int(n): history.word(w) for n, w in _names(run)}
    received: dict[int, list[tuple[int, str]]] = {}
    columns = (deliveries.message.tolist(), deliveries.received_ns.tolist(), deliveries.client.tolist())
    for message, received_ns, client in zip(*columns, strict=True):
        received.setdefault(message, []).append((received_ns, names[client]))
    census, stored = history.census, history.word_number("stored")
    held, owed = set(census.message.tolist()), set(census.message[census.place != stored].tolist())
    stages: Counter[str] = Counter()
    why, against = [], []
    for injection in history.terms.injections:
        if injection.bit_ns is None:
            why.append(str(injection.why_not))
            continue
        point, stage = CrashPoint(str(injection.facts["crash_point"])), str(injection.facts["stage"])
        producer, _, sequence = str(injection.facts["message"]).partition(":")
        message = int(producer) << 40 | int(sequence)
        stages[stage] += 1
        # A consumer that died has received nothing since; a message of a producer that died may have come before.
        again = (point, stage) in _COMES_AGAIN
        since_ns, there = (injection.bit_ns, owed) if again else (0, held)
        others = [name for received_ns, name in received.get(message, ()) if received_ns >= since_ns]
        expected = (_COMES_AGAIN if again else _REACHES)[point, stage]
        if (bool(others) or message in there) is not expected:
            where = f"received by {', '.join(others) or 'nobody'}, {'' if message in there else 'not '}held"
            against.append(f"{stage or point} of {injection.facts['message']}: {where}")
    landed = sum(stages.values())
    return Tries(len(history.terms.injections), landed, landed - len(against), dict(stages), tuple(why), tuple(against))


def _names(run: Run) -> list[tuple[int, int]]:
    clients = run.history.clients
    return list(zip(clients.client.tolist(), clients["name"].tolist(), strict=True))


def must_land(run: Run) -> None:
    """At least 99 of 100 tries landed at their point, as the journals show, and the broker agrees with as many."""
    found = tries(run)
    print(f"\n{run.history.terms.cell}: {found}")
    assert found.tried
    assert found.landed >= LANDED_MIN * found.tried, str(found)
    assert found.agreeing >= LANDED_MIN * found.tried, str(found)
