"""Does every page still hold what the code says? `python tests/docs/made.py` writes the parts that are made from it."""

from __future__ import annotations

from pathlib import Path

import made
import pytest
from pages import PAGES, name_of


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_made_parts_are_as_the_code_makes_them(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert made.anew(text) == text, "python tests/docs/made.py writes it anew"


def test_every_part_stands_in_one_page() -> None:
    found = [part for page in PAGES for part, _ in made.made(page.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(made.PARTS)
