"""Semaphores and locks: fair, killable, and without a native lock inside."""

import _thread
import gc
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from streamserve import Greenlet, Timeout, get_hub, joinall, sleep, spawn, wait
from streamserve.errors import BlockingSwitchOutError
from streamserve.sync.lock import BoundedSemaphore, DummySemaphore, Lock, RLock, Semaphore
from tests.support.garbage import Garbage
from tests.support.threads import PATIENCE, begin, crew, disturbed, in_thread, in_threads, until

KINDS: list[Callable[[], Any]] = [Semaphore, BoundedSemaphore, Lock, RLock]
UNOWNED: list[Callable[[], Any]] = [Semaphore, BoundedSemaphore, Lock]


def queued(lock: Any, log: list[str], names: str) -> list[Greenlet]:
    """Greenlets that acquire in this order, write their name, let others run, and release."""

    def run(name: str) -> None:
        with lock:
            log.append(name)
            sleep(0)

    started = [spawn(run, name) for name in names]
    sleep(0)
    assert lock.linkcount() == len(names)
    return started


# ---- each of them


@pytest.mark.parametrize("kind", KINDS)
def test_uncontended_it_never_switches(kind: Callable[[], Any]) -> None:
    lock, log = kind(), []
    spawn(log.append, "other")
    for _ in range(3):
        assert lock.acquire() is True
        assert lock.locked() and not lock.ready()
        lock.release()
        assert not lock.locked() and lock.ready()
        with lock:
            assert lock.locked()
    assert log == []
    sleep(0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_handed_to_the_first_who_waits(kind: Callable[[], Any]) -> None:
    lock, log = kind(), []
    lock.acquire()
    started = queued(lock, log, "abc")
    lock.release()
    assert lock.locked()
    assert lock.acquire(False) is False, "it is a's already"
    assert lock.acquire() is True, "after all who came before"
    log.append("late")
    lock.release()
    joinall(started)
    assert log == ["a", "b", "c", "late"]
    assert not lock.locked()


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_holds_it_again_and_again_starves_nobody(kind: Callable[[], Any]) -> None:
    lock, log = kind(), []

    def greedy(name: str) -> None:
        for _ in range(3):
            with lock:
                log.append(name)
                sleep(0)

    joinall([spawn(greedy, name) for name in "ab"])
    assert "".join(log) == "ababab"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [0, 0.001])
def test_acquire_gives_up_after_its_timeout(kind: Callable[[], Any], timeout: float) -> None:
    lock = kind()
    lock.acquire()
    found = []
    spawn(lambda: found.append((lock.acquire(timeout=timeout), lock.acquire(False)))).join()
    assert found == [(False, False)]
    assert lock.linkcount() == 0
    lock.release()
    assert not lock.locked()


@pytest.mark.parametrize("kind", KINDS)
def test_a_timeout_object_is_a_timeout_too(kind: Callable[[], Any]) -> None:
    lock = kind()
    lock.acquire()
    assert spawn(lambda: lock.acquire(True, Timeout(0.001))).get() is False
    assert lock.linkcount() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_waiter_is_passed_over(kind: Callable[[], Any]) -> None:
    lock, log = kind(), []
    lock.acquire()
    started = queued(lock, log, "abc")
    started[0].kill()
    started[1].kill(block=False)
    assert log == []
    sleep(0)
    lock.release()
    joinall(started)
    assert log == ["c"]
    assert not lock.locked() and lock.linkcount() == 0


@pytest.mark.parametrize("kind", UNOWNED)
def test_a_waiter_that_is_killed_when_it_was_given_the_lock_passes_it_on(kind: Callable[[], Any]) -> None:
    lock, log = kind(), []
    lock.acquire()
    started = queued(lock, log, "ab")
    in_thread(lock.release)  # given to a, whose wake-up is on its way
    started[0].kill(block=False)  # and is overtaken
    joinall(started)
    assert log == ["b"]
    assert not lock.locked()


@pytest.mark.parametrize("kind", UNOWNED)
def test_a_waiter_that_is_given_the_lock_when_its_time_is_up_has_it(kind: Callable[[], Any]) -> None:
    lock, found = kind(), []
    lock.acquire()
    started = spawn(lambda: found.append(lock.acquire(timeout=0.001)))
    sleep(0)
    in_thread(lock.release)
    time.sleep(0.01)  # the loop stands still: when it goes on, both have happened
    started.join()
    assert found == [True]
    assert lock.locked()


@pytest.mark.parametrize("kind", UNOWNED)
def test_a_unit_is_not_given_to_a_thread_that_has_ended(kind: Callable[[], Any]) -> None:
    lock = kind()
    lock.acquire()
    in_thread(lambda: (spawn(lock.acquire), sleep(0)))
    assert lock.linkcount() == 1
    lock.release()
    assert lock.acquire(False) is True


@pytest.mark.parametrize("kind", KINDS)
def test_waiting_in_the_hub_is_refused_and_leaves_nothing_behind(kind: Callable[[], Any]) -> None:
    lock, seen = kind(), []

    def callback() -> None:
        seen.append(lock.acquire(False))
        with pytest.raises(BlockingSwitchOutError, match="spawn a greenlet"):
            lock.acquire()
        seen.append(lock.linkcount())

    lock.acquire()
    get_hub().run_callback(callback)
    sleep(0)
    assert seen == [False, 0]
    lock.release()
    get_hub().run_callback(lambda: (lock.acquire(), lock.release(), seen.append("free")))
    sleep(0)
    assert seen[-1] == "free"


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_fork_it_can_be_made_anew(kind: Callable[[], Any]) -> None:
    lock, log = kind(), []
    lock.acquire()
    started = queued(lock, log, "a")
    lock._at_fork_reinit()
    assert lock.linkcount() == 0
    assert kind is Semaphore or lock.acquire(False) is True
    started[0].kill()


@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_without_a_loop_waits_for_it(kind: Callable[[], Any]) -> None:
    lock, found = kind(), []
    lock.acquire()
    threads, failures = begin([lambda: found.append((lock.acquire(), lock.release()))])
    until(lock.linkcount)
    assert found == []
    lock.release()
    threads[0].join()
    assert not failures and len(found) == 1 and not lock.locked()


# ---- semaphores


def test_a_semaphore_counts() -> None:
    semaphore = Semaphore(2)
    assert semaphore.acquire() and semaphore.acquire() and not semaphore.acquire(blocking=False)
    assert semaphore.counter == 0
    assert [semaphore.release() for _ in range(3)] == [1, 2, 3]
    assert not BoundedSemaphore(0).acquire(False)


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_a_semaphore_of_less_than_nothing_is_refused(kind: type[Semaphore]) -> None:
    with pytest.raises(ValueError, match="must be >= 0, not -1"):
        kind(-1)
    for bad in ("x", None):
        with pytest.raises(TypeError):
            kind(bad)  # type: ignore[arg-type]


def test_a_bounded_semaphore_refuses_a_release_too_many() -> None:
    semaphore = BoundedSemaphore(2)
    semaphore.acquire()
    semaphore.release()
    with pytest.raises(ValueError, match="too many times"):
        semaphore.release()
    assert semaphore.counter == 2


def test_wait_does_not_acquire() -> None:
    semaphore, log = Semaphore(0), []
    assert semaphore.wait(0.001) == 0
    started = [spawn(lambda: log.append(("free", semaphore.wait()))) for _ in range(2)]
    sleep(0)
    semaphore.release()
    joinall(started)
    assert log == [("free", 1), ("free", 1)]
    assert semaphore.wait() == semaphore.counter == 1


def test_lookouts_and_links_do_not_keep_a_unit_from_who_acquires() -> None:
    semaphore, log = Semaphore(0), []
    first = spawn(lambda: log.append(semaphore.wait()))
    semaphore.rawlink(lambda source: log.append("link"))
    sleep(0)
    second = spawn(lambda: log.append(semaphore.acquire()))
    sleep(0)
    semaphore.release()
    joinall([first, second])
    assert sorted(map(str, log)) == ["0", "True", "link"]
    assert semaphore.counter == 0 and semaphore.linkcount() == 0


def test_wait_for_objects_takes_semaphores() -> None:
    semaphores = [Semaphore(0), Semaphore(1)]
    assert wait(semaphores, count=1) == [semaphores[1]]
    assert semaphores[0].linkcount() == 0


def test_a_dummy_never_makes_anybody_wait() -> None:
    dummy = DummySemaphore(0)
    with dummy:
        assert dummy.acquire() is dummy.acquire(timeout=60) is True
    dummy.release()
    assert dummy.ready() and not dummy.locked() and dummy.wait() == 1


# ---- what the standard library's locks refuse

BAD_ACQUIRES = [(False, 1), (True, -2), (True, -0.5), (True, 1e20), (True, float("nan")), (True, "x")]
GOOD_ACQUIRES = [(True, -1), (True, -1.0), (False, -1), (True, 0), (True, threading.TIMEOUT_MAX), (0,), ()]


@pytest.mark.parametrize(("ours", "theirs"), [(Lock, _thread.allocate_lock), (RLock, threading.RLock)])
def test_arguments_are_refused_as_by_the_standard_library(ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    for arguments in BAD_ACQUIRES:
        for held in (False, True):
            for lock in (one := ours(), other := theirs()):
                if held:
                    lock.acquire()
            with pytest.raises(Exception) as expected:
                other.acquire(*arguments)
            with pytest.raises(expected.type):
                one.acquire(*arguments)
            assert one.linkcount() == 0
    for arguments in GOOD_ACQUIRES:
        assert ours().acquire(*arguments) is theirs().acquire(*arguments) is True


def test_releasing_a_free_lock_is_refused() -> None:
    lock = Lock()
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        lock.release()
    assert lock.acquire(False)


def test_anybody_may_release_a_lock() -> None:
    lock = Lock()
    lock.acquire()
    spawn(lock.release)
    assert lock.acquire(timeout=PATIENCE)


# ---- RLock


def test_the_owner_takes_an_rlock_again() -> None:
    lock, log = RLock(), []
    for _ in range(3):
        assert lock.acquire()
    started = queued(lock, log, "a")
    lock.release()
    lock.release()
    sleep(0)
    assert log == [] and lock._is_owned() and lock._recursion_count() == 1
    lock.release()
    joinall(started)
    assert log == ["a"] and not lock._is_owned()


def test_only_the_owner_releases_an_rlock() -> None:
    lock, caught = RLock(), []

    def foreign() -> None:
        with pytest.raises(RuntimeError, match="cannot release un-acquired lock"):
            lock.release()
        caught.append(lock.acquire(False))

    foreign()
    assert caught == [True]
    spawn(foreign).join()
    in_thread(foreign)
    assert caught == [True, False, False]
    lock.release()


def test_a_condition_stands_on_an_rlock() -> None:
    condition, log = threading.Condition(RLock()), []  # type: ignore[arg-type]
    with condition, condition:
        saved = condition._release_save()  # type: ignore[attr-defined]
        assert condition.acquire(False)
        condition.release()
        condition._acquire_restore(saved)  # type: ignore[attr-defined]
        assert condition._is_owned()  # type: ignore[attr-defined]

    def run() -> None:
        with condition:
            log.append(condition.wait(PATIENCE))

    def notify() -> None:
        while len(log) < 4:
            with condition:
                condition.notify_all()

    in_threads([*[disturbed(run)] * 4, disturbed(notify)])
    assert log == [True] * 4


# ---- stress


@pytest.mark.parametrize("kind", KINDS)
def test_one_at_a_time_among_threads_and_greenlets(kind: Callable[[], Any], restless: None) -> None:
    lock, inside, done = kind(), [], []

    def work() -> None:
        for number in range(40):
            with lock:
                inside.append(number)
                assert len(inside) == 1
                if number % 5 == 0:
                    sleep(0)
                inside.pop()
            done.append(number)

    in_threads([crew(6, disturbed(work)), crew(6, disturbed(work)), disturbed(work), disturbed(work)])
    assert len(done) == 14 * 40
    assert not lock.locked() and lock.linkcount() == 0


def test_no_more_than_the_number_are_inside(restless: None) -> None:
    semaphore, inside, most = BoundedSemaphore(3), [], [0]

    def work() -> None:
        for number in range(40):
            with semaphore:
                inside.append(number)
                most.append(len(inside))
                sleep(0)
                inside.pop()

    in_threads([crew(8, disturbed(work)), crew(8, disturbed(work)), disturbed(work)])
    assert max(most) <= 3
    assert semaphore.counter == 3 and semaphore.linkcount() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_kills_and_timeouts_lose_and_double_nothing(kind: Callable[[], Any], restless: None) -> None:
    lock, inside = kind(), []

    def work() -> None:
        for _ in range(30):
            if lock.acquire(timeout=random.choice([0, 0.0001, 0.001, PATIENCE])):
                try:
                    inside.append(1)
                    assert len(inside) == 1
                    sleep(0)
                finally:
                    inside.pop()
                    lock.release()

    def thread() -> None:
        started = [spawn(work) for _ in range(8)]
        for victim in started[:5]:
            sleep(0.0005)
            victim.kill(block=False)
        joinall(started, raise_error=True)

    in_threads([disturbed(thread)] * 3)
    assert not lock.locked() and lock.linkcount() == 0
    assert lock.acquire(False)


@pytest.mark.parametrize("kind", KINDS)
def test_finalizers_in_the_middle_of_everything(kind: Callable[[], Any], restless: None) -> None:
    lock, inside = kind(), []

    def dip() -> None:
        if lock.acquire(False):
            lock.release()

    def work() -> None:
        for _ in range(50):
            Garbage(dip)
            with lock:
                Garbage(dip)
                inside.append(1)
                assert len(inside) == 1
                sleep(0)
                inside.pop()

    in_threads([crew(4, disturbed(work, dip)), crew(4, disturbed(work, dip))])
    gc.collect()
    assert not lock.locked() and lock.linkcount() == 0


def test_nobody_is_let_in_twice_by_attempts_that_do_not_wait(restless: None) -> None:
    for lock in (Semaphore(1), Lock()):
        inside: list[int] = []

        def work(lock: Any = lock, inside: list[int] = inside) -> None:
            for _ in range(1000):
                if lock.acquire(False):
                    inside.append(1)
                    assert len(inside) == 1
                    inside.pop()
                    lock.release()

        in_threads([disturbed(work)] * 4)
        assert not lock.locked()


def test_units_that_finalizers_give_all_arrive(restless: None) -> None:
    semaphore, taken = Semaphore(0), []

    def give() -> None:
        for _ in range(300):
            Garbage(semaphore.release)
            sleep(0)
        until(lambda: (gc.collect(), len(taken) == 300)[1])

    def take() -> None:
        for _ in range(100):
            taken.append(semaphore.acquire(timeout=PATIENCE))

    in_threads([disturbed(give), crew(3, disturbed(take))])
    assert all(taken)
    assert semaphore.counter == 0
