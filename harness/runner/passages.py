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


def publishes_ns(journals: Mapping[str, Path], since_ns: int, until_ns: int) -> dict[str, int]:
    """Of each producer, by name, its quickest passage of those that began and were over between these moments, in ns;
    one that had none is left out."""
    quickest = {}
    for name, path in journals.items():
        told = publications_of(_read(path), confirms=True)
        invoked_ns, answered_ns = told["invoked_ns"], told["completed_ns"]
        over = (told["outcome"] == Outcome.OK) & (answered_ns != NEVER) & (answered_ns <= until_ns)
        quickest[name] = answered_ns[over & (invoked_ns >= since_ns)] - invoked_ns[over & (invoked_ns >= since_ns)]
    return _least(quickest)


def deliveries_ns(
    journals: Mapping[str, Path], producers: Sequence[Path], since_ns: int, until_ns: int
) -> dict[str, int]:
    """As `publishes_ns`, of each consumer: of messages that these producers had not published before `since_ns`."""
    told = [publications_of(_read(path), confirms=True) for path in producers]
    message: Any = np.concatenate([np.zeros(0, np.uint64), *(one["message"] for one in told)])
    invoked_ns: Times = np.concatenate([np.zeros(0, np.int64), *(one["invoked_ns"] for one in told)])
    order = np.lexsort((invoked_ns, message))
    message, invoked_ns = message[order], invoked_ns[order]
    sent, first = np.unique(message, return_index=True)
    last = np.append(first[1:], len(message)) - 1
    quickest = {}
    for name, path in journals.items():
        got = deliveries_of(_read(path), 0, AckKind.SENT)
        place = np.searchsorted(sent, got["message"])
        known = place < len(sent)
        known[known] = sent[place[known]] == got["message"][known]
        place, received_ns = place[known], got["received_ns"][known]
        # Of which attempt a copy came nobody knows: of the last one, if that had been made by then.
        passages = received_ns - invoked_ns[last[place]]
        over = (invoked_ns[first[place]] >= since_ns) & (received_ns <= until_ns) & (passages >= 0)
        quickest[name] = passages[over]
    return _least(quickest)


def _read(path: Path) -> Journalled:
    return read_journal(path, Words())


def _least(passages: Mapping[str, Times]) -> dict[str, int]:
    return {name: int(times_ns.min()) for name, times_ns in passages.items() if len(times_ns)}
