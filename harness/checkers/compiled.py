"""A history gathered by machine code: what harness/checkers/gathering.py does in numpy with a chunk, row by row.

The extra `fast` brings numba, which is imported when a history is so large that this pays. Only what is common is
compiled: chunks of first attempts, with dense ids, deliveries in one group. Any other chunk is left to numpy, and both
change the same arrays in the same way, so that a history may be gathered by turns.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba import types

from harness.checkers import messages as flag
from harness.checkers.gathering import SAID_BY, Gathering
from harness.checkers.gathering import deliveries as deliveries_in_numpy
from harness.checkers.gathering import publications as publications_in_numpy
from harness.checkers.lanes import KEPT, LATEST, constant, starts_of
from harness.history.columns import NEVER
from harness.history.history import Array, Columns
from harness.operation import SEQUENCE_BITS, SEQUENCE_MAX, AckKind, AcknowledgedBy, Outcome

_AUTOMATIC, _BROKER = int(AckKind.AUTOMATIC), int(AcknowledgedBy.BROKER)
_OK, _FAIL = int(Outcome.OK), int(Outcome.FAIL)
_BLOCK = 1024
_RUNS_MAX = 64
_STRANGER, _APART, _SUSPECT, _OVERTAKEN = 1, 2, 4, 8
_SAID_RECEIVED, _SAID_DISCHARGED = np.uint16(flag.RECEIVED), np.uint16(flag.RECEIVED | flag.DISCHARGED)
_INVOKED = np.uint16(flag.INVOKED)


def publications(gathering: Gathering, chunk: Columns) -> None:
    """As `gathering.publications`."""
    if gathering.places.sparse or not (chunk.attempt == 1).all():
        publications_in_numpy(gathering, chunk)
        return
    gathering.room_for(chunk.broker_sequence)
    connection = gathering.producers.of(chunk)
    low, base, _ = gathering.places.extents
    apart = np.zeros(chunk.rows, np.bool_)
    _publications(
        low,
        base,
        *_plain(chunk, "message", "invoked_ns", "completed_ns"),
        *_plain(chunk, "outcome", "acknowledged_by", "duplicate", "broker_sequence"),
        np.ascontiguousarray(connection[:1] if constant(connection) else connection),
        SAID_BY,  # not as a constant: what is kept of the machine code does not know of a change of it
        gathering.flags,
        gathering.sequence,
        gathering.connection,
        gathering.invoked_ns,
        apart,
    )
    if apart.any():
        gathering.apart.append(gathering.places.of(chunk.message[apart]))


def deliveries(gathering: Gathering, chunk: Columns) -> None:
    """As `gathering.deliveries`."""
    delivered = gathering.consumers.of(chunk)
    starts = starts_of(delivered)
    if 1 < len(starts) <= _RUNS_MAX:
        for begin, end in pairwise([*starts.tolist(), chunk.rows]):
            part = {name: chunk[name][begin:end] for name in chunk}
            deliveries(gathering, Columns(chunk.name, part, end - begin, chunk.first + begin))
        return
    lanes = gathering.lanes
    if (
        len(starts) > 1
        or gathering.places.sparse
        or gathering.by_group
        or not lanes.widen(len(gathering.producers.numbers) + 1, len(gathering.consumers.numbers) + 1)
        or not (chunk.attempt == 1).all()
        or chunk.corrupt.any()
        or chunk.foreign.any()
    ):
        deliveries_in_numpy(gathering, chunk)
        return
    lanes.look_for_disorder(delivered, chunk.received_ns, chunk.number)
    gathering.room_for(chunk.broker_sequence)
    odd = np.zeros(chunk.rows, np.uint8)
    columns = _plain(chunk, "message", "ack_invoked_ns", "ack_kind", "redelivered", "broker_sequence")
    consumer, done, publisher = int(delivered[0]), 0, 0
    while True:
        # It stops where a lane is met that has no number yet.
        done, publisher = _deliveries(
            done,
            *gathering.places.extents,
            *columns,
            gathering.flags,
            gathering.sequence,
            gathering.connection,
            gathering.invoked_ns,
            lanes.table[:, consumer].astype(np.int64),
            lanes.state,
            odd,
        )
        if done == chunk.rows:
            break
        lanes.admit(publisher, consumer)
    strangers = np.flatnonzero(odd & _STRANGER)
    gathering.strangers.append(strangers + chunk.first)
    gathering.whole += chunk.rows - len(strangers)
    if len(apart := np.flatnonzero(odd & _APART)):
        gathering.apart.append(gathering.places.of(chunk.message[apart]))
    if len(suspects := np.flatnonzero(odd & _SUSPECT)):
        places = gathering.places.of(chunk.message[suspects])
        lane = lanes.table[gathering.connection[places], consumer].astype(np.int64)
        lanes.suspect(suspects + chunk.first, places, lane, (odd[suspects] & _OVERTAKEN) != 0)


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


_LONGS, _BYTES = _read(types.int64), _read(types.uint8)


@_compiled(  # type: ignore[untyped-decorator]
    *(
        types.void(
            *(_LONGS, _LONGS),
            *(_LONGS, _LONGS, _LONGS, _BYTES, _BYTES, _BYTES, _LONGS),
            *(_read(types.uint32), _read(types.uint16)),
            *(_written(types.uint16), _written(number), _written(types.uint32), _written(types.int64)),
            _written(types.boolean),
        )
        for number in (types.uint32, types.uint64)
    )
)
def _publications(
    low: Array,
    base: Array,
    message: Array,
    invoked_ns: Array,
    completed_ns: Array,
    outcome: Array,
    acknowledged_by: Array,
    duplicate: Array,
    sequence: Array,
    connection: Array,
    said_by: Array,
    flags: Array,
    sequence_of: Array,
    connection_of: Array,
    invoked_of: Array,
    apart: Array,
) -> None:
    numbered, one = len(sequence_of) > 0, len(connection) == 1
    place_of = np.empty(_BLOCK, np.int64)
    for block in range(0, len(message), _BLOCK):
        end = min(block + _BLOCK, len(message))
        for row in range(block, end):
            producer = message[row] >> SEQUENCE_BITS
            place = base[producer] + (message[row] & SEQUENCE_MAX) - low[producer]
            place_of[row - block] = place
            failed = outcome[row] == _FAIL
            code = np.int64(outcome[row] == _OK) | np.int64(failed) << 1
            code |= np.int64(acknowledged_by[row] == _BROKER) << 2 | np.int64(duplicate[row] != 0) << 3
            code |= np.int64(failed and completed_ns[row] == invoked_ns[row]) << 4
            flags[place] |= said_by[code]
        if numbered:
            for row in range(block, end):
                if sequence[row] == 0 or outcome[row] != _OK or duplicate[row] != 0:
                    continue
                place = place_of[row - block]
                if sequence_of[place] == 0:
                    sequence_of[place] = sequence[row]
                elif np.int64(sequence_of[place]) != sequence[row]:
                    apart[row] = True
        for row in range(block, end):
            place = place_of[row - block]
            connection_of[place] = connection[0 if one else row]
            invoked_of[place] = invoked_ns[row]


@_compiled(  # type: ignore[untyped-decorator]
    *(
        types.UniTuple(types.int64, 2)(  # type: ignore[no-untyped-call]
            types.int64,
            *(_LONGS, _LONGS, _LONGS),
            *(_LONGS, _LONGS, _BYTES, _BYTES, _LONGS),
            *(_written(types.uint16), _written(number), _written(types.uint32), _written(types.int64)),
            _LONGS,
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
    ack_invoked_ns: Array,
    ack_kind: Array,
    redelivered: Array,
    sequence: Array,
    flags: Array,
    sequence_of: Array,
    connection_of: Array,
    invoked_of: Array,
    lane_of: Array,
    state: Array,
    odd: Array,
) -> tuple[int, int]:
    numbered = len(sequence_of) > 0
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
            lane = lane_of[publisher]
            if lane < 0:
                return row, int(publisher)  # what was done of this block beyond it may be done again
            invoked = invoked_of[place]
            state[lane, KEPT] += 1
            if invoked > state[lane, LATEST]:
                state[lane, LATEST] = invoked
            else:
                odd[row] |= _SUSPECT
                if invoked < state[lane, LATEST]:
                    odd[row] |= _OVERTAKEN
    return len(message), 0
