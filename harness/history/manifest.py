"""Is an export whole, and still what was exported? Its manifest says: rows of each table, and the SHA-256 of each file.

A directory that lacks its manifest is somebody's own history: nobody can tell what is missing from it, so it is never
HELD. The sums find what was cut, mixed up or edited by accident; they are no signature, and whoever wants to forge a
history can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import Refused
from harness.history.columns import SINCE_FORMAT_1, TABLES
from harness.history.rows import read_object
from harness.history.seal import digest, sums_of
from harness.history.store import FORMAT, version, write_json
from harness.plain import from_plain, to_plain

MANIFEST_FILE = "export.json"
_EXPORT_AGAIN = f"export the run again; without {MANIFEST_FILE} it is read as somebody's own history, never HELD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an export consists of. `rows`: of each table. `sha256`: of each file, by its name, in hexadecimal digits."""

    format: int = FORMAT
    assay: str
    rows: Mapping[str, int]
    sha256: Mapping[str, str] = field(default_factory=dict)


def write_manifest(directory: Path, rows: Mapping[str, int], paths: Iterable[Path]) -> Path:
    """Write the manifest of these files of a directory. Raises Trouble."""
    sums = sums_of(directory, paths)
    target = directory / MANIFEST_FILE
    write_json(target, to_plain(Manifest(assay=version(), rows=rows, sha256=sums)))
    return target


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of an exported directory; None where there is none. Raises Refused for what is no manifest."""
    path = directory / MANIFEST_FILE
    if not path.exists():
        return None
    return manifest_of(read_object(path), str(path))


def manifest_of(data: Mapping[str, object], where: str) -> Manifest:
    """The manifest that an object stands for. Raises Refused for what is none, of a format that this Assay does not
    read, or lacks a table."""
    try:
        manifest = from_plain(Manifest, data)
    except Refused as refusal:
        raise Refused(f"{where}: {refusal.message}", cure=_EXPORT_AGAIN) from refusal
    if not 1 <= manifest.format <= FORMAT:
        raise Refused(
            f"{where} has format {manifest.format}, written by Assay {manifest.assay}; this is {version()}, which "
            f"reads formats 1 to {FORMAT}",
            cure="import it with a newer broker-assay",
        )
    if missing := [name for name in TABLES if name not in manifest.rows and name not in SINCE_FORMAT_1]:
        raise Refused(f"{where} does not say how many rows {', '.join(missing)} had", cure=_EXPORT_AGAIN)
    return manifest


def compare(manifest: Manifest, path: Path, table: str | None = None, rows: int = 0) -> None:
    """Refuse a file that is not what the manifest says: fewer or more rows of its table first, then another sum."""
    if table is not None and rows != (exported := manifest.rows.get(table, 0)):
        raise Refused(
            f"{path} holds {rows} rows, and {exported} were exported: it was cut or added to",
            cure=_EXPORT_AGAIN,
        )
    if digest(path) != manifest.sha256.get(path.name):
        raise Refused(f"{path} is not as it was exported: its SHA-256 differs", cure=_EXPORT_AGAIN)
