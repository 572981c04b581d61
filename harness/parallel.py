"""How are several things done side by side, so that none of them is still under way when we go on?

An interrupt (Ctrl-C, SIGTERM) comes to the main thread wherever it is. If that went on to remove what its workers were
still making, the ledger's entry would be struck first and the thing would appear after, where no sweep looks for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor


def at_once(jobs: Sequence[Callable[[], object]], most: int | None = None) -> None:
    """Run all jobs side by side, `most` of them at a time, every one to its end whatever happens; then raise.

    What is raised is the interrupt that came meanwhile, else the first failure, in the order of the jobs. An interrupt
    cancels none of them, not even one that has not begun: it may be what mends a fault.
    """
    if not jobs:
        return
    done: list[Future[object]] = []
    failures: list[BaseException] = []
    once, ended = threading.Lock(), threading.Event()

    def run() -> None:
        if not once.acquire(blocking=False):
            return
        try:
            with ThreadPoolExecutor(max_workers=min(most or len(jobs), len(jobs))) as workers:
                done.extend(workers.submit(job) for job in jobs)
        except BaseException as error:  # no thread could be started
            failures.append(error)
        finally:
            ended.set()

    # Interrupts are raised in the main thread alone, so another one hands out the jobs. If one comes while that is
    # started, we cannot know whether it was: it is started again, and the lock lets only one of them go to work.
    begun, interrupt = False, None
    while not ended.is_set():
        try:
            if not begun:
                threading.Thread(target=run, name="assay-at-once").start()
                begun = True
            ended.wait()
        except BaseException as error:
            if isinstance(error, Exception) and not begun:  # there are no threads to be had
                raise
            interrupt = interrupt or error
    if interrupt is not None:
        raise interrupt
    failures += [failure for future in done if (failure := future.exception()) is not None]
    if failures:
        raise failures[0]
