"""Waiter: the one place where greenlets park."""

from typing import Any

import pytest

from streamserve import GreenletExit, sleep, spawn
from streamserve.errors import BlockingSwitchOutError
from streamserve.loop.hubs import get_hub
from streamserve.loop.waiter import Waiter


def test_park_returns_what_wake_gave() -> None:
    waiter = Waiter(get_hub())
    greenlet = spawn(waiter.park)
    sleep(0)
    assert waiter.wake("value") is True
    assert greenlet.get() == "value"


def test_park_raises_what_fail_gave() -> None:
    waiter, error = Waiter(get_hub()), KeyError("x")
    spawn(waiter.fail, error)
    with pytest.raises(KeyError) as caught:
        waiter.park()
    assert caught.value is error


def test_woken_before_it_parks_does_not_wait() -> None:
    waiter = Waiter(get_hub())
    waiter.wake(5)
    assert waiter.park() == 5


def test_only_the_first_wake_or_fail_counts() -> None:
    waiter = Waiter(get_hub())
    assert waiter.wake(1) is True
    assert waiter.wake(2) is False
    assert waiter.fail(KeyError()) is False
    assert waiter.park() == 1


def test_a_greenlet_switched_to_by_hand_goes_on_waiting() -> None:
    waiter = Waiter(get_hub())
    greenlet = spawn(waiter.park)
    sleep(0)
    get_hub().ready.append(greenlet._runner)  # nobody may do this; the wait holds all the same
    sleep(0)
    assert not greenlet.dead
    waiter.wake(3)
    assert greenlet.get() == 3


def test_the_hub_cannot_park() -> None:
    errors: list[BaseException] = []

    def callback() -> None:
        for wait in (Waiter(get_hub()).park, lambda: sleep(0), lambda: sleep(0.001)):
            try:
                wait()
            except BaseException as error:
                errors.append(error)

    get_hub().run_callback(callback)
    sleep(0)
    assert [type(error) for error in errors] == [BlockingSwitchOutError] * 3
    assert all(isinstance(error, AssertionError) for error in errors)
    assert not get_hub().join(0)  # the timer of the third was started
    get_hub().join()


def test_an_interrupt_that_came_too_late_is_raised_at_the_next_park() -> None:
    log: list[Any] = []
    waiter = Waiter(get_hub())

    def run() -> None:
        log.append(waiter.park())
        sleep(0.001)
        log.append("slept")

    greenlet = spawn(run)
    sleep(0)
    waiter.wake("woken")
    greenlet.kill(block=False)
    greenlet.join()
    assert log == ["woken"]
    assert isinstance(greenlet.value, GreenletExit)


def test_many_wake_in_the_order_of_waking() -> None:
    hub, log = get_hub(), []
    waiters = [Waiter(hub) for _ in range(600)]  # more than the hub runs between two polls
    greenlets = [spawn(lambda w=w, n=n: (w.park(), log.append(n))) for n, w in enumerate(waiters)]
    sleep(0)
    sleep(0)
    for number in reversed(range(600)):
        waiters[number].wake()
    for greenlet in greenlets:
        greenlet.join()
    assert log == list(reversed(range(600)))
