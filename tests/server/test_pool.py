"""A server whose pool is full accepts nothing more, and goes on when there is room."""

import contextlib
from typing import Any

import pytest

from streamserve import get_hub, sleep, spawn
from streamserve.pool.group import Pool
from streamserve.server import StreamServer
from streamserve.sync.event import Event
from streamserve.sync.queue import Queue
from tests.server.conftest import PATIENCE, Connect, accepted


class Guests:
    """A handler that tells of each client, and keeps it until `let_go`."""

    def __init__(self) -> None:
        self.came: Queue[Any] = Queue()
        self.inside = self.most = 0
        self.gates: list[Event] = []

    def handle(self, client: Any, address: Any) -> None:
        gate = Event()
        self.gates.append(gate)
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.came.put(address)
        gate.wait()
        self.inside -= 1

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            self.came.get(timeout=PATIENCE)

    def let_go(self) -> None:
        self.gates.pop(0).set()


@pytest.fixture
def guests() -> Guests:
    return Guests()


@pytest.mark.parametrize("as_pool", [False, True])
def test_most_handlers_at_once_and_no_connection_more(as_pool: bool, guests: Guests, connect: Connect) -> None:
    before = accepted(get_hub())
    with StreamServer("127.0.0.1:0", guests.handle, spawn=Pool(2) if as_pool else 2) as server:
        clients = [connect(server) for _ in range(6)]
        guests.wait_for(2)
        for served in range(2, 6):
            assert server.full()
            assert accepted(get_hub()) - before == served
            guests.let_go()
            guests.wait_for(1)
        guests.let_go()
        guests.let_go()
        assert [client.recv(1) for client in clients] == [b""] * 6
        assert not server.full()
    assert guests.most == 2


def test_place_that_somebody_else_takes_keeps_the_client_waiting(guests: Guests, connect: Connect) -> None:
    pool = Pool(2)
    done = Event()
    with StreamServer("127.0.0.1:0", guests.handle, spawn=pool) as server:
        first = connect(server)
        guests.wait_for(1)
        other = pool.spawn(done.wait)
        second = connect(server)
        guests.let_go()
        assert first.recv(1) == b""
        guests.wait_for(1)
        third = connect(server)
        third.settimeout(0.0)
        sleep(0)
        assert server.active == 1
        done.set()
        other.get(timeout=PATIENCE)
        guests.wait_for(1)
        guests.let_go()
        guests.let_go()
        assert second.recv(1) == b""


def test_pool_that_is_full_at_the_start(guests: Guests, connect: Connect) -> None:
    pool, done = Pool(1), Event()
    other = pool.spawn(done.wait)
    with StreamServer("127.0.0.1:0", guests.handle, spawn=pool) as server:
        client = connect(server)
        sleep(0)
        assert (server.full(), server.active) == (True, 0)
        done.set()
        other.get(timeout=PATIENCE)
        guests.wait_for(1)
        guests.let_go()
        assert client.recv(1) == b""


def test_stop_while_full_refuses_those_that_wait(guests: Guests, connect: Connect) -> None:
    with StreamServer("127.0.0.1:0", guests.handle, spawn=1) as server:
        clients = [connect(server) for _ in range(3)]
        guests.wait_for(1)
        assert server.stop(0) == 1
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    assert len(guests.gates) == 1


def test_spawn_may_be_changed_while_full(guests: Guests, connect: Connect) -> None:
    with StreamServer("127.0.0.1:0", guests.handle, spawn=1) as server:
        connect(server)
        guests.wait_for(1)
        connect(server)
        sleep(0)
        assert server.active == 1
        server.set_spawn("default")
        guests.wait_for(1)
        assert (server.active, server.pool) == (2, None)


def test_anything_with_spawn_and_full_is_a_pool(guests: Guests, connect: Connect) -> None:
    class Single:
        running: Any = None

        def full(self) -> bool:
            return self.running is not None and not self.running.ready()

        def spawn(self, function: Any, *args: Any) -> None:
            self.running = spawn(function, *args)

    with StreamServer("127.0.0.1:0", guests.handle, spawn=Single()) as server:
        clients = [connect(server) for _ in range(3)]
        for client in clients:
            guests.wait_for(1)
            assert server.active == 1
            guests.let_go()
            assert client.recv(1) == b""
    assert guests.most == 1


@pytest.mark.parametrize(("wrong", "kind"), [(0, ValueError), (-1, ValueError), (True, TypeError), ("pool", TypeError)])
def test_refuses_what_spawns_nothing(wrong: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"spawn={wrong!r}"):
        StreamServer("127.0.0.1:0", print, spawn=wrong)


def test_refuses_a_pool_of_threads() -> None:
    with pytest.raises(TypeError, match="runs handlers in other threads"):
        StreamServer("127.0.0.1:0", print, spawn=get_hub().threadpool)
