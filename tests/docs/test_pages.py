"""Do the pages lead where they say, and can what they tell a reader to type be typed?"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import made
import pytest
from pages import PAGES, ROOT, anchors, blocks, headings, links, name_of, prose, read, spans

from harness.cli.main import parser
from harness.errors import Refused

each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
TOOLS = ("assay", "pytest", "make")
ROOMS = ("harness/", "suites/", "tests/", "docs/", "docker/", ".ci/")


def command_lines(text: str) -> list[list[str]]:
    """The words of every line that a page gives a reader to type: in blocks, and in spans of code."""
    shell = [body for language, body in blocks(text) if language in ("", "sh", "console")]
    candidates = [line for body in shell for line in body.splitlines()] + spans(text)
    lines = []
    for candidate in candidates:
        words = _words(candidate)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words and words[0].removeprefix(".venv/bin/") in TOOLS:
            lines.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return lines


def _words(line: str) -> list[str]:
    """The words of a line of shell, without a comment, and without a description two blanks further on."""
    try:
        return shlex.split(re.split(r"\s{2,}(?=\S)", line.strip().removeprefix("$ "))[0], comments=True)
    except ValueError:  # no line of shell: an apostrophe in prose
        return []


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.is_relative_to(ROOT), f"{name_of(page)} leads out of the repository: {link}"
        assert path.exists(), f"{name_of(page)}: nothing is at {link}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{name_of(page)}: no heading at {link}"


@each_page
def test_every_path_that_is_named_is_there(page: Path) -> None:
    for span in spans(page.read_text(encoding="utf-8")):
        path, _, test = span.partition("::")
        if not path.startswith(ROOMS) or re.search(r"[*<> ]|\.\.\.", path):
            continue
        assert (ROOT / path).exists(), f"{name_of(page)} names {span}, which is not there"
        if test:
            assert f"def {test}(" in read(path), f"{name_of(page)} names {span}, which has no such test"


@each_page
def test_every_test_that_is_named_is_there(page: Path) -> None:
    named = {span for span in spans(page.read_text(encoding="utf-8")) if re.fullmatch(r"test_\w+", span)}
    sources = "".join(
        path.read_text(encoding="utf-8") for folder in ("suites", "tests") for path in (ROOT / folder).rglob("*.py")
    )
    assert [name for name in named if f"def {name}(" not in sources] == []


@each_page
def test_every_assay_line_parses(page: Path) -> None:
    for tool, *words in command_lines(page.read_text(encoding="utf-8")):
        if tool != "assay" or not words:
            continue
        own = words[: words.index("--")] if "--" in words else words
        try:
            _, unknown = parser().parse_known_args([word for word in own if word != "--help"])
        except Refused as refused:
            pytest.fail(f"{name_of(page)}: assay {shlex.join(words)}: {refused}")
        else:
            assert unknown == [], f"{name_of(page)}: assay {shlex.join(words)}"


@each_page
def test_every_make_line_names_a_target(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", read("Makefile"), re.MULTILINE))
    for tool, *words in command_lines(page.read_text(encoding="utf-8")):
        if tool == "make":
            asked = {word for word in words if not re.match(r"[A-Z_]+=", word)}
            assert asked <= targets | {";"}, f"{name_of(page)}: make {shlex.join(words)}"


@each_page
def test_every_pytest_line_has_options_that_there_are(page: Path) -> None:
    listening = made.Listening()
    made.options.pytest_addoption(listening)  # type: ignore[arg-type]
    ours = {name for name, _, _ in listening.options}
    for tool, *words in command_lines(page.read_text(encoding="utf-8")):
        if tool == "pytest":
            asked = {word.partition("=")[0] for word in words if word.startswith("--assay")}
            assert asked <= ours, f"{name_of(page)}: pytest {shlex.join(words)}"
    assert set(re.findall(r"--assay-[a-z-]+", prose(page.read_text(encoding="utf-8")))) <= {*ours, "--assay-"}


def test_lines_to_type_are_found() -> None:
    """The tests above look at something: at lines of each tool."""
    found = [line[0] for page in PAGES for line in command_lines(page.read_text(encoding="utf-8"))]
    assert all(found.count(tool) >= 2 for tool in TOOLS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("    assay verify --list      what that would run", [["assay", "verify", "--list"]]),
        ("    ASSAY_SKIP=engine make setup   # less", [["make", "setup"]]),
        ("see `.venv/bin/assay doctor` for it", [["assay", "doctor"]]),
        ("make no mistake: pytest isn't asked", []),
    ],
)
def test_lines_to_type_are_told_from_prose(line: str, words: list[list[str]]) -> None:
    assert command_lines(f"# a page\n\n{line}\n") == words


@each_page
def test_a_page_begins_with_its_title_and_has_no_heading_twice(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert len(headings(text)) == len(set(headings(text)))


@each_page
def test_every_page_can_be_reached_from_the_first(page: Path) -> None:
    if name_of(page) != "README.md":
        assert name_of(page) in links(read("README.md"))


def test_every_picture_is_shown() -> None:
    """README.md shows docs/report.png with `![what it shows](docs/report.png)`, below its first paragraph."""
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page.read_text(encoding="utf-8"))}
    assert [name_of(picture) for picture in (ROOT / "docs").rglob("*.png") if picture not in shown] == []
