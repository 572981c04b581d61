"""Has everything that was begun side by side ended when we go on, also after an interrupt?"""

from __future__ import annotations

import signal
import threading
import time
from functools import partial

import pytest

from harness.parallel import at_once


def _interrupt() -> None:
    """Ctrl-C, as the main thread gets it."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def test_jobs_run_side_by_side() -> None:
    together = threading.Barrier(3, timeout=5)
    at_once([together.wait] * 3)
    at_once([])


def test_no_more_than_told_run_at_a_time() -> None:
    running, seen, lock = 0, [], threading.Lock()

    def job() -> None:
        nonlocal running
        with lock:
            running += 1
            seen.append(running)
        time.sleep(0.005)
        with lock:
            running -= 1

    at_once([job] * 9, most=2)
    assert len(seen) == 9
    assert max(seen) == 2


def test_all_end_before_the_first_failure_is_raised() -> None:
    ended = []

    def fail(what: str, after_s: float) -> None:
        time.sleep(after_s)
        ended.append(what)
        raise ValueError(what)

    with pytest.raises(ValueError, match="first"):
        at_once([partial(fail, "first", 0.05), partial(fail, "second", 0), lambda: ended.append("third")])
    assert sorted(ended) == ["first", "second", "third"]


@pytest.mark.parametrize("most", [None, 1])
def test_an_interrupt_is_raised_after_all_have_ended_and_cancels_none(most: int | None) -> None:
    ended = []

    def slow(number: int) -> None:
        time.sleep(0.05)
        ended.append(number)

    with pytest.raises(KeyboardInterrupt):
        at_once([_interrupt, *(partial(slow, number) for number in range(4))], most=most)
    assert sorted(ended) == [0, 1, 2, 3]


def test_a_second_interrupt_does_not_cut_the_wait_short() -> None:
    ended = []

    def twice() -> None:
        for _ in range(3):
            _interrupt()
            time.sleep(0.03)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        at_once([twice])
    assert ended == [True]


def test_an_interrupt_comes_before_a_failure() -> None:
    def fail() -> None:
        _interrupt()
        raise ValueError("failed")

    with pytest.raises(KeyboardInterrupt):
        at_once([fail])


@pytest.mark.parametrize("delay_us", range(0, 300, 30))
def test_an_interrupt_at_any_moment_of_the_start_leaves_nothing_under_way(delay_us: int) -> None:
    begun, ended = [], []

    def job() -> None:
        begun.append(True)
        time.sleep(0.002)
        ended.append(True)

    def later() -> None:
        time.sleep(delay_us / 1e6)
        _interrupt()

    interrupter = threading.Thread(target=later)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes just before, meanwhile, or just after
        interrupter.start()
        at_once([job] * 3)
        time.sleep(5)
    assert len(begun) == len(ended)
    assert len(ended) in (0, 3)
    interrupter.join()


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_without_more_threads_those_that_are_there_do_it_all(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start, left, done = threading.Thread.start, [None] * threads, []

    def refuse(thread: threading.Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    at_once([partial(done.append, number) for number in range(5)])
    assert sorted(done) == [0, 1, 2, 3, 4]
