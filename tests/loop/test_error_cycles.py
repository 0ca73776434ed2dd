"""An error that was raised and handled is freed at once: whoever passes it on is in no cycle with its traceback."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from streamserve import Timeout, get_hub, joinall, sleep, spawn, with_timeout
from streamserve.green import socket
from streamserve.pool.group import Pool
from streamserve.server.datagram import DatagramServer
from streamserve.server.stream import StreamServer

alive: "weakref.WeakSet[BaseException]" = weakref.WeakSet()


class Fault(Exception):
    """What the functions here raise."""

    def __init__(self) -> None:
        super().__init__()
        alive.add(self)


def fail(*args: Any) -> Any:
    raise Fault


def failing() -> Iterator[int]:
    yield 1
    raise Fault


def run_out() -> None:
    class Expired(Timeout):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            alive.add(self)

    with Expired(0.001):
        sleep(10)


def serve_one() -> None:
    server = StreamServer(("127.0.0.1", 0), fail)
    server.start()
    with socket.create_connection(server.address) as client:
        assert client.recv(1) == b""
    server.stop()


def serve_datagram() -> None:
    began: list[bool] = []

    def handle(data: bytes, address: Any) -> None:
        began.append(True)
        raise Fault

    server = DatagramServer(("127.0.0.1", 0), handle)
    server.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", server.address)
        while not began:
            sleep(0.0001)
    server.stop()


@pytest.mark.parametrize(
    "act",
    [
        lambda: spawn(fail).get(),
        lambda: joinall([spawn(fail)], raise_error=True),
        lambda: Pool(2).map(fail, [1, 2, 3]),
        lambda: list(Pool(2).imap(fail, [1])),
        lambda: list(Pool(2).imap(int, failing())),
        lambda: list(Pool(2).imap_unordered(fail, [1])),
        lambda: get_hub().threadpool.apply(fail),
        lambda: get_hub().threadpool.spawn(fail).get(),
        lambda: get_hub().threadpool.map(fail, [1, 2]),
        run_out,
        serve_one,
        serve_datagram,
    ],
)
def test_a_handled_error_is_freed_without_the_collector(
    act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_hub(), "handle_error", lambda *args: None)
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            with suppress(Fault, Timeout):
                act()
        get_hub().threadpool.join()
        sleep(0.0001)
        sleep(0.0001)
        assert [repr(error) for error in alive] == []
    finally:
        gc.enable()
        gc.collect()


def test_with_timeout_leaves_no_cycle() -> None:
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        with suppress(Timeout):
            with_timeout(0.001, sleep, 10)
        gc.collect()
        assert [thing for thing in gc.garbage if isinstance(thing, Timeout)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
