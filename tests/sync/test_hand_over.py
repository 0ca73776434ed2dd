"""A kill or a Timeout that meets a hand-over in the same turn: whoever waits next gets the thing."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from streamserve import GreenletExit, Timeout, sleep, spawn
from streamserve.sync.lock import BoundedSemaphore, Lock, Semaphore
from streamserve.sync.queue import Channel, LifoQueue, PriorityQueue, Queue, SimpleQueue
from tests.support.program import printed


def taken(semaphore: Any) -> Any:
    semaphore.acquire()
    return semaphore


def handed(thing: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """How one waits for the thing, and how it is handed over."""
    if hasattr(thing, "acquire"):
        return thing.acquire, thing.release
    return thing.get, lambda: spawn(thing.put, 1) if isinstance(thing, Channel) else thing.put(1)


THINGS: list[Callable[[], Any]] = [
    Queue, LifoQueue, PriorityQueue, SimpleQueue, Channel, lambda: taken(Semaphore()), lambda: taken(Lock()),
    lambda: taken(BoundedSemaphore()),
]  # fmt: skip


@pytest.mark.parametrize("make", THINGS)
@pytest.mark.parametrize("killed_first", [True, False])
def test_a_kill_loses_nothing(make: Callable[[], Any], killed_first: bool) -> None:
    wait, give = handed(make())
    first, second = spawn(wait), spawn(wait)
    sleep(0)
    steps = [lambda: first.kill(block=False), give]
    for step in steps if killed_first else reversed(steps):
        step()
    sleep(0)
    sleep(0)
    if not second.dead:  # the first had it before it was killed, and ended with it
        assert not killed_first
        assert first.dead
        assert not isinstance(first.value, GreenletExit)
        give()
    second.get(timeout=60)


@pytest.mark.parametrize("make", THINGS)
def test_a_timeout_loses_nothing(make: Callable[[], Any]) -> None:
    wait, give = handed(make())

    first, second = spawn(wait), spawn(wait)
    first.loop.exception_stream, before = io.StringIO(), first.loop.exception_stream
    sleep(0)
    timeout = Timeout(1)
    first.kill(timeout, block=False)
    give()
    second.get(timeout=60)
    first.loop.exception_stream = before
    assert first.exception is timeout


PATCHED = """
from streamserve.monkey import patch_all; patch_all()
import queue, threading, time
from streamserve import GreenletExit, Timeout, spawn, sleep
"""


def test_the_standard_librarys_queues_and_locks_lose_nothing() -> None:
    source = """
def full():
    filled = queue.Queue(1)
    filled.put(0)
    return lambda: filled.put(1), filled.get

def with_condition():
    condition, items = threading.Condition(), []
    def take():
        with condition:
            while not items:
                condition.wait()
            return items.pop()
    def give():
        with condition:
            items.append(1)
            condition.notify()
    return take, give

def of_queue(kind):
    made = kind()
    return made.get, lambda: made.put(1)

def of_semaphore(kind):
    made = kind(1)
    made.acquire()
    return made.acquire, made.release

def ended(how, pair):
    wait, give = pair
    def wait_within():
        with Timeout(60):
            wait()
    a, b = spawn(wait_within), spawn(wait)
    sleep(0)
    if how == "kill":
        a.kill(block=False)
    else:
        a.kill(Timeout(1), block=False)
    give()
    try:
        b.get(timeout=60)
        return "got"
    except Timeout:
        return "left"

from streamserve import get_hub
import io
get_hub().exception_stream = io.StringIO()
for how in "kill", "timeout":
    for kind in queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue:
        print(ended(how, of_queue(kind)))
    for kind in threading.Semaphore, threading.BoundedSemaphore:
        print(ended(how, of_semaphore(kind)))
    print(ended(how, with_condition()))
    print(ended(how, full()))
"""
    assert printed(PATCHED + source) == ["got"] * 16


def test_who_is_killed_while_it_takes_the_lock_of_a_condition_again_passes_the_notification_on() -> None:
    source = """
condition, order = threading.Condition(), []
def take(name):
    try:
        with condition:
            condition.wait()
            order.append(name)
    except GreenletExit:
        order.append(f"{name} killed")
        raise
a, b = spawn(take, "a"), spawn(take, "b")
sleep(0)
with condition:
    condition.notify()
    sleep(0)      # a waits for the lock now
    a.kill(block=False)
    sleep(0)
    order.append("released")
b.get(timeout=60)
print(order, condition.acquire(False))
"""
    assert printed(PATCHED + source) == ["['released', 'a killed', 'b'] True"]


def test_a_notification_at_the_last_moment_counts() -> None:
    source = """
condition = threading.Condition()
def wait():
    with condition:
        return condition.wait(0.01)
waiting = spawn(wait)
sleep(0)
with condition:
    sleep(0.03)   # its time is up, it waits for the lock
    condition.notify()
print(waiting.get())
condition.acquire()
print(condition.wait(0.001), condition.wait(0), len(condition._waiters))
"""
    assert printed(PATCHED + source) == ["True", "False False 0"]
