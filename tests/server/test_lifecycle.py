"""Start, stop and what lies between, for every way of starting handlers."""

import errno
import socket
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from streamserve import Greenlet, Timeout, get_hub, kill, sleep, spawn, spawn_raw
from streamserve.errors import AddressError, InvalidThreadUseError
from streamserve.pool.group import Pool
from streamserve.server import StreamServer
from streamserve.sync.event import Event
from tests.server.conftest import PATIENCE, Connect

SPAWNS = ["default", 5, "pool", spawn_raw, lambda function, *args: Greenlet.spawn(function, *args)]
SPAWN_NAMES = ["default", "number", "pool", "raw", "function"]


class Handlers:
    """A handler that waits to be let go, and what became of its calls."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended: list[str] = []
        self.one_began = Event()
        self.may_end = Event()

    def handle(self, client: Any, address: Any) -> None:
        self.begun += 1
        self.one_began.set()
        how = "killed"
        try:
            self.may_end.wait()
            how = "returned"
        finally:
            self.ended.append(how)

    def wait_for(self, count: int) -> None:
        while self.begun < count:
            self.one_began.clear()
            assert self.one_began.wait(PATIENCE), f"{self.begun} of {count} began"


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture(params=SPAWNS, ids=SPAWN_NAMES)
def server(request: pytest.FixtureRequest, handlers: Handlers) -> StreamServer:
    how = Pool(5) if request.param == "pool" else request.param
    return StreamServer("127.0.0.1:0", handlers.handle, spawn=how)


class TestStop:
    def test_waits_for_handlers(self, server: StreamServer, handlers: Handlers, connect: Connect) -> None:
        server.start()
        clients = [connect(server) for _ in range(3)]
        handlers.wait_for(3)
        stopper = spawn(server.stop, PATIENCE)
        sleep(0)
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        assert (stopper.ready(), server.started, server.closed, server.active) == (False, False, True, 3)
        handlers.may_end.set()
        assert stopper.get(timeout=PATIENCE) == 0
        assert handlers.ended == ["returned"] * 3
        assert [client.recv(1) for client in clients] == [b""] * 3

    def test_kills_handlers_that_take_longer(self, server: StreamServer, handlers: Handlers, connect: Connect) -> None:
        server.start()
        clients = [connect(server) for _ in range(3)]
        handlers.wait_for(3)
        assert server.stop(0.01) == 3
        assert (server.active, handlers.ended) == (0, ["killed"] * 3)
        assert [client.recv(1) for client in clients] == [b""] * 3

    @pytest.mark.parametrize(("timeout", "ended"), [(PATIENCE, ["returned"]), (0, [])])
    def test_knows_what_is_about_to_begin(
        self, timeout: float, ended: list[str], handlers: Handlers, connect: Connect
    ) -> None:
        handlers.may_end.set()
        stoppers: list[Greenlet] = []

        def stop_and_spawn(function: Any, *args: Any) -> None:
            stoppers.append(spawn(server.stop, timeout))
            spawn(function, *args)

        server = StreamServer("127.0.0.1:0", handlers.handle, spawn=stop_and_spawn)
        server.start()
        assert connect(server).recv(1) == b""
        assert stoppers[0].get(timeout=PATIENCE) == 0
        assert handlers.ended == ended

    def test_may_be_called_by_a_handler(self, connect: Connect) -> None:
        answers: list[int] = []
        server = StreamServer("127.0.0.1:0", lambda client, address: answers.append(server.stop(PATIENCE)))
        forever = spawn(server.serve_forever)
        sleep(0)
        assert connect(server).recv(1) == b""
        forever.get(timeout=PATIENCE)
        assert answers == [0]

    def test_twice_is_once(self, server: StreamServer) -> None:
        server.start()
        assert (server.stop(), server.stop()) == (0, 0)
        server.close()

    def test_of_one_server_leaves_other_work_of_its_pool_alone(self, handlers: Handlers, connect: Connect) -> None:
        pool = Pool(5)
        other = pool.spawn(handlers.may_end.wait)
        with StreamServer("127.0.0.1:0", handlers.handle, spawn=pool) as server:
            client = connect(server)
            handlers.wait_for(1)
            assert server.stop(0) == 1
            assert client.recv(1) == b""
        assert not other.ready()
        handlers.may_end.set()
        assert other.get(timeout=PATIENCE)

    def test_that_is_interrupted_kills_the_handlers(self, handlers: Handlers, connect: Connect) -> None:
        server = StreamServer("127.0.0.1:0", handlers.handle)
        server.start()
        client = connect(server)
        handlers.wait_for(1)
        stopper = spawn(server.stop, PATIENCE)
        sleep(0)
        stopper.kill()
        assert client.recv(1) == b""
        assert handlers.ended == ["killed"]

    def test_from_another_thread_says_how_to_do_it(self, server: StreamServer) -> None:
        server.start()
        problems: list[str] = []

        def stop() -> None:
            try:
                server.stop()
            except InvalidThreadUseError as problem:
                problems.append(str(problem))

        thread = threading.Thread(target=stop)
        thread.start()
        thread.join()
        assert "use its hub.run_callback_threadsafe(server.stop)" in problems[0]
        get_hub().run_callback_threadsafe(server.stop)
        with Timeout(PATIENCE):
            while server.started:
                sleep(0.001)


class TestStart:
    def test_twice_is_once(self, server: StreamServer) -> None:
        server.start()
        address = server.address
        server.start()
        assert (server.started, server.address) == (True, address)
        server.stop()

    def test_again_listens_at_the_same_address(self, handlers: Handlers, connect: Connect) -> None:
        handlers.may_end.set()
        server = StreamServer("127.0.0.1:0", handlers.handle)
        addresses = set()
        for _ in range(3):
            with server:
                addresses.add(server.address)
                assert connect(server).recv(1) == b""
        assert (len(addresses), handlers.begun) == (1, 3)

    def test_before_it_the_address_is_the_one_that_was_given(self) -> None:
        server = StreamServer("localhost:0", print)
        assert (server.address, server.closed, server.started) == (("localhost", 0), True, False)
        assert repr(server) == "<StreamServer localhost:0 active=0 not listening>"

    def test_that_fails_leaves_nothing_open(self) -> None:
        with StreamServer("127.0.0.1:0", print) as first:
            second = StreamServer(first.address, print)
            with pytest.raises(AddressError) as caught:
                second.start()
            assert (caught.value.errno, second.closed, second.started) == (errno.EADDRINUSE, True, False)

    def test_accepts_what_came_since_the_socket_was_opened(self, handlers: Handlers, connect: Connect) -> None:
        handlers.may_end.set()
        server = StreamServer("127.0.0.1:0", handlers.handle)
        server.init_socket()
        client = connect(server)
        with server:
            assert client.recv(1) == b""

    def test_takes_another_listener_while_stopped(self, handlers: Handlers, connect: Connect) -> None:
        handlers.may_end.set()
        server = StreamServer("127.0.0.1:0", handlers.handle)
        server.set_listener("localhost:0")
        with server:
            assert connect(server).recv(1) == b""
            with pytest.raises(RuntimeError, match="stop it before it gets another listener"):
                server.set_listener("127.0.0.1:0")


class TestServeForever:
    @pytest.mark.parametrize("how", ["stop", "close"])
    def test_ends_with_the_server(self, how: str) -> None:
        server = StreamServer("127.0.0.1:0", print)
        forever = spawn(server.serve_forever)
        sleep(0)
        assert server.started
        getattr(server, how)()
        forever.get(timeout=PATIENCE)

    def test_stops_the_server_when_it_is_interrupted(self, handlers: Handlers, connect: Connect) -> None:
        server = StreamServer("127.0.0.1:0", handlers.handle)
        forever = spawn(server.serve_forever, 0)
        sleep(0)
        client = connect(server)
        handlers.wait_for(1)
        kill(forever)
        assert client.recv(1) == b""
        forever.join(PATIENCE)
        assert (server.closed, handlers.ended) == (True, ["killed"])

    def test_waits_for_handlers_before_it_returns(self, handlers: Handlers, connect: Connect) -> None:
        server = StreamServer("127.0.0.1:0", handlers.handle)
        forever = spawn(server.serve_forever, PATIENCE)
        sleep(0)
        connect(server)
        handlers.wait_for(1)
        server.close()
        sleep(0)
        assert not forever.ready()
        handlers.may_end.set()
        forever.get(timeout=PATIENCE)
        assert handlers.ended == ["returned"]

    def test_in_a_thread_of_its_own(self) -> None:
        """Each native thread has a loop, and each loop its servers; this thread's clients block."""
        ready: Future[tuple[Any, StreamServer]] = Future()

        def serve() -> None:
            server = StreamServer("127.0.0.1:0", lambda client, address: client.sendall(client.recv(10)))
            server.start()
            ready.set_result((get_hub(), server))
            server.serve_forever()

        thread = threading.Thread(target=serve)
        thread.start()
        hub, server = ready.result(PATIENCE)
        with socket.create_connection(server.address, PATIENCE) as client:
            client.sendall(b"ping")
            assert client.recv(10) == b"ping"
        hub.run_callback_threadsafe(server.close)
        thread.join(PATIENCE)
        assert not thread.is_alive()
