"""sleep, idle, spawn_raw, wait, iwait, joinall, kill and killall."""

import io
import time
from typing import Any

import pytest

import streamserve
from streamserve import Greenlet, GreenletExit, Timeout, getcurrent, iwait, joinall, killall, sleep, spawn, wait
from streamserve.loop.hubs import get_hub


class TestSleep:
    def test_zero_gives_each_a_turn_in_order(self) -> None:
        log: list[tuple[str, int]] = []

        def run(name: str) -> None:
            for turn in range(3):
                log.append((name, turn))
                sleep(0)

        joinall([spawn(run, name) for name in "abc"])
        assert log == [(name, turn) for turn in range(3) for name in "abc"]

    @pytest.mark.parametrize("seconds", [0, -1, float("-inf")])
    def test_of_no_time_is_one_turn(self, seconds: float) -> None:
        log: list[int] = []
        spawn(log.append, 1)
        sleep(seconds)
        assert log == [1]

    def test_lasts_at_least_its_time(self) -> None:
        for seconds in (0.0001, 0.001, 0.003):
            started = time.monotonic()
            sleep(seconds)
            assert time.monotonic() - started >= seconds

    def test_rejects_nan(self) -> None:
        with pytest.raises(ValueError, match="nan"):
            sleep(float("nan"))

    @pytest.mark.parametrize("seconds", [1e9, float("inf")])
    def test_for_ever_can_be_killed(self, seconds: float) -> None:
        greenlet = spawn(sleep, seconds)
        sleep(0)
        assert not greenlet.dead
        greenlet.kill()
        assert greenlet.dead

    def test_without_ref_does_not_keep_the_loop(self) -> None:
        greenlet = spawn(sleep, 10, ref=False)
        assert get_hub().join() is True
        greenlet.kill()

    def test_zero_does_not_starve_timers(self) -> None:
        done = spawn(sleep, 0.002)
        turns = 0
        while not done.dead:
            sleep(0)
            turns += 1
        assert turns > 1

    def test_idle_returns_when_nothing_is_ready(self) -> None:
        log: list[int] = []
        spawn(lambda: [(log.append(turn), sleep(0)) for turn in range(3)])
        streamserve.idle()
        assert log == [0, 1, 2]


class TestIwait:
    def test_gives_objects_as_they_become_ready(self) -> None:
        slow, fast, middle = spawn(sleep, 0.006), spawn(sleep, 0.001), spawn(sleep, 0.003)
        assert list(iwait([slow, fast, middle])) == [fast, middle, slow]

    def test_ends_after_count_and_unlinks_the_rest(self) -> None:
        slow, fast = spawn(sleep, 10), spawn(sleep, 0.001)
        assert list(iwait([slow, fast], count=1)) == [fast]
        assert not slow.has_links()
        slow.kill()

    def test_ends_silently_at_its_timeout(self) -> None:
        slow, fast = spawn(sleep, 10), spawn(sleep, 0.001)
        assert list(iwait([slow, fast], timeout=0.005)) == [fast]
        slow.kill()

    def test_as_a_context_manager_forgets_the_rest(self) -> None:
        slow, fast = spawn(sleep, 10), spawn(sleep, 0.001)
        with iwait([slow, fast], timeout=10) as ready:
            assert next(ready) is fast
        assert not slow.has_links()
        assert list(get_hub().timers) == [next(iter(get_hub().timers))]  # the sleep of `slow` alone
        slow.kill()

    def test_finished_ones_come_in_the_order_given(self) -> None:
        first, second = spawn(int), spawn(int)
        joinall([first, second])
        assert list(iwait([second, first])) == [second, first]

    def test_an_object_given_twice_comes_twice(self) -> None:
        greenlet = spawn(sleep, 0.001)
        assert wait([greenlet, greenlet]) == [greenlet, greenlet]

    def test_of_nothing_is_nothing(self) -> None:
        assert wait([]) == []
        assert list(iwait([])) == []
        assert wait([spawn(int)], count=0) == []

    def test_an_object_that_cannot_be_waited_for_leaves_nothing_behind(self) -> None:
        greenlet = spawn(sleep, 0.001)
        with pytest.raises(AttributeError):
            wait([greenlet, 5], timeout=10)
        assert not greenlet.has_links()

    def test_killed_in_it_leaves_no_link(self) -> None:
        slow = spawn(sleep, 10)
        waiting = spawn(wait, [slow], timeout=10)
        sleep(0)
        waiting.kill()
        assert not slow.has_links()
        slow.kill()


class TestWait:
    def test_without_objects_waits_for_the_end_of_everything(self) -> None:
        log: list[int] = []
        spawn(lambda: (sleep(0.001), log.append(1)))
        assert wait() is True
        assert log == [1]

    def test_without_objects_says_when_time_ran_out(self) -> None:
        greenlet = spawn(sleep, 10)
        assert wait(timeout=0.001) is False
        greenlet.kill()

    def test_with_timeout_zero_gives_what_is_ready(self) -> None:
        done, slow = spawn(int), spawn(sleep, 10)
        done.join()
        assert wait([slow, done], timeout=0) == [done]
        slow.kill()


class TestJoinall:
    def test_returns_those_that_ended(self) -> None:
        done, slow = spawn(int), spawn(sleep, 10)
        assert joinall([done, slow], timeout=0.001) == [done]
        slow.kill()

    def test_raises_the_first_error_if_asked(self, errors: io.StringIO) -> None:
        bad, slow = spawn(int, "x"), spawn(sleep, 10)
        with pytest.raises(ValueError, match="invalid literal"):
            joinall([slow, bad], raise_error=True)
        assert joinall([bad]) == [bad]
        slow.kill()

    def test_count(self) -> None:
        slow, fast = spawn(sleep, 10), spawn(sleep, 0.001)
        assert joinall([slow, fast], count=1) == [fast]
        slow.kill()


def park(log: list[str]) -> None:
    try:
        sleep(10)
    except BaseException as error:
        log.append(type(error).__name__)
        raise


class TestKill:
    def test_of_a_raw_greenlet(self) -> None:
        log: list[str] = []
        raw = streamserve.spawn_raw(park, log)
        sleep(0)
        streamserve.kill(raw)
        assert log == []
        sleep(0)
        assert log == ["GreenletExit"]
        assert raw.dead
        streamserve.kill(raw)

    def test_of_a_raw_greenlet_that_did_not_begin(self) -> None:
        log: list[int] = []
        raw = streamserve.spawn_raw(log.append, 1)
        streamserve.kill(raw)
        sleep(0)
        assert log == []
        assert raw.dead


class TestKillall:
    def test_ends_all_and_those_not_begun_never_run(self) -> None:
        log: list[str] = []
        parked = spawn(park, log)
        sleep(0)
        fresh = spawn(log.append, "ran")
        raw = streamserve.spawn_raw(park, log)
        assert killall(greenlet for greenlet in (parked, fresh, raw)) is None  # type: ignore[func-returns-value]
        assert parked.dead
        assert fresh.dead
        assert raw.dead
        assert log == ["GreenletExit"]

    def test_raises_timeout_when_one_stays_alive(self) -> None:
        def stay() -> None:
            try:
                sleep(10)
            except GreenletExit:
                sleep(0.005)

        stubborn = spawn(stay)
        sleep(0)
        with pytest.raises(Timeout):
            killall([stubborn], timeout=0.001)
        assert not stubborn.dead
        stubborn.join()

    def test_without_blocking_only_asks(self) -> None:
        log: list[str] = []
        greenlet = spawn(park, log)
        sleep(0)
        killall([greenlet], KeyError, block=False)
        assert log == []
        greenlet.kill()
        assert log == ["KeyError"]

    def test_waits_for_raw_ones_that_take_their_time(self) -> None:
        def slowly() -> None:
            try:
                sleep(10)
            finally:
                sleep(0.003)

        raw = streamserve.spawn_raw(slowly)
        sleep(0)
        killall([raw])
        assert raw.dead

    def test_of_nothing(self) -> None:
        killall([])


class TestSpawnRaw:
    def test_runs_in_a_plain_greenlet(self) -> None:
        seen: list[Any] = []
        raw = streamserve.spawn_raw(lambda: seen.append(getcurrent()))
        sleep(0)
        assert seen == [raw]
        assert not isinstance(raw, Greenlet)

    def test_reports_its_errors(self, errors: io.StringIO) -> None:
        streamserve.spawn_raw(int, "x")
        sleep(0)
        assert errors.getvalue().count("ValueError: invalid literal") == 1

    def test_rejects_what_cannot_be_called(self) -> None:
        with pytest.raises(TypeError, match="callable"):
            streamserve.spawn_raw(5)  # type: ignore[arg-type]
