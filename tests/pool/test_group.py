"""Groups and pools: who is a member, who waits for room, who is waited for and killed."""

import io
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from greenlet import GreenletExit

from streamserve import Greenlet, getcurrent, joinall, sleep, spawn, spawn_raw
from streamserve.errors import LoopExit
from streamserve.pool.group import Group, Pool, PoolFull
from streamserve.pool.threadpool import ThreadPool
from streamserve.sync.event import Event
from streamserve.sync.queue import Full
from tests.support.threads import in_threads

BOTH: list[Callable[[], Any]] = [Group, lambda: Pool(3)]


def fail() -> None:
    raise ZeroDivisionError("on purpose")


# ---- groups


@pytest.mark.parametrize("make", BOTH)
def test_members_leave_when_they_end(make: Callable[[], Any]) -> None:
    group, opened = make(), Event()
    assert not group
    first, second = group.spawn(opened.wait), group.spawn(int, "7")
    assert group
    assert len(group) == 2
    assert first in group
    assert set(group) == {first, second}
    second.join()
    assert set(group) == {first}
    opened.set()
    assert group.join() is True
    assert not group


def test_greenlets_can_be_given_added_and_discarded() -> None:
    given = [spawn(sleep, 0.001), spawn(sleep, 0.001)]
    group = Group(given)
    assert set(Group(*given)) == set(given)
    other = spawn(sleep, 0.001)
    group.add(other)
    group.add(other)
    group.discard(given[0])
    assert set(group) == {given[1], other}
    ended = spawn(int)
    ended.join()
    group.add(ended)
    assert ended not in group
    raw = spawn_raw(int)
    group.add(raw)
    group.discard(raw)
    assert group.join() is True
    given[0].join()


@pytest.mark.parametrize("make", BOTH)
def test_join_gives_up_in_time_and_raises_errors_when_asked(make: Callable[[], Any], errors: io.StringIO) -> None:
    group, opened = make(), Event()
    group.spawn(opened.wait)
    assert group.join(timeout=0.001) is False
    opened.set()
    group.spawn(fail)
    with pytest.raises(ZeroDivisionError):
        group.join(raise_error=True)
    group.spawn(fail)
    assert group.join() is True


@pytest.mark.parametrize("make", BOTH)
def test_kill_ends_all_members(make: Callable[[], Any]) -> None:
    group, log = make(), []
    begun = group.spawn(sleep, 100)
    sleep(0)
    group.spawn(log.append, "never")
    group.kill()
    assert isinstance(begun.value, GreenletExit)
    assert not group
    assert log == []


def test_kill_gives_up_in_time_and_need_not_wait() -> None:
    group, opened = Group(), Event()

    def stubborn() -> None:
        while not opened.is_set():
            with suppress(GreenletExit):
                opened.wait()

    group.spawn(stubborn)
    sleep(0)
    group.kill(block=False)
    assert len(group) == 1
    group.kill(timeout=0.001)
    assert len(group) == 1
    opened.set()
    group.join()


def test_killone_kills_members_only() -> None:
    group, opened = Group(), Event()
    other = spawn(opened.wait)
    member = group.spawn(sleep, 100)
    group.killone(other)
    group.killone(member)
    assert member.dead
    assert not other.dead
    opened.set()
    other.join()


def test_a_class_of_greenlets_and_an_overridden_add_are_honoured() -> None:
    class Own(Greenlet):
        pass

    class Counting(Pool):
        added = 0

        def add(self, greenlet: Any, *args: Any, **kwargs: Any) -> None:
            self.added += 1
            super().add(greenlet, *args, **kwargs)

    pool = Counting(2, Own)
    assert type(pool.spawn(int)) is Own
    pool.map(int, range(5))
    assert pool.added == 6
    pool.join()


# ---- limits


def test_the_limit_holds_and_those_who_wait_come_in_order() -> None:
    pool, log, most = Pool(2), [], []

    def work(number: int) -> None:
        log.append(number)
        most.append(len(pool))
        sleep(0)

    spawners = [spawn(pool.spawn, work, number) for number in range(8)]
    joinall(spawners)
    pool.join()
    assert log == list(range(8))
    assert max(most) == 2
    assert pool.free_count() == 2


def test_add_and_start_wait_no_longer_than_allowed() -> None:
    pool, opened = Pool(1), Event()
    first = pool.spawn(opened.wait)
    assert pool.full()
    for attempt in (pool.add, pool.start):
        for limits in ({"blocking": False}, {"timeout": 0}, {"timeout": 0.0001}):
            with pytest.raises(PoolFull):
                attempt(Greenlet(int), **limits)
    assert issubclass(PoolFull, Full)
    opened.set()
    pool.start(second := Greenlet(int))
    assert first.dead
    pool.join()
    assert second.dead


def test_free_room_is_counted_and_waited_for() -> None:
    pool = Pool(2)
    assert (pool.free_count(), pool.wait_available(), pool.full()) == (2, 2, False)
    opened = Event()
    pool.spawn(opened.wait)
    pool.spawn(opened.wait)
    assert (pool.free_count(), pool.full()) == (0, True)
    assert pool.wait_available(timeout=0.001) == 0
    lookers = [spawn(pool.wait_available) for _ in range(2)]
    sleep(0)
    opened.set()
    assert all(looker.get() >= 1 for looker in lookers)
    pool.join()
    assert (Pool().free_count(), Pool().wait_available(), Group().wait_available(), Group().full()) == (1, 1, 1, False)


def test_size_zero_waits_for_ever_and_less_is_refused() -> None:
    with pytest.raises(LoopExit):
        Pool(0).spawn(int)
    assert Pool(0).full()
    with pytest.raises(ValueError, match="-1"):
        Pool(-1)


def test_a_spawner_that_is_killed_takes_no_room() -> None:
    pool, opened = Pool(1), Event()
    pool.spawn(opened.wait)
    victim, other = spawn(pool.spawn, int), spawn(pool.spawn, int)
    sleep(0)
    victim.kill()
    opened.set()
    other.join()
    pool.join()
    assert pool.free_count() == 1


def test_what_cannot_be_called_takes_no_room() -> None:
    pool = Pool(1)
    for _ in range(2):
        with pytest.raises(TypeError):
            pool.spawn(3)
    assert pool.free_count() == 1


# ---- mapping


@pytest.mark.parametrize("make", BOTH)
def test_map_keeps_the_order(make: Callable[[], Any]) -> None:
    seen: list[Any] = []
    assert make().map(lambda item: (sleep(0), -item)[1], range(10)) == [-item for item in range(10)]
    assert make().map_async(abs, [-1, -2], seen.append).get() == [1, 2]
    assert make().map_cb(abs, [-3], seen.append) == [3]
    assert seen == [[1, 2], [3]]


@pytest.mark.parametrize("make", BOTH)
def test_apply_in_its_variants(make: Callable[[], Any]) -> None:
    pool, seen = make(), []
    assert pool.apply(int, ("ff",), {"base": 16}) == 255
    assert pool.apply_cb(int, ("7",), callback=seen.append) == 7
    assert pool.apply_async(int, ("8",), callback=seen.append).get() == 8
    sleep(0)
    sleep(0)
    assert seen == [7, 8]


def test_apply_of_a_member_runs_on_the_spot() -> None:
    pool = Pool(1)
    greenlet = pool.spawn(lambda: pool.apply(getcurrent))
    assert greenlet.get() is greenlet


def test_apply_async_never_waits() -> None:
    pool, opened = Pool(1), Event()
    pool.spawn(opened.wait)
    untracked = pool.apply_async(int, ("3",))
    assert untracked not in pool
    opened.set()
    assert untracked.get() == 3


def test_map_raises_the_first_error(errors: io.StringIO) -> None:
    pool = Pool(2)
    with pytest.raises(ZeroDivisionError):
        pool.map(lambda item: 1 // item, [1, 0, 2])
    pool.join()
    with pytest.raises(TypeError):
        pool.map(abs, 3)


def test_the_limit_holds_over_threads(restless: None) -> None:
    pool, most = Pool(3), []

    def work() -> None:
        most.append(len(pool))
        sleep(0)

    def run() -> None:
        joinall([pool.spawn(work) for _ in range(60)])

    in_threads([run, run, run])
    assert len(most) == 180
    assert max(most) <= 3
    assert (pool.free_count(), len(pool)) == (3, 0)


@pytest.mark.parametrize("maker", [lambda: Pool(2), lambda: Pool(10), Group, lambda: ThreadPool(2)])
def test_join_returns_after_the_callbacks_ran(maker: Callable[[], Any]) -> None:
    pool, log = maker(), []

    def note(value: Any) -> None:
        sleep(0.001)
        log.append(value)

    for number in range(4):
        pool.apply_async(abs, (-number,), callback=note)
    pool.map_async(abs, [-4, -5], callback=note)
    pool.apply_cb(abs, (-6,), callback=note)
    assert pool.join() in (True, None) and len(log) == 6
    assert sorted(value for value in log if isinstance(value, int)) == [0, 1, 2, 3, 6] and [4, 5] in log
    opened = Event()
    pool.apply_async(abs, (1,), callback=lambda value: opened.wait())
    assert pool.join(timeout=0.005) is False
    opened.set()
    assert pool.join(timeout=60) is True


def test_a_callback_that_joins_its_pool_does_not_wait_for_itself() -> None:
    pool = Pool(2)
    answers: list[bool] = []
    pool.apply_async(abs, (-1,), callback=lambda value: answers.append(pool.join()))
    assert pool.join(timeout=60) and answers == [True]
