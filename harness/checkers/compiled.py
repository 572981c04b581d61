"""The same gathering, compiled: what harness/checkers/gathering.py does in numpy with a chunk, done row by row.

The extra `fast` brings numba, which is imported when a history is so large that this pays. Only what is common is
compiled: chunks of first attempts, in one group, with dense ids. Any other chunk is left to numpy, and both change the
same arrays in the same way, so that a history may be gathered by turns.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types

from harness.checkers import messages as flag
from harness.checkers.gathering import Gathering
from harness.checkers.gathering import deliveries as deliveries_in_numpy
from harness.checkers.gathering import publications as publications_in_numpy
from harness.checkers.lanes import KEPT, LATEST, NUMBER, RECEIVED
from harness.history.columns import NEVER
from harness.history.history import Array, Columns
from harness.operation import SEQUENCE_BITS, SEQUENCE_MAX, AckKind, AcknowledgedBy, Outcome

_OK, _FAIL, _BROKER, _AUTOMATIC = (
    int(one) for one in (Outcome.OK, Outcome.FAIL, AcknowledgedBy.BROKER, AckKind.AUTOMATIC)
)
_BLOCK = 1024
_STRANGER, _APART, _SUSPECT, _OVERTAKEN = 1, 2, 4, 8
_SAID_RECEIVED, _SAID_DISCHARGED = np.uint16(flag.RECEIVED), np.uint16(flag.RECEIVED | flag.DISCHARGED)
_INVOKED = np.uint16(flag.INVOKED)
_ATTEMPTED, _NOT_FAILED = np.uint16(flag.ATTEMPTED), np.uint16(flag.NOT_FAILED)
_ACKED, _SENT = np.uint16(flag.ACKED), np.uint16(flag.SENT)
_ORIGINAL, _CALLED = np.uint16(flag.ORIGINAL), np.uint16(flag.CALLED_DUPLICATE)


def publications(gathering: Gathering, chunk: Columns) -> None:
    """As `gathering.publications`."""
    if gathering.places.sparse or not (chunk.attempt == 1).all():
        publications_in_numpy(gathering, chunk)
        return
    gathering.room_for(chunk.broker_sequence)
    odd = np.zeros(chunk.rows, np.uint8)
    connection = gathering.producers.of(chunk)
    _publications(
        *gathering.places.extents,
        *_plain(chunk, "message", "invoked_ns", "completed_ns", "outcome", "acknowledged_by", "duplicate"),
        *_plain(chunk, "broker_sequence"),
        np.ascontiguousarray(connection),
        gathering.flags,
        gathering.sequence,
        gathering.connection,
        gathering.invoked_ns,
        odd,
    )
    _note_apart(gathering, chunk, odd)


def deliveries(gathering: Gathering, chunk: Columns) -> None:
    """As `gathering.deliveries`."""
    lanes = gathering.lanes
    delivered = gathering.consumers.of(chunk)
    wide = lanes.widen(len(gathering.producers.numbers) + 1, len(gathering.consumers.numbers) + 1)
    if (
        gathering.places.sparse
        or gathering.by_group
        or not wide
        or not (chunk.attempt == 1).all()
        or chunk.corrupt.any()
        or chunk.foreign.any()
    ):
        deliveries_in_numpy(gathering, chunk)
        return
    gathering.room_for(chunk.broker_sequence)
    odd = np.zeros(chunk.rows, np.uint8)
    delivered = np.ascontiguousarray(delivered)
    columns = _plain(
        chunk, "message", "received_ns", "ack_invoked_ns", "ack_kind", "redelivered", "number", "broker_sequence"
    )
    done, ordered = 0, True
    while True:
        # It stops where a lane is met that has no number yet.
        done, publisher, sorted_ = _deliveries(
            done,
            *gathering.places.extents,
            *columns,
            delivered,
            gathering.flags,
            gathering.sequence,
            gathering.connection,
            gathering.invoked_ns,
            lanes.table,
            lanes.state,
            odd,
        )
        ordered &= sorted_
        if done == chunk.rows:
            break
        lanes.admit(publisher, int(delivered[done]))
    lanes.unsorted |= not ordered
    strangers = np.flatnonzero(odd & _STRANGER)
    gathering.strangers.append(strangers + chunk.first)
    gathering.whole += chunk.rows - len(strangers)
    _note_apart(gathering, chunk, odd)
    if len(suspects := np.flatnonzero(odd & _SUSPECT)):
        places = gathering.places.of(chunk.message[suspects])
        lane = lanes.table[gathering.connection[places], delivered[suspects]].astype(np.int64)
        lanes.suspect(suspects + chunk.first, places, lane, (odd[suspects] & _OVERTAKEN) != 0)


def _note_apart(gathering: Gathering, chunk: Columns, odd: Array) -> None:
    if len(apart := np.flatnonzero(odd & _APART)):
        gathering.apart.append(gathering.places.of(chunk.message[apart]))


def _plain(chunk: Columns, *columns: str) -> list[Array]:
    plain = [np.ascontiguousarray(chunk[name]) for name in columns]
    return [array.view(np.int64) if array.dtype == np.uint64 else array for array in plain]


def _read(type_: Any) -> Any:
    return types.Array(type_, 1, "C", readonly=True)


def _written(type_: Any, dimensions: int = 1) -> Any:
    return types.Array(type_, dimensions, "C")


def _compiled(*signatures: Any) -> Any:
    """As `numba.njit` for these arguments, kept for the next process where there is a place for it."""

    def compile_(function: Any) -> Any:
        try:
            return numba.njit(list(signatures), cache=True)(function)
        except RuntimeError:  # no directory to keep it in
            return numba.njit(list(signatures))(function)

    return compile_


_LONGS, _SHORTS, _BYTES = _read(types.int64), _read(types.uint32), _read(types.uint8)
_EXTENTS = (_LONGS, _LONGS, _LONGS)


@_compiled(  # type: ignore[untyped-decorator]
    *(
        types.void(
            *_EXTENTS,
            *(_LONGS, _LONGS, _LONGS, _BYTES, _BYTES, _BYTES, _LONGS, _SHORTS),
            *(_written(types.uint16), _written(number), _written(types.uint32), _written(types.int64)),
            _written(types.uint8),
        )
        for number in (types.uint32, types.uint64)
    )
)
def _publications(
    low: Array,
    base: Array,
    size: Array,
    message: Array,
    invoked_ns: Array,
    completed_ns: Array,
    outcome: Array,
    by: Array,
    duplicate: Array,
    sequence: Array,
    connection: Array,
    flags: Array,
    sequence_of: Array,
    connection_of: Array,
    invoked_of: Array,
    odd: Array,
) -> None:
    numbered = len(sequence_of) > 0
    for row in range(len(message)):
        producer = message[row] >> SEQUENCE_BITS
        place = base[producer] + (message[row] & SEQUENCE_MAX) - low[producer]
        said = _ATTEMPTED
        if outcome[row] != _FAIL:
            said |= _NOT_FAILED | _INVOKED
        elif invoked_ns[row] != completed_ns[row]:
            said |= _INVOKED
        if outcome[row] == _OK:
            said |= _ACKED if by[row] == _BROKER else _SENT
            said |= _ORIGINAL if duplicate[row] == 0 else _CALLED
            if numbered and duplicate[row] == 0 and sequence[row] != 0:
                if sequence_of[place] == 0:
                    sequence_of[place] = sequence[row]
                elif np.int64(sequence_of[place]) != sequence[row]:
                    odd[row] = _APART
        flags[place] |= said
        connection_of[place] = connection[row]
        invoked_of[place] = invoked_ns[row]


@_compiled(  # type: ignore[untyped-decorator]
    *(
        types.Tuple((types.int64, types.int64, types.boolean))(
            types.int64,
            *_EXTENTS,
            *(_LONGS, _LONGS, _LONGS, _BYTES, _BYTES, _SHORTS, _LONGS, _SHORTS),
            *(_written(types.uint16), _written(number), _written(types.uint32), _written(types.int64)),
            _written(types.int32, 2),
            _written(types.int64, 2),
            _written(types.uint8),
        )
        for number in (types.uint32, types.uint64)
    )
)
def _deliveries(
    begin: int,
    low: Array,
    base: Array,
    size: Array,
    message: Array,
    received_ns: Array,
    ack_invoked_ns: Array,
    ack_kind: Array,
    redelivered: Array,
    number: Array,
    sequence: Array,
    delivered: Array,
    flags: Array,
    sequence_of: Array,
    connection_of: Array,
    invoked_of: Array,
    lane_of: Array,
    state: Array,
    odd: Array,
) -> tuple[int, int, bool]:
    numbered = len(sequence_of) > 0
    ordered = True
    place_of = np.empty(_BLOCK, np.int64)
    # In blocks, one thing after another: more arrays at once than the cache has ways for would drive each other out.
    for block in range(begin, len(message), _BLOCK):
        end = min(block + _BLOCK, len(message))
        for row in range(block, end):
            place = np.int64(-1)
            producer = message[row] >> SEQUENCE_BITS
            if 0 <= producer < len(size):
                offset = (message[row] & SEQUENCE_MAX) - low[producer]
                if 0 <= offset < size[producer]:
                    place = base[producer] + offset
                    if flags[place] & _INVOKED == 0:
                        place = np.int64(-1)
            place_of[row - block] = place
            if place < 0:
                odd[row] = _STRANGER
                continue
            done = ack_kind[row] == _AUTOMATIC or ack_invoked_ns[row] != NEVER
            flags[place] |= _SAID_DISCHARGED if done else _SAID_RECEIVED
        if numbered:
            for row in range(block, end):
                place = place_of[row - block]
                if place < 0 or sequence[row] == 0:
                    continue
                if sequence_of[place] == 0:
                    sequence_of[place] = sequence[row]
                elif np.int64(sequence_of[place]) != sequence[row]:
                    odd[row] |= _APART
        for row in range(block, end):
            place = place_of[row - block]
            if place < 0 or redelivered[row] != 0 or connection_of[place] == 0:
                continue
            publisher = np.int64(connection_of[place])
            lane = lane_of[publisher, delivered[row]]
            if lane < 0:
                return row, int(publisher), ordered  # what was done of this block beyond it may be done again
            of = state[lane]
            received, counted = received_ns[row], np.int64(number[row])
            if received < of[RECEIVED] or (received == of[RECEIVED] and counted < of[NUMBER]):
                ordered = False
            of[RECEIVED] = received
            of[NUMBER] = counted
            of[KEPT] += 1
            invoked = invoked_of[place]
            if invoked > of[LATEST]:
                of[LATEST] = invoked
            else:
                odd[row] |= _SUSPECT
                if invoked < of[LATEST]:
                    odd[row] |= _OVERTAKEN
    return len(message), 0, ordered
