"""Queues and channels where gevent's users expect more than one thing at a time."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from streamserve import Greenlet, Timeout, joinall, sleep, spawn
from streamserve.pool.group import Group, Pool, PoolFull
from streamserve.sync.queue import Channel, JoinableQueue, LifoQueue, PriorityQueue, Queue

NAMES = {
    "streamserve": "Greenlet GreenletExit Timeout getcurrent iwait joinall kill killall sleep spawn spawn_later wait",
    "streamserve.sync": "AsyncResult Event BoundedSemaphore RLock Semaphore Channel Queue PriorityQueue LifoQueue Full",
    "streamserve.pool": "Group Pool PoolFull ThreadPool",
    "streamserve.sync.local": "local",
}
"""As docs/coming-from-gunicorn.md says; each is what gevent calls so."""


@pytest.mark.parametrize("module", NAMES)
def test_the_names_of_gevent_are_where_the_documents_say(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not callable(getattr(found, name, None))] == []


def filled(kind: Any = Queue) -> Any:
    return kind(1, [1])


@pytest.mark.parametrize(
    "wait",
    [
        lambda timeout: Queue().get(timeout=timeout),
        lambda timeout: Queue(3).peek(timeout=timeout),
        lambda timeout: PriorityQueue().get(timeout=timeout),
        lambda timeout: LifoQueue().get(timeout=timeout),
        lambda timeout: filled().put(2, timeout=timeout),
        lambda timeout: Channel().get(timeout=timeout),
        lambda timeout: Channel().put(1, timeout=timeout),
    ],
)
def test_a_timeout_object_is_what_is_raised(wait: Callable[[Timeout], Any]) -> None:
    timeout = Timeout(0.001)
    with pytest.raises(Timeout) as caught:
        wait(timeout)
    assert caught.value is timeout and not timeout.pending


def test_waits_that_tell_of_their_end_take_a_timeout() -> None:
    assert filled(JoinableQueue).join(timeout=Timeout(0.001)) is False
    for pool in (Group(), Pool(1)):
        pool.spawn(sleep, 0.01)
        assert pool.join(timeout=Timeout(0.001)) is False
        pool.kill(timeout=Timeout(5))
    pool = Pool(1)
    pool.spawn(sleep, 0.01)
    assert pool.wait_available(timeout=Timeout(0.001)) == 0
    with pytest.raises(PoolFull):
        pool.add(Greenlet(sleep), timeout=Timeout(0.001))
    pool.kill()


@pytest.mark.parametrize(("kind", "best"), [(PriorityQueue, 1), (LifoQueue, 2), (Queue, 3)])
def test_a_getter_that_waited_gets_the_best_of_what_was_put(kind: Any, best: int) -> None:
    queue = kind()
    getter = spawn(queue.get)
    sleep(0)
    for item in (3, 1, 2):
        queue.put(item)
    assert getter.get() == best
    assert sorted([best, queue.get(), queue.get()]) == [1, 2, 3]
    assert queue.unfinished_tasks == 3


@pytest.mark.parametrize(
    ("kind", "order"), [(PriorityQueue, [0, 1, 2, 3]), (LifoQueue, [2, 1, 0, 3]), (Queue, [3, 0, 1, 2])]
)
@pytest.mark.parametrize("getters", [1, 2, 3, 4])
@pytest.mark.parametrize("killed", [None, 0, 1, 3])
def test_of_many_that_waited_the_first_gets_the_best(
    kind: Any, order: list[int], getters: int, killed: int | None
) -> None:
    """As if they came only now: they are woken by what was put, but choose when they run."""
    queue = kind()
    got: list[int] = []
    waiting = [spawn(lambda: got.append(queue.get())) for _ in range(getters)]
    sleep(0)
    for item in (3, 0, 1, 2):
        queue.put(item)
    if killed is not None and killed < getters:
        waiting[killed].kill()  # it may have run before
    joinall(waiting)
    assert len(got) >= getters - (killed is not None)
    assert [*got, *(queue.get() for _ in range(4 - len(got)))] == order
    assert not queue.qsize() and not getattr(queue, "_given", None)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_getters_that_waited_get_the_youngest_items(count: int) -> None:
    queue = LifoQueue()
    getters = [spawn(queue.get) for _ in range(count)]
    sleep(0)
    for item in range(5):
        queue.put(item)
    assert sorted((getter.get() for getter in getters), reverse=True) == [4, 3, 2, 1, 0][:count]
    assert [queue.get() for _ in range(5 - count)] == [4, 3, 2, 1, 0][count:]


def test_put_of_a_channel_returns_after_its_getter_ran() -> None:
    channel, log = Channel(), []
    spawn(lambda: log.append(channel.get()))
    sleep(0)
    channel.put("got")
    log.append("put")
    assert log == ["got", "put"]


@pytest.mark.parametrize(
    "kill", [lambda pool, each: pool.killone(each, block=False), lambda pool, each: pool.kill(block=False)]
)
def test_who_survives_a_kill_is_not_interrupted_again(kill: Callable[[Any, Any], None]) -> None:
    pool, log = Pool(2), []

    def survive() -> None:
        for _ in range(2):
            try:
                sleep(0.002)
                log.append("slept")
            except BaseException as error:
                log.append(type(error).__name__)

    each = pool.spawn(survive)
    sleep(0)
    for _ in range(3):
        kill(pool, each)
        sleep(0)
    each.join(timeout=60)
    assert log == ["GreenletExit", "slept"]


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_maxsize_bounds_the_results_of_an_imap(kind: str) -> None:
    begun: list[int] = []
    results = getattr(Pool(10), kind)(begun.append, range(20), maxsize=3)
    sleep(0.001)
    assert len(begun) == 3
    next(results)
    sleep(0.001)
    assert len(begun) == 4
    assert len(list(results)) == 19
