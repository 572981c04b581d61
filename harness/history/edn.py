"""How does a history read as operations, for the tools of Jepsen's kind? In EDN, one operation a line, by time.

*process*: does one thing at a time, as those tools assume. Our clients have many publishes on their way, so each client
is as many processes as it ever had operations open at once, and a process whose operation was never answered ends with
it. `:client` says which client that was. The nemesis is the process `:nemesis`; what it does is `:info`.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from harness.history.columns import NEVER
from harness.history.history import Array, History
from harness.operation import MessageId, Outcome

_TYPES = {int(Outcome.OK): ":ok", int(Outcome.FAIL): ":fail", int(Outcome.INFO): ":info"}
_Event = tuple[int, int, str]
"""When in ns, its place among equal times, and the operation without its index and time."""


def operations(history: History) -> Iterator[str]:
    """Every operation, one line each, ascending in time: invocations, completions, and what the nemesis did.

    A publication that nobody answered completes as `:info` after everything else: it may take effect at any time.
    A delivery that was pushed is invoked as it is received; one that was pulled, with its fetch. A pull of one message
    is a dequeue besides.
    """
    processes = _Processes()
    events = [
        *_publishes(history, processes),
        *_deliveries(history, processes),
        *_dequeues(history, processes),
        *_injections(history),
    ]
    last_ns = max((time_ns for time_ns, _, _ in events if time_ns != NEVER), default=0)
    timed = [(last_ns + 1 if time_ns == NEVER else time_ns, place, text) for time_ns, place, text in events]
    timed.sort(key=lambda event: event[:2])
    for index, (time_ns, _, text) in enumerate(timed):
        yield f"{{:index {index}, :time {time_ns}, {text}}}\n"


def _publishes(history: History, processes: _Processes) -> Iterator[_Event]:
    table, words = history.publications, history.words
    invoked_ns = np.where(table.invoked_ns == NEVER, table.intended_ns, table.invoked_ns)
    open_still = table.completed_ns == NEVER
    for row in np.argsort(invoked_ns, kind="stable").tolist():
        began_ns, ended_ns = int(invoked_ns[row]), int(table.completed_ns[row])
        process = processes.take(int(table.client[row]), began_ns, None if open_still[row] else ended_ns)
        who = f":process {process}, :client {table.client[row]}, :f :publish"
        value = [f":message {_message(table.message[row])}", f":attempt {table.attempt[row]}"]
        yield began_ns, 0, f":type :invoke, {who}, :value {{{', '.join(value)}}}"
        if table.broker_sequence[row]:
            value.append(f":broker-sequence {table.broker_sequence[row]}")
        if table.duplicate[row]:
            value.append(":duplicate true")
        value.append(f":acknowledged-by {':broker' if table.acknowledged_by[row] else ':nobody'}")
        kind = _TYPES.get(int(table.outcome[row]), ":info")
        error = words[table.error[row]] or ("no-answer" if open_still[row] else "")
        told = f", :error {_text(error)}" if error else ""
        yield ended_ns, 1, f":type {kind}, {who}, :value {{{', '.join(value)}}}{told}"


def _deliveries(history: History, processes: _Processes) -> Iterator[_Event]:
    table, words = history.deliveries, history.words
    invoked_ns: Array = np.where(table.fetch_invoked_ns == NEVER, table.received_ns, table.fetch_invoked_ns)
    for row in np.argsort(invoked_ns, kind="stable").tolist():
        began_ns, ended_ns = int(invoked_ns[row]), int(table.received_ns[row])
        process = processes.take(int(table.client[row]), began_ns, ended_ns)
        who = f":process {process}, :client {table.client[row]}, :f :deliver"
        yield began_ns, 0, f":type :invoke, {who}, :value nil"
        value = [
            f":message {'nil' if table.corrupt[row] else _message(table.message[row])}",
            f":attempt {table.attempt[row]}",
            f":group {_text(words[table.group[row]])}",
            f":redelivered {_flag(table.redelivered[row])}",
        ]
        if table.broker_sequence[row]:
            value.append(f":broker-sequence {table.broker_sequence[row]}")
        value += [f":{name} true" for name in ("corrupt", "foreign") if table[name][row]]
        for name in ("ack_invoked_ns", "settled_ns"):
            if table[name][row] != NEVER:
                value.append(f":{name.replace('_', '-')} {table[name][row]}")
        yield ended_ns, 1, f":type :ok, {who}, :value {{{', '.join(value)}}}"


def _dequeues(history: History, processes: _Processes) -> Iterator[_Event]:
    table, words = history.dequeues, history.words
    for row in np.argsort(table.invoked_ns, kind="stable").tolist():
        began_ns, ended_ns = int(table.invoked_ns[row]), int(table.completed_ns[row])
        client, answered = int(table.client[row]), ended_ns != NEVER
        process = processes.take(-client, began_ns, ended_ns if answered else None)  # beside those of its deliveries
        who = f":process {process}, :client {client}, :f :dequeue"
        group = f":group {_text(words[table.group[row]])}"
        yield began_ns, 0, f":type :invoke, {who}, :value {{{group}}}"
        message = _message(table.message[row]) if table.message[row] else "nil"
        value = [f":message {message}", group, f":empty {_flag(table.found_empty[row])}"]
        kind = _TYPES.get(int(table.outcome[row]), ":info")
        told = "" if answered else ', :error "no-answer"'
        yield ended_ns, 1, f":type {kind}, {who}, :value {{{', '.join(value)}}}{told}"


def _injections(history: History) -> Iterator[_Event]:
    for injection in history.terms.injections:
        targets = " ".join(_text(target) for target in injection.targets)
        told = f":fault {_text(injection.fault)}, :trial {injection.trial}, :targets [{targets}]"
        bit = "nil" if injection.bit_ns is None else injection.bit_ns
        who = ":type :info, :process :nemesis, :f"
        yield injection.asked_ns, 0, f"{who} :start, :value {{{told}, :bit-ns {bit}}}"
        if injection.mended_ns is not None:
            yield injection.mended_ns, 1, f"{who} :stop, :value {{{told}}}"


class _Processes:
    """Numbers of processes, each with one operation at a time, none of two clients."""

    def __init__(self) -> None:
        self._next = 0
        self._free: dict[int, list[tuple[int, int]]] = {}

    def take(self, client: int, began_ns: int, ended_ns: int | None) -> int:
        """A process of this client that is free at `began_ns` (calls ascend), busy until `ended_ns`; None: for ever."""
        free = self._free.setdefault(client, [])
        if free and free[0][0] < began_ns:
            process = heapq.heappop(free)[1]
        else:
            process = self._next
            self._next += 1
        if ended_ns is not None:
            heapq.heappush(free, (ended_ns, process))
        return process


def _message(packed: Any) -> str:
    return f'"{MessageId.unpack(int(packed))}"'


def _flag(value: Any) -> str:
    return "true" if value else "false"


def _text(word: str) -> str:
    """A string of EDN, which is one of JSON but for a surrogate's half, that neither UTF-8 nor EDN can hold."""
    return json.dumps(word.encode("utf-8", errors="replace").decode(), ensure_ascii=False)
