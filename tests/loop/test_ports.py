"""Ports: who takes the events of a listener; and an event that fails takes no other one of its poll along."""

import io
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamserve import sleep, spawn
from streamserve.core import ffi, lib
from streamserve.loop.hubs import get_hub
from streamserve.loop.ports import Port
from streamserve.loop.waiter import Waiter


class Raw(Port):
    """A raw listener that keeps what it accepts."""

    def __init__(self) -> None:
        super().__init__(get_hub())
        self.sockets: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        config = ffi.new("ss_listener_config *")
        lib.ss_listener_defaults(config)
        config.raw = 1
        self.open(lib.ss_listener_open(self.hub.core, self.listener.fileno(), config))

    def connect(self) -> socket.socket:
        """A client that the kernel knows, and the core not yet."""
        client = socket.create_connection(self.listener.getsockname())
        client.settimeout(60)
        self.clients.append(client)
        select.select([self.listener], [], [], 60)  # the kernel finishes a connection a moment after the client knows
        return client

    def accepted(self, fd: int, place: int) -> None:
        self.sockets.append(socket.socket(fileno=fd))

    def end(self) -> None:
        if not self.closed:
            lib.ss_listener_close(self.hub.core, self.number)
            self.close()

    def forget(self) -> None:
        self.end()
        for opened in (self.listener, *self.sockets, *self.clients):
            opened.close()


class Failing(Raw):
    def accepted(self, fd: int, place: int) -> None:
        super().accepted(fd, place)
        raise RuntimeError("this port only")


class Timer:
    """Calls a function when its time is up: at once, that is at the next poll."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.fire = function
        get_hub().start_timer(0, self)


@pytest.fixture
def made() -> Iterator[Callable[[type[Raw]], Raw]]:
    ports: list[Raw] = []

    def make(kind: type[Raw] = Raw) -> Raw:
        ports.append(kind())
        return ports[-1]

    yield make
    for port in ports:
        port.forget()
    assert not get_hub().ports


def test_each_listener_has_its_own(made: Callable[..., Raw]) -> None:
    first, second = made(), made()
    clients = [second.connect(), first.connect()]
    wait_for(lambda: first.sockets and second.sockets)
    assert [port.sockets[0].getpeername() for port in (second, first)] == [client.getsockname() for client in clients]


def test_one_that_raises_leaves_other_ports_and_timers_of_its_poll_alone(
    made: Callable[..., Raw], errors: io.StringIO
) -> None:
    ports = [made(kind) for kind in (Failing, Raw, Failing, Raw)]
    for port in ports:
        port.connect()
    woken: list[int] = []
    for number in range(3):
        Timer(lambda number=number: woken.append(number))
    wait_for(lambda: all(port.sockets for port in ports))
    assert woken == [0, 1, 2]
    assert errors.getvalue().count("RuntimeError: this port only") == 2


def test_what_was_accepted_for_a_closed_one_goes_to_no_other(made: Callable[..., Raw]) -> None:
    """A timer of the same poll closes the listener, and another one is opened."""
    first, successors = made(), []

    def replace() -> None:
        first.end()
        successors.append(made())

    client = first.connect()
    Timer(replace)
    wait_for(lambda: successors)
    assert successors[0].number != first.number, "it is free again after the next poll"
    first.listener.close()
    assert ends(client)
    assert (first.sockets, successors[0].sockets) == ([], [])
    successors[0].connect()
    wait_for(lambda: successors[0].sockets)


class TestWatchers:
    @pytest.mark.parametrize("count", [1, 5])
    def test_that_raise_are_reported_and_the_others_of_their_poll_called(self, count: int, errors: io.StringIO) -> None:
        """Alone in its poll or not: neither ends main's wait."""
        hub, called = get_hub(), []
        pipes = [os.pipe() for _ in range(count)]
        handles = [lib.ss_fd_open(hub.core, reader, lib.SS_READ) for reader, _ in pipes]

        def fail(ready: int) -> None:
            called.append(ready)
            raise RuntimeError("this watcher only")

        for handle in handles:
            hub.fd_watchers[handle] = fail
        for _, writer in pipes:
            os.write(writer, b"x")
        wait_for(lambda: len(called) == count)
        assert errors.getvalue().count("RuntimeError: this watcher only") == count
        for handle in handles:
            del hub.fd_watchers[handle]
            lib.ss_fd_close(hub.core, handle, True)
        for pipe in pipes:
            for descriptor in pipe:
                os.close(descriptor)


class TestAHandleErrorThatRaises:
    @pytest.fixture(autouse=True)
    def broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: Any) -> None:
            raise ValueError("the report failed")

        monkeypatch.setattr(get_hub(), "handle_error", fail)

    def test_stops_no_callback(self, errors: io.StringIO) -> None:
        log: list[int] = []
        get_hub().run_callback(int, "x")
        get_hub().run_callback(log.append, 1)
        sleep(0.001)
        assert log == [1]
        assert "ValueError: the report failed" in errors.getvalue()
        assert "invalid literal for int()" in errors.getvalue()

    def test_loses_no_event_of_the_poll(self, made: Callable[..., Raw], errors: io.StringIO) -> None:
        ports = [made(kind) for kind in (Failing, Raw)]
        for port in ports:
            port.connect()
        woken: list[int] = []
        for number in range(3):
            Timer(lambda: int("x"))
            Timer(lambda number=number: woken.append(number))
        wait_for(lambda: all(port.sockets for port in ports))
        assert woken == [0, 1, 2]
        assert errors.getvalue().count("ValueError: the report failed") == 4

    def test_stops_no_greenlet(self, errors: io.StringIO) -> None:
        spawn(int, "x").join()
        assert spawn(int, "7").get() == 7
        assert "ValueError: the report failed" in errors.getvalue()


def wait_for(condition: Callable[[], Any]) -> None:
    """Runs the loop until it is so."""
    while not condition():
        waiter = Waiter(get_hub())
        get_hub().start_timer(0.001, waiter)
        waiter.park()


def ends(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
