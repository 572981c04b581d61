"""A history gathered by machine code: what harness/checkers/gathering.py does in numpy with a chunk, row by row.

The extra `fast` brings numba, which is imported when a history is so large that this pays. Only what is common is
compiled: chunks of first attempts, with dense ids, deliveries in one group. Any other chunk is left to numpy, and both
change the same arrays in the same way, so that a history may be gathered by turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from numba import types

from harness.checkers import messages as flag
from harness.checkers.gathering import RUNS_MAX, SAID_BY, Gathering, in_parts
from harness.checkers.gathering import deliveries as deliveries_in_numpy
from harness.checkers.gathering import publications as publications_in_numpy
from harness.checkers.lanes import KEPT, LATEST, constant, starts_of
from harness.history.columns import NEVER
from harness.history.history import Array, Columns
from harness.operation import SEQUENCE_BITS, SEQUENCE_MAX, AckKind, AcknowledgedBy, Outcome

_P = ParamSpec("_P")
_R = TypeVar("_R")
_AUTOMATIC, _BROKER = int(AckKind.AUTOMATIC), int(AcknowledgedBy.BROKER)
_OK, _FAIL = int(Outcome.OK), int(Outcome.FAIL)
_SEQUENCE_BITS, _SEQUENCE_MAX = np.uint64(SEQUENCE_BITS), np.uint64(SEQUENCE_MAX)
_BLOCK = 8192
_STRANGER, _APART, _SUSPECT, _OVERTAKEN = 1, 2, 4, 8
_SAID_RECEIVED, _SAID_DISCHARGED = np.uint16(flag.RECEIVED), np.uint16(flag.RECEIVED | flag.DISCHARGED)
_INVOKED, _RECEIVED = np.uint16(flag.INVOKED), np.uint16(flag.RECEIVED)
_REPEATED_ABOVE = np.uint16((flag.REPEATED // flag.RECEIVED).bit_length() - 1)


def publications(gathering: Gathering, chunk: Columns) -> None:
    """As `gathering.publications`."""
    if (connection := in_parts(gathering, chunk, publications)) is None:
        return
    gathering.room_for(int(chunk.broker_sequence.max()))
    if gathering.places.sparse or gathering.sequence.itemsize > 4 or not (chunk.attempt == 1).all():
        publications_in_numpy(gathering, chunk)
        return
    gathering.room_for_connections()
    gathering.invoked.note(chunk, connection)
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
        apart,
    )
    if apart.any():
        gathering.apart.append(gathering.places.of(chunk.message[apart]))


def deliveries(gathering: Gathering, chunk: Columns) -> None:
    """As `gathering.deliveries`."""
    delivered = gathering.consumers.of(chunk)
    starts = starts_of(delivered)
    if 1 < len(starts) <= RUNS_MAX:
        for part in chunk.parts(starts):
            deliveries(gathering, part)
        return
    lanes = gathering.lanes
    gathering.room_for(int(chunk.broker_sequence.max()))
    if (
        len(starts) > 1
        or gathering.sequence.itemsize > 4
        or gathering.places.count == 0
        or gathering.places.sparse
        or gathering.by_group
        or not lanes.widen(len(gathering.producers.numbers) + 1, len(gathering.consumers.numbers) + 1)
        or not (constant(chunk.attempt) and chunk.attempt[0] == 1)
        or chunk.corrupt.any()
        or chunk.foreign.any()
    ):
        deliveries_in_numpy(gathering, chunk)
        return
    lanes.look_for_disorder(delivered, chunk.received_ns, chunk.number)
    odd = np.zeros(chunk.rows, np.uint8)
    columns = _plain(chunk, "message", "ack_invoked_ns", "ack_kind", "redelivered", "broker_sequence")
    done_at_once = int(chunk.ack_invoked_ns.min()) > NEVER and not chunk.redelivered.any()
    consumer, done, publisher, received = int(delivered[0]), 0, 0, 0
    while True:
        # It stops where a lane is met that has no number yet.
        done, publisher, received = _deliveries(
            done,
            received,
            *gathering.places.extents,
            *columns,
            done_at_once,
            gathering.flags,
            gathering.sequence,
            gathering.connection,
            gathering.invoked.times_ns,
            gathering.chunks.bits,
            gathering.chunks.of(chunk.first),
            lanes.table[:, consumer].astype(np.int64),
            lanes.state,
            odd,
        )
        if done == chunk.rows:
            break
        lanes.admit(publisher, consumer)
    if not odd.any():
        gathering.whole += chunk.rows
        return
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
            *(_written(types.uint16), _written(types.uint32), _written(number)),
            _written(types.boolean),
        )
        for number in (types.uint8, types.uint32)
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


def _part(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A part of what is compiled below, where its types are known."""
    return cast(Callable[_P, _R], numba.njit(function))


@_part
def _look_up(message: Array, low: Array, base: Array, size: Array, place_of: Array) -> bool:
    """The place of each message. Whether each has one."""
    nobody, all_known = np.uint64(len(size) - 1), True
    for row in range(len(message)):
        packed = np.uint64(message[row])
        producer = min(packed >> _SEQUENCE_BITS, nobody)
        offset = (packed & _SEQUENCE_MAX) - np.uint64(low[producer])
        all_known &= bool(offset < np.uint64(size[producer]))
        place_of[row] = np.uint64(base[producer]) + offset
    return all_known


@_part
def _all_invoked(place_of: Array, flags: Array) -> bool:
    common = _INVOKED
    for row in range(len(place_of)):
        common &= flags[place_of[row]]
    return bool(common != 0)


@_part
def _all_done(ack_kind: Array, ack_invoked_ns: Array, redelivered: Array) -> bool:
    """Whether each is acknowledged, and none is flagged as redelivered."""
    every = True
    for row in range(len(ack_kind)):
        every &= (ack_kind[row] == _AUTOMATIC) | (ack_invoked_ns[row] != NEVER)
    for row in range(len(redelivered)):
        every &= redelivered[row] == 0
    return every


@_part
def _discharge(place_of: Array, flags: Array, page_bits: int, pages: Array) -> None:
    for row in range(len(place_of)):
        place = place_of[row]
        before = flags[place]
        flags[place] = before | (before & _RECEIVED) << _REPEATED_ABOVE | _SAID_DISCHARGED
        pages[place >> np.uint64(page_bits)] = True


@_part
def _follow(
    place_of: Array,
    sequence: Array,
    sequence_of: Array,
    connection_of: Array,
    invoked_of: Array,
    lane_of: Array,
    state: Array,
    odd: Array,
) -> tuple[int, bool]:
    """How many deliveries were compared with what their lanes brought before, up to one whose lane has no number; and
    whether each was numbered by the broker as is known already."""
    numbered, timed, as_known = len(sequence_of) > 0, len(invoked_of) > 0, True
    for row in range(len(place_of)):
        place = place_of[row]
        if numbered:
            as_known &= np.uint64(sequence_of[place]) == np.uint64(sequence[row])
        number = lane_of[connection_of[place]]
        if number < 0:
            return row, as_known
        lane, invoked = np.uint64(number), invoked_of[place] if timed else np.int64(place)
        state[lane, KEPT] += 1
        if invoked > state[lane, LATEST]:
            state[lane, LATEST] = invoked
        else:
            odd[row] = _SUSPECT | (_OVERTAKEN if invoked < state[lane, LATEST] else 0)
    return len(place_of), as_known


@_compiled(  # type: ignore[untyped-decorator]
    *(
        types.UniTuple(types.int64, 3)(  # type: ignore[no-untyped-call]
            *(types.int64, types.int64),
            *(_LONGS, _LONGS, _LONGS),
            *(_LONGS, _LONGS, _BYTES, _BYTES, _LONGS, types.boolean),
            *(_written(types.uint16), _written(types.uint32), _written(number), _LONGS),
            *(types.int64, _written(types.boolean)),
            _LONGS,
            _written(types.int64, 2),
            _written(types.uint8),
        )
        for number in (types.uint8, types.uint32)
    )
)
def _deliveries(
    begin: int,
    received: int,
    low: Array,
    base: Array,
    size: Array,
    message: Array,
    ack_invoked_ns: Array,
    ack_kind: Array,
    redelivered: Array,
    sequence: Array,
    done_at_once: bool,
    flags: Array,
    sequence_of: Array,
    connection_of: Array,
    invoked_of: Array,
    page_bits: int,
    pages: Array,
    lane_of: Array,
    state: Array,
    odd: Array,
) -> tuple[int, int, int]:
    """Gather from row `begin` on; what is before row `received` was received before. `done_at_once`: each is
    acknowledged, and none is flagged as redelivered. Tells as far as which row all is done, the publisher whose lane
    has no number there, and before which row all is received."""
    numbered = len(sequence_of) > 0
    place_of = np.empty(_BLOCK, np.uint64)  # unsigned, so that no place is looked at for being negative
    # In blocks, a few things at once: more arrays than the cache has ways for would drive each other out. In the loops
    # of a healthy block nothing is decided row by row.
    block = begin
    while block < len(message):
        fresh = block >= received
        end = min(block + _BLOCK, len(message)) if fresh else received
        places = place_of[: end - block]
        all_known = _look_up(message[block:end], low, base, size, places)
        healthy = fresh and all_known and _all_invoked(places, flags)
        if not done_at_once:
            healthy = healthy and _all_done(ack_kind[block:end], ack_invoked_ns[block:end], redelivered[block:end])
        followed, as_known = block, not numbered
        if healthy:
            _discharge(places, flags, page_bits, pages)
            count, as_known = _follow(
                places, sequence[block:end], sequence_of, connection_of, invoked_of, lane_of, state, odd[block:end]
            )
            followed += count
            as_known |= not numbered
        if not healthy:
            for row in range(block, end):
                producer = message[row] >> SEQUENCE_BITS
                offset = (message[row] & SEQUENCE_MAX) - low[producer] if 0 <= producer < len(size) else -1
                place = places[row - block]
                if offset < 0 or offset >= size[producer] or flags[place] & _INVOKED == 0:
                    odd[row] = _STRANGER
                elif fresh:
                    done = ack_kind[row] == _AUTOMATIC or ack_invoked_ns[row] != NEVER
                    before = flags[place]
                    said = _SAID_DISCHARGED if done else _SAID_RECEIVED
                    flags[place] = before | (before & _RECEIVED) << _REPEATED_ABOVE | said
                    pages[place >> np.uint64(page_bits)] = True
        if not as_known or (numbered and followed < end):
            for row in range(block, end):
                if odd[row] & _STRANGER or sequence[row] == 0:
                    continue
                place = places[row - block]
                if sequence_of[place] == 0:
                    sequence_of[place] = sequence[row]
                elif np.int64(sequence_of[place]) != sequence[row]:
                    odd[row] |= _APART
        for row in range(followed, end):
            if odd[row] & _STRANGER or redelivered[row] != 0:
                continue
            place = places[row - block]
            publisher = connection_of[place]
            if publisher == 0:
                continue
            lane = lane_of[publisher]
            if lane < 0:
                return row, int(publisher), end
            invoked = invoked_of[place] if len(invoked_of) else np.int64(place)
            state[lane, KEPT] += 1
            if invoked > state[lane, LATEST]:
                state[lane, LATEST] = invoked
            else:
                odd[row] |= _SUSPECT
                if invoked < state[lane, LATEST]:
                    odd[row] |= _OVERTAKEN
        block = end
    return len(message), 0, len(message)
