"""What a program keeps by the raw greenlet that runs does not reach the next thing that runs."""

import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import greenlet
import pytest

from streamserve import Timeout, joinall, sleep, spawn
from streamserve.loop import runner as runners
from streamserve.loop.hubs import get_hub
from streamserve.sync.event import Event
from streamserve.sync.queue import Queue

Count = Callable[[Callable[[], object]], int]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Calls a function repeatedly; how many runners were made for its last call."""
    count, original = [0], runners.new_runner

    def new_runner(hub: Any) -> Any:
        count[0] += 1
        return original(hub)

    def last(function: Callable[[], object]) -> int:
        for _ in range(3):
            count[0] = 0
            function()
            sleep(0.002)
        return count[0]

    monkeypatch.setattr(runners, "new_runner", new_runner)
    return last


def run(function: Callable[[], object], times: int = 10) -> list[Any]:
    return [started.get() for started in [spawn(function) for _ in range(times)]]


@pytest.mark.parametrize("wait", [lambda: None, lambda: sleep(0), lambda: sleep(0.001)])
def test_a_runner_that_somebody_holds_is_not_used_again(wait: Callable[[], object]) -> None:
    def ask() -> Any:
        wait()
        return greenlet.getcurrent()

    held = run(ask)
    assert len(set(held)) == 10
    assert all(each.dead for each in held)


@pytest.mark.parametrize("wait", [lambda: None, lambda: sleep(0.001)])
def test_what_is_kept_by_a_weak_reference_reaches_nobody_else_and_goes(wait: Callable[[], object]) -> None:
    kept: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def ask() -> None:
        wait()
        assert greenlet.getcurrent() not in kept
        kept[greenlet.getcurrent()] = 1

    run(ask)
    run(lambda: sleep(0.001))
    gc.collect()
    assert not kept


@pytest.mark.parametrize("wait", [lambda: None, lambda: sleep(0.001)])
def test_attributes_reach_nobody_else_and_go_at_the_end(wait: Callable[[], object], made: Count) -> None:
    class Session:
        pass

    sessions = []

    def ask() -> None:
        wait()
        current: Any = greenlet.getcurrent()
        assert not hasattr(current, "session")
        current.session = Session()
        sessions.append(weakref.ref(current.session))

    assert made(lambda: run(ask)) == 0
    assert {session() for session in sessions} == {None}


def test_a_registry_by_current_greenlet_gives_each_its_own() -> None:
    registry: dict[Any, object] = {}

    def session() -> object:  # SQLAlchemy's scoped_session(scopefunc=greenlet.getcurrent)
        return registry.setdefault(greenlet.getcurrent(), object())

    assert len({id(each) for each in run(session)}) == 10


def waits_for_an_event() -> None:
    event = Event()
    waiting = [spawn(event.wait) for _ in range(20)]
    spawn(event.set)
    joinall(waiting)


def is_killed() -> None:
    waiting = [spawn(wait) for wait in (Event().wait, Queue().get, lambda: sleep(9)) for _ in range(10)]
    sleep(0.001)
    for each in waiting:
        each.kill()


def times_out() -> None:
    def wait() -> None:
        with Timeout(0.001, False):
            Event().wait()

    joinall([spawn(wait) for _ in range(20)])


def hands_over() -> None:
    queue = Queue(2)
    feeders = [spawn(lambda: [queue.put(number) for number in range(9)]) for _ in range(5)]
    joinall([*feeders, *(spawn(lambda: [queue.get(timeout=9) for _ in range(9)]) for _ in range(5))])


def sleeps_at_random() -> None:
    choose = random.Random(7)

    def wait() -> None:
        for _ in range(choose.randrange(4)):
            sleep(choose.random() * 0.002)
        spawn(sleep, 0.001).join()

    joinall([spawn(wait) for _ in range(40)])


def fails() -> None:
    joinall([spawn(lambda: (sleep(0.001), int("no number"))) for _ in range(20)])


@pytest.mark.parametrize("what", [waits_for_an_event, is_killed, times_out, hands_over, sleeps_at_random, fails])
def test_runners_of_what_never_asks_are_used_again(what: Callable[[], None], made: Count, errors: Any) -> None:
    spare = joinall([spawn(sleep, 0.001) for _ in range(100)])
    sleep(0.001)
    idle = len(get_hub().idle_runners)
    assert made(what) == 0 and idle >= len(spare)
    assert len(get_hub().idle_runners) == idle
