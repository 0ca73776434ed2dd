"""Timeout and with_timeout."""

import gc
import io
import time
import weakref
from typing import Any

import pytest

from streamserve import Timeout, joinall, sleep, spawn, with_timeout
from streamserve.loop.hubs import get_hub
from streamserve.loop.waiter import Waiter


class TestTimeout:
    def test_is_not_an_exception_that_code_between_swallows(self) -> None:
        assert issubclass(Timeout, BaseException)
        assert not issubclass(Timeout, Exception)

    def test_raises_itself(self) -> None:
        with pytest.raises(Timeout) as caught, Timeout(0.001) as timeout:
            sleep(10)
        assert caught.value is timeout
        assert not timeout.pending

    def test_identity_says_whose_it_is(self) -> None:
        with Timeout(10) as outer:
            with pytest.raises(Timeout) as caught, Timeout(0.001) as inner:
                sleep(10)
            assert caught.value is inner
        assert not outer.pending

    def test_outer_passes_through_inner(self) -> None:
        with pytest.raises(Timeout) as caught, Timeout(0.001) as outer, Timeout(10, False) as inner:
            sleep(10)
        assert caught.value is outer
        assert not inner.pending

    def test_false_is_swallowed_by_its_own_block_only(self) -> None:
        with Timeout(0.001, False):
            sleep(10)
        with pytest.raises(Timeout), Timeout(10, False):
            raise Timeout(1, False)

    @pytest.mark.parametrize("exception", [KeyError, KeyError("late")])
    def test_raises_a_class_or_an_instance_instead(self, exception: Any) -> None:
        with pytest.raises(KeyError), Timeout(0.001, exception):
            sleep(10)

    def test_a_class_that_cannot_be_made_raises_the_reason(self) -> None:
        class Demanding(Exception):
            def __init__(self, reason: str) -> None: ...

        other = spawn(sleep, 0.001)  # its timer may end in the same poll
        with pytest.raises(TypeError, match="reason"), Timeout(0.001, Demanding):
            sleep(10)
        other.join(timeout=60)
        assert other.dead

    @pytest.mark.parametrize(
        ("timeout", "text"),
        [
            (Timeout(), ""),
            (Timeout(1), "1 second"),
            (Timeout(2.5), "2.5 seconds"),
            (Timeout(1, "mail"), "1 second: mail"),
            (Timeout(1, False), "1 second (silent)"),
        ],
    )
    def test_says_how_long_and_why(self, timeout: Timeout, text: str) -> None:
        assert str(timeout) == text

    def test_repr_shows_what_is_raised_and_whether_it_runs(self) -> None:
        with Timeout(10, "mail") as timeout:
            assert "seconds=10 exception='mail' pending" in repr(timeout)
        assert "pending" not in repr(timeout)

    def test_order_is_by_seconds_and_none_comes_last(self) -> None:
        assert [t.seconds for t in sorted([Timeout(), Timeout(2), Timeout(1)])] == [1, 2, None]

    def test_none_never_fires(self) -> None:
        with Timeout(None) as timeout:
            assert not timeout.pending
            sleep(0.001)

    @pytest.mark.parametrize("seconds", [0, -1, float("-inf")])
    def test_what_has_passed_fires_at_the_next_wait(self, seconds: float) -> None:
        with pytest.raises(Timeout), Timeout(seconds):
            sleep(10)

    @pytest.mark.parametrize("seconds", [1e9, 1e12, float("inf")])
    def test_very_long_ones_are_for_ever(self, seconds: float) -> None:
        with Timeout(seconds) as timeout:
            sleep(0.001)
            assert timeout.pending

    def test_nan_is_no_time(self) -> None:
        timeout = Timeout(float("nan"))
        with pytest.raises(ValueError, match="nan"):
            timeout.start()
        assert not timeout.pending

    def test_runs_once_at_a_time_and_can_be_restarted(self) -> None:
        timeout = Timeout(10)
        timeout.start()
        with pytest.raises(AssertionError):
            timeout.start()
        timeout.cancel()
        timeout.start()
        assert timeout.pending
        timeout.close()
        assert not timeout.pending

    def test_start_new_takes_a_timeout_seconds_or_none(self) -> None:
        ready_made = Timeout(10)
        assert Timeout.start_new(ready_made) is ready_made
        assert Timeout.start_new(ready_made) is ready_made  # running already
        by_seconds = Timeout.start_new(10)
        assert ready_made.pending
        assert by_seconds.pending
        assert not Timeout.start_new(None).pending
        ready_made.close()
        by_seconds.close()

    def test_cancel_after_it_fired_changes_nothing(self) -> None:
        timeout = Timeout.start_new(0.001)
        with pytest.raises(Timeout):
            sleep(10)
        timeout.cancel()
        timeout.cancel()
        sleep(0.001)

    def test_ref_false_does_not_keep_the_loop_running(self) -> None:
        timeout = Timeout.start_new(10, ref=False)
        assert get_hub().join() is True
        timeout.cancel()

    def test_of_a_greenlet_that_ended_reaches_nobody(self) -> None:
        log: list[str] = []
        spawn(lambda: Timeout.start_new(0.001)).join()
        spawn(lambda: (sleep(0.003), log.append("undisturbed"))).join()  # likely on the same runner
        assert log == ["undisturbed"]

    def test_uncaught_ends_its_greenlet_as_an_error(self, errors: io.StringIO) -> None:
        def run() -> None:
            with Timeout(0.001):
                sleep(10)

        greenlet = spawn(run)
        greenlet.join()
        assert isinstance(greenlet.exception, Timeout)
        assert not greenlet.successful()

    def test_a_thousand_at_once_fire_once_each(self) -> None:
        ended: list[int] = []

        def run(number: int) -> None:
            with Timeout(0.001 + number * 1e-5, False):
                sleep(10)
            ended.append(number)

        joinall([spawn(run, number) for number in reversed(range(1000))])
        assert sorted(ended) == list(range(1000))


class TestRaces:
    def test_wake_up_in_the_same_poll_wins_and_the_timeout_is_taken_back(self) -> None:
        hub = get_hub()
        waiter = Waiter(hub)
        with Timeout(0.002):
            hub.start_timer(0.001, waiter)
            time.sleep(0.003)  # both timers end before the loop looks
            waiter.park()
        sleep(0.001)

    def test_timeout_before_the_wake_up_in_the_same_poll_is_raised(self) -> None:
        hub = get_hub()
        waiter = Waiter(hub)
        with pytest.raises(Timeout), Timeout(0.001):
            hub.start_timer(0.002, waiter)
            time.sleep(0.003)
            waiter.park()
        sleep(0.001)

    def test_kill_and_timeout_together_are_both_raised(self) -> None:
        log: list[str] = []

        def run() -> None:
            timeout = Timeout.start_new(0.001)
            for _ in range(2):
                try:
                    sleep(10)
                except BaseException as error:
                    log.append(type(error).__name__)
            timeout.close()

        greenlet = spawn(run)
        sleep(0)
        time.sleep(0.002)
        greenlet.kill(block=False)
        greenlet.join()
        assert log == ["GreenletExit", "Timeout"]

    def test_kill_inside_a_timeout_takes_the_timer_along(self) -> None:
        def run() -> None:
            with Timeout(10):
                sleep(10)

        greenlet = spawn(run)
        sleep(0)
        greenlet.kill()
        assert get_hub().timers == {}


class TestWithTimeout:
    def test_returns_what_the_function_returns(self) -> None:
        assert with_timeout(1, lambda a, b: (a, b), 1, b=2) == (1, 2)
        assert with_timeout(None, int) == 0

    def test_raises_without_and_returns_with_a_timeout_value(self) -> None:
        with pytest.raises(Timeout):
            with_timeout(0.001, sleep, 10)
        assert with_timeout(0.001, sleep, 10, timeout_value="late") == "late"

    def test_value_is_for_its_own_timeout_only(self) -> None:
        with pytest.raises(Timeout) as caught, Timeout(0.001) as outer:
            with_timeout(10, sleep, 10, timeout_value="late")
        assert caught.value is outer

    def test_no_timer_is_left_when_the_function_fails(self) -> None:
        with pytest.raises(ZeroDivisionError):
            with_timeout(10, lambda: 1 // 0)
        assert get_hub().timers == {}


def test_swallowed_timeouts_make_no_cycles() -> None:
    gc.collect()
    gc.disable()
    try:
        with Timeout(0.001, False) as timeout:
            sleep(10)
        with_timeout(0.001, sleep, 10, timeout_value=None)
        reference = weakref.ref(timeout)
        del timeout
        sleep(0.001)
        assert reference() is None
    finally:
        gc.enable()
