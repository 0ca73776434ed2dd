"""The end of a pool or group is also that of what feeds it, and of those who wait for room."""

from collections.abc import Callable
from typing import Any

import pytest
from greenlet import GreenletExit

from streamserve import Greenlet, Timeout, joinall, sleep, spawn
from streamserve.pool.group import Group, Pool
from streamserve.sync.event import Event

Calls = list[int]


@pytest.fixture
def calls() -> Calls:
    """The calls that came to their end."""
    return []


@pytest.fixture
def call(calls: Calls) -> Callable[[int], None]:
    def wait(number: int) -> None:
        sleep(0.05)
        calls.append(number)

    return wait


def killed(value: Any) -> bool:
    return isinstance(value, GreenletExit)


@pytest.mark.parametrize("maker", [lambda: Pool(2), Group])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_an_imap_begins_no_further_call(
    kind: str, begun: bool, maker: Callable[[], Group], call: Callable[[int], None], calls: Calls
) -> None:
    pool = maker()
    results = getattr(pool, kind)(call, range(20))
    if begun:
        sleep(0.001)
    pool.kill()
    with Timeout(5):
        values = list(results)
    assert all(map(killed, values)) and len(values) == (0 if not begun else 2 if isinstance(pool, Pool) else 20)
    sleep(0.005)
    assert not calls and not len(pool) and results.ready()


def test_who_waits_for_room_gets_the_exception(call: Callable[[int], None], calls: Calls) -> None:
    pool = Pool(1)
    pool.spawn(call, 0)
    waiting = [
        spawn(pool.spawn, call, 1),
        spawn(pool.map, call, range(5)),
        spawn(pool.apply, call, (2,)),
        spawn(pool.start, Greenlet(call, 3)),
        pool.apply_async(call, (4,), callback=calls.append),
        pool.map_async(call, range(5), callback=calls.extend),
    ]
    sleep(0)
    pool.kill()
    joinall(waiting, timeout=60)
    assert [killed(each.value) for each in waiting] == [True] * 6
    sleep(0.005)
    assert not calls and pool.free_count() == 1
    assert pool.map(abs, [-1, -2]) == [1, 2], "it may be used again"


def test_what_was_to_come_and_has_not_begun_never_does(call: Callable[[int], None], calls: Calls) -> None:
    pool = Pool(1)
    pool.spawn(call, 0)
    coming = [pool.apply_async(call, (1,)), pool.map_async(call, range(5))]
    pool.kill()
    joinall(coming, timeout=60)
    assert all(killed(each.value) for each in coming) and not calls


def test_kill_raises_what_it_is_told_to(errors: Any) -> None:
    pool = Pool(1)
    pool.spawn(sleep, 60)
    waiting = spawn(pool.spawn, sleep, 60)
    sleep(0)
    pool.kill(KeyError)
    waiting.join(60)
    assert isinstance(waiting.exception, KeyError) and pool.free_count() == 1


def test_who_waits_until_there_is_room_finds_it() -> None:
    pool = Pool(1)
    pool.spawn(sleep, 60)
    waiting = spawn(pool.wait_available)
    sleep(0)
    pool.kill()
    assert waiting.get(timeout=60) == 1


def test_a_feeder_that_kills_its_own_pool_ends(calls: Calls) -> None:
    pool = Pool(2)

    def items() -> Any:
        yield 1
        pool.kill()
        yield 2

    with Timeout(5):
        assert all(map(killed, pool.imap(lambda _: Event().wait(), items())))
    assert not len(pool)
