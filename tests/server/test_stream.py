"""What a StreamServer promises of one connection and of many."""

import contextlib
import io
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from streamserve import Greenlet, get_hub, sleep, spawn, spawn_raw
from streamserve.core import lib
from streamserve.green import socket as green
from streamserve.pool.group import Group, Pool
from streamserve.server import StreamServer
from streamserve.sync.event import Event
from tests.server.conftest import PATIENCE, Connect


def echo(client: Any, address: Any) -> None:
    while data := client.recv(65536):
        client.sendall(data)


def ask(client: Any, data: bytes) -> bytes:
    """Sends a message and reads as many bytes back."""
    client.sendall(data)
    answer = b""
    while len(answer) < len(data) and (piece := client.recv(65536)):
        answer += piece
    return answer


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class TestListener:
    @pytest.mark.parametrize("listener", [("127.0.0.1", 0), "127.0.0.1:0", ":0", "0", 0, "*:0", ("localhost", 0)])
    def test_is_an_address_in_any_form(self, listener: Any, connect: Connect) -> None:
        with StreamServer(listener, echo) as server:
            assert server.server_port == server.address[1] > 0
            assert ask(connect(server), b"ping") == b"ping"

    @pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
    def test_is_an_ipv6_address(self, connect: Connect) -> None:
        with StreamServer("[::1]:0", lambda client, address: client.sendall(repr(address).encode())) as server:
            client = connect(server)
            assert (server.server_host, client.recv(100)) == ("::1", repr(client.getsockname()).encode())

    def test_is_a_path(self, tmp_path: Path, connect: Connect) -> None:
        path = tmp_path / "echo.sock"
        with StreamServer(f"unix:{path}", echo) as server:
            assert (server.address, server.server_host, server.server_port) == (str(path), None, None)
            assert ask(connect(server), b"ping") == b"ping"
        assert not path.exists()

    @pytest.mark.parametrize("cooperative", [False, True])
    @pytest.mark.parametrize("listening", [False, True])
    def test_is_a_bound_socket(self, cooperative: bool, listening: bool, connect: Connect) -> None:
        listener = green.socket() if cooperative else socket.socket()
        listener.bind(("127.0.0.1", 0))
        if listening:
            listener.listen()
        with StreamServer(listener, echo) as server:
            assert server.address == listener.getsockname()
            assert ask(connect(server), b"ping") == b"ping"
        assert listener.fileno() == -1

    def test_is_a_descriptor(self, connect: Connect) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as parent,
            StreamServer(f"fd://{os.dup(parent.fileno())}", echo) as server,
        ):
            assert server.address == parent.getsockname()
            assert ask(connect(server), b"ping") == b"ping"


class TestHandler:
    def test_gets_a_cooperative_socket_and_the_address_of_the_peer(self, connect: Connect) -> None:
        seen: list[Any] = []

        def handle(client: Any, address: Any) -> None:
            seen.extend((type(client), client.gettimeout(), client.getpeername(), address))

        with StreamServer("127.0.0.1:0", handle) as server:
            client = connect(server)
            assert client.recv(1) == b""
        assert seen == [green.socket, None, client.getsockname(), client.getsockname()]

    def test_is_told_the_address_of_a_peer_that_has_gone(self, connect: Connect) -> None:
        seen: list[Any] = []
        done = Event()

        def handle(client: Any, address: Any) -> None:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            with pytest.raises(OSError, match="not connected"):
                client.getpeername()
            seen.append(address)
            done.set()

        with StreamServer("127.0.0.1:0", handle) as server, socket.create_connection(server.address) as client:
            name = client.getsockname()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            assert done.wait(PATIENCE)
        assert seen == [name]

    def test_socket_is_closed_when_it_returns(self, connect: Connect) -> None:
        sockets: list[Any] = []
        with StreamServer("127.0.0.1:0", lambda client, address: sockets.append(client)) as server:
            assert connect(server).recv(1) == b""
        assert sockets[0].fileno() == -1

    def test_error_closes_the_socket_and_is_reported_once(self, connect: Connect, errors: io.StringIO) -> None:
        def handle(client: Any, address: Any) -> None:
            raise ZeroDivisionError("of the handler")

        with StreamServer("127.0.0.1:0", handle) as server:
            assert connect(server).recv(1) == b""
            assert connect(server).recv(1) == b""
        assert errors.getvalue().count("ZeroDivisionError: of the handler") == 2

    def test_may_be_a_method(self, connect: Connect) -> None:
        class Greeter(StreamServer):
            def handle(self, client: Any, address: Any) -> None:
                client.sendall(f"welcome to {self.server_port}".encode())

        with Greeter("127.0.0.1:0") as server:
            assert connect(server).recv(100) == f"welcome to {server.server_port}".encode()

    def test_may_be_changed_while_serving(self, connect: Connect) -> None:
        with StreamServer("127.0.0.1:0", echo) as server:
            client = connect(server)
            assert ask(client, b"ping") == b"ping"
            server.set_handle(lambda client, address: client.sendall(b"new"))
            assert connect(server).recv(100) == b"new"
            assert ask(client, b"ping") == b"ping"


class TestSpawn:
    @pytest.mark.parametrize(
        "spawn_argument",
        ["default", 5, Pool(5), Pool(), Group(), spawn_raw, lambda function, *args: Greenlet.spawn(function, *args)],
        ids=["default", "number", "pool", "unlimited pool", "group", "raw", "function"],
    )
    def test_of_each_kind_serves_clients_side_by_side(self, spawn_argument: Any, connect: Connect) -> None:
        with StreamServer("127.0.0.1:0", echo, spawn=spawn_argument) as server:
            clients = [connect(server) for _ in range(5)]
            assert [ask(client, b"ping") for client in clients] == [b"ping"] * 5
            assert server.active == 5
            for client in clients:
                client.shutdown(green.SHUT_WR)
                assert client.recv(1) == b""

    def test_none_calls_the_handler_in_the_hub(self, connect: Connect) -> None:
        from greenlet import getcurrent

        seen: list[Any] = []

        def handle(client: Any, address: Any) -> None:
            seen.append(getcurrent())
            client.send(b"hello")

        with StreamServer("127.0.0.1:0", handle, spawn=None) as server:
            client = connect(server)
            assert (client.recv(100), client.recv(100)) == (b"hello", b"")
        assert seen == [get_hub()]

    def test_handler_in_the_hub_may_stop_the_server(self, connect: Connect) -> None:
        server = StreamServer("127.0.0.1:0", lambda client, address: server.stop(), spawn=None)
        server.start()
        assert connect(server).recv(1) == b""
        assert server.closed

    def test_function_that_fails_closes_the_socket(self, connect: Connect, errors: io.StringIO) -> None:
        def refuse(*args: Any) -> None:
            raise ZeroDivisionError("of spawn")

        with StreamServer("127.0.0.1:0", echo, spawn=refuse) as server:
            assert connect(server).recv(1) == b""
            assert connect(server).recv(1) == b""
        assert errors.getvalue().count("ZeroDivisionError: of spawn") == 2

    def test_function_may_stop_the_server_among_the_events_of_a_poll(self, connect: Connect) -> None:
        def stop(function: Any, *args: Any) -> None:
            server.close()
            function(*args)

        server = StreamServer("127.0.0.1:0", lambda client, address: None, spawn=stop)
        server.start()
        clients = [connect(server) for _ in range(3)]
        for client in clients:
            with contextlib.suppress(ConnectionResetError):  # of one that was not accepted before the listener closed
                assert client.recv(1) == b""

    def test_most_accepted_in_a_turn_still_serves_all(self, connect: Connect) -> None:
        class Careful(StreamServer):
            max_accept = 1

        with Careful("127.0.0.1:0", echo) as server:
            clients = [connect(server) for _ in range(20)]
            assert [ask(client, b"ping") for client in clients] == [b"ping"] * 20

    def test_flood_of_clients_is_served(self, connect: Connect) -> None:
        with StreamServer("127.0.0.1:0", echo) as server:
            clients = [connect(server) for _ in range(300)]
            jobs = [spawn(ask, client, b"%d" % number) for number, client in enumerate(clients)]
            assert [job.get(timeout=60) for job in jobs] == [b"%d" % number for number in range(300)]


class TestAccepting:
    def test_stops_and_goes_on(self, connect: Connect) -> None:
        with StreamServer("127.0.0.1:0", echo) as server:
            first = connect(server)
            assert ask(first, b"ping") == b"ping"
            server.stop_accepting()
            server.stop_accepting()
            waiting = connect(server)
            waiting.sendall(b"ping")
            assert ask(first, b"ping") == b"ping"
            assert (server.started, server.active) == (True, 1)
            server.start_accepting()
            server.start_accepting()
            assert waiting.recv(100) == b"ping"

    def test_closed_while_the_hub_reads_events_refuses_what_was_accepted_with_them(
        self, connect: Connect, errors: io.StringIO
    ) -> None:
        """As a signal's function may do, which runs anywhere."""
        hub, (reader, writer) = get_hub(), os.pipe()
        handle = lib.ss_fd_open(hub.core, reader, lib.SS_READ)
        server = StreamServer("127.0.0.1:0", echo)
        server.start()
        hub.fd_watchers[handle] = lambda ready: server.close()
        os.write(writer, b"x")
        clients = [connect(server) for _ in range(3)]
        descriptors = len(os.listdir("/proc/self/fd"))
        for client in clients:
            with contextlib.suppress(OSError):  # it may be reset already
                client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        assert server.closed
        assert len(os.listdir("/proc/self/fd")) == descriptors - 1
        assert errors.getvalue() == ""
        hub.fd_watchers.pop(handle)
        lib.ss_fd_close(hub.core, handle, False)
        os.close(reader)
        os.close(writer)

    def test_listener_that_others_shut_down_closes_the_server(
        self, connect: Connect, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = StreamServer("127.0.0.1:0", echo)
        server.start()
        ended = spawn(server.serve_forever)
        sleep(0)
        assert server.socket is not None
        server.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
        ended.join(PATIENCE)
        assert (ended.ready(), server.closed) == (True, True)
        assert "accepting failed: Invalid argument" in caplog.text
