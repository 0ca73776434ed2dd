"""The selectors of the standard library, over our select."""

import os
import selectors
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from streamserve import Timeout, sleep, spawn
from streamserve.green import selectors as green_selectors
from streamserve.green import watched_set

Pair = tuple[socket.socket, socket.socket]

KINDS = pytest.mark.parametrize("name", green_selectors.__implements__)


@pytest.fixture(autouse=True)
def no_spare_sets() -> Iterator[None]:
    """Sets that are kept for the next wait are no leak, but the fixture of the hub counts descriptors."""
    yield
    spares = watched_set._spares.sets
    while spares:
        spares.pop().close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@KINDS
def test_a_selector_is_one_of_the_standard_class(name: str) -> None:
    with getattr(green_selectors, name)() as selector:
        assert isinstance(selector, getattr(selectors, name))


@KINDS
def test_others_run_until_one_is_ready(name: str, pair: Pair) -> None:
    order: list[Any] = []
    with getattr(green_selectors, name)() as selector:
        key = selector.register(pair[0], selectors.EVENT_READ, "data")
        waiting = spawn(lambda: order.append(selector.select()))
        spawn(lambda: (order.append("sent"), pair[1].send(b"x")))
        waiting.join()
        assert order == ["sent", [(key, selectors.EVENT_READ)]]
        assert selector.get_map()[pair[0]].data == "data"


@KINDS
def test_a_registration_is_changed_between_waits(name: str, pair: Pair) -> None:
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    with getattr(green_selectors, name)() as selector:
        selector.register(pair[0], selectors.EVENT_READ)
        assert selector.select(0) == selector.select(-1) == selector.select(0.001) == []
        key = selector.modify(pair[0], both)
        assert selector.select(None) == [(key, selectors.EVENT_WRITE)]
        pair[1].send(b"x")
        assert selector.select(None) == [(key, both)]
        selector.unregister(pair[0])
        assert selector.select(0.001) == []


@KINDS
def test_several_are_found_at_once(name: str) -> None:
    pairs = [socket.socketpair() for _ in range(12)]
    with getattr(green_selectors, name)() as selector:
        for left, _ in pairs:
            selector.register(left, selectors.EVENT_READ)
        waiting = spawn(selector.select)
        sleep(0)
        for _, right in pairs:
            right.send(b"x")
        assert len(waiting.get()) == len(pairs)
    for left, right in pairs:
        left.close()
        right.close()


@KINDS
def test_a_timeout_ends_the_wait_and_the_selector_stays_usable(name: str, pair: Pair) -> None:
    with getattr(green_selectors, name)() as selector:
        key = selector.register(pair[0], selectors.EVENT_READ)
        with pytest.raises(Timeout), Timeout(0.01):
            selector.select()
        pair[1].send(b"x")
        assert selector.select() == [(key, selectors.EVENT_READ)]


def test_a_selector_for_each_wait_leaves_nothing_open(pair: Pair) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(50):
        with green_selectors.DefaultSelector() as selector:
            selector.register(pair[0], selectors.EVENT_READ)
            waiting = spawn(selector.select)
            sleep(0)
            pair[1].send(b"x")
            assert waiting.get()
            pair[0].recv(1)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_the_default_selector_has_the_descriptor_of_its_set() -> None:
    with green_selectors.DefaultSelector() as selector:
        assert os.fstat(selector.fileno())
