"""`_thread` on greenlets, without patching: locks, idents, errors."""

import _thread
import copy
import pickle
import sys
import threading
from typing import Any

import pytest

import streamserve
from streamserve.green import thread
from streamserve.green.identity import when_ended
from streamserve.sync.event import Event


class TestIdent:
    def test_first_greenlet_of_a_native_thread_keeps_the_threads(self) -> None:
        assert thread.get_ident() == _thread.get_ident()
        found: list[bool] = []
        native = threading.Thread(target=lambda: found.append(thread.get_ident() == _thread.get_ident()))
        native.start()
        native.join()
        assert found == [True]

    def test_each_greenlet_has_its_own_and_none_has_that_of_one_that_ended(self) -> None:
        idents = [streamserve.spawn(thread.get_ident).get() for _ in range(100)]  # one runner after another
        raw: list[int] = []
        streamserve.spawn_raw(lambda: raw.append(thread.get_ident()))
        streamserve.sleep(0)
        assert len({*idents, *raw, thread.get_ident()}) == 102

    def test_stays_the_same_while_the_greenlet_lives(self) -> None:
        def twice() -> tuple[int, int]:
            before = thread.get_ident()
            streamserve.sleep(0)
            return before, thread.get_ident()

        pairs = [greenlet.get() for greenlet in [streamserve.spawn(twice) for _ in range(5)]]
        assert all(before == after for before, after in pairs)
        assert len(set(pairs)) == 5


class TestStart:
    def test_returns_the_ident_that_the_greenlet_will_have(self) -> None:
        done, seen = Event(), []

        def work(*args: int, **kwargs: int) -> None:
            seen.append((thread.get_ident(), args, kwargs))
            done.set()

        ident = thread.start_new_thread(work, (1,), {"two": 2})
        assert seen == []
        assert done.wait(60)
        assert seen == [(ident, (1,), {"two": 2})]

    @pytest.mark.parametrize("arguments", [(1, ()), (print, [1]), (print, (), [])])
    def test_refuses_what_the_standard_one_refuses(self, arguments: Any) -> None:
        with pytest.raises(TypeError) as native:
            _thread.start_new_thread(*arguments)
        with pytest.raises(TypeError) as ours:
            thread.start_new_thread(*arguments)
        assert str(ours.value) == str(native.value)

    def test_counts_the_running(self) -> None:
        before, go, gone = thread._count(), Event(), Event()

        def work() -> None:
            when_ended(gone.set)
            go.wait()

        thread.start_new_thread(work, ())
        assert thread._count() == before + 1
        go.set()
        assert gone.wait(60)
        assert thread._count() == before

    def test_failure_is_told_as_for_a_native_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[Any] = []
        arrived = Event()
        monkeypatch.setattr(sys, "unraisablehook", lambda args: (told.append(args), arrived.set()))

        def fail() -> None:
            raise ValueError("here")

        thread.start_new_thread(fail, ())
        assert arrived.wait(60)
        (args,) = told
        assert args.err_msg.startswith("Exception ignored in thread started by")
        assert repr(fail) in f"{args.err_msg} {args.object!r}"
        assert args.exc_traceback.tb_frame.f_code is fail.__code__
        del told[:], args

    def test_exit_is_silent(self, capfd: pytest.CaptureFixture[str]) -> None:
        ended = Event()

        def leave() -> None:
            when_ended(ended.set)
            sys.exit(3)

        thread.start_new_thread(leave, ())
        assert ended.wait(60)
        assert capfd.readouterr() == ("", "")


class TestEnd:
    def test_is_told_when_the_greenlet_ends_even_if_its_links_are_dropped(self) -> None:
        ended: list[str] = []
        greenlet = streamserve.spawn(lambda: (when_ended(lambda: ended.append("end")), streamserve.sleep(0)))
        streamserve.sleep(0)
        assert ended == []
        greenlet.unlink_all()
        greenlet.join()
        assert ended == ["end"]

    def test_is_told_when_a_raw_greenlet_is_freed(self) -> None:
        ended: list[str] = []
        raw = streamserve.spawn_raw(lambda: when_ended(lambda: ended.append("end")))
        streamserve.sleep(0)
        del raw
        assert ended == ["end"]

    def test_sentinel_is_released_at_the_end(self) -> None:
        locks: list[Any] = []

        def work() -> None:
            lock = thread._set_sentinel()
            lock.acquire()
            locks.append(lock)
            streamserve.sleep(0)

        greenlet = streamserve.spawn(work)
        streamserve.sleep(0)
        assert locks[0].locked()
        greenlet.join()
        assert not locks[0].locked()


@pytest.mark.parametrize("make", [thread.allocate_lock, thread.RLock])
class TestLocks:
    def test_looks_like_the_standard_one(self, make: Any) -> None:
        lock = make()
        native: Any = _thread.allocate_lock() if make is thread.allocate_lock else _thread.RLock()
        for name in [name for name in dir(native) if not name.startswith("__")]:
            assert hasattr(lock, name), name
        assert repr(lock).split()[0] == repr(native).split()[0] == "<unlocked"
        with lock, native:
            assert repr(lock).split()[:3] == repr(native).split()[:3]

    def test_cannot_be_pickled_or_copied(self, make: Any) -> None:
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot pickle '_thread"):
                attempt(make())

    def test_serves_threading_condition(self, make: Any) -> None:
        condition: Any = threading.Condition(make())
        with pytest.raises(RuntimeError):
            condition.notify()
        with condition:
            condition.notify()
            assert not condition.wait(0)
            assert condition._is_owned()
        assert not condition._is_owned()


def test_lock_type_is_that_of_locks_and_has_no_subclass() -> None:
    assert type(thread.allocate_lock()) is thread.LockType
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Derived", (thread.LockType,), {})


def test_loop_around_a_refused_lock_lets_its_owner_run() -> None:
    lock = thread.allocate_lock()
    lock.acquire()
    streamserve.spawn(lock.release)
    while not lock.acquire(False):
        pass
    assert lock.locked()


def test_lock_is_handed_between_greenlets_and_native_threads() -> None:
    lock, entered = thread.allocate_lock(), []

    def work() -> None:
        for _ in range(50):
            with lock:
                entered.append(thread.get_ident())

    threads = [threading.Thread(target=work) for _ in range(3)]
    greenlets = [streamserve.spawn(work) for _ in range(3)]
    for native in threads:
        native.start()
    streamserve.joinall(greenlets)
    for native in threads:
        native.join()
    assert len(entered) == 300
    assert len({ident for ident in entered if ident < 1 << 32}) == 3  # a native one may be used by two in turn
