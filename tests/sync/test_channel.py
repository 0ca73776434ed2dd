"""Channels: a put and a get meet, in order, from any thread."""

import pytest

from streamserve import Greenlet, Timeout, get_hub, joinall, sleep, spawn
from streamserve.sync.queue import Channel, Empty, Full
from tests.support.threads import disturbed, in_threads


def test_put_waits_until_the_item_is_taken() -> None:
    channel, log = Channel(), []
    putters = [spawn(lambda item=item: (channel.put(item), log.append(item))) for item in "abc"]
    sleep(0)
    assert log == []
    assert channel.balance == 3
    assert [channel.get() for _ in "abc"] == ["a", "b", "c"]
    joinall(putters)
    assert log == ["a", "b", "c"]


def test_getters_are_served_in_their_order() -> None:
    channel = Channel()
    getters = [spawn(channel.get) for _ in range(3)]
    sleep(0)
    assert channel.balance == -3
    for item in range(3):
        channel.put(item)
    assert [getter.get() for getter in getters] == [0, 1, 2]


def test_it_holds_nothing() -> None:
    channel: Channel = Channel()
    assert (channel.qsize(), channel.empty(), channel.full(), channel.balance) == (0, True, True, 0)
    assert Channel[int]


def test_without_waiting_it_needs_the_other_side() -> None:
    channel = Channel()
    for attempt in (lambda: channel.put_nowait(1), lambda: channel.put(1, timeout=0.001)):
        with pytest.raises(Full):
            attempt()
    for attempt in (channel.get_nowait, lambda: channel.get(timeout=0.001)):
        with pytest.raises(Empty):
            attempt()
    assert channel.balance == 0
    getter = spawn(channel.get)
    sleep(0)
    channel.put_nowait("item")
    assert getter.get() == "item"


def test_in_the_hub_it_never_waits() -> None:
    channel, log = Channel(), []

    def attempt() -> None:
        for call, error in ((channel.get, Empty), (lambda: channel.put(1), Full)):
            try:
                call()
            except error:
                log.append(error)

    get_hub().run_callback(attempt)
    sleep(0)
    assert log == [Empty, Full]


def test_killed_ones_leave_the_line() -> None:
    channel = Channel()
    victims = [spawn(channel.get), spawn(channel.get)]
    sleep(0)
    victims[0].kill(block=False)
    channel.put("item")
    assert victims[1].get() == "item"
    putter: Greenlet = spawn(channel.put, "never")
    sleep(0)
    putter.kill()
    with pytest.raises(Empty):
        channel.get_nowait()


def test_iteration_ends_at_the_item_stopiteration() -> None:
    channel = Channel()
    spawn(lambda: [channel.put(item) for item in (1, 2, StopIteration)])
    assert list(channel) == [1, 2]


def test_interrupted_anywhere_it_loses_and_doubles_nothing() -> None:
    channel, each = Channel(), 80
    got: list[int] = []

    def put(first: int) -> None:
        for item in range(first, first + each):
            while True:
                try:
                    channel.put(item, timeout=5e-5)
                    break
                except Full:
                    sleep(0)

    def get() -> None:
        while len(got) < 2 * each:
            with Timeout(1e-4, False):
                try:
                    got.append(channel.get(timeout=5e-5))
                except Empty:
                    sleep(0)

    def work(first: int) -> None:
        joinall([spawn(put, first), spawn(get)], raise_error=True)

    in_threads([disturbed(lambda first=first: work(first)) for first in (0, each)])
    assert sorted(got) == list(range(2 * each))
