"""Is the log of a history plainly kept? For one that is too large to hold every number: chunk by chunk, and no more.

*Plainly*: one group, one route, one attempt of each message, none of which came twice or out of nowhere; each number is
one message's alone, and its only one; a consumer's connection reads them upwards; what was stored came. Then there is
nothing that harness/checkers/streams.py could find. Of a log that is kept less plainly nothing is said here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from harness.checkers.facts import Facts
from harness.checkers.lanes import constant, starts_of
from harness.history.history import CHUNK_ROWS, Array
from harness.operation import SEQUENCE_MAX, Outcome

_SPARSE_FACTOR, _SPARSE_FREE = 4, 4096


def plainly_kept(facts: Facts) -> int | str:
    """How many numbers were told, where the log is plainly kept; else why it is not."""
    for doubts in (_messages, _publications, _deliveries, _numbers):
        for doubt in doubts(facts):
            return doubt
    return int(np.count_nonzero(facts.gathered.sequence))


def _messages(facts: Facts) -> Iterator[str]:
    terms, gathered = facts.history.terms, facts.gathered
    if len(facts.groups) > 1 or len(terms.groups) > 1:
        yield "several groups received, and nothing says that they read one log"
    if not terms.ordered:
        yield "deliveries do not tell which are redeliveries"
    if len(facts.strangers) or len(facts.corrupt) or len(facts.foreign) or facts.census_strangers:
        yield "there are messages that nobody published"
    if facts.attempted.sum() != facts.history.publications.rows:
        yield "messages were published more than once"
    if facts.repeated:
        yield "messages were delivered more than once"
    if len(facts.apart):
        yield "there are messages with two numbers"
    if gathered.lanes.unsorted:
        yield "deliveries do not stand in the order of their receipt"


def _publications(facts: Facts) -> Iterator[str]:
    publications, routes = facts.history.publications, set[int]()
    for chunk in publications.chunks("route", "attempt", "outcome", "duplicate", "broker_sequence"):
        routes.add(int(chunk.route[0]))
        if len(routes) > 1 or not constant(chunk.route):
            yield "messages were published over several routes"
        if not (chunk.attempt == 1).all():
            yield "messages were published again"
        nameless = (chunk.broker_sequence == 0) & (chunk.outcome == Outcome.OK) & (chunk.duplicate == 0)
        if nameless.any():
            yield "publishes were OK and given no number"


def _deliveries(facts: Facts) -> Iterator[str]:
    """In the order of receipt of each connection."""
    highest: dict[int, int] = {}
    for chunk in facts.history.deliveries.chunks("client", "epoch", "attempt", "redelivered", "broker_sequence"):
        if not (chunk.attempt == 1).all():
            yield "deliveries came of attempts that nobody made"
        connection = (chunk.client.astype(np.uint32) << np.uint32(16)) | chunk.epoch
        number = chunk.broker_sequence
        first_time = (chunk.redelivered == 0) & (number != 0)
        if not first_time.all():
            connection, number = connection[first_time], number[first_time]
        if not len(number):
            continue
        if not constant(connection):
            order = np.argsort(connection, kind="stable")
            connection, number = connection[order], number[order]
        starts = starts_of(connection)
        upwards = number[1:] > number[:-1]
        upwards[starts[1:] - 1] = True
        if not upwards.all():
            yield "a connection read numbers backwards"
        for start, end in pairwise([*starts.tolist(), len(number)]):
            reader = int(connection[start])
            if int(number[start]) <= highest.get(reader, 0):
                yield "a connection read numbers backwards"
            highest[reader] = int(number[end - 1])


def _numbers(facts: Facts) -> Iterator[str]:
    sequence, excused = facts.gathered.sequence, facts.received | facts.found | facts.dropped
    if not len(sequence):
        yield "nothing was numbered"
        return
    blocks = [slice(begin, begin + CHUNK_ROWS) for begin in range(0, len(sequence), CHUNK_ROWS)]
    least, most = SEQUENCE_MAX, 0
    for block in blocks:
        numbered = sequence[block] != 0
        if (numbered & ~excused[block]).any():
            yield "numbers were stored that nobody saw"
        if numbered.any():
            told = sequence[block][numbered]
            least, most = min(least, int(told.min())), max(most, int(told.max()))
    if not most:
        yield "nothing was numbered"
        return
    span = most - least + 1
    if most > SEQUENCE_MAX or span > _SPARSE_FACTOR * len(sequence) + _SPARSE_FREE:
        yield "numbers are too far apart to be counted"
        return
    if not _each_once(sequence, blocks, least, span):
        yield "there are numbers with two messages"


def _each_once(sequence: Array, blocks: list[slice], least: int, span: int) -> bool:
    seen, told = np.zeros(span, np.bool_), 0
    for block in blocks:
        numbers = sequence[block][sequence[block] != 0].astype(np.int64) - least
        seen[numbers] = True
        told += len(numbers)
    return int(np.count_nonzero(seen)) == told
