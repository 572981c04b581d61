"""How does SIGTERM end a session in order? As Ctrl-C does, once, with a name of its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM: end in order, as for Ctrl-C, with a code of its own."""


@contextmanager
def terminating() -> Iterator[None]:
    """While its context lasts, SIGTERM raises Terminated, once: a second one must not interrupt the clearing up.

    Inside another such context, or in another thread than the main one, it changes nothing.
    """
    owner = os.getpid()
    raised = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if os.getpid() != owner:  # a forked child that has not become its program yet
            os._exit(128 + number)
        if not raised:
            raised = True
            raise Terminated("SIGTERM")

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
