"""What did a recorder call the messages that Assay numbers? A file of the run directory says it, one message a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.errors import Trouble
from harness.history.rows import read_rows

IDENTITIES_FILE = "identities.jsonl"


def write_identities(directory: Path, identities: Iterable[tuple[str, str]]) -> None:
    """Write (Assay's id as text, the recorder's own) of every message. Raises Trouble."""
    path = directory / IDENTITIES_FILE
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"message_id": told, "message": own}) + "\n" for told, own in identities)
    except OSError as error:
        raise Trouble(f"{path} cannot be written: {error.strerror}") from error


def read_identities(directory: Path, wanted: Iterable[str]) -> Mapping[str, str]:
    """The recorder's own identity of each of the wanted ids; nothing for a run that Assay recorded."""
    path = directory / IDENTITIES_FILE
    if not path.exists():
        return {}
    asked, found = set(wanted), {}
    for chunk in read_rows(path):
        for row in chunk.rows:
            if (told := row.get("message_id")) in asked:
                found[str(told)] = str(row.get("message"))
    return found
