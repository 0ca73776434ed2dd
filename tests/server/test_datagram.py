"""What a DatagramServer promises."""

import errno
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamserve import Greenlet, joinall, sleep, spawn, spawn_raw
from streamserve.errors import AddressError
from streamserve.green import socket as green
from streamserve.server import DatagramServer
from streamserve.sync.event import Event
from streamserve.sync.queue import Queue
from tests.server.conftest import PATIENCE


@pytest.fixture
def client() -> Iterator[Any]:
    with green.socket(green.AF_INET, green.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.bind(("127.0.0.1", 0))
        yield client


def upper(where: Any = "127.0.0.1:0", **options: Any) -> DatagramServer:
    """A server that answers in capitals."""
    server = DatagramServer(where, lambda data, address: server.sendto(data.upper(), address), **options)
    return server


@pytest.mark.parametrize(
    "how", ["default", 2, spawn_raw, None, lambda function, *args: Greenlet.spawn(function, *args)]
)
def test_answers_whoever_asks(how: Any, client: Any) -> None:
    with upper(spawn=how) as server:
        for number in range(5):
            client.sendto(b"ping %d" % number, server.address)
            assert client.recvfrom(100) == (b"PING %d" % number, server.address)


def test_path(tmp_path: Path) -> None:
    path = tmp_path / "upper.sock"
    with upper(f"unix:{path}") as server, green.socket(green.AF_UNIX, green.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.bind(str(tmp_path / "client.sock"))
        client.sendto(b"ping", str(path))
        assert client.recv(100) == b"PING"
        assert server.address == str(path)
    assert not path.exists()


@pytest.mark.parametrize("cooperative", [False, True])
def test_bound_socket(cooperative: bool, client: Any) -> None:
    bound = (green if cooperative else socket).socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    with upper(bound) as server:
        client.sendto(b"ping", server.address)
        assert client.recv(100) == b"PING"
    assert bound.fileno() == -1


def test_descriptor(client: Any) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as parent:
        parent.bind(("127.0.0.1", 0))
        with upper(f"fd://{os.dup(parent.fileno())}") as server:
            client.sendto(b"ping", server.address)
            assert client.recv(100) == b"PING"


def test_long_and_empty_datagrams_arrive_whole(client: Any) -> None:
    seen: Queue[bytes] = Queue()
    with DatagramServer("127.0.0.1:0", lambda data, address: seen.put(data)) as server:
        for data in (b"", b"x" * 60000, b"y"):
            client.sendto(data, server.address)
            assert seen.get(timeout=PATIENCE) == data


def test_flood_leaves_turns_to_others(client: Any) -> None:
    """Whatever waits in the kernel, the others run after `max_accept` datagrams."""

    class Careful(DatagramServer):
        max_accept = 4

    log: list[str] = []
    ended = Event()

    def handle(data: bytes, address: Any) -> None:
        log.append("datagram")
        if data == b"last":
            ended.set()

    def other() -> None:
        while not ended.is_set():
            log.append("other")
            sleep(0)

    server = Careful("127.0.0.1:0", handle)
    server.init_socket()
    for _ in range(40):
        client.sendto(b"x", server.address)
    client.sendto(b"last", server.address)
    with server:
        spawn(other)
        assert ended.wait(PATIENCE)
    runs = "".join("d" if entry == "datagram" else " " for entry in log).split()
    assert sum(map(len, runs)) == 41
    assert max(map(len, runs)) <= 2 * Careful.max_accept


def test_many_greenlets_send_side_by_side(client: Any) -> None:
    with upper() as server:
        joinall([spawn(server.sendto, b"%d" % number, client.getsockname()) for number in range(50)])
        assert {client.recv(100) for _ in range(50)} == {b"%d" % number for number in range(50)}


def test_full_pool_leaves_datagrams_in_the_kernel(client: Any) -> None:
    began: Queue[bytes] = Queue()
    gates = [Event() for _ in range(4)]

    def handle(data: bytes, address: Any) -> None:
        began.put(data)
        gates[int(data)].wait()

    with DatagramServer("127.0.0.1:0", handle, spawn=2) as server:
        for number in range(4):
            client.sendto(b"%d" % number, server.address)
        assert [began.get(timeout=PATIENCE) for _ in range(2)] == [b"0", b"1"]
        sleep(0)
        assert (server.full(), server.active, began.empty()) == (True, 2, True)
        gates[1].set()
        assert began.get(timeout=PATIENCE) == b"2"
        gates[0].set()
        assert began.get(timeout=PATIENCE) == b"3"
        for gate in gates:
            gate.set()
        assert server.stop(PATIENCE) == 0


def test_errors_of_handlers_end_nothing(client: Any, errors: io.StringIO) -> None:
    def handle(data: bytes, address: Any) -> None:
        server.sendto(b"%d" % (1 // int(data)), address)

    server = DatagramServer("127.0.0.1:0", handle)
    with server:
        client.sendto(b"0", server.address)
        client.sendto(b"1", server.address)
        assert client.recv(100) == b"1"
    assert errors.getvalue().count("Traceback") == 1


def test_spawn_that_fails_ends_nothing(client: Any, errors: io.StringIO) -> None:
    calls = []

    def once(function: Any, *args: Any) -> None:
        calls.append(args)
        if len(calls) == 1:
            raise ZeroDivisionError("of spawn")
        spawn(function, *args)

    with upper(spawn=once) as server:
        client.sendto(b"a", server.address)
        client.sendto(b"b", server.address)
        assert client.recv(100) == b"B"
    assert "ZeroDivisionError: of spawn" in errors.getvalue()


def test_stop_kills_handlers_and_a_new_start_finds_the_port(client: Any) -> None:
    began, ended = Event(), []

    def handle(data: bytes, address: Any) -> None:
        began.set()
        try:
            Event().wait()
        finally:
            ended.append(data)

    server = DatagramServer("127.0.0.1:0", handle)
    server.start()
    address = server.address
    client.sendto(b"ping", address)
    assert began.wait(PATIENCE)
    assert server.stop(0.01) == 1
    assert ended == [b"ping"]
    server.set_handle(lambda data, sender: server.sendto(data, sender))
    with server:
        assert server.address == address
        client.sendto(b"pong", address)
        assert client.recv(100) == b"pong"


def test_stops_and_goes_on_accepting(client: Any) -> None:
    with upper() as server:
        server.stop_accepting()
        client.sendto(b"ping", server.address)
        sleep(0)
        server.start_accepting()
        assert client.recv(100) == b"PING"


def test_closed_server_sends_nothing() -> None:
    server = upper()
    with pytest.raises(OSError, match="is closed: nothing can be sent") as caught:
        server.sendto(b"x", ("127.0.0.1", 9))
    assert caught.value.errno == errno.EBADF


def test_port_in_use_is_refused_unless_both_share_it() -> None:
    with upper() as first, pytest.raises(AddressError, match="another process listens there"):
        upper(first.address).start()

    class Sharing(DatagramServer):
        reuse_addr = True

    with Sharing("127.0.0.1:0", print) as one, Sharing(one.address, print) as two:
        assert one.address == two.address


@pytest.mark.parametrize("cooperative", [False, True])
def test_stream_socket_is_refused(cooperative: bool) -> None:
    with (green if cooperative else socket).socket() as stream, pytest.raises(AddressError, match="SOCK_DGRAM"):
        DatagramServer(stream, print).start()


def test_timeouts_of_the_program_do_not_end_the_server(client: Any) -> None:
    bound = green.socket(green.AF_INET, green.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    bound.settimeout(0.0)
    with upper(bound) as server:
        client.sendto(b"ping", server.address)
        assert client.recv(100) == b"PING"
        assert server.receive_failures == 0


def test_socket_that_others_closed_closes_the_server(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    with upper() as server:
        forever = spawn(server.serve_forever)
        sleep(0)
        server.socket.close()
        forever.join(PATIENCE)
        assert (forever.ready(), server.closed) == (True, True)
    assert "receiving failed" in caplog.text
