"""The check that is timed, in plain Python: one pass over dictionaries, from the definitions, sharing no code with it.

It knows what harness/bench/synthetic.py can plant: one group, no census, no effects.
"""

from __future__ import annotations

from harness.history.columns import NEVER
from harness.history.history import History
from harness.operation import AckKind, AcknowledgedBy, Outcome


def plainly(history: History) -> dict[str, set[int]]:
    """The packed ids of the messages that each anomaly befell, by its name."""
    publications, deliveries = history.publications, history.deliveries
    acked: set[int] = set()
    perhaps: set[int] = set()
    invoked: dict[int, tuple[int, int, int]] = {}
    sequences: dict[int, set[int]] = {}
    for message, client, epoch, invoked_ns, outcome, by, sequence in zip(
        *(
            publications[name].tolist()
            for name in ("message", "client", "epoch", "invoked_ns", "outcome", "acknowledged_by", "broker_sequence")
        ),
        strict=True,
    ):
        invoked[message] = client, epoch, invoked_ns
        if outcome == Outcome.OK:
            sequences.setdefault(message, set()).add(sequence)
            if by == AcknowledgedBy.BROKER:
                acked.add(message)
        if outcome != Outcome.FAIL:
            perhaps.add(message)
    discharged: set[int] = set()
    received: dict[int, int] = {}
    unflagged: dict[int, int] = {}
    latest_ns: dict[tuple[int, ...], int] = {}
    brought: dict[int, set[tuple[int, ...]]] = {}
    reordered: set[int] = set()
    for message, client, epoch, sequence, redelivered, ack_kind, ack_ns, corrupt, foreign in zip(
        *(
            deliveries[name].tolist()
            for name in (
                "message",
                "client",
                "epoch",
                "broker_sequence",
                "redelivered",
                "ack_kind",
                "ack_invoked_ns",
                "corrupt",
                "foreign",
            )
        ),
        strict=True,
    ):
        if corrupt or foreign or message not in invoked:
            continue
        received[message] = received.get(message, 0) + 1
        sequences.setdefault(message, set()).add(sequence)
        if ack_kind == AckKind.AUTOMATIC or ack_ns != NEVER:
            discharged.add(message)
        if redelivered:
            continue
        unflagged[message] = unflagged.get(message, 0) + 1
        publisher, connection, invoked_ns = invoked[message]
        lane = publisher, connection, client, epoch
        lanes = brought.setdefault(message, set())
        if lane not in lanes and invoked_ns < latest_ns.get(lane, NEVER):
            reordered.add(message)
        lanes.add(lane)
        latest_ns[lane] = max(latest_ns.get(lane, NEVER), invoked_ns)
    return {
        "lost": acked - discharged,
        "duplicate_delivery": {message for message, times in received.items() if times > 1},
        "unflagged_redelivery": {message for message, times in unflagged.items() if times > 1},
        "duplicate_publish": {message for message, told in sequences.items() if len(told - {0}) > 1},
        "visible_failure": received.keys() - perhaps,
        "reordered": reordered,
    }
