"""A hub for each thread, and calls from one to the other."""

import gc
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from greenlet import getcurrent

from streamserve import Greenlet, joinall, sleep, spawn
from streamserve.errors import HubDestroyed
from streamserve.loop import hubs
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub, hub_of_thread
from streamserve.loop.signal_functions import native_sleep
from streamserve.loop.waiter import Waiter
from streamserve.sync.event import Event
from tests.support.garbage import Garbage
from tests.support.server import eventually
from tests.support.threads import in_thread


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_each_thread_has_a_hub_of_its_own() -> None:
    hubs: list[Hub | None] = []
    in_thread(lambda: hubs.extend([hub_of_thread(), get_hub(), get_hub()]))
    assert hubs[0] is None
    assert hubs[1] is hubs[2]
    assert hubs[1] is not get_hub()


def test_the_end_of_a_thread_frees_its_hub() -> None:
    def run() -> None:
        spawn(sleep, 0.001).join()
        spawn(sleep, 10)  # parked for ever
        sleep(0.001)

    in_thread(run)
    before = open_descriptors()
    for _ in range(20):
        in_thread(run)
    assert open_descriptors() == before


def test_a_thread_that_waited_leaves_neither_hub_nor_runners_behind() -> None:
    left: list[weakref.ref[object]] = []

    def run() -> None:
        left.append(weakref.ref(get_hub()))
        sleep(0.001)
        joinall([spawn(sleep, 0.001) for _ in range(3)])
        left.extend(map(weakref.ref, get_hub().idle_runners))

    def destroy() -> None:
        run()
        get_hub().destroy()
        left.append(weakref.ref(get_hub()))
        sleep(0.001)

    for function in (run, destroy, lambda: left.append(weakref.ref(get_hub()))):
        in_thread(function)
    gc.collect()
    assert len(left) == 10 and {each() for each in left} == {None}


def collect_in(call: Callable[[], object]) -> None:
    """Has the first thing that the call allocates start a collection (CPython 3.11; later ones wait for its end)."""
    gc.disable()
    allocated = [[] for _ in range(2000)]  # type: ignore[var-annotated]
    gc.enable()
    call()
    assert len(allocated) == 2000


@pytest.mark.parametrize("first", [getcurrent, hub_of_thread, get_hub, lambda: sleep(0), lambda: Event().wait(0.001)])
@pytest.mark.parametrize("waits", [False, True])
def test_a_finalizer_amid_a_threads_first_call_has_the_threads_hub(first: Callable[[], object], waits: bool) -> None:
    log: list[Any] = []

    def finalizer() -> None:
        log.append(get_hub())
        spawn(log.append, "ran")
        if waits:
            sleep(0.001)

    def run() -> None:
        Garbage(finalizer)
        try:
            collect_in(first)
            gc.collect()
            sleep(0.001)
        except HubDestroyed:  # it had begun where nothing can switch to it any more
            assert waits
            sleep(0.001)
        log.append(get_hub())

    in_thread(run)
    made, ran, last = log
    assert ran == "ran"
    assert made is last or waits
    assert made.destroyed and last.destroyed


def test_a_finalizer_amid_the_first_call_of_greenlets_while_a_hub_is_made_has_the_same_one() -> None:
    log: list[Any] = []

    def finalizer() -> None:
        sys.setprofile(None)
        log.append(get_hub())
        spawn(log.append, "ran")

    def profile(frame: object, event: str, what: object) -> None:
        if event == "c_call" and what is getcurrent:
            gc.enable()

    def run() -> None:
        Garbage(finalizer)
        gc.disable()
        allocated = [[] for _ in range(2000)]  # type: ignore[var-annotated]
        sys.setprofile(profile)
        log.append(get_hub())
        sys.setprofile(None)
        gc.enable()
        gc.collect()
        sleep(0.001)
        assert len(allocated) == 2000

    in_thread(run)
    assert "ran" in log
    log.remove("ran")
    assert log[0] is log[1] and log[0].destroyed


def test_a_hub_that_began_where_it_cannot_be_reached_fails_one_wait_and_no_more() -> None:
    outcomes: list[Any] = []

    def run() -> None:
        Garbage(lambda: (spawn(int), sleep(0.001)))
        collect_in(getcurrent)
        gc.collect()
        for _ in range(3):
            spawn(int)
            try:
                sleep(0.001)
            except HubDestroyed as error:
                outcomes.append(error)

    in_thread(run)
    assert len(outcomes) <= 1


def test_who_only_looks_for_a_hub_finds_the_one_that_a_finalizer_made_meanwhile() -> None:
    hubs: list[Hub] = []

    def run() -> None:
        Garbage(lambda: hubs.append(get_hub()))
        collect_in(hub_of_thread)
        gc.collect()
        assert hub_of_thread() is hubs[-1]

    before = open_descriptors()
    for _ in range(3):
        in_thread(run)
    assert open_descriptors() == before and all(hub.destroyed for hub in hubs) and len(hubs) == 3


def test_whatever_asks_for_a_hub_while_one_is_made_gets_the_same_one() -> None:
    got: list[Hub] = []

    def run(interrupted: int, events: Iterator[int]) -> None:
        def profile(*event: object) -> None:
            if next(events) == interrupted:
                got.append(get_hub())

        sys.setprofile(profile)
        hub = get_hub()
        sys.setprofile(None)
        got.append(hub)
        spawn(sleep, 0.001).join()
        assert get_hub() is hub and not hub.destroyed

    before = open_descriptors()
    for interrupted in itertools.count():
        got.clear()
        in_thread(partial(run, interrupted, events := itertools.count()))
        if next(events) <= interrupted:
            break
        first, second = got
        assert first is second and first.destroyed
    assert interrupted > 30
    assert open_descriptors() == before


def test_loops_of_several_threads_run_beside_each_other() -> None:
    logs: list[list[int]] = [[] for _ in range(4)]

    def run(log: list[int]) -> None:
        joinall([spawn(lambda n=n: (sleep(0.001), log.append(n))) for n in range(100)])

    threads = [threading.Thread(target=run, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert [sorted(log) for log in logs] == [list(range(100))] * 4


def test_another_thread_wakes_a_loop_that_sleeps() -> None:
    hub, waiter = get_hub(), Waiter(get_hub())
    thread = threading.Timer(0.002, hub.run_callback_threadsafe, (waiter.wake, "from there"))
    timer = hub.start_timer(20, waiter)  # keeps the loop alive meanwhile
    thread.start()
    assert waiter.park() == "from there"
    hub.stop_timer(timer, waiter)
    thread.join()


def test_callbacks_of_many_threads_all_run_in_the_hub() -> None:
    hub, seen = get_hub(), []
    done = Greenlet(int)

    def note(number: int) -> None:
        seen.append((number, threading.get_ident()))
        if len(seen) == 8 * 500:
            done.start()

    def send(first: int) -> None:
        for number in range(first, first + 500):
            hub.run_callback_threadsafe(note, number)

    threads = [threading.Thread(target=send, args=(index * 500,)) for index in range(8)]
    for thread in threads:
        thread.start()
    done.join(timeout=20)
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in seen) == list(range(4000))
    assert {ident for _, ident in seen} == {threading.get_ident()}


def test_a_thread_whose_hub_was_destroyed_keeps_the_next_one() -> None:
    known: list[bool] = []

    def work() -> None:
        get_hub().destroy()
        known.append(get_hub() is hub_of_thread() and get_hub() is get_hub())
        joinall([spawn(sleep, 0)])

    in_thread(work)
    assert known == [True]


def test_a_thread_whose_end_is_noticed_late_leaves_its_hub_to_nobody() -> None:
    held: list[Any] = []

    def work() -> None:
        held.append(get_hub())
        held.append(hubs._thread.end)

    in_thread(work)
    later: list[Hub] = []
    for _ in range(3):
        in_thread(lambda: later.append(get_hub()))
        in_thread(lambda: joinall([spawn(sleep, 0)]))
    assert held[0] not in later


def test_what_a_thread_asks_for_once_its_hub_has_ended_is_nobodys_hub_either() -> None:
    late: list[Hub] = []

    class AsksLate:
        def __del__(self) -> None:
            late.append(get_hub())

    def work() -> None:
        get_hub()
        own.value = AsksLate()  # freed behind the hub, as it is younger

    own = threading.local()
    for _ in range(3):  # the second has the number of the first
        in_thread(work)
        in_thread(lambda: joinall([spawn(sleep, 0)]))
    assert len({id(hub) for hub in late}) == 3
    freed = [weakref.ref(hub) for hub in late]
    late.clear()
    eventually(lambda: not any(hub() for hub in freed), "the ends of the threads are seen")


def test_native_threads_have_their_turns_beside_greenlets_that_only_yield() -> None:
    """A poll that only looks must not keep them from the GIL: who wants it asks for it after its switch interval."""
    yields, waits = [0], [0]

    def native() -> None:
        for _ in range(400):
            before = yields[0]
            native_sleep(0.001)
            waits.append(yields[0] - before)

    thread = threading.Thread(target=native)
    thread.start()
    while thread.is_alive():
        sleep(0)
        yields[0] += 1
    assert max(waits) < 500_000  # as many as some tenths of a second have
