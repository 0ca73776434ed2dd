"""time.sleep that lets others run."""

import time
from fractions import Fraction
from typing import Any

import pytest

from streamserve import Timeout, spawn
from streamserve.green import time as green_time


def test_others_run_meanwhile() -> None:
    order: list[int] = []
    sleeper = spawn(lambda: (green_time.sleep(0.01), order.append(2)))
    spawn(order.append, 1)
    sleeper.join()
    assert order == [1, 2]


def test_it_takes_that_long() -> None:
    began = time.monotonic()
    green_time.sleep(0.02)
    assert time.monotonic() - began >= 0.02


def test_zero_lets_each_other_run_once() -> None:
    order: list[int] = []
    others = [spawn(order.append, number) for number in range(3)]
    green_time.sleep(0)
    assert order == [0, 1, 2]
    assert all(other.dead for other in others)


@pytest.mark.parametrize(
    "seconds", [-1, -0.001, float("nan"), float("inf"), float("-inf"), 1e10, 1 << 80, "1", None, Fraction(0)], ids=repr
)
def test_refusals_are_those_of_the_standard_library(seconds: Any) -> None:
    errors = []
    for sleep in (time.sleep, green_time.sleep):
        with pytest.raises((ValueError, TypeError, OverflowError)) as caught:
            sleep(seconds)
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


def test_an_object_that_is_an_index_is_a_number_of_seconds() -> None:
    class Zero:
        def __index__(self) -> int:
            return 0

    green_time.sleep(Zero())
    green_time.sleep(False)


def test_a_timeout_ends_it() -> None:
    with pytest.raises(Timeout), Timeout(0.01):
        green_time.sleep(3600)


def test_all_else_is_the_standard_modules() -> None:
    assert green_time.monotonic is time.monotonic
