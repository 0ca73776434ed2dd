"""The hub: callbacks, timers, errors, the end of everything."""

import io
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

from streamserve import Greenlet, joinall, sleep, spawn
from streamserve.errors import HubDestroyed, LoopExit
from streamserve.loop.failures import FailureReports
from streamserve.loop.hub import BUDGET, FOREVER, Hub
from streamserve.loop.hubs import get_hub, set_default_backend
from streamserve.loop.waiter import Waiter
from tests.support.threads import in_thread


def run_alone(code: str) -> str:
    """Runs code in an interpreter of its own; returns what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


class TestCallbacks:
    def test_run_in_order_in_the_hub(self) -> None:
        hub, log = get_hub(), []
        for number in range(3):
            hub.run_callback(lambda number=number: log.append((number, hub.gr_frame is None)))
        sleep(0)
        assert log == [(0, True), (1, True), (2, True)]

    def test_stopped_ones_do_not_run(self) -> None:
        log: list[int] = []
        callback = get_hub().run_callback(log.append, 1)
        assert callback.pending
        callback.stop()
        assert not callback.pending
        sleep(0)
        assert log == []

    def test_failing_ones_are_reported_and_the_hub_goes_on(self, errors: io.StringIO) -> None:
        hub, log = get_hub(), []
        hub.run_callback(lambda: 1 // 0)
        hub.run_callback(log.append, 1)
        sleep(0.001)
        assert log == [1]
        assert errors.getvalue().count("Traceback") == 1
        assert errors.getvalue().strip().endswith("failed with ZeroDivisionError")

    def test_more_than_a_budget_of_them_all_run(self) -> None:
        hub, log = get_hub(), []
        for number in range(BUDGET * 3):
            hub.run_callback(log.append, number)
        hub.join()
        assert log == list(range(BUDGET * 3))

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_system_errors_go_to_the_main_greenlet(self, kind: type[BaseException]) -> None:
        def fail() -> None:
            raise kind

        get_hub().run_callback(fail)
        with pytest.raises(kind):
            sleep(1)
        sleep(0.001)  # and the hub is usable

    def test_a_system_error_while_main_is_on_its_way_is_kept_for_its_next_wait(self) -> None:
        def fail() -> None:
            raise KeyboardInterrupt

        get_hub().run_callback(fail)
        sleep(0)
        with pytest.raises(KeyboardInterrupt):
            sleep(0.001)


class TestTimers:
    @pytest.mark.parametrize("seconds", [0, -1, float("-inf"), -1e300])
    def test_that_have_passed_fire_at_the_next_poll(self, seconds: float) -> None:
        waiter = Waiter(get_hub())
        get_hub().start_timer(seconds, waiter)
        waiter.park()

    @pytest.mark.parametrize("seconds", [1e9, FOREVER, 1e300, float("inf")])
    def test_far_away_ones_are_held(self, seconds: float) -> None:
        hub, waiter = get_hub(), Waiter(get_hub())
        slot = hub.start_timer(seconds, waiter)
        sleep(0.001)
        assert not waiter.done
        hub.stop_timer(slot, waiter)

    def test_nan_is_refused(self) -> None:
        with pytest.raises(ValueError, match="nan"):
            get_hub().start_timer(float("nan"), None)

    def test_stopping_one_of_another_target_does_nothing(self) -> None:
        hub, waiter = get_hub(), Waiter(get_hub())
        slot = hub.start_timer(0.001, waiter)
        hub.stop_timer(slot, object())
        waiter.park()
        hub.stop_timer(slot, waiter)  # it has fired: nothing to stop

    def test_a_slot_that_was_reused_is_not_stopped_by_its_former_owner(self) -> None:
        hub, first, second = get_hub(), Waiter(get_hub()), Waiter(get_hub())
        slot = hub.start_timer(0, first)
        first.park()
        assert hub.start_timer(0.001, second) == slot
        hub.stop_timer(slot, first)
        second.park()

    def test_those_due_at_once_all_fire_though_the_first_starts_another(self) -> None:
        # The core gives the new timer the slot of one that has fired, but that nobody was told of yet.
        hub, log = get_hub(), []

        class Target:
            def __init__(self, name: str) -> None:
                self.name = name

            def fire(self) -> None:
                log.append(self.name)
                if self.name == "first":
                    hub.start_timer(60, later)

        later = Target("later")
        for name in ("first", "second", "third"):
            hub.start_timer(0, Target(name))
        sleep(0.001)
        assert log == ["first", "second", "third"]
        slot = next(slot for slot, target in hub.timers.items() if target is later)
        hub.stop_timer(slot, later)


class TestTheEnd:
    def test_waiting_for_what_cannot_come_is_loop_exit_in_main(self) -> None:
        with pytest.raises(LoopExit, match="block forever") as caught:
            Greenlet(int).join()
        assert caught.value.args[1] is get_hub()
        sleep(0.001)  # and the hub is usable

    def test_join_returns_when_nothing_is_left(self) -> None:
        log: list[int] = []
        spawn(lambda: (sleep(0.001), log.append(1)))
        assert get_hub().join() is True
        assert log == [1]

    @pytest.mark.parametrize("timeout", [0, 0.001])
    def test_join_says_when_time_ran_out(self, timeout: float) -> None:
        greenlet = spawn(sleep, 10)
        assert get_hub().join(timeout) is False
        greenlet.kill()

    def test_two_can_join(self) -> None:
        first, second = spawn(get_hub().join), spawn(get_hub().join)
        spawn(sleep, 0.001)
        assert get_hub().join() is True
        joinall([first, second])
        assert (first.value, second.value) == (True, True)

    def test_join_waits_for_the_calls_of_the_thread_pool(self) -> None:
        log: list[str] = []
        gate = threading.Event()
        result = get_hub().threadpool.spawn(lambda: (gate.wait(20), log.append("done")))
        spawn(sleep, 0).link(lambda _: gate.set())
        assert get_hub().join() is True
        assert log == ["done"]
        assert result.ready()

    def test_another_thread_that_runs_may_still_wake_it(self) -> None:
        waiter = Waiter(get_hub())
        thread = threading.Timer(0.01, waiter.wake_threadsafe, ["woken"])
        thread.start()
        assert waiter.park() == "woken"
        thread.join()

    def test_the_end_of_the_last_other_thread_is_noticed(self) -> None:
        assert (
            run_alone("""
            import threading
            from streamserve.errors import LoopExit
            from streamserve.loop.hubs import get_hub
            from streamserve.loop.waiter import Waiter

            threading.Timer(0.01, int).start()
            try:
                Waiter(get_hub()).park()
            except LoopExit:
                print("LoopExit")
            """)
            == "LoopExit"
        )

    def test_a_callback_from_elsewhere_is_seen_before_giving_up(self) -> None:
        hub = get_hub()
        greenlet = Greenlet(lambda: 3)
        hub.run_callback_threadsafe(greenlet.start)
        assert greenlet.get() == 3

    def test_a_destroyed_hub_says_so_in_main_and_a_new_one_is_made(self) -> None:
        assert run_alone("""
            import streamserve
            from streamserve.errors import HubDestroyed
            first = streamserve.get_hub()
            waiting = streamserve.spawn(streamserve.sleep, 10)
            streamserve.spawn_later(0.001, first.destroy)
            try:
                streamserve.sleep(10)
            except HubDestroyed:
                print("destroyed")
            first.run_callback_threadsafe(print, "never")
            assert streamserve.get_hub() is not first
            streamserve.spawn(print, "again").join()
        """).split() == ["destroyed", "again"]


class TestInterrupts:
    def test_withdrawing_what_was_raised_already_does_nothing(self) -> None:
        get_hub().withdraw_interrupt(object(), KeyError())

    def test_come_one_at_a_time_in_order(self) -> None:
        log: list[str] = []

        def run() -> None:
            for _ in range(3):
                try:
                    sleep(10)
                except BaseException as error:
                    log.append(type(error).__name__)

        greenlet = spawn(run)
        sleep(0)
        for kind in (KeyError, ValueError, IndexError):
            greenlet.kill(kind, block=False)
        greenlet.join()
        assert log == ["KeyError", "ValueError", "IndexError"]


class TestBackends:
    def test_are_chosen_by_name(self) -> None:
        for name in ("epoll", "poll"):
            hub = Hub(name)
            assert f"<Hub {name} " in repr(hub)
            hub.destroy()
            hub.destroy()
            assert "destroyed" in repr(hub)

    def test_unknown_ones_are_named_with_the_choices(self) -> None:
        with pytest.raises(ValueError, match="'kqueue' is unknown: choose one of auto, epoll, poll"):
            set_default_backend("kqueue")

    def test_poll_runs_greenlets_timers_and_signals(self) -> None:
        assert (
            run_alone("""
            import os, signal, streamserve
            from streamserve.loop.hubs import set_default_backend
            set_default_backend("poll")
            log = []
            handler = streamserve.signal_handler(signal.SIGUSR1, log.append, "signal")
            streamserve.spawn_later(0.002, os.kill, os.getpid(), signal.SIGUSR1)
            streamserve.spawn(log.append, "greenlet")
            streamserve.sleep(0.01)
            handler.cancel()
            print(repr(streamserve.get_hub()).split()[1], *log)
        """)
            == "poll greenlet signal"
        )


def test_report_survives_a_broken_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def write(self, text: str) -> Any:
            raise OSError("disk full")

    monkeypatch.setattr(get_hub(), "exception_stream", Broken())
    spawn(int, "x").join()
    spawn(int).join()


def test_an_event_that_fails_does_not_take_the_others_of_its_poll_along(errors: io.StringIO) -> None:
    class Failing:
        def fire(self) -> None:
            raise RuntimeError("this timer only")

    hub = get_hub()
    woken: list[int] = []
    for number in range(3):
        spawn(lambda number=number: (sleep(0.001), woken.append(number)))
        spawn(hub.start_timer, 0.001, Failing())
    spawn(time.sleep, 0.002)  # all of them are due at the same poll
    hub.join(60)
    assert woken == [0, 1, 2]
    assert errors.getvalue().count("RuntimeError: this timer only") == 3


def test_what_is_raised_while_a_failure_is_reported_ends_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = get_hub()

    def fails(*args: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(hub, "handle_error", fails, raising=False)
    monkeypatch.setattr(hub, "print_exception", fails, raising=False)
    monkeypatch.setattr(hub, "exception_stream", io.StringIO())
    hub.run_callback(fails)
    spawn(fails)
    sleep(0.001)
    assert hub.exception_stream.getvalue().count("failed with ConnectionError") == 2


def test_what_a_signals_function_raises_amid_a_report_is_mains_and_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = get_hub()

    def fails(*args: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(FailureReports, "report", fails)
        hub.run_callback(int, "no number")
        with pytest.raises(ConnectionError):
            sleep(5)
    sleep(0.001)
    assert not hub.dead


def test_a_wait_on_a_hub_that_has_ended_is_an_error() -> None:
    log: list[object] = []

    def run() -> None:
        hub = get_hub()
        hub.destroy()
        for _ in range(3):
            try:
                Waiter(hub).park()
            except HubDestroyed:
                log.append(hub.dead)
        sleep(0.001)
        log.append(get_hub() is hub)

    in_thread(run)
    assert log == [False, True, True, False]


def test_a_hub_whose_greenlet_was_ended_by_hand_is_replaced() -> None:
    log: list[object] = []

    def run() -> None:
        hub = get_hub()
        hub.run = fails  # type: ignore[method-assign]
        try:
            sleep(5)
        except ConnectionError:
            log.append(hub.dead)
        try:
            sleep(5)
        except HubDestroyed:
            sleep(0.001)
            log.append(get_hub() is hub)

    def fails() -> None:
        raise ConnectionError

    in_thread(run)
    assert log == [True, False]
