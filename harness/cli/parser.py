"""How is a command line read? By argparse, with "did you mean", examples, and bad usage as our own error."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import NoReturn

from harness.errors import Refused
from harness.plain import did_you_mean


class Parser(argparse.ArgumentParser):
    """An argparse parser that refuses as the rest of Assay does, and never guesses an abbreviation."""

    def __init__(self, **settings: object) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **settings,  # type: ignore[arg-type]  # argparse's own, passed through
        )

    def error(self, message: str) -> NoReturn:
        """Raise Refused with the closest name that there is."""
        hint = ""
        if choice := re.search(r"invalid choice: '([^']*)'", message):
            message = message.partition(" (choose")[0]
            hint = did_you_mean(choice[1], self._commands())
        elif unknown := re.search(r"unrecognized arguments: (-\S+)", message):
            hint = did_you_mean(unknown[1].partition("=")[0], self._flags())
        raise Refused(f"{self.prog}: {message}{hint}", cure=f"{self.prog} --help says what there is")

    def refuse(self, unknown: list[str]) -> None:
        """Refuse arguments that nobody knows."""
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")

    def _flags(self) -> Iterator[str]:
        for action in self._actions:
            yield from action.option_strings

    def _commands(self) -> Iterator[str]:
        for action in self._actions:
            if action.choices is not None:
                yield from map(str, action.choices)
