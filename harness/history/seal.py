"""Are the files of a frozen run still as they were written? Their SHA-256 sums say, which its format.json holds, with
its own.

They find what was cut, mixed up between runs, or changed on the disk, where the file by itself still makes sense: one
letter less in the word "lost", and nobody lost a connection. They are no signature: who rewrites a run can seal it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.errors import Trouble


def sums_of(directory: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The sums of these files of a directory, by their names within it. Raises Trouble."""
    return {path.relative_to(directory).as_posix(): digest(path) for path in paths}


def changed(directory: Path, paths: Iterable[Path], sums: Mapping[str, object]) -> tuple[Path, str] | None:
    """The first file that is not what `sums` say, with what is wrong with it; None where all are. Raises Trouble."""
    for name, found in sums_of(directory, paths).items():
        if sums.get(name) != found:
            return directory / name, "its SHA-256 is not the one that it was frozen with"
    return None


def sum_of(data: Mapping[str, object]) -> str:
    """The sum of plain data: of its JSON with keys sorted and nothing between the words."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits. Raises Trouble."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Trouble(f"{path} cannot be read: {error.strerror}") from error
