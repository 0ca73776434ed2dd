"""Event: a flag that greenlets and native threads wait for."""

import gc
import io
import os
import signal
import threading

import pytest

from streamserve import Greenlet, Timeout, get_hub, iwait, joinall, sleep, spawn, wait
from streamserve.errors import BlockingSwitchOutError
from streamserve.sync.event import Event
from tests.support.garbage import Garbage
from tests.support.threads import PATIENCE, begin, crew, disturbed, in_thread, in_threads, until


def waiters(event: Event, log: list[str], names: str) -> list[Greenlet]:
    """Greenlets that wait in this order and then write their name."""

    def run(name: str) -> None:
        assert event.wait() is True
        log.append(name)

    started = [spawn(run, name) for name in names]
    sleep(0)
    assert event.linkcount() == len(names)
    return started


def test_set_wakes_all_in_order() -> None:
    event, log = Event(), []
    started = waiters(event, log, "abc")
    assert log == []
    event.set()
    joinall(started)
    assert "".join(log) == "abc"
    assert event.linkcount() == 0


def test_wait_on_a_set_event_returns_at_once() -> None:
    event, log = Event(), []
    event.set()
    spawn(log.append, "others ran")
    assert event.wait() is True
    assert event.is_set() and event.isSet() and event.ready()
    assert log == []
    sleep(0)


def test_clear_makes_it_wait_again() -> None:
    event = Event()
    event.set()
    event.set()
    event.clear()
    event.clear()
    assert not event.is_set()
    assert event.wait(0.001) is False


@pytest.mark.parametrize("timeout", [0, -1, 0.001, Timeout(0.001)])
def test_wait_gives_up_after_its_timeout(timeout: float) -> None:
    event = Event()
    assert event.wait(timeout) is False
    assert event.linkcount() == 0


def test_a_timeout_of_somebody_else_is_raised() -> None:
    event = Event()
    with pytest.raises(Timeout) as caught, Timeout(0.001) as limit:
        event.wait(PATIENCE)
    assert caught.value is limit
    assert event.linkcount() == 0


def test_a_timeout_that_is_no_number_leaves_nothing_behind() -> None:
    event = Event()
    with pytest.raises(TypeError):
        event.wait("soon")
    assert event.linkcount() == 0


def test_who_waited_sees_a_set_that_was_cleared_at_once() -> None:
    event, log = Event(), []
    started = waiters(event, log, "ab")
    event.set()
    event.clear()
    assert event.wait(0.001) is False, "it came after the clear"
    joinall(started)
    assert log == ["a", "b"]


def test_a_late_waiter_queues_behind_those_who_were_woken() -> None:
    event, log = Event(), []
    started = waiters(event, log, "ab")
    event.set()
    event.wait()
    log.append("late")
    assert log == ["a", "b", "late"]
    spawn(log.append, "other")
    event.wait()
    assert log == ["a", "b", "late"], "nobody is before it now, so it does not wait"
    joinall(started)
    sleep(0)


def test_a_killed_waiter_is_forgotten() -> None:
    event, log = Event(), []
    started = waiters(event, log, "abc")
    started[1].kill()
    assert event.linkcount() == 2
    event.set()
    joinall(started)
    assert log == ["a", "c"]


def test_one_killed_after_it_was_woken_does_not_hold_up_late_ones() -> None:
    event, log = Event(), []
    (started,) = waiters(event, log, "a")
    event.set()
    started.kill()
    spawn(log.append, "other")
    assert event.wait() is True
    assert "other" not in log
    sleep(0)


def test_waiting_in_the_hub_is_refused_and_leaves_nothing_behind() -> None:
    event, caught = Event(), []

    def callback() -> None:
        with pytest.raises(BlockingSwitchOutError, match="spawn a greenlet") as info:
            event.wait()
        caught.append(info)

    get_hub().run_callback(callback)
    sleep(0)
    assert caught
    assert event.linkcount() == 0


def test_the_hub_may_set_and_look() -> None:
    event, seen = Event(), []
    get_hub().run_callback(event.set)
    assert event.wait() is True
    get_hub().run_callback(lambda: seen.append(event.wait()))
    sleep(0)
    assert seen == [True]


# ---- links


def test_a_link_is_called_once_in_the_hub() -> None:
    event, seen = Event(), []
    event.rawlink(lambda source: seen.append((source, spawn_is_current_hub())))
    sleep(0)
    assert seen == []
    event.set()
    assert seen == [], "not by the one who sets"
    sleep(0)
    event.clear()
    event.set()
    sleep(0)
    assert seen == [(event, True)]


def spawn_is_current_hub() -> bool:
    from greenlet import getcurrent

    return getcurrent() is get_hub()


def test_a_link_to_a_set_event_is_called_too() -> None:
    event, seen = Event(), []
    event.set()
    event.rawlink(seen.append)
    sleep(0)
    assert seen == [event]


def test_links_and_waiters_are_woken_in_one_order() -> None:
    event, log = Event(), []
    first = waiters(event, log, "a")
    event.rawlink(lambda source: log.append("link"))
    second = spawn(lambda: (event.wait(), log.append("b")))
    sleep(0)
    event.set()
    joinall([*first, second])
    assert log == ["a", "link", "b"]


def test_a_link_can_be_taken_back_until_it_is_called() -> None:
    event, seen = Event(), []
    event.rawlink(seen.append)
    event.unlink(seen.append)
    event.set()
    event.rawlink(seen.append)  # on its way
    event.unlink(seen.append)
    event.unlink(print)
    sleep(0)
    assert seen == []


def test_a_link_that_fails_is_reported_and_the_loop_goes_on(errors: io.StringIO) -> None:
    event, seen = Event(), []

    def bad(source: Event) -> None:
        raise ValueError("bad link")

    event.rawlink(bad)
    event.rawlink(seen.append)
    event.set()
    sleep(0)
    assert seen == [event]
    assert "ValueError: bad link" in errors.getvalue()


def test_a_link_must_be_callable() -> None:
    with pytest.raises(TypeError, match="callable"):
        Event().rawlink(5)


def test_wait_takes_events_in_order_of_readiness() -> None:
    events = [Event() for _ in range(3)]
    spawn(lambda: [events[number].set() for number in (2, 0)])
    assert wait(events, count=2) == [events[2], events[0]]
    assert events[1].linkcount() == 0
    events[1].set()
    assert set(iwait(events)) == set(events)


# ---- threads, signals, finalizers


def test_another_thread_sets_it() -> None:
    event = Event()
    threads, _ = begin([lambda: until(event.linkcount) or event.set()])
    assert event.wait(PATIENCE) is True
    threads[0].join()


def test_threads_without_a_loop_wait_for_it() -> None:
    event, log = Event(), []
    threads, failures = begin([lambda: log.append(event.wait())] * 5)
    until(lambda: event.linkcount() == 5)
    event.set()
    until(lambda: len(log) == 5)
    for thread in threads:
        thread.join()
    assert not failures and log == [True] * 5


def test_a_link_is_called_in_the_thread_that_linked_it() -> None:
    event, seen = Event(), []
    event.rawlink(lambda source: seen.append(threading.get_ident()))
    in_thread(event.set)
    until(lambda: seen)
    assert seen == [threading.get_ident()]


@pytest.mark.parametrize("by_thread", [False, True], ids=["while a greenlet runs", "while the loop sleeps"])
def test_a_signal_handler_sets_it(by_thread: bool) -> None:
    event = Event()
    before = signal.signal(signal.SIGUSR2, lambda signum, frame: event.set())
    send = lambda: until(event.linkcount) or os.kill(os.getpid(), signal.SIGUSR2)  # noqa: E731
    threads, _ = begin([send]) if by_thread else ([], None)
    sender = None if by_thread else spawn(send)
    try:
        assert event.wait(PATIENCE) is True
        for thread in threads:
            thread.join()
        if sender is not None:
            sender.join()
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_finalizer_sets_it() -> None:
    event = Event()
    Garbage(event.set)
    spawn(gc.collect)
    assert event.wait(PATIENCE) is True


def test_finalizers_in_the_middle_of_everything(restless: None) -> None:
    event = Event()

    def work() -> None:
        for _ in range(50):
            Garbage(event.set)
            Garbage(lambda: event.rawlink(id))
            event.wait(0.001)  # the set that it would see may be cleared before
            event.clear()

    in_threads([crew(5, disturbed(work, event.set)), crew(5, disturbed(work, event.set)), disturbed(work, event.set)])
    gc.collect()
    event.set()
    assert event.wait(0) is True
    assert event.linkcount() == 0


def test_no_wake_up_is_lost_between_threads(restless: None) -> None:
    ping, pong = Event(), Event()

    def answer() -> None:
        for _ in range(1000):
            assert ping.wait(PATIENCE)
            ping.clear()
            pong.set()

    threads, failures = begin([disturbed(answer)])
    for _ in range(1000):
        ping.set()
        assert pong.wait(PATIENCE)
        pong.clear()
    threads[0].join()
    assert not failures


def test_all_of_many_threads_and_greenlets_are_woken(restless: None) -> None:
    events = [Event() for _ in range(60)]

    def work() -> None:
        for event in events:
            assert event.wait(PATIENCE)

    def set_all() -> None:
        for number, event in enumerate(events):
            if number % 2:
                sleep(0)
            event.set()
            event.set()

    in_threads([crew(8, disturbed(work)), crew(8, disturbed(work)), crew(8, disturbed(work)), disturbed(set_all)])
    assert not any(event.linkcount() for event in events)


def test_waits_that_time_out_beside_a_set_leave_nothing_behind(restless: None) -> None:
    event = Event()

    def work() -> None:
        for _ in range(100):
            event.wait(0.0001)

    def flip() -> None:
        for _ in range(2000):
            event.set()
            event.clear()

    in_threads([crew(5, disturbed(work)), crew(5, disturbed(work)), disturbed(flip), disturbed(flip)])
    assert event.linkcount() == 0
    assert event.wait(0) is False


def test_after_a_fork_nobody_waits() -> None:
    event, log = Event(), []
    started = waiters(event, log, "a")
    event._at_fork_reinit()
    assert event.linkcount() == 0
    started[0].kill()
