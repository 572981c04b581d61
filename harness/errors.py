"""What can go wrong, by what the caller must do about it; each kind has its exit code."""

from __future__ import annotations

from typing import ClassVar


class AssayError(Exception):
    """An error with a message for a reader: what happened, where, and how to cure it.

    `cure` is one sentence that says what to do; it is printed below the message.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, cure: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return self.message if self.cure is None else f"{self.message}\n  cure: {self.cure}"


class Violated(AssayError):
    """A guarantee that was expected to hold was violated, or an expected violation was not seen."""

    exit_code = 1


class Undecided(AssayError):
    """A verdict is UNKNOWN: the history shows no violation, and the trial was not fair enough to say HELD."""

    exit_code = 2


class Refused(AssayError):
    """What was asked for cannot be: bad options, files, names, a fault where it cannot happen. Nothing was started."""

    exit_code = 64


class Trouble(AssayError):
    """A broker, an engine, a proxy or the machine failed us; what was recorded until then is kept."""

    exit_code = 69
