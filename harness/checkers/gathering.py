"""How are the sets of a history gathered? Chunk by chunk: what each row says is added to the flags of its message.

What cannot be said by flags is kept beside them, as little as it may be: the rows of deliveries that are of no message
of ours, a message's number in the broker as it was first told, when its first attempt was invoked and over which
connection. Deliveries are gathered after all publications.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.checkers import messages as flag
from harness.checkers.chunk_index import ChunkIndex
from harness.checkers.invocations import Invocations
from harness.checkers.lanes import Connections, Lanes, constant, starts_of
from harness.checkers.load import never_handed_over
from harness.checkers.places import NOWHERE, Places, ascending
from harness.history.columns import NEVER
from harness.history.history import Array, Columns, History
from harness.operation import AckKind, AcknowledgedBy, Outcome

PUBLICATION_COLUMNS = (
    "client",
    "epoch",
    "message",
    "attempt",
    "invoked_ns",
    "completed_ns",
    "outcome",
    "acknowledged_by",
    "broker_sequence",
    "duplicate",
)
DELIVERY_COLUMNS = (
    "client",
    "epoch",
    "group",
    "message",
    "attempt",
    "number",
    "broker_sequence",
    "redelivered",
    "received_ns",
    "ack_kind",
    "ack_invoked_ns",
    "corrupt",
    "foreign",
)
RETRY = np.dtype([("place", "i8"), ("attempt", "i8"), ("connection", "u4"), ("invoked_ns", "i8")])
SEEN, DONE = 1, 2
RUNS_MAX = 64
"""Parts, each of one connection, in which a chunk is gathered."""
LABELS = 1 << 16
"""Deliveries that are gathered at a time."""


@dataclass(slots=True)
class Gathering:
    """What was gathered so far.

    `flags`: of each message. `sequence`: its first known number in the broker, empty before there is one, 0 of what has
    none. `connection`: of the first attempt of each, 0 where it had none; `invoked`: in which order they were;
    `retries`: the others, by place and attempt. `apart`: places of messages with two numbers.
    `by_group`: where there may be several groups, SEEN and DONE of each message, by the group's word. `whole`:
    deliveries of messages of ours; `chunks`: where to look for them. `labels`: scratch, of 2 bytes a message, of who
    looks for repeats.
    """

    places: Places
    flags: Array
    connection: Array
    invoked: Invocations
    chunks: ChunkIndex
    labels: Array
    sequence: Array = field(default_factory=lambda: np.empty(0, np.uint32))
    retries: Array = field(default_factory=lambda: np.empty(0, RETRY))
    apart: list[Array] = field(default_factory=list)
    by_group: dict[int, Array] = field(default_factory=dict)
    strangers: list[Array] = field(default_factory=list)
    corrupt: list[Array] = field(default_factory=list)
    foreign: list[Array] = field(default_factory=list)
    whole: int = 0
    producers: Connections = field(default_factory=lambda: Connections(zero=False))
    consumers: Connections = field(default_factory=lambda: Connections(zero=True))
    lanes: Lanes = field(default_factory=Lanes)
    _retries: list[Array] = field(default_factory=list)

    @classmethod
    def of(cls, history: History) -> Gathering:
        """Nothing yet."""
        publications, deliveries = history.publications, history.deliveries
        places = Places(lambda: (chunk.message for chunk in publications.chunks("message")))
        count = places.count
        return cls(
            places,
            np.zeros(count, np.uint16),
            np.zeros(count, np.uint8),
            Invocations(publications, places),
            chunks=ChunkIndex(count, deliveries.chunk_count, deliveries.chunk_rows),
            labels=np.empty(count, np.uint16),
        )

    def number(self, places: Array | slice, sequence: Array, *, once: bool) -> None:
        """Note what the broker called these messages (0: nothing), and which have another number already. `once`: no
        message is here twice, or it does not matter."""
        if not (most := int(sequence.max(initial=0))):
            return
        self.room_for(most)
        at = places if isinstance(places, slice) else stretch(places)
        before = self.sequence[at]
        # Where a message may be here twice, 0 must not be written over its number.
        if not before.any() and (isinstance(at, slice) or sequence.all()):
            self.sequence[at] = sequence
            if once:
                return
        known = np.flatnonzero(sequence)
        places, told = _all_of(places)[known], sequence[known].astype(self.sequence.dtype, copy=False)
        before = before[known]
        new = before == 0
        if new.any():
            self.sequence[places[new]] = told[new]
        differ = (before != told) & ~new if once else self.sequence[places] != told
        if differ.any():
            self.apart.append(places[differ])

    def connect(self, at: Array | slice, connection: Array | int) -> None:
        """Note over which connections some messages were published. Their numbers are of a byte as long as that is
        enough: what a message takes is what a large history takes in time, too."""
        self.room_for_connections()
        self.connection[at] = connection

    def room_for_connections(self) -> None:
        """Make `connection` able to hold the numbers of all producers' connections so far."""
        if len(self.producers.numbers) > np.iinfo(self.connection.dtype).max:
            self.connection = self.connection.astype(np.uint32)

    def room_for(self, most: int) -> None:
        """Make `sequence` able to hold numbers up to this, in 4 bytes each as long as that is enough."""
        if most and len(self.sequence) == 0:
            self.sequence = np.zeros(len(self.flags), np.uint32)
        if most > np.iinfo(np.uint32).max and self.sequence.dtype != np.uint64:
            self.sequence = self.sequence.astype(np.uint64)


def _all_of(places: Array | slice) -> Array:
    return np.arange(places.start, places.stop) if isinstance(places, slice) else places


def stretch(places: Array) -> Any:
    """These places as an index: a slice, where each is one more than the one before it."""
    if len(places) and int(places[-1]) - int(places[0]) == len(places) - 1 and ascending(places):
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


# ---- publications ----------------------------------------------------------------------------------------------------


def _said_by(code: int) -> int:
    ok, failed, by_broker, duplicate, unsent = (bool(code >> bit & 1) for bit in range(5))
    said = flag.ATTEMPTED
    said |= 0 if unsent else flag.INVOKED
    said |= 0 if failed else flag.NOT_FAILED
    if ok:
        said |= flag.ACKED if by_broker else flag.SENT
        said |= flag.CALLED_DUPLICATE if duplicate else flag.ORIGINAL
    return said


SAID_BY = np.array([_said_by(code) for code in range(32)], np.uint16)
"""What a publication says of its message, by the bits: OK, FAIL, confirmed by the broker, duplicate, unsent."""


def publications(gathering: Gathering, chunk: Columns) -> None:
    """Gather some publications."""
    if (connection := in_parts(gathering, chunk, publications)) is None:
        return
    places = gathering.places.of(chunk.message)
    at, once = stretch(places), ascending(places)
    ok = chunk.outcome == Outcome.OK
    original = ok & (chunk.duplicate == 0)
    code = ok.view(np.uint8) | ((chunk.outcome == Outcome.FAIL).view(np.uint8) << 1)
    code |= (chunk.acknowledged_by == AcknowledgedBy.BROKER).view(np.uint8) << 2
    code |= (chunk.duplicate != 0).view(np.uint8) << 3
    code |= never_handed_over(chunk).view(np.uint8) << 4
    if once:
        gathering.flags[at] |= SAID_BY.take(code)
    else:
        np.bitwise_or.at(gathering.flags, places, SAID_BY.take(code))
    sequence = chunk.broker_sequence if original.all() else np.where(original, chunk.broker_sequence, 0)
    gathering.number(places, sequence, once=once)
    gathering.invoked.note(chunk, connection)
    first = chunk.attempt == 1
    if first.all():
        gathering.connect(at, connection)
        return
    gathering.connect(places[first], connection[first])
    rows = np.flatnonzero(~first)
    retries = np.empty(len(rows), RETRY)
    retries["place"], retries["attempt"] = places[rows], chunk.attempt[rows]
    retries["connection"], retries["invoked_ns"] = connection[rows], chunk.invoked_ns[rows]
    gathering._retries.append(retries)


def in_parts(gathering: Gathering, chunk: Columns, gather: Callable[[Gathering, Columns], None]) -> Array | None:
    """Gather publications that are alike, or a few connections', each of these by `gather`. What is neither is left:
    the connection of each of its rows."""
    if alike(gathering, chunk):
        return None
    connection = gathering.producers.of(chunk)
    starts = starts_of(connection)
    if not 1 < len(starts) <= RUNS_MAX:
        return connection
    for part in chunk.parts(starts):
        gather(gathering, part)
    return None


def alike(gathering: Gathering, chunk: Columns) -> bool:
    """Gather what a healthy client publishes: one message after another, all first attempts, all ended alike. Whether
    it is that."""
    same = ("client", "epoch", "attempt", "outcome", "acknowledged_by", "duplicate")
    if not all(constant(chunk[name]) for name in same) or chunk.attempt[0] != 1 or chunk.outcome[0] == Outcome.FAIL:
        return False
    if gathering.places.sparse or int(chunk.message[-1]) - int(chunk.message[0]) != chunk.rows - 1:
        return False
    if not gathering.places.ascend(chunk.first, chunk.rows) and not ascending(chunk.message):
        return False
    first = int(gathering.places.of(chunk.message[:1])[0])
    ok, by_broker, duplicate = (
        int(one)
        for one in (
            chunk.outcome[0] == Outcome.OK,
            chunk.acknowledged_by[0] == AcknowledgedBy.BROKER,
            chunk.duplicate[0] != 0,
        )
    )
    at = slice(first, first + chunk.rows)
    gathering.flags[at] |= SAID_BY[ok | by_broker << 2 | duplicate << 3]
    connection = gathering.producers.one(chunk.client[0], chunk.epoch[0])
    gathering.connect(at, connection)
    gathering.invoked.note(chunk, connection)
    if ok and not duplicate:
        gathering.number(at, chunk.broker_sequence, once=True)
    return True


def all_published(gathering: Gathering) -> None:
    """After the last publications: retries are looked up from now on."""
    gathering.room_for_connections()
    if gathering._retries:
        retries = np.concatenate(gathering._retries)
        gathering.retries = retries[np.argsort(_keys(retries["place"], retries["attempt"]), kind="stable")]
        gathering._retries.clear()


def _keys(place: Array, attempt: Array) -> Array:
    return np.asarray((place.astype(np.int64) << 16) | attempt)


# ---- deliveries ------------------------------------------------------------------------------------------------------


def known(gathering: Gathering, ids: Array) -> Array:
    """The place of each id of which some attempt was invoked; NOWHERE of the others."""
    places = gathering.places.of(ids)
    if len(gathering.flags):
        invoked = (gathering.flags[places] & flag.INVOKED) != 0
        if not invoked.all():
            places[~invoked] = NOWHERE
    return places


def whole(gathering: Gathering, chunk: Columns) -> tuple[Array, Array]:
    """Which deliveries are whole, of this run, and of a message of ours, and the place of each of those."""
    places = known(gathering, chunk.message)
    mask = (places != NOWHERE) & (chunk.corrupt == 0) & (chunk.foreign == 0)
    return mask, places if mask.all() else places[mask]


def deliveries(gathering: Gathering, chunk: Columns) -> None:
    """Gather some deliveries."""
    if chunk.rows > LABELS:
        for part in chunk.parts(np.arange(0, chunk.rows, LABELS)):
            deliveries(gathering, part)
        return
    mask, places = whole(gathering, chunk)
    rows = np.arange(chunk.first, chunk.first + chunk.rows)
    if len(places) < chunk.rows:
        corrupt = chunk.corrupt != 0
        foreign = (chunk.foreign != 0) & ~corrupt
        gathering.corrupt.append(rows[corrupt])
        gathering.foreign.append(rows[foreign])
        gathering.strangers.append(rows[~mask & ~corrupt & ~foreign])
        chosen = np.flatnonzero(mask)
        chunk = Columns(chunk.name, {name: chunk[name][chosen] for name in chunk}, len(chosen), chunk.first)
        rows = rows[chosen]
    if len(rows) == 0:
        return
    gathering.whole += len(rows)
    gathering.chunks.note(chunk.first, places)
    done = (chunk.ack_kind == AckKind.AUTOMATIC) | (chunk.ack_invoked_ns != NEVER)
    for word, state in gathering.by_group.items():
        own = chunk.group == word
        _note_repeated(gathering, places[own], state, SEEN)
        state[places[own]] |= SEEN
        state[places[own & done]] |= DONE
    if not gathering.by_group:
        _note_repeated(gathering, places, gathering.flags, flag.RECEIVED)
    # One flag for all: it does not matter where a message is here twice.
    if done.all():
        gathering.flags[places] |= flag.RECEIVED | flag.DISCHARGED
    else:
        gathering.flags[places] |= flag.RECEIVED
        gathering.flags[places[done]] |= flag.DISCHARGED
    gathering.number(places, chunk.broker_sequence, once=True)  # of two deliveries, who asks looks at the rows
    gathering.lanes.look_for_disorder(gathering.consumers.of(chunk), chunk.received_ns, chunk.number)
    feed(gathering, gathering.lanes, chunk, places, rows)


def _note_repeated(gathering: Gathering, places: Array, state: Array, bit: int) -> None:
    """Flag the messages that a group received more than once: whose state says so by a bit, or which are here twice."""
    again = (state[places] & bit) != 0
    if not ascending(places):
        # Each writes its label, and then reads it: where it finds another one, a later one is of the same message.
        label = np.arange(len(places), dtype=np.uint16)
        gathering.labels[places] = label
        again |= gathering.labels[places] != label
    if again.any():
        gathering.flags[places[again]] |= flag.REPEATED


def again(places: Array, seen: Array) -> Array:
    """The places among these that were seen before, as `seen` says of each, or are here twice."""
    if ascending(places):
        return places[seen]
    in_order = np.sort(places)
    return np.concatenate([places[seen], in_order[1:][in_order[1:] == in_order[:-1]]])


def feed(gathering: Gathering, lanes: Lanes, chunk: Columns, places: Array, rows: Array) -> None:
    """Feed the deliveries that are under a contract of order to the lanes; `rows`: their numbers in the table."""
    if not len(rows):
        return
    lane, invoked, eligible = under_contract(gathering, lanes, chunk, places)
    if len(lane) == len(rows):
        lanes.feed(lane, invoked, rows, places)
    else:
        at = np.flatnonzero(eligible)
        lanes.feed(lane, invoked, rows[at], places[at])


def under_contract(gathering: Gathering, lanes: Lanes, chunk: Columns, places: Array) -> tuple[Array, Array, Array]:
    """(lane, when the publication was invoked as harness/checkers/invocations.py tells it) of each delivery whose order
    is contracted, and which those are: not flagged as redelivered, of an attempt that was published over some
    connection."""
    published = gathering.connection[places]
    invoked = gathering.invoked.of(places)
    retried = np.flatnonzero(chunk.attempt != 1)
    if len(retried):
        published[retried] = 0
        if len(gathering.retries):
            keys = _keys(gathering.retries["place"], gathering.retries["attempt"])
            wanted = _keys(places[retried], chunk.attempt[retried])
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found = np.flatnonzero(keys[at] == wanted)
            published[retried[found]] = gathering.retries["connection"][at[found]]
            invoked[retried[found]] = gathering.retries["invoked_ns"][at[found]]
    delivered = gathering.consumers.of(chunk)
    eligible = (chunk.redelivered == 0) & (published != 0)
    if not eligible.all():
        published, delivered, invoked = published[eligible], delivered[eligible], invoked[eligible]
    return lanes.of(published, delivered), invoked, eligible
