"""What do the pages of the documentation say? Their blocks of code, spans, links, headings and tables, as data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]))

_FENCE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|^)(?: {4}.*\n?)+", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """One fenced or indented block of code: its language ("" if it names none) and its text."""

    language: str
    text: str


def read(page: str) -> str:
    """A page by its path from the root of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    """A page's path from the root, for a reader."""
    return str(page.relative_to(ROOT))


def blocks(text: str) -> list[Block]:
    """Every block of code of a page."""
    fenced = [Block(language, body) for _, language, body in _FENCE.findall(text)]
    lines = [re.sub(r"^ {4}", "", found, flags=re.MULTILINE) for found in _INDENTED.findall(_FENCE.sub("", text))]
    return fenced + [Block("", body) for body in lines]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """Every `span of code` in a page's prose."""
    return _SPAN.findall(prose(text))


def links(text: str) -> list[str]:
    """Where every link and picture of a page leads."""
    return _LINK.findall(prose(text))


def headings(text: str) -> list[str]:
    """Every heading of a page."""
    return _HEADING.findall(prose(text))


def anchors(text: str) -> set[str]:
    """The anchors that a page's headings have."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(text)}


def table(text: str, heading: str) -> list[list[str]]:
    """The rows, without the head, of the first table below a heading: the cells' text."""
    _, found, below = text.partition(f"# {heading}\n")
    assert found, f"there is no heading {heading!r}"
    rows = list(_table_lines(below))
    assert len(rows) > 2, f"there is no table below {heading!r}"
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


def _table_lines(text: str) -> Iterator[str]:
    begun = False
    for line in text.splitlines():
        if line.startswith("|"):
            begun = True
            yield line
        elif begun or line.startswith("#"):
            return


def bare(cell: str) -> str:
    """A cell's text without its back-ticks."""
    return cell.strip("`")


def experiments(text: str) -> list[str]:
    """The blocks of a page that are whole suites: those with a matrix and a test below it."""
    return [body for language, body in blocks(text) if language == "python" and re.search(r"^@matrix\(", body, re.M)]
