"""How are several things done side by side, so that none of them is still under way when we go on?

An interrupt (Ctrl-C, SIGTERM) comes to the main thread wherever it is. If that went on to remove what its workers were
still making, the ledger's entry would be struck first and the thing would appear after, where no sweep looks for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence


def at_once(jobs: Sequence[Callable[[], object]], most: int | None = None) -> None:
    """Run all jobs side by side, `most` of them at a time, every one to its end whatever happens; then raise.

    What is raised is the interrupt that came meanwhile, else the first failure, in the order of the jobs. An interrupt
    cancels none of them, not even one that has not begun: it may be what mends a fault. Where no more threads can be
    had, as at the end of the interpreter, those that are there do it all.
    """
    if not jobs:
        return
    waiting = deque(enumerate(jobs))
    failures: dict[int, BaseException] = {}
    once, ended = threading.Lock(), threading.Event()

    def work() -> None:
        while True:
            try:
                number, job = waiting.popleft()
            except IndexError:
                return
            try:
                job()
            except BaseException as failure:
                failures[number] = failure

    def run() -> None:
        if not once.acquire(blocking=False):
            return
        helpers = [
            threading.Thread(target=work, name="assay-at-once") for _ in range(min(most or len(jobs), len(jobs)) - 1)
        ]
        started = [helper for helper in helpers if _starts(helper)]
        work()
        for helper in started:
            helper.join()
        ended.set()

    # Interrupts are raised in the main thread alone, so another one does the work. If one comes while that is started,
    # we cannot know whether it was: it is started again, and the lock lets only one of them go to work.
    begun, interrupt = False, None
    while not ended.is_set():
        try:
            if not begun and not _starts(threading.Thread(target=run, name="assay-at-once")):
                work()
                if once.acquire(blocking=False):  # else one that was started before does the rest
                    ended.set()
            begun = True
            ended.wait()
        except BaseException as error:
            interrupt = interrupt or error
    if interrupt is not None:
        raise interrupt
    if failures:
        raise failures[min(failures)]


def _starts(thread: threading.Thread) -> bool:
    """Start a thread; False where none can be had."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True
