"""How long were messages on their way? Read from the clients' journals, while they write them.

*Passage*: of a producer, from the call of a publish to its answer; of a consumer, from the call that published a
message to its receipt. All clocks are one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.history.columns import NEVER
from harness.history.join import Journalled, Words, deliveries_of, publications_of, read_journal
from harness.operation import AckKind, Outcome

Times = NDArray[np.int64]


def publishes_ns(journals: Mapping[str, Path], since_ns: int, until_ns: int, least: int = 1) -> dict[str, int]:
    """Of each producer, by name, its quickest passage of those that began and were over between these moments, in ns;
    one that had less than `least` is left out."""
    quickest = {}
    for name, path in journals.items():
        told = publications_of(_read(path), confirms=True)
        invoked_ns, answered_ns = told["invoked_ns"], told["completed_ns"]
        over = (told["outcome"] == Outcome.OK) & (answered_ns != NEVER) & (answered_ns <= until_ns)
        over &= invoked_ns >= since_ns
        quickest[name] = answered_ns[over] - invoked_ns[over]
    return _least(quickest, least)


def deliveries_ns(
    journals: Mapping[str, Path], producers: Sequence[Path], since_ns: int, until_ns: int, least: int = 1
) -> dict[str, int]:
    """As `publishes_ns`, of each consumer: of the attempts that these producers made."""
    told = [publications_of(_read(path), confirms=True) for path in producers]
    message: Any = np.concatenate([np.zeros(0, np.uint64), *(one["message"] for one in told)])
    attempt: Any = np.concatenate([np.zeros(0, np.uint16), *(one["attempt"] for one in told)])
    invoked_ns: Times = np.concatenate([np.zeros(0, np.int64), *(one["invoked_ns"] for one in told)])
    messages = np.unique(message)
    sent = _attempts(messages, message, attempt)
    order = np.argsort(sent, kind="stable")
    sent, invoked_ns = sent[order], invoked_ns[order]
    quickest = {}
    for name, path in journals.items():
        got = deliveries_of(_read(path), 0, AckKind.SENT)
        came = _attempts(messages, got["message"], got["attempt"])
        place = np.searchsorted(sent, came)
        known = (came >= 0) & (place < len(sent))
        known[known] = sent[place[known]] == came[known]
        begun_ns, received_ns = invoked_ns[place[known]], got["received_ns"][known]
        over = (begun_ns >= since_ns) & (received_ns >= begun_ns) & (received_ns <= until_ns)
        quickest[name] = received_ns[over] - begun_ns[over]
    return _least(quickest, least)


def _attempts(messages: Any, message: Any, attempt: Any) -> Times:
    """A number of each attempt; -1 of those of other messages."""
    if not len(messages):
        return np.full(len(message), -1)
    place = np.minimum(np.searchsorted(messages, message), len(messages) - 1)
    return np.where(messages[place] == message, place << 16 | attempt.astype(np.int64), -1)


def _read(path: Path) -> Journalled:
    """What stood there when it was read first. A record that is being written may be read in half, and only once it is
    seen to be there is all of it."""
    there = len(read_journal(path, Words()).records)
    journal = read_journal(path, Words())
    journal.records = journal.records[:there]
    return journal


def _least(passages: Mapping[str, Times], least: int) -> dict[str, int]:
    return {name: int(times_ns.min()) for name, times_ns in passages.items() if len(times_ns) >= max(1, least)}
