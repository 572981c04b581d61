"""What did one client do? Its journal, read back and joined: each operation with its end, as columns.

*Journalled*: the records of one journal as they stand. A publication is a PUBLISH record and the CONFIRM that covers
its tag; a delivery is a DELIVER record and the HANDLED, ACK and SETTLED records of its number; a dequeue is a DEQUEUE
record and the DELIVER or EMPTY record that answers it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import Refused
from harness.history import journal as j
from harness.history.columns import NEVER
from harness.history.proceedings import CURE
from harness.operation import AckKind, AcknowledgedBy, Outcome

Array = NDArray[Any]

_X = [(f"x{place}", "u8") for place in range(5)]
_LAYOUTS = {
    j.MAGIC: np.dtype([*_X, ("epoch", "u2"), ("attempt", "u2"), ("code", "u2"), ("a", "u1"), ("kind", "u1")]),
    b"ASSAYJ01": np.dtype([("kind", "u1"), ("a", "u1"), ("epoch", "u2"), ("attempt", "u2"), ("code", "u2"), *_X]),
}
"""By the first bytes of a journal; the older one is that of runs which were recorded before."""


@dataclass(slots=True)
class Words:
    """The run's words, each once."""

    numbers: dict[str, int] = field(default_factory=lambda: {"": 0})

    def number(self, word: str) -> int:
        """Number of a word, new or known. Raises TypeError for what is none: it comes out of files."""
        if not isinstance(word, str):
            raise TypeError(f"{word!r} is no word")
        return self.numbers.setdefault(word, len(self.numbers))


@dataclass(slots=True)
class Journalled:
    """One client's journal, read."""

    path: Path
    client: int
    origin_ns: int
    handed: int
    records: Array
    words: Array
    truncated: bool


def read_journal(path: Path, words: Words) -> Journalled:
    """Read one journal. A record whose kind is 0 does not exist; what follows it was never written.

    Raises Refused where the file is no journal.
    """
    data = path.read_bytes()
    if len(data) < j.HEAD_SIZE:
        raise Refused(f"{path}: {len(data)} bytes are no journal (its head alone has {j.HEAD_SIZE})", cure=CURE)
    head = {word: int.from_bytes(data[at : at + 8], "little") for word, at in j.AT.items()}
    body = memoryview(data)[j.HEAD_SIZE :]
    whole = len(body) // j.RECORD_SIZE * j.RECORD_SIZE
    layout = _LAYOUTS.get(data[:8], _LAYOUTS[j.MAGIC])
    records = np.frombuffer(body[:whole], dtype=layout)
    missing = np.flatnonzero(records["kind"] == 0)
    end = int(missing[0]) if len(missing) else len(records)
    # A journal that was closed or killed is zero from its end on; anything else there means that its middle is gone.
    torn = bool(np.any(records["kind"][end:])) or len(body) != whole
    records = records[:end]
    torn = torn or _lacks(records, head)
    if np.any(records["kind"] > j.KIND_MAX):
        bad = int(np.flatnonzero(records["kind"] > j.KIND_MAX)[0])
        raise Refused(f"{path}: record {bad} has the unknown kind {records['kind'][bad]}", cure=CURE)
    known, text_at = [0], 0 if layout is _LAYOUTS[j.MAGIC] else 8
    for place in np.flatnonzero(records["kind"] == j.WORD):
        at = j.HEAD_SIZE + int(place) * j.RECORD_SIZE + text_at
        text = data[at : at + int(records["a"][place])].decode(errors="replace")
        known.append(words.number(text))
    if data[:8] not in _LAYOUTS and end:
        raise Refused(f"{path}: not a journal of this format", cure=CURE)
    table = np.asarray(known, dtype="u2")
    return Journalled(
        path=path,
        client=head["client"],
        origin_ns=head["origin_ns"],
        handed=head["handed"],
        records=records,
        words=table,
        truncated=torn,
    )


def _lacks(records: Array, head: dict[str, int]) -> bool:
    """Whether there are fewer records than the head has counted: a copy cut short ends like a journal that was closed.

    A record is written before it is counted, but for an attempt, which may be counted and not yet written.
    """
    kinds = np.bincount(records["kind"], minlength=j.KIND_MAX + 1)
    confirms = records[records["kind"] == j.CONFIRM]
    answered = int((confirms["x1"].astype("i8") - confirms["x0"].astype("i8") + 1).sum())
    return bool(
        len(records) < head["records"]
        or kinds[j.DELIVER] < head["received"]
        or kinds[j.PUBLISH] + kinds[j.UNSENT] < head["attempted"] - 1
        or answered < head["answered"]
    )


def of_kind(journal: Journalled, *kinds: int) -> Array:
    """The records of these kinds, in the order of writing."""
    return journal.records[np.isin(journal.records["kind"], kinds)]


def _time(journal: Journalled, raw: Array) -> Array:
    """Raw monotonic times as ns of the run; 0 is NEVER."""
    times = raw.astype("i8")
    return np.where(raw == 0, NEVER, times - journal.origin_ns)


def _word(journal: Journalled, codes: Array) -> Array:
    return np.asarray(journal.words[np.minimum(codes.astype("i8"), len(journal.words) - 1)])


def publications_of(journal: Journalled, confirms: bool) -> dict[str, Array]:
    """The publications of one client: its PUBLISH and UNSENT records, joined with CONFIRM and WRITTEN."""
    rows = of_kind(journal, j.PUBLISH, j.UNSENT)
    count = len(rows)
    unsent = rows["kind"] == j.UNSENT
    tag = np.where(unsent, 0, rows["x3"]).astype("i8")
    epoch = rows["epoch"].astype("i8")
    outcome = np.full(count, int(Outcome.INFO), "u1")
    completed = np.full(count, NEVER, "i8")
    sequence = np.zeros(count, "u8")
    duplicate = np.zeros(count, "u1")
    error = np.where(unsent, _word(journal, rows["code"]), 0).astype("u2")
    written = np.full(count, NEVER, "i8")
    outcome[unsent] = int(Outcome.FAIL)
    completed[unsent] = _time(journal, rows["x2"])[unsent]
    sent = np.flatnonzero(~unsent)
    if len(sent):
        # Tags rise within an epoch, so (epoch, tag) is sorted in the order of writing: one search joins them all.
        keys = (epoch[sent] << 40) | tag[sent]
        confirm = of_kind(journal, j.CONFIRM)
        if len(confirm):
            first, last = confirm["x0"].astype("i8"), confirm["x1"].astype("i8")
            lengths = np.maximum(last - first + 1, 0)
            if lengths.max() > count or lengths.sum() > 2 * count:
                raise Refused(f"{journal.path}: it answers more publishes than there are", cure=CURE)
            which = np.repeat(np.arange(len(confirm)), lengths)
            offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            wanted = (confirm["epoch"].astype("i8")[which] << 40) | (first[which] + offsets)
            places = np.searchsorted(keys, wanted)
            found = (places < len(keys)) & (keys[np.minimum(places, len(keys) - 1)] == wanted)
            # Written backwards, so that the first answer to a tag is the one that stays.
            places, which = places[found][::-1], which[found][::-1]
            at = sent[places]
            outcome[at] = confirm["a"][which] & 0x0F
            duplicate[at] = confirm["a"][which] >> 4
            completed[at] = _time(journal, confirm["x2"])[which]
            sequence[at] = confirm["x3"][which]
            error[at] = _word(journal, confirm["code"])[which]
        flushed = of_kind(journal, j.WRITTEN)
        if len(flushed):
            until_keys = (flushed["epoch"].astype("i8") << 40) | flushed["x0"].astype("i8")
            places = np.searchsorted(until_keys, keys)
            hit = places < len(flushed)
            hit &= (until_keys[np.minimum(places, len(flushed) - 1)] >> 40) == epoch[sent]
            written[sent[hit]] = _time(journal, flushed["x1"])[places[hit]]
        if not confirms:
            # The head counts calls that returned; only the last call of a killed client may be without an end.
            returned = np.arange(len(sent)) < journal.handed
            returned &= outcome[sent] == int(Outcome.INFO)
            at = sent[returned]
            outcome[at] = int(Outcome.OK)
            completed[at] = _time(journal, rows["x2"])[at]
    by = AcknowledgedBy.BROKER if confirms else AcknowledgedBy.NONE
    return {
        "client": np.full(count, journal.client, "u2"),
        "epoch": rows["epoch"],
        "route": np.where(unsent, _word(journal, rows["x4"]), _word(journal, rows["code"])),
        "message": rows["x0"],
        "attempt": rows["attempt"],
        "native_id": rows["a"],
        "intended_ns": _time(journal, rows["x1"]),
        "invoked_ns": _time(journal, rows["x2"]),
        "written_ns": written,
        "completed_ns": completed,
        "outcome": outcome,
        "acknowledged_by": np.full(count, int(by), "u1"),
        "broker_sequence": sequence,
        "duplicate": duplicate,
        "error": error,
    }


def deliveries_of(journal: Journalled, group: int, ack: AckKind) -> dict[str, Array]:
    """The deliveries of one client: its DELIVER records, joined with HANDLED, ACK and SETTLED by number."""
    rows = of_kind(journal, j.DELIVER)
    count = len(rows)
    number = rows["x4"].astype("i8")

    def joined(kind: int, values: str | None = None) -> tuple[Array, Array]:
        """(places, values) of records of a kind, by the delivery's number."""
        records = of_kind(journal, kind)
        places = np.searchsorted(number, records["x0"].astype("i8"))
        hit = (places < count) & (number[np.minimum(places, max(count - 1, 0))] == records["x0"].astype("i8"))
        chosen = _time(journal, records["x1"]) if values is None else records[values]
        return places[hit][::-1], chosen[hit][::-1]

    handled, invoked, settled = (np.full(count, NEVER, "i8") for _ in range(3))
    settlement = np.full(count, int(Outcome.INFO), "u1")
    if count:
        for column, kind in ((handled, j.HANDLED), (invoked, j.ACK), (settled, j.SETTLED)):
            places, times = joined(kind)
            column[places] = times
        places, outcomes = joined(j.SETTLED, "a")
        settlement[places] = outcomes
        settled[settlement != int(Outcome.OK)] = NEVER
    flags = rows["a"]
    pulled = (flags & j.PULLED) != 0
    return {
        "client": np.full(count, journal.client, "u2"),
        "epoch": rows["epoch"],
        "group": np.full(count, group, "u2"),
        "message": rows["x0"],
        "attempt": rows["attempt"],
        "number": rows["x4"],
        "broker_sequence": rows["x1"],
        "redelivered": (flags & j.REDELIVERED) != 0,
        "delivery_count": rows["code"],
        "fetch_invoked_ns": np.where(pulled, _time(journal, rows["x3"]), NEVER),
        "received_ns": _time(journal, rows["x2"]),
        "handled_ns": handled,
        "ack_kind": np.full(count, int(ack), "u1"),
        "ack_invoked_ns": invoked,
        "settled_ns": settled,
        "settlement": settlement,
        "corrupt": (flags & j.CORRUPT) != 0,
        "foreign": (flags & j.FOREIGN) != 0,
    }


def dequeues_of(journal: Journalled, group: int) -> dict[str, Array]:
    """The dequeues of one client: its DEQUEUE records, each with the delivery or the EMPTY record that names it."""
    rows = of_kind(journal, j.DEQUEUE)
    count = len(rows)
    outcome = np.full(count, int(Outcome.INFO), "u1")
    completed = np.full(count, NEVER, "i8")
    message, delivery = np.zeros(count, "u8"), np.zeros(count, "u4")
    redelivered, empty = np.zeros(count, np.bool_), np.zeros(count, np.bool_)

    def named(names: Array) -> tuple[Array, Array]:
        """(dequeues, records) of the records that name a dequeue; each dequeue is older than the next."""
        places = np.searchsorted(rows["x0"], names)
        records = np.flatnonzero(rows["x0"][np.minimum(places, count - 1)] == names)
        return places[records], records

    if count:
        pulled = of_kind(journal, j.DELIVER)
        pulled = pulled[(pulled["a"] & j.PULLED) != 0]
        at, which = named(pulled["x3"])
        brought = pulled[which]
        outcome[at] = int(Outcome.OK)
        completed[at] = _time(journal, brought["x2"])
        whole = (brought["a"] & (j.CORRUPT | j.FOREIGN)) == 0
        message[at] = np.where(whole, brought["x0"], 0)
        delivery[at] = brought["x4"]
        redelivered[at] = (brought["a"] & j.REDELIVERED) != 0
        denied = of_kind(journal, j.EMPTY)
        at, which = named(denied["x0"])
        outcome[at] = denied["a"][which]
        empty[at] = denied["a"][which] == int(Outcome.OK)
        completed[at] = _time(journal, denied["x1"][which])
    return {
        "client": np.full(count, journal.client, "u2"),
        "epoch": rows["epoch"],
        "group": np.full(count, group, "u2"),
        "message": message,
        "delivery": delivery,
        "redelivered": redelivered,
        "found_empty": empty,
        "invoked_ns": _time(journal, rows["x0"]),
        "completed_ns": completed,
        "outcome": outcome,
    }
