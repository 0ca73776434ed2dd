"""What the threads of a pool have to do is done once, by one of them; and those without work find out."""

import threading
import time
from contextlib import suppress
from queue import Empty

import pytest

from streamserve.loop.signal_functions import native_sleep
from streamserve.pool.task_queue import TaskQueue
from streamserve.pool.threadpool import ThreadPool
from tests.support.threads import disturbed, in_threads, until


def test_who_has_waited_least_gets_the_next() -> None:
    tasks: TaskQueue[int] = TaskQueue()
    got: list[tuple[str, int]] = []
    threads: list[threading.Thread] = []
    for name in "abc":
        threads.append(threading.Thread(target=lambda name=name: got.append((name, tasks.get(60)))))
        threads[-1].start()
        until(lambda: len(tasks._idle) == len(threads))
    for item in range(3):
        tasks.put(item)
        until(lambda: len(got) == item + 1)  # noqa: B023 - it is called here only
    for thread in threads:
        thread.join()
    assert got == [("c", 0), ("b", 1), ("a", 2)]


def test_nothing_comes_and_nobody_waits_longer() -> None:
    tasks = TaskQueue()
    for seconds in (0, 1e-9, 0.001):
        with pytest.raises(Empty):
            tasks.get(seconds)
    tasks.put(1)
    assert tasks.get(1e12) == 1 and not tasks._idle


def test_a_wait_ends_though_another_thread_took_what_ended_it() -> None:
    """CPython's own queue waits for ever then, before 3.13."""
    tasks: TaskQueue[int] = TaskQueue()
    for _ in range(20):
        ended, taken = threading.Event(), []  # type: ignore[var-annotated]

        def wait(ended: threading.Event = ended, taken: list[int] = taken) -> None:
            with suppress(Empty):
                taken.append(tasks.get(0.002))
            ended.set()

        threading.Thread(target=wait).start()
        until(lambda: tasks._idle or ended.is_set())  # noqa: B023
        tasks.put(1)  # it is woken, and waits for the GIL
        with suppress(Empty):  # but for a machine so busy that it came first
            taken.append(tasks.get(0))
        over = time.monotonic() + 0.004
        while time.monotonic() < over:
            pass
        assert ended.wait(60) and taken == [1]


def test_idle_threads_end_though_others_took_their_work() -> None:
    pool = ThreadPool(3, idle_task_timeout=0.001)
    for _ in range(200):
        assert pool.map(abs, range(9)) == list(range(9))
        over = time.monotonic() + 0.0015
        while time.monotonic() < over:
            pass
    until(lambda: pool.size == 0)


def test_nothing_is_lost_among_disturbed_threads() -> None:
    tasks: TaskQueue[int | None] = TaskQueue()
    got: list[object] = []
    count = 300

    def take() -> None:
        while (item := patient()) is not None:
            got.append(item)

    def patient() -> object:
        while True:
            try:
                return tasks.get(0.0005)
            except Empty:
                native_sleep(0)

    def give(first: int) -> None:
        for item in range(first, first + count):
            tasks.put(item)
            if item % 7 == 0:
                native_sleep(0.001)

    givers = [disturbed(lambda first=first: give(first)) for first in (0, count)]  # type: ignore[misc]
    takers = [threading.Thread(target=disturbed(take)) for _ in range(4)]
    for taker in takers:
        taker.start()
    in_threads(givers)
    for _ in takers:
        tasks.put(None)
    for taker in takers:
        taker.join(60)
        assert not taker.is_alive()
    assert sorted(got) == list(range(2 * count))
