"""imap and imap_unordered, on pools of greenlets and of threads."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamserve import Timeout, sleep, spawn
from streamserve.pool.group import Group, Pool
from streamserve.pool.threadpool import ThreadPool
from streamserve.sync.event import Event

BOTH = ["imap", "imap_unordered"]


@pytest.fixture(params=[Group, lambda: Pool(3), lambda: ThreadPool(3)], ids=["group", "pool", "threads"])
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    if isinstance(made, ThreadPool):
        made.kill()


@pytest.mark.parametrize("maxsize", [None, 0, 1, 5])
def test_every_result_comes_once(pool: Any, maxsize: int | None) -> None:
    assert list(pool.imap(abs, range(-20, 0), maxsize=maxsize)) == list(range(20, 0, -1))
    assert sorted(pool.imap_unordered(abs, range(-20, 0), maxsize=maxsize)) == list(range(1, 21))


@pytest.mark.parametrize("name", BOTH)
def test_several_iterables_are_walked_until_the_shortest_ends(pool: Any, name: str) -> None:
    assert sorted(getattr(pool, name)(lambda *items: items, "abc", [1, 2])) == [("a", 1), ("b", 2)]
    assert list(getattr(pool, name)(abs, [])) == []


def test_unordered_gives_first_what_ends_first() -> None:
    opened = Event()
    results = Pool(2).imap_unordered(lambda name: opened.wait() and name if name == "late" else name, ["late", "early"])
    assert next(results) == "early"
    opened.set()
    assert list(results) == ["late"]


def test_ordered_waits_for_its_turn() -> None:
    opened = Event()
    results = Pool(2).imap(lambda name: opened.wait() and name if name == "late" else name, ["late", "early"])
    with Timeout(0.001, False):
        raise AssertionError(next(results))
    opened.set()
    assert list(results) == ["late", "early"], "the one that was given up is not lost"


@pytest.mark.parametrize("name", BOTH)
def test_maxsize_bounds_what_is_begun_and_not_taken(name: str) -> None:
    begun: list[int] = []
    results = getattr(Pool(10), name)(lambda item: begun.append(item) or item, range(20), maxsize=3)
    for taken in range(5):
        next(results)
        for _ in range(20):
            sleep(0)
        assert len(begun) == 3 + taken + 1
    results.kill()


@pytest.mark.parametrize("name", BOTH)
def test_an_exception_takes_the_place_of_its_result(pool: Any, name: str, errors: io.StringIO) -> None:
    results = getattr(pool, name)(lambda item: 1 // item, [1, 0, 1])
    good, bad = [], 0
    while True:
        try:
            good.append(next(results))
        except ZeroDivisionError:
            bad += 1
        except StopIteration:
            break
    assert (good, bad) == ([1, 1], 1)
    with pytest.raises(StopIteration):
        next(results)
    sleep(0)  # a thread's report may still be on its way to the hub


@pytest.mark.parametrize("name", BOTH)
def test_the_iterables_own_exception_comes_after_what_was_begun(pool: Any, name: str) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("no more")

    results = getattr(pool, name)(abs, items())
    assert sorted([next(results), next(results)]) == [1, 2]
    with pytest.raises(KeyError, match="no more"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.parametrize("name", BOTH)
def test_several_greenlets_may_share_one_iterator(pool: Any, name: str) -> None:
    results = getattr(pool, name)(abs, range(30))
    shares = [spawn(list, results) for _ in range(3)]
    assert sorted(item for share in shares for item in share.get()) == list(range(30))


@pytest.mark.parametrize("name", BOTH)
def test_bad_arguments(pool: Any, name: str) -> None:
    call: Callable[..., Any] = getattr(pool, name)
    with pytest.raises(TypeError):
        call(abs, 3)
    with pytest.raises(TypeError):
        call(abs, [1], size=3)
    with pytest.raises(TypeError):
        next(call(None, [1]))
