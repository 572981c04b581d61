"""What does the runner itself write down, as it happens? Its proceedings: one JSON object a line, one file a run.

Together with the clients' journals they hold everything that a history is frozen from, so a run whose harness was
killed can still be judged. Times are ns of the run. Kinds of lines, by their field `kind`:

    terms      any fields of Terms that are known by now; a later line overrides an earlier one
    client     number, name, slot, role, group, start_ns
    end        number, end_ns, exit, planned
    pause      number, begin_ns, end_ns: a client that was made to stand still
    phase      phase, trial, begin_ns, end_ns
    injection  the fields of InjectionTerms
    health     time_ns, client, member, state, value, planned
    peers      ok (every client connection came from the proxy), strangers; members: what each node said of the others
    census     found, places, sequences, dropped, ...: the fields of Census
    effects    rows of (message, count, first_ns, last_ns), in the order of their first writing
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from harness.errors import Refused

CURE = "give a run directory as Assay wrote it"
FILE = "proceedings.jsonl"


class Proceedings:
    """The writing end; usable from several threads. Every line is handed to the kernel before `write` returns."""

    def __init__(self, directory: Path) -> None:
        self._file = open(directory / FILE, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._lock = threading.Lock()

    def write(self, kind: str, record: object = None, **fields: object) -> None:
        """Write one line: the fields of a dataclass `record`, if any, then `fields`."""
        line: dict[str, object] = {"kind": kind}
        if is_dataclass(record) and not isinstance(record, type):
            line.update(asdict(record))
        line.update(fields)
        text = json.dumps(line, default=_plain) + "\n"
        with self._lock:
            if not self._file.closed:
                self._file.write(text)

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._lock:
            self._file.close()


def _plain(value: object) -> object:
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def read(directory: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run, in order. A last line that was cut off by a crash is left out.

    Raises Refused for any other that is no object with its kind, naming file and line.
    """
    path = directory / FILE
    if not path.exists():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                data = json.loads(line)
                if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
                    raise ValueError("it is no object with its kind")
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    return
                raise Refused(f"{path}, line {number}, is damaged: {error}", cure=CURE) from error
            yield data
