"""Kills, Timeouts and signals reach greenlets that gevent's reach."""

import os
import signal
from typing import Any

import pytest

from streamserve import Timeout, getcurrent, killall, signal_handler, sleep, spawn, spawn_later, with_timeout
from streamserve.loop.hubs import get_hub


def switches() -> str:
    try:
        get_hub().switch()
    except BaseException as error:
        return type(error).__name__
    return "returned"


def test_a_kill_reaches_a_greenlet_that_switched_to_the_hub() -> None:
    waiting = spawn(switches)
    sleep(0.001)
    waiting.kill(KeyError, timeout=60)
    assert waiting.value == "KeyError"


def test_a_timeout_reaches_a_greenlet_and_main_that_switched_to_the_hub() -> None:
    def wait() -> str:
        with Timeout(0.001):
            return switches()

    assert spawn(wait).get(timeout=60) == "Timeout"
    assert wait() == "Timeout"


def test_a_kill_of_one_that_goes_on_meanwhile_is_for_its_next_wait_or_nobody() -> None:
    waiting, log = spawn(switches), []
    sleep(0.001)
    runner = waiting._runner
    waiting.kill(block=False)
    get_hub().run_callback(runner.switch)  # type: ignore[union-attr]
    spawn(lambda: log.append(sleep(0.001))).join()
    assert waiting.value in ("GreenletExit", "returned") and log == [None]


def test_throw_in_the_current_greenlet_raises_at_once() -> None:
    def throw(*exception: Any) -> Any:
        try:
            getcurrent().throw(*exception)
        except BaseException as error:
            return type(error)
        return "went on"

    assert spawn(throw, ValueError("x")).get() is ValueError
    assert spawn(throw, KeyError, KeyError(1), None).get() is KeyError


def test_what_a_signal_handler_raises_reaches_main() -> None:
    def fails() -> None:
        raise KeyError("of the handler")

    handler = signal_handler(signal.SIGUSR2, fails)
    try:
        os.kill(os.getpid(), signal.SIGUSR2)
        with pytest.raises(KeyError, match="of the handler"):
            sleep(5)
    finally:
        handler.cancel()


@pytest.mark.parametrize("begun", [False, True])
def test_a_kill_by_what_is_no_exception_ends_its_victim(begun: bool, errors: Any) -> None:
    victim = spawn(sleep, 60)
    if begun:
        sleep(0)
    victim.kill(42, timeout=60)
    assert isinstance(victim.exception, TypeError)
    victims = [spawn(sleep, 60)]
    sleep(0)
    killall(victims, 42, timeout=60)
    assert isinstance(victims[0].exception, TypeError)


def test_spawn_later_refuses_at_once_what_cannot_be_called() -> None:
    with pytest.raises(TypeError):
        spawn_later(0.001, 5)


def test_with_timeout_and_killall_take_a_timeout() -> None:
    timeout = Timeout(0.001)
    with pytest.raises(Timeout) as caught:
        with_timeout(timeout, sleep, 5)
    assert caught.value is timeout
    assert with_timeout(Timeout(0.001), sleep, 5, timeout_value=7) == 7
    killall([spawn(sleep, 60)], timeout=Timeout(5))
