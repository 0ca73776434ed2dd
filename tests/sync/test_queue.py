"""Queues: order, limits, those who wait, tasks, shutdown; from threads, finalizers and the hub."""

import gc
import queue as stdlib_queue
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from streamserve import Greenlet, Timeout, get_hub, joinall, sleep, spawn
from streamserve.sync.queue import (
    Empty,
    Full,
    JoinableQueue,
    LifoQueue,
    PriorityQueue,
    Queue,
    ShutDown,
    SimpleQueue,
)
from tests.support.threads import PATIENCE, begin, disturbed, in_threads

Make = Callable[..., Any]
KINDS: list[Make] = [SimpleQueue, Queue, PriorityQueue, LifoQueue]


class ListQueue(Queue):
    """A storage of a user's: the longest item first."""

    def _init(self, maxsize: int) -> None:
        self.queue = []

    def _put(self, item: Any) -> None:
        self.queue.append(item)
        self.queue.sort()

    def _get(self) -> Any:
        return self.queue.pop()

    def _peek(self) -> Any:
        return self.queue[-1]


ALL: list[Make] = [*KINDS, ListQueue]


def waiting(function: Callable[..., Any], *args: Any) -> Greenlet:
    """A greenlet that was let run until it waits."""
    greenlet = spawn(function, *args)
    sleep(0)
    assert not greenlet.dead
    return greenlet


def refused(call: Callable[[], Any]) -> None:
    """The call ends with ShutDown."""
    with pytest.raises(ShutDown):
        call()


# ---- without waiting


@pytest.mark.parametrize(
    ("kind", "order"),
    [(SimpleQueue, "bca"), (Queue, "bca"), (LifoQueue, "acb"), (PriorityQueue, "abc"), (ListQueue, "cba")],
)
def test_items_come_out_in_the_order_of_the_kind(kind: Make, order: str) -> None:
    queue = kind()
    for item in "bca":
        queue.put(item)
    assert queue.peek() == order[0]
    assert (len(queue), queue.qsize(), queue.empty(), queue.full()) == (3, 3, False, False)
    assert "".join(queue.get() for _ in range(3)) == order
    assert queue.empty()
    assert "".join(sorted(kind(items="bca").copy().queue)) == "abc"


@pytest.mark.parametrize("kind", ALL)
def test_nothing_switches_when_nothing_must_wait(kind: Make) -> None:
    log: list[str] = []
    spawn(log.append, "other")
    queue = kind(2)
    queue.put(1)
    queue.put_nowait(2)
    assert {queue.peek_nowait(), queue.get(), queue.get_nowait()} == {1, 2}
    for impossible in (queue.get_nowait, queue.peek_nowait, lambda: queue.get(timeout=0)):
        with pytest.raises(Empty):
            impossible()
    queue.put(1)
    queue.put(1)
    for impossible in (lambda: queue.put_nowait(3), lambda: queue.put(3, timeout=0), lambda: queue.put(3, False, 9)):
        with pytest.raises(Full):
            impossible()
    assert log == []
    sleep(0)


def test_errors_and_names_are_those_of_the_standard_library() -> None:
    assert Empty is stdlib_queue.Empty
    assert Full is stdlib_queue.Full
    assert ShutDown is getattr(stdlib_queue, "ShutDown", ShutDown)
    assert JoinableQueue is Queue
    with pytest.raises(ValueError, match="non-negative"):
        Queue(1, [1]).put(2, timeout=-1)
    with pytest.raises(ValueError, match="non-negative"):
        Queue().get(timeout=-1)
    with pytest.raises(ValueError, match="non-negative"):
        SimpleQueue(items=[1]).get(timeout=-1)
    with pytest.raises(TypeError):
        Queue("3")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ALL)
def test_a_queue_is_true_subscriptable_and_weakly_referable(kind: Make) -> None:
    queue = kind()
    assert queue
    assert kind[int].__origin__ is kind  # type: ignore[index]
    reference = weakref.ref(queue)
    del queue
    assert reference() is None, "it needs no collector"


@pytest.mark.parametrize("maxsize", [None, 0, -1])
def test_no_limit_is_none_zero_or_less(maxsize: int | None) -> None:
    queue = Queue(maxsize, range(100))
    assert queue.maxsize is None
    assert not queue.full()


def test_items_at_the_start_may_be_more_than_the_limit() -> None:
    queue = Queue(2, [1, 2, 3])
    assert queue.full()
    assert len(queue) == 3


def test_iteration_ends_at_the_item_stopiteration() -> None:
    assert list(Queue(items=[1, 2, StopIteration, 4])) == [1, 2]


# ---- waiting


@pytest.mark.parametrize("kind", ALL)
def test_getters_are_served_in_their_order(kind: Make) -> None:
    queue, log = kind(), []
    getters = [waiting(lambda name=name: log.append((name, queue.get()))) for name in "abc"]
    for item in range(3):
        queue.put(item)
        assert queue.empty(), "it belongs to the one who waits"
    joinall(getters)
    items = [2, 1, 0] if kind is LifoQueue else [0, 1, 2]  # each takes the best of what is there when it runs
    assert log == [*zip("abc", items, strict=True)]


@pytest.mark.parametrize("kind", ALL)
def test_putters_are_served_in_their_order_and_the_limit_holds(kind: Make) -> None:
    queue, log = kind(1, [0]), []
    putters = [waiting(lambda item=item: (queue.put(item), log.append(item))) for item in (1, 2, 3)]
    got = []
    for _ in range(4):
        assert len(queue) == 1
        got.append(queue.get())
        sleep(0)
    joinall(putters)
    assert got == [0, 1, 2, 3]
    assert log == [1, 2, 3]


def test_a_late_getter_does_not_overtake() -> None:
    queue = Queue()
    first = waiting(queue.get)
    queue.put("item")
    with pytest.raises(Empty):
        queue.get_nowait()
    assert first.get() == "item"


@pytest.mark.parametrize("kind", ALL)
def test_peekers_see_the_item_and_a_getter_takes_it(kind: Make) -> None:
    queue = kind()
    greenlets = [waiting(queue.peek), waiting(queue.peek), waiting(queue.get), waiting(queue.get)]
    queue.put("item")
    joinall(greenlets[:3])
    assert [greenlet.value for greenlet in greenlets] == ["item"] * 3 + [None]
    queue.put("next")
    assert greenlets[3].get() == "next"


@pytest.mark.parametrize("kind", ALL)
def test_a_raised_limit_lets_putters_in(kind: Make) -> None:
    queue = kind(1, [0])
    putters = [waiting(queue.put, item) for item in (1, 2)]
    queue.maxsize = 2
    putters[0].join()
    assert len(queue) == 2
    queue.maxsize = None
    putters[1].join()
    assert sorted(queue.get() for _ in range(3)) == [0, 1, 2]


@pytest.mark.parametrize("kind", ALL)
def test_time_runs_out_without_a_trace(kind: Make) -> None:
    queue = kind(1)
    with pytest.raises(Empty):
        queue.get(timeout=0.001)
    with pytest.raises(Empty):
        queue.peek(timeout=0.001)
    queue.put(1)
    with pytest.raises(Full):
        queue.put(2, timeout=0.001)
    assert queue.get() == 1
    assert queue.empty()
    queue.put(3)
    assert queue.get() == 3


@pytest.mark.parametrize("kind", ALL)
def test_killed_ones_lose_no_item(kind: Make) -> None:
    queue = kind()
    first, second = waiting(queue.get), waiting(queue.get)
    first.kill(block=False)
    queue.put("item")  # before the killed one has noticed
    assert second.get() == "item"
    third = waiting(queue.get)
    queue.put("given")
    third.kill(block=False)  # after it was given the item
    third.join()
    assert third.value == "given" or queue.get_nowait() == "given"


def test_a_killed_putter_puts_nothing() -> None:
    queue = Queue(1, [0])
    first, second = waiting(queue.put, 1), waiting(queue.put, 2)
    first.kill()
    assert queue.get() == 0
    second.join()
    assert queue.get() == 2
    assert queue.empty()


@pytest.mark.parametrize("kind", ALL)
def test_a_timeout_around_get_takes_it_out_of_the_line(kind: Make) -> None:
    queue = kind()
    with Timeout(0.001, False):
        queue.get()
    queue.put("item")
    assert queue.get_nowait() == "item"


@pytest.mark.parametrize("kind", ALL)
def test_in_the_hub_it_never_waits(kind: Make) -> None:
    queue, log = kind(1), []

    def attempt() -> None:
        try:
            queue.get()
        except Empty:
            log.append("empty")
        queue.put("item")
        try:
            queue.put("too much")
        except Full:
            log.append("full")
        log.append(queue.get())

    get_hub().run_callback(attempt)
    sleep(0)
    assert log == ["empty", "full", "item"]
    getter = waiting(queue.get)
    get_hub().run_callback(queue.put, "from the hub")
    assert getter.get() == "from the hub"


# ---- a storage of the user's


def test_an_overridden_storage_that_fails_harms_nobody_else() -> None:
    class Failing(Queue):
        fail = False

        def _put(self, item: Any) -> None:
            if self.fail:
                raise ZeroDivisionError("put")
            super()._put(item)

        def _get(self) -> Any:
            if self.fail:
                raise ZeroDivisionError("get")
            return super()._get()

    queue = Failing(1, ["item"])
    queue.fail = True
    for call in (queue.get, lambda: queue.put("x")):
        if call == queue.get:
            with pytest.raises(ZeroDivisionError):
                call()
    queue.fail = False
    assert queue.get() == "item"
    queue.fail = True
    with pytest.raises(ZeroDivisionError):
        queue.put("x")
    queue.fail = False
    assert queue.unfinished_tasks == 1
    queue.put("y")
    assert queue.get() == "y"


def test_putting_from_within_the_storage_is_done_before_it_is_left() -> None:
    class Noisy:
        """Comparing it puts something into the very queue that compares it."""

        def __lt__(self, other: Any) -> bool:
            if not log:
                log.append("compared")
                queue.put((2, None))
                with pytest.raises(Empty):
                    queue.get_nowait()
            return True

    log: list[str] = []
    queue = PriorityQueue()
    queue.put((1, Noisy()))
    queue.put((1, Noisy()))
    assert log == ["compared"]
    assert [queue.get()[0] for _ in range(3)] == [1, 1, 2]
    assert queue.unfinished_tasks == 3


@pytest.mark.parametrize("kind", ALL)
def test_a_finalizer_may_put_and_get(kind: Make, restless: None) -> None:
    queue, rounds = kind(), 300

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            queue.put(1)

    getter = spawn(lambda: [queue.get() for _ in range(2 * rounds)])
    for _ in range(rounds):
        Cycle()
        queue.put(1)
        if not _ % 50:
            sleep(0)
    gc.collect()
    assert getter.get(timeout=PATIENCE) == [1] * (2 * rounds)
    assert queue.empty()


# ---- tasks and shutdown


def test_join_waits_for_every_task() -> None:
    queue, log = Queue(items=[1]), []
    queue.put(2)
    assert queue.unfinished_tasks == 2
    assert queue.join(timeout=0.001) is False
    joiners = [waiting(lambda: log.append(queue.join())) for _ in range(2)]
    queue.task_done()
    sleep(0)
    assert log == []
    queue.task_done()
    joinall(joiners)
    assert log == [True, True]
    assert queue.join() is True
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()


@pytest.mark.parametrize("kind", [Queue, PriorityQueue, LifoQueue, ListQueue])
def test_shutdown_ends_putters_at_once_and_getters_when_it_is_empty(kind: Make) -> None:
    queue = kind(1, [1])
    putter = waiting(refused, lambda: queue.put(2))
    queue.shutdown()
    putter.get()
    with pytest.raises(ShutDown):
        queue.put(3)
    with pytest.raises(ShutDown):
        queue.put_nowait(3)
    assert queue.is_shutdown
    assert queue.get() == 1
    for call in (queue.get, queue.get_nowait, queue.peek):
        with pytest.raises(ShutDown):
            call()


@pytest.mark.parametrize("kind", [Queue, PriorityQueue, LifoQueue, ListQueue])
def test_shutdown_wakes_getters_of_an_empty_queue(kind: Make) -> None:
    queue = kind()
    getters = [waiting(refused, call) for call in (queue.get, queue.peek)]
    queue.shutdown()
    joinall(getters, raise_error=True)


def test_shutdown_at_once_drops_the_items_and_ends_join() -> None:
    queue = Queue(items=[1, 2])
    joiner = waiting(queue.join)
    queue.shutdown(immediate=True)
    assert joiner.get() is True
    assert (len(queue), queue.unfinished_tasks) == (0, 0)


# ---- native threads


@pytest.mark.parametrize("maxsize", [None, 1, 3])
@pytest.mark.parametrize("kind", ALL)
def test_threads_and_greenlets_pass_every_item_once(kind: Make, maxsize: int | None, restless: None) -> None:
    queue, each, threads = kind(maxsize), 60, 3
    seen: list[list[int]] = []

    def work(number: int) -> None:
        """In each thread two greenlets put, and two get."""
        mine: list[int] = []
        seen.append(mine)

        def put(first: int) -> None:
            for item in range(first, first + each):
                queue.put(item)

        def get() -> None:
            for _ in range(each):
                mine.append(queue.get())

        first = number * 2 * each
        joinall([spawn(get), spawn(put, first), spawn(get), spawn(put, first + each)], raise_error=True)

    in_threads([lambda number=number: work(number) for number in range(threads)])
    assert sorted(item for mine in seen for item in mine) == list(range(threads * 2 * each))
    assert queue.empty()


def test_the_limit_holds_between_threads(restless: None) -> None:
    queue, most = Queue(2), []

    def put() -> None:
        for item in range(100):
            queue.put(item)

    def get() -> None:
        for _ in range(200):
            most.append(len(queue))
            queue.get()

    in_threads([put, put, get])
    assert max(most) <= 2


def test_killed_and_impatient_getters_lose_no_item_of_another_thread(restless: None) -> None:
    queue, count = Queue(), 200
    got: list[int] = []

    def get_impatiently() -> None:
        while True:
            try:
                item = queue.get(timeout=1e-5)
            except Empty:
                sleep(0)
                continue
            if item is None:
                return
            got.append(item)

    def get_until_killed() -> None:
        with Timeout(1e-5, False):
            got.append(queue.get())

    def put() -> None:
        for item in range(count):
            queue.put(item)

    threads, failures = begin([put])
    impatient = spawn(get_impatiently)
    for _ in range(count):
        spawn(get_until_killed).join()
    threads[0].join(PATIENCE)
    assert not failures
    queue.put(None)
    impatient.join(timeout=PATIENCE)
    got.extend(queue.get_nowait() for _ in range(len(queue)))
    assert sorted(got) == list(range(count))


@pytest.mark.parametrize("maxsize", [None, 2])
@pytest.mark.parametrize("kind", ALL)
def test_interrupted_anywhere_it_loses_and_doubles_nothing(kind: Make, maxsize: int | None) -> None:
    queue, each = kind(maxsize), 80
    got: list[int] = []

    def action() -> None:
        """What a finalizer or a signal handler might do: once more in the middle of anything."""
        with suppress(Empty):
            item = queue.get_nowait()
            try:
                queue.put_nowait(item)
            except Full:
                got.append(item)

    def put(first: int) -> None:
        for item in range(first, first + each):
            while True:
                with suppress(Full):
                    queue.put(item, timeout=5e-5)
                    break

    def get() -> None:
        while len(got) < 2 * each:
            with Timeout(1e-4, False), suppress(Empty):
                got.append(queue.get(timeout=5e-5))

    def work(first: int) -> None:
        joinall([spawn(put, first), spawn(get)], raise_error=True)

    in_threads([disturbed(lambda first=first: work(first), action) for first in (0, each)])
    assert sorted(got) == list(range(2 * each))


def test_a_thread_that_waits_natively_for_nothing_gets_from_greenlets() -> None:
    queue, got = Queue(), []
    threads, failures = begin([lambda: got.append(queue.get())])
    queue.put("across")
    threads[0].join(PATIENCE)
    assert not failures
    assert got == ["across"]
