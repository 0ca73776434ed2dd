"""Greenlet: starting, ending, waiting for, killing and links."""

import contextvars
import gc
import io
import time
import traceback
import weakref
from typing import Any

import pytest

import streamserve
from streamserve import Greenlet, GreenletExit, Timeout, getcurrent, sleep, spawn, spawn_later
from streamserve.loop.hubs import get_hub


def fail(kind: type[BaseException] = ValueError) -> None:
    raise kind("boom")


def stubborn(log: list[str], times: int = 1) -> str:
    """Survives so many kills."""
    for _ in range(times):
        try:
            sleep(10)
        except BaseException as error:
            log.append(type(error).__name__)
    return "survived"


class Parked:
    """A greenlet that waits, and tells what ended its wait."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.greenlet = spawn(self.run)
        sleep(0)

    def run(self) -> None:
        try:
            sleep(10)
        except BaseException as error:
            self.log.append(type(error).__name__)
            raise


class TestStarting:
    def test_never_runs_before_the_caller_waits(self) -> None:
        log: list[int] = []
        spawn(log.append, 1)
        assert log == []
        sleep(0)
        assert log == [1]

    def test_starts_in_the_order_of_spawning(self) -> None:
        log: list[int] = []
        streamserve.joinall([spawn(log.append, number) for number in range(700)])
        assert log == list(range(700))

    def test_what_a_greenlet_spawns_runs_after_what_was_spawned_before(self) -> None:
        log: list[str] = []
        spawn(lambda: spawn(log.append, "inner"))
        spawn(log.append, "outer")
        sleep(0)
        sleep(0)
        assert log == ["outer", "inner"]

    def test_arguments_arrive_and_are_let_go(self) -> None:
        greenlet = spawn(dict, [("a", 1)], b=2)
        assert greenlet.get() == {"a": 1, "b": 2}
        assert (greenlet.args, greenlet.kwargs) == ((), {})

    @pytest.mark.parametrize("way", [spawn, lambda run: spawn_later(1, run), Greenlet])
    def test_rejects_what_cannot_be_called(self, way: Any) -> None:
        with pytest.raises(TypeError, match="callable"):
            way(5)

    def test_starting_twice_runs_once(self) -> None:
        log: list[int] = []
        greenlet = Greenlet(log.append, 1)
        greenlet.start()
        greenlet.start()
        greenlet.join()
        greenlet.start()
        sleep(0)
        assert log == [1]

    def test_spawn_later_waits_and_counts_as_started(self) -> None:
        log: list[int] = []
        greenlet = spawn_later(0.003, log.append, 1)
        assert bool(greenlet)
        assert not greenlet.ready()
        sleep(0)
        assert log == []
        greenlet.join()
        assert log == [1]

    @pytest.mark.parametrize("seconds", [0, -1, float("-inf")])
    def test_spawn_later_takes_times_that_have_passed(self, seconds: float) -> None:
        assert spawn_later(seconds, lambda: 5).get(timeout=60) == 5

    def test_subclass_defines_what_runs(self) -> None:
        class Adder(Greenlet):
            def __init__(self, left: int, right: int) -> None:
                super().__init__()
                self.operands = (left, right)

            def _run(self) -> int:
                return sum(self.operands)

        assert Adder.spawn(1, 2).get() == 3

    def test_spawn_uses_the_start_of_a_subclass(self) -> None:
        log: list[str] = []

        class Logged(Greenlet):
            def start(self) -> None:
                log.append("start")
                super().start()

        assert Logged.spawn(lambda: 4).get() == 4
        assert log == ["start"]

    def test_each_has_an_empty_context_of_its_own(self) -> None:
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
        seen: list[int] = []

        def run() -> None:
            seen.append(variable.get())
            variable.set(7)
            sleep(0)
            seen.append(variable.get())

        variable.set(1)
        streamserve.joinall([spawn(run), spawn(run)])
        spawn(run).join()  # on a runner that was used before
        assert seen == [0, 0, 7, 7, 0, 7]
        assert variable.get() == 1


class TestState:
    def test_from_making_to_the_end(self) -> None:
        greenlet = Greenlet(sleep, 0.001)
        states = [(bool(greenlet), greenlet.ready(), greenlet.dead, greenlet.successful())]
        greenlet.start()
        states.append((bool(greenlet), greenlet.ready(), greenlet.dead, greenlet.successful()))
        sleep(0)
        states.append((bool(greenlet), greenlet.ready(), greenlet.dead, greenlet.successful()))
        greenlet.join()
        states.append((bool(greenlet), greenlet.ready(), greenlet.dead, greenlet.successful()))
        assert states == [
            (False, False, False, False),
            (True, False, False, False),
            (True, False, False, False),
            (False, True, True, True),
        ]

    def test_names_are_numbered_and_can_be_set(self) -> None:
        first, second = spawn(int), spawn(int)
        assert first.name.startswith("Greenlet-")
        assert first.name != second.name
        first.name = "mail"
        assert "'mail'" in repr(first)
        streamserve.joinall([first, second])

    def test_repr_says_what_runs_and_how_it_ended(self, errors: io.StringIO) -> None:
        greenlet, failed = spawn(int, 5), spawn(fail)
        assert "int to be started" in repr(greenlet)
        streamserve.joinall([greenlet, failed])
        assert "value=5" in repr(greenlet)
        assert "failed=ValueError('boom')" in repr(failed)

    def test_getcurrent_is_the_greenlet_that_runs(self) -> None:
        greenlet = spawn(getcurrent)
        assert greenlet.get() is greenlet


class TestWaiting:
    def test_get_raises_what_it_raised_every_time(self, errors: io.StringIO) -> None:
        greenlet = spawn(fail)
        lengths = []
        for _ in range(3):
            with pytest.raises(ValueError, match="boom") as caught:
                greenlet.get()
            assert caught.value is greenlet.exception
            lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
        assert lengths[0] == lengths[1] == lengths[2]

    def test_exc_info_is_false_or_has_the_three_parts(self, errors: io.StringIO) -> None:
        good, bad = spawn(int), spawn(fail)
        streamserve.joinall([good, bad])
        assert not good.exc_info
        assert bad.exc_info[:2] == (ValueError, bad.exception)

    def test_get_without_blocking_raises_timeout(self) -> None:
        greenlet = spawn(int, 3)
        with pytest.raises(Timeout):
            greenlet.get(block=False)
        greenlet.join()
        assert greenlet.get(block=False) == 3

    def test_get_raises_timeout_and_join_does_not(self) -> None:
        greenlet = spawn(sleep, 10)
        with pytest.raises(Timeout, match=r"0\.001 seconds"):
            greenlet.get(timeout=0.001)
        assert greenlet.join(timeout=0.001) is None  # type: ignore[func-returns-value]
        assert not greenlet.dead
        assert not greenlet.has_links()
        greenlet.kill()

    def test_a_timeout_object_stands_for_its_seconds(self) -> None:
        greenlet = spawn(sleep, 10)
        limit = Timeout(0.001)
        with pytest.raises(Timeout) as caught:
            greenlet.get(timeout=limit)
        assert caught.value is limit
        greenlet.join(timeout=Timeout(0.001))
        greenlet.kill()

    def test_many_joiners_wake_in_order(self) -> None:
        greenlet = spawn(sleep, 0.001)
        log: list[int] = []
        streamserve.joinall([spawn(lambda n=n: (greenlet.join(), log.append(n))) for n in range(5)])
        assert log == [0, 1, 2, 3, 4]

    def test_killed_joiner_leaves_no_link(self) -> None:
        greenlet = spawn(sleep, 10)
        joiner = spawn(greenlet.join)
        sleep(0)
        assert greenlet.has_links()
        joiner.kill()
        assert not greenlet.has_links()
        greenlet.kill()


class TestKilling:
    def test_greenlet_exit_is_the_value(self) -> None:
        parked = Parked()
        parked.greenlet.kill()
        assert parked.log == ["GreenletExit"]
        assert parked.greenlet.successful()
        assert isinstance(parked.greenlet.get(), GreenletExit)
        assert parked.greenlet.exception is None

    def test_another_exception_is_its_error(self, errors: io.StringIO) -> None:
        parked, error = Parked(), KeyError("x")
        parked.greenlet.kill(error)
        assert parked.greenlet.exception is error
        assert not parked.greenlet.successful()

    @pytest.mark.parametrize("form", [ValueError, ValueError("v"), (ValueError, ValueError("v"), None), (ValueError,)])
    def test_exceptions_come_as_class_instance_or_triple(self, errors: io.StringIO, form: Any) -> None:
        parked = Parked()
        parked.greenlet.kill(form)
        assert parked.log == ["ValueError"]

    def test_a_class_that_cannot_be_made_kills_with_the_reason(self, errors: io.StringIO) -> None:
        class Demanding(Exception):
            def __init__(self, reason: str) -> None: ...

        parked = Parked()
        parked.greenlet.kill(Demanding)
        assert parked.log == ["TypeError"]

    def test_before_the_start_it_never_runs_but_links_fire_in_order(self) -> None:
        log: list[str] = []
        greenlet = spawn(log.append, "ran")
        greenlet.link(lambda source: log.append("link"))
        greenlet.rawlink(lambda source: log.append("rawlink"))
        greenlet.kill()
        assert greenlet.dead
        sleep(0)
        assert log == ["link", "rawlink"]
        assert isinstance(greenlet.value, GreenletExit)

    def test_killed_before_it_was_started_it_stays_dead(self) -> None:
        log: list[str] = []
        greenlet = Greenlet(log.append, "ran")
        greenlet.kill()
        greenlet.start()
        sleep(0)
        assert log == []
        assert greenlet.ready()

    def test_a_later_start_is_taken_back(self) -> None:
        log: list[str] = []
        greenlet = spawn_later(10, log.append, "ran")
        greenlet.kill()
        assert get_hub().timers == {}
        assert log == []

    def test_it_may_be_caught(self) -> None:
        log: list[str] = []
        greenlet = spawn(stubborn, log)
        sleep(0)
        greenlet.kill()
        assert log == ["GreenletExit"]
        assert greenlet.get() == "survived"

    def test_after_the_timeout_it_is_left_alive_silently(self) -> None:
        log: list[str] = []
        greenlet = spawn(stubborn, log, 2)
        sleep(0)
        assert greenlet.kill(timeout=0.001) is None  # type: ignore[func-returns-value]
        assert not greenlet.dead
        greenlet.kill()
        assert log == ["GreenletExit", "GreenletExit"]

    def test_two_kills_are_two_exceptions(self) -> None:
        log: list[str] = []
        greenlet = spawn(stubborn, log, 2)
        sleep(0)
        greenlet.kill(block=False)
        greenlet.kill(KeyError, block=False)
        greenlet.join()
        assert log == ["GreenletExit", "KeyError"]

    def test_of_a_finished_greenlet_changes_nothing(self) -> None:
        greenlet = spawn(int, 5)
        greenlet.join()
        greenlet.kill()
        assert greenlet.value == 5

    def test_of_oneself_raises_at_once(self) -> None:
        log: list[str] = []

        def run() -> None:
            try:
                getcurrent().kill()
            finally:
                log.append("left")

        greenlet = spawn(run)
        greenlet.join()
        assert isinstance(greenlet.value, GreenletExit)
        assert log == ["left"]

    @pytest.mark.parametrize("way", [lambda g: g.kill(block=False), streamserve.kill])
    def test_of_oneself_without_blocking_raises_at_the_next_wait(self, way: Any) -> None:
        log: list[str] = []

        def run() -> None:
            way(getcurrent())
            log.append("goes on")
            sleep(0)
            log.append("waited")

        greenlet = spawn(run)
        greenlet.join()
        assert log == ["goes on"]
        assert isinstance(greenlet.value, GreenletExit)

    def test_of_one_that_was_woken_waits_for_its_next_wait(self) -> None:
        log: list[str] = []

        def run() -> None:
            sleep(0)
            log.append("woken")
            sleep(0)
            log.append("again")

        greenlet = spawn(run)
        sleep(0)
        greenlet.kill(block=False)
        greenlet.join()
        assert log == ["woken"]

    def test_does_not_reach_what_runs_next_on_the_same_runner(self) -> None:
        log: list[str] = []

        def first() -> None:
            getcurrent().kill(block=False)  # and ends without another wait

        spawn(first).join()
        spawn(lambda: (sleep(0.001), log.append("second"))).join()
        assert log == ["second"]

    def test_does_not_yield_unless_it_blocks(self) -> None:
        log: list[str] = []
        parked = Parked()
        spawn(log.append, "other")
        parked.greenlet.kill(block=False)
        assert log == []
        parked.greenlet.join()

    def test_throw_kills_without_waiting(self, errors: io.StringIO) -> None:
        parked = Parked()
        parked.greenlet.throw(KeyError("x"))
        parked.greenlet.join()
        assert parked.log == ["KeyError"]


class TestLinks:
    def test_run_in_the_order_of_adding_each_once(self) -> None:
        log: list[str] = []
        greenlet = spawn(int)
        greenlet.rawlink(lambda source: log.append("1 raw"))
        greenlet.link(lambda source: log.append("2"))
        greenlet.rawlink(lambda source: log.append("3 raw"))
        greenlet.link(lambda source: log.append("4"))
        greenlet.join()
        sleep(0)
        assert log == ["1 raw", "2", "3 raw", "4"]

    def test_rawlink_runs_in_the_hub_and_link_in_a_greenlet(self) -> None:
        where: list[Any] = []
        greenlet = spawn(int)
        greenlet.rawlink(lambda source: where.append(getcurrent()))
        greenlet.link(lambda source: where.append(getcurrent()))
        greenlet.join()
        sleep(0)
        assert where[0] is get_hub()
        assert isinstance(where[1], Greenlet)

    def test_a_link_may_wait(self) -> None:
        log: list[str] = []
        greenlet = spawn(int)
        greenlet.link(lambda source: (sleep(0.001), log.append("linked")))
        get_hub().join()
        assert log == ["linked"]

    def test_choose_by_outcome_and_greenlet_exit_is_a_value(self, errors: io.StringIO) -> None:
        log: list[str] = []
        outcomes = {"good": spawn(int), "bad": spawn(fail), "killed": Parked().greenlet}
        for name, greenlet in outcomes.items():
            greenlet.link_value(lambda source, name=name: log.append(f"{name} value"))
            greenlet.link_exception(lambda source, name=name: log.append(f"{name} exception"))
        outcomes["killed"].kill()
        streamserve.joinall(outcomes.values())
        sleep(0)
        assert sorted(log) == ["bad exception", "good value", "killed value"]

    def test_after_the_end_a_link_still_fires_but_not_at_once(self) -> None:
        log: list[Any] = []
        greenlet = spawn(int)
        greenlet.join()
        greenlet.rawlink(log.append)
        assert greenlet.has_links()
        assert log == []
        sleep(0)
        assert log == [greenlet]
        assert not greenlet.has_links()

    def test_can_be_taken_back_also_after_the_end(self) -> None:
        log: list[Any] = []
        greenlet = spawn(int)
        greenlet.link(log.append)
        greenlet.unlink(log.append)
        greenlet.join()
        greenlet.rawlink(log.append)
        greenlet.unlink(log.append)
        greenlet.unlink(log.append)  # a missing one is no error
        sleep(0)
        assert log == []

    def test_can_be_taken_back_by_an_earlier_link(self) -> None:
        log: list[str] = []
        greenlet = spawn(int)

        def second(source: Greenlet) -> None:
            log.append("second")

        greenlet.rawlink(lambda source: source.unlink(second))
        greenlet.rawlink(second)
        greenlet.join()
        sleep(0)
        assert log == []

    def test_unlink_all(self) -> None:
        log: list[Any] = []
        greenlet = spawn(int)
        greenlet.rawlink(log.append)
        greenlet.link(log.append)
        greenlet.unlink_all()
        greenlet.join()
        sleep(0)
        assert log == []

    def test_failing_link_is_reported_and_the_next_runs(self, errors: io.StringIO) -> None:
        log: list[Any] = []
        greenlet = spawn(int)
        greenlet.rawlink(lambda source: fail())
        greenlet.rawlink(log.append)
        greenlet.join()
        sleep(0)
        assert log == [greenlet]
        assert errors.getvalue().count("ValueError: boom") == 1
        assert repr(greenlet) in errors.getvalue()

    def test_must_be_callable(self) -> None:
        greenlet = spawn(int)
        for way in (greenlet.link, greenlet.rawlink):
            with pytest.raises(TypeError, match="callable"):
                way(5)  # type: ignore[operator]
        greenlet.join()


class TestContextManager:
    def test_waits_for_the_end(self) -> None:
        with spawn(lambda: (sleep(0.001), 4)[1]) as greenlet:
            pass
        assert greenlet.value == 4

    def test_an_error_in_the_block_kills_it(self, errors: io.StringIO) -> None:
        parked = Parked()
        with pytest.raises(KeyError), parked.greenlet:
            raise KeyError("block")
        assert parked.log == ["KeyError"]


class TestErrors:
    def test_uncaught_is_reported_once_with_the_name(self, errors: io.StringIO) -> None:
        greenlet = spawn(fail)
        greenlet.name = "mail"
        greenlet.join()
        report = errors.getvalue()
        assert report.count("Traceback") == 1
        assert report.count("ValueError: boom") == 1
        last = report.strip().splitlines()[-1]
        assert "'mail'" in last
        assert "fail" in last
        assert last.endswith("failed with ValueError")

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_system_errors_reach_the_main_greenlet_where_it_waits(self, kind: type[BaseException]) -> None:
        greenlet = spawn(fail, kind)
        with pytest.raises(kind):
            greenlet.join()
        sleep(0)
        assert isinstance(greenlet.exception, kind)

    def test_handle_error_may_be_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Any] = []
        monkeypatch.setattr(get_hub(), "handle_error", lambda context, kind, value, trace: seen.append((context, kind)))
        greenlet = spawn(fail)
        greenlet.join()
        assert seen == [(greenlet, ValueError)]


class Payload:
    """Something that a weak reference can watch."""


@pytest.fixture
def no_collector() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
class TestMemory:
    def gone(self, *references: Any) -> bool:
        sleep(0.001)  # the hub had its turn
        return all(reference() is None for reference in references)

    def test_finished_is_freed_with_its_value(self) -> None:
        greenlet = spawn(Payload)
        references = weakref.ref(greenlet), weakref.ref(greenlet.get())
        del greenlet
        assert self.gone(*references)

    def test_failed_is_freed(self, errors: io.StringIO) -> None:
        greenlet = spawn(fail)
        greenlet.join()
        reference = weakref.ref(greenlet)
        del greenlet
        assert self.gone(reference)

    def test_killed_is_freed_with_what_it_held(self) -> None:
        def run(payload: Payload) -> None:
            sleep(10)

        payload = Payload()
        greenlet = spawn(run, payload)
        sleep(0)
        greenlet.kill()
        references = weakref.ref(greenlet), weakref.ref(payload)
        del greenlet, payload
        assert self.gone(*references)

    def test_function_that_closes_over_its_greenlet_is_freed(self) -> None:
        def run() -> Any:
            greenlet = spawn(lambda: bool(greenlet))
            greenlet.join()
            return weakref.ref(greenlet)

        assert self.gone(run())

    def test_done_is_not_held_by_the_runner_that_goes_on(self) -> None:
        first = spawn(Payload)
        second = spawn(sleep, 10)  # the same runner takes it
        sleep(0.001)
        reference = weakref.ref(first.get())
        del first
        assert self.gone(reference)
        second.kill()

    def test_a_hundred_thousand_leave_nothing(self) -> None:
        for _ in range(1000):
            spawn(int).join()
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(100):
            streamserve.joinall([spawn(int) for _ in range(1000)])
        gc.collect()
        assert len(gc.get_objects()) < before + 100

    def test_parked_costs_at_most_what_gevents_does(self) -> None:
        """8.5 KB of RSS each, measured over 2,000."""
        before = resident()
        parked = [spawn(sleep, 100) for _ in range(2000)]
        sleep(0)
        sleep(0)
        each = (resident() - before) / len(parked)
        streamserve.killall(parked)
        assert each <= 8.5 * 1024


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def test_two_thousand_sleep_at_once() -> None:
    started = time.monotonic()
    streamserve.joinall([spawn(sleep, 0.005) for _ in range(2000)])
    assert time.monotonic() - started < 2
