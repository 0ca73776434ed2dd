"""Cooperative sockets: the standard library's surface, and greenlets that wait."""

import ctypes
import errno
import gc
import io
import os
import socket as standard
import tempfile
import threading
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from streamserve import Greenlet, Timeout, get_hub, joinall, sleep, spawn
from streamserve.errors import ConcurrentObjectUseError
from streamserve.green import socket

Pair = tuple[Any, Any]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def listener() -> Iterator[Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def tcp(listener: Any) -> Iterator[Pair]:
    near = socket.create_connection(listener.getsockname(), timeout=20)
    far, _ = listener.accept()
    yield near, far
    near.close()
    far.close()


def waiting(function: Any, *args: Any) -> Greenlet:
    """Calls in a greenlet of its own, up to where it waits."""
    greenlet = spawn(function, *args)
    sleep()
    assert not greenlet.ready()
    return greenlet


@pytest.fixture
def quiet_hub() -> Iterator[None]:
    """Expected failures of greenlets are not printed."""
    get_hub().exception_stream = io.StringIO()
    yield
    get_hub().exception_stream = None


# ---- what it is


def test_is_a_standard_socket_and_a_native_one(pair: Pair) -> None:
    import _socket

    assert isinstance(pair[0], standard.socket)
    assert isinstance(pair[0], _socket.socket)
    assert type(pair[0]) is socket.socket


def test_has_every_name_of_the_standard_module_and_class() -> None:
    assert set(standard.__all__) <= set(dir(socket))
    assert set(dir(standard.socket)) <= set(dir(socket.socket))


def test_a_pickle_is_refused_as_by_the_standard_socket(pair: Pair) -> None:
    import pickle

    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(pair[0])


# ---- receiving and sending


def test_recv_waits_without_stopping_others(pair: Pair) -> None:
    reading = waiting(pair[0].recv, 10)
    pair[1].send(b"hello")
    assert reading.get(timeout=20) == b"hello"


def test_recv_into_waits_too(pair: Pair) -> None:
    buffer = bytearray(10)
    reading = waiting(pair[0].recv_into, buffer)
    pair[1].send(b"hello")
    assert reading.get(timeout=20) == 5
    assert buffer[:5] == b"hello"


def test_recv_into_takes_a_buffer_whose_length_is_not_its_bytes(pair: Pair) -> None:
    class NoLength(ctypes.Structure):
        _fields_ = (("first", ctypes.c_uint32), ("second", ctypes.c_uint32))

    numbers = array("I", [0, 0])
    structure = NoLength()
    pair[1].sendall(b"abcdefgh" * 2)
    assert (pair[0].recv_into(numbers), pair[0].recv_into(structure)) == (8, 8)
    assert numbers.tobytes() == bytes(structure) == b"abcdefgh"


def test_a_peek_leaves_the_data_and_the_next_read_finds_it(pair: Pair) -> None:
    pair[1].send(b"hello")
    assert pair[0].recv(10, socket.MSG_PEEK) == b"hello"
    assert pair[0].recv(10, socket.MSG_PEEK) == b"hello"
    assert pair[0].recv(10) == b"hello"


def test_after_a_short_read_what_comes_next_is_found(pair: Pair) -> None:
    for _ in range(5):
        pair[1].send(b"abc")
        assert pair[0].recv(10) == b"abc"
        reading = waiting(pair[0].recv, 10)
        pair[1].send(b"defg")
        assert reading.get(timeout=20) == b"defg"


def test_the_end_is_found_after_a_short_read(pair: Pair) -> None:
    pair[1].send(b"abc")
    pair[1].shutdown(socket.SHUT_WR)
    assert pair[0].recv(10) == b"abc"
    assert [pair[0].recv(10) for _ in range(3)] == [b""] * 3


def test_the_end_is_found_by_one_that_waits(pair: Pair) -> None:
    reading = waiting(pair[0].recv, 10)
    pair[1].shutdown(socket.SHUT_WR)
    assert reading.get(timeout=20) == b""


def test_what_stands_behind_urgent_data_is_read(tcp: Pair) -> None:
    near, far = tcp
    reading = waiting(near.recv, 1)
    far.send(b"1")
    assert reading.get(timeout=20) == b"1"
    far.send(b"before")
    far.send(b"!", socket.MSG_OOB)
    far.send(b"after")
    got = b""
    with Timeout(20):
        while not got.endswith(b"after"):
            got += near.recv(100)
    assert got == b"beforeafter"


def test_what_stands_behind_passed_descriptors_is_read(pair: Pair) -> None:
    near, far = pair
    far.send(b"ab")
    standard.send_fds(far, [b"cd"], [near.fileno()])
    far.send(b"ef")
    got = b""
    with Timeout(20):
        while len(got) < 6:
            data, fds, _, _ = standard.recv_fds(near, 100, 1)
            for fd in fds:
                os.close(fd)
            got += data
    assert got == b"abcdef"


@pytest.mark.parametrize("call", ["recv", "recv_into", "recvmsg", "recv_into a part"])
@pytest.mark.parametrize("seen", ["pair", "adopted", "forked"])
def test_a_plain_read_goes_on_behind_passed_descriptors(pair: Pair, call: str, seen: str) -> None:
    near, far = pair
    if seen == "adopted":
        near, far = (socket.socket(fileno=sock.detach()) for sock in pair)
    buffer = bytearray(100)
    ways = {
        "recv": lambda: near.recv(100),
        "recv_into": lambda: bytes(buffer[: near.recv_into(buffer)]),
        "recv_into a part": lambda: bytes(buffer[: near.recv_into(buffer, 90)]),
        "recvmsg": lambda: near.recvmsg(100)[0],
    }
    for _ in range(3):
        reading = waiting(ways[call])
        far.send(b"first")
        assert reading.get(timeout=20) == b"first"
        if seen == "forked":
            if not (child := os.fork()):
                try:
                    standard.socket.sendmsg(far, [b"cd"], [(1, socket.SCM_RIGHTS, array("i", [0]))])
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
        else:
            far.sendmsg([b"cd"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [0]))])
        far.send(b"ef")
        got = b""
        with Timeout(20):
            while len(got) < 4:
                got += ways[call]()
        assert got == b"cdef"
    near.close()
    far.close()


def test_what_is_sent_on_a_blocking_socket_is_sent_whole(pair: Pair) -> None:
    near, far = pair
    data = os.urandom(3_000_000)
    pieces = [data[:1000], bytearray(data[1000:2_000_000]), b"", memoryview(data)[2_000_000:]]
    numbers = (ctypes.c_uint32 * 500_000).from_buffer_copy(data[:2_000_000])
    for call, expected in (
        (lambda: near.send(data), data),
        (lambda: near.send(memoryview(data)), data),
        (lambda: near.send(numbers), data[:2_000_000]),
        (lambda: near.send(data, socket.MSG_NOSIGNAL), data),
        (lambda: near.sendmsg(pieces), data),
        (lambda: near.sendmsg(iter(pieces)), data),
        (lambda: near.sendmsg([data], [], socket.MSG_NOSIGNAL), data),
        (lambda: near.makefile("wb", 0).write(data), data),
    ):
        sending = waiting(call)
        got = bytearray()
        while len(got) < len(expected):
            got += far.recv(65536)
        assert sending.get(timeout=20) == len(got)
        assert bytes(got) == expected
    near.sendall((ctypes.c_uint32 * 2)(1, 2))
    assert far.recv(100) == bytes((ctypes.c_uint32 * 2)(1, 2))


def test_with_a_timeout_what_fits_is_sent(pair: Pair) -> None:
    near, far = pair
    near.settimeout(20)
    count = near.send(b"x" * 3_000_000)
    assert 0 < count < 3_000_000
    assert 0 < len(far.recv(count + 1)) <= count


def test_a_send_that_fails_on_the_way_tells_what_was_sent(pair: Pair) -> None:
    near, far = pair
    sending = waiting(near.send, b"x" * 3_000_000)
    far.recv(100)
    sleep()
    far.close()
    assert 0 < sending.get(timeout=20) < 3_000_000
    with pytest.raises(OSError):
        near.send(b"x")


def test_empty_messages_are_sent_once() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for send in (lambda: near.send(b""), lambda: near.send(bytearray()), lambda: near.sendmsg([b""])):
        assert send() == 0
        assert far.recv(10) == b""
        far.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            far.recv(10)
        far.settimeout(None)
    near.close()
    far.close()


def test_waitall_waits_for_all(pair: Pair) -> None:
    near, far = pair
    buffer, second = bytearray(8), bytearray(2)
    flag = socket.MSG_WAITALL
    for call in (
        lambda: near.recv(10, flag),
        lambda: bytes(buffer[: near.recv_into(buffer, 0, flag)]) + near.recv(2, flag),
        lambda: bytes(memoryview(buffer)[: near.recv_into(buffer, 5, flag)]) + near.recv(5, flag),
        lambda: near.recvfrom(10, flag)[0],
        lambda: bytes(buffer[: near.recvfrom_into(buffer, 0, flag)[0]]) + near.recv(2, flag),
        lambda: near.recvmsg(10, 0, flag)[0],
        lambda: (near.recvmsg_into([buffer, second], 0, flag)[0], bytes(buffer + second))[1],
    ):
        reading = waiting(call)
        for piece in (b"abc", b"defg", b"hij"):
            assert not reading.ready()
            far.send(piece)
            sleep()
            sleep()
        assert reading.get(timeout=20) == b"abcdefghij"
    near.settimeout(20)  # then it takes what is there, as the standard library's does
    far.send(b"abc")
    assert near.recv(10, flag) == b"abc"
    near.settimeout(None)
    reading = waiting(near.recv, 10, flag)
    far.send(b"abc")
    far.close()
    assert reading.get(timeout=20) == b"abc"


def test_sendall_of_more_than_fits_waits_for_the_reader(pair: Pair) -> None:
    data = os.urandom(3_000_000)
    sending = waiting(pair[0].sendall, data)
    got = bytearray()
    while len(got) < len(data):
        got += pair[1].recv(65536)
    sending.get(timeout=20)
    assert bytes(got) == data


def test_sendall_takes_any_buffer(pair: Pair) -> None:
    import array

    pair[0].sendall(array.array("i", [1, 2, 3]))
    pair[0].sendall(memoryview(b"xyz"))
    assert len(pair[1].recv(100)) == 15


def test_all_the_message_calls_wait() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    buffer = bytearray(10)
    for call, args in (
        (near.recv, (10,)),
        (near.recvfrom, (10,)),
        (near.recvfrom_into, (buffer,)),
        (near.recvmsg, (10,)),
        (near.recvmsg_into, ([buffer],)),
    ):
        reading = waiting(call, *args)
        far.sendmsg([b"he", b"llo"])
        assert reading.get(timeout=20)
    near.close()
    far.close()


def test_datagrams_each_come_whole(listener: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("localhost", 0))
        for size in (1, 2, 3):
            client.sendto(b"x" * size, ("localhost", server.getsockname()[1]))
        assert [len(server.recvfrom(100)[0]) for _ in range(3)] == [1, 2, 3]
        reading = waiting(server.recvfrom, 100)
        client.sendto(b"late", 0, server.getsockname())
        assert reading.get(timeout=20)[0] == b"late"


def test_reader_and_writer_use_one_socket_at_once(pair: Pair) -> None:
    reading = waiting(pair[0].recv, 10)
    sending = waiting(pair[0].sendall, b"x" * 5_000_000)
    pair[1].send(b"answer")
    assert reading.get(timeout=20) == b"answer"
    left = 5_000_000
    while left:
        left -= len(pair[1].recv(1 << 20))
    sending.get(timeout=20)


def test_a_pair_that_plays_alone_does_not_starve_others(pair: Pair) -> None:
    """Who waits at the other end is woken without a poll; the others still get theirs."""
    first, second = (socket.socket(fileno=sock.detach()) for sock in socket.socketpair())
    other = waiting(first.recv, 1)
    second.send(b"x")

    def play(sock: Any) -> None:
        with Timeout(20):
            while not other.ready():
                sock.sendall(b"y")
                sock.recv(1)
        sock.sendall(b"y")

    joinall([spawn(play, sock) for sock in pair], raise_error=True)
    assert other.get() == b"x"
    first.close()
    second.close()


def test_a_reader_that_was_told_of_data_and_is_killed_loses_none(pair: Pair) -> None:
    reading = waiting(pair[0].recv, 10)
    pair[1].send(b"x")
    reading.kill()  # it is on its way already, and has nothing more to wait for
    assert reading.value == b"x"
    with Timeout(0.001, False):
        pair[0].recv(10)
    reading = waiting(pair[0].recv, 10)
    pair[1].sendall(b"y")
    assert reading.get(timeout=20) == b"y"


def test_one_that_is_always_ready_does_not_starve_others(pair: Pair) -> None:
    """The other greenlet is woken by a descriptor, so it needs a poll in between."""
    first, second = socket.socketpair()
    other = waiting(first.recv, 1)
    second.send(b"x")
    pair[1].send(b"y" * 10_000)
    for _ in range(10_000):
        pair[0].recv(1)
        if other.ready():
            break
    assert other.ready()
    first.close()
    second.close()


def test_makefile_reads_lines_and_closes_with_the_last_user(pair: Pair) -> None:
    near, far = pair
    file = near.makefile("r")
    reading = spawn(file.readline)
    far.sendall(b"one\ntwo\n")
    assert reading.get(timeout=20) == "one\n"
    near.close()
    assert file.readline() == "two\n"
    file.close()
    assert near.fileno() == -1


def test_sendfile_moves_a_file_by_the_kernel(pair: Pair) -> None:
    content = os.urandom(2_000_000)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        sending = waiting(pair[0].sendfile, file, 10)
        got = bytearray()
        while len(got) < len(content) - 10:
            got += pair[1].recv(1 << 20)
        assert sending.get(timeout=20) == len(content) - 10
        assert bytes(got) == content[10:]
        assert file.tell() == len(content)
        assert pair[0].sendfile(file, 5, 7) == 7
        assert pair[1].recv(100) == content[5:12]


def test_sendfile_of_what_is_no_file_sends_its_bytes(tcp: Pair) -> None:
    assert tcp[0].sendfile(io.BytesIO(b"hello")) == 5
    assert tcp[1].recv(100) == b"hello"


# ---- connections


def test_accept_waits(listener: Any) -> None:
    accepting = waiting(listener.accept)
    client = socket.create_connection(listener.getsockname())
    peer, address = accepting.get(timeout=20)
    assert address == client.getsockname()
    assert isinstance(peer, socket.socket)
    assert peer.gettimeout() is None
    peer.close()
    client.close()


def test_names_are_connected_to(listener: Any) -> None:
    with socket.socket() as client:
        client.connect(("localhost", listener.getsockname()[1]))
        assert client.getpeername() == listener.getsockname()


def test_a_refused_connection_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
        with socket.socket() as client:
            with pytest.raises(ConnectionRefusedError):
                client.connect(address)
            assert client.connect_ex(address) == errno.ECONNREFUSED
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


def test_a_socket_that_was_refused_can_connect_later(listener: Any) -> None:
    with socket.socket() as unused, socket.socket() as client:
        unused.bind(("127.0.0.1", 0))
        assert client.connect_ex(unused.getsockname()) == errno.ECONNREFUSED
        client.connect(listener.getsockname())
        peer, _ = listener.accept()
        peer.send(b"x")
        assert client.recv(10) == b"x"
        peer.close()


def test_connecting_stops_after_the_timeout() -> None:
    """A backlog that is full: the kernel drops what is more."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        clients = [socket.socket() for _ in range(4)]
        with pytest.raises(TimeoutError, match="timed out"):
            for client in clients:
                client.settimeout(0.05)
                client.connect(listening.getsockname())
        for client in clients:
            client.close()


def test_a_full_backlog_of_a_unix_listener_is_waited_for(tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        clients = [socket.socket(socket.AF_UNIX) for _ in range(5)]
        connecting = [spawn(client.connect, path) for client in clients]
        accepted = [listening.accept()[0] for _ in clients]
        joinall(connecting, timeout=20, raise_error=True)
        for sock in clients + accepted:
            sock.close()


def test_sockets_of_other_families_work(tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    with socket.create_server(path, family=socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        listening.accept()[0].close()
        assert client.recv(1) == b""


@pytest.mark.skipif(not standard.has_ipv6, reason="no IPv6 here")
def test_ipv6_works() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        client = socket.create_connection(listening.getsockname()[:2])
        peer, address = listening.accept()
        assert address[0] == "::1"
        peer.close()
        client.close()


# ---- timeouts and modes


@pytest.mark.parametrize(
    "call", [lambda s: s.recv(1), lambda s: s.recv_into(bytearray(1)), lambda s: s.recvfrom(1), lambda s: s.recvmsg(1)]
)
def test_receiving_stops_after_the_timeout(pair: Pair, call: Any) -> None:
    pair[0].settimeout(0.002)
    with pytest.raises(TimeoutError, match="timed out"):
        call(pair[0])
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"


def test_sending_stops_after_the_timeout(pair: Pair) -> None:
    pair[0].settimeout(0.002)
    with pytest.raises(TimeoutError, match="timed out"):
        pair[0].sendall(b"x" * 10_000_000)


def test_a_non_blocking_socket_does_not_wait(pair: Pair, listener: Any) -> None:
    for sock, call in ((pair[0], lambda: pair[0].recv(1)), (listener, listener.accept)):
        sock.setblocking(False)
        assert sock.gettimeout() == 0.0
        assert not sock.getblocking()
        with pytest.raises(BlockingIOError):
            call()
    pair[1].send(b"abc")
    assert pair[0].recv(10) == b"abc"
    with pytest.raises(BlockingIOError):
        pair[0].recv(10)
    with pytest.raises(BlockingIOError):
        for _ in range(1000):
            pair[0].send(b"x" * 65536)


def test_a_call_that_shall_not_wait_does_not(pair: Pair) -> None:
    for call in (
        lambda: pair[0].recv(1, socket.MSG_DONTWAIT),
        lambda: pair[0].recv_into(bytearray(1), 0, socket.MSG_DONTWAIT),
        lambda: pair[0].recvfrom(1, socket.MSG_DONTWAIT),
        lambda: pair[0].recvmsg(1, 0, socket.MSG_DONTWAIT),
    ):
        with pytest.raises(BlockingIOError):
            call()
    with pytest.raises(BlockingIOError):
        for _ in range(1000):
            pair[0].sendmsg([b"x" * 65536], [], socket.MSG_DONTWAIT)
    with pytest.raises(BlockingIOError):
        for _ in range(1000):
            pair[0].send(b"x" * 65536, socket.MSG_DONTWAIT)


def test_timeouts_are_checked_like_the_standard_ones(pair: Pair) -> None:
    plain, other = standard.socketpair()
    for value in (-1, -0.5, float("nan"), "1", b"1", 1e300, [], object()):
        with pytest.raises((ValueError, TypeError, OverflowError)) as ours:
            pair[0].settimeout(value)
        with pytest.raises((ValueError, TypeError, OverflowError)) as theirs:
            plain.settimeout(value)
        assert ours.type is theirs.type
    for value in (0, 1, 1.5, True, None):
        pair[0].settimeout(value)
        plain.settimeout(value)
        assert pair[0].gettimeout() == plain.gettimeout() == pair[0].timeout
        assert pair[0].getblocking() == plain.getblocking()
    plain.close()
    other.close()


def test_the_default_timeout_is_taken() -> None:
    standard.setdefaulttimeout(7)
    try:
        with socket.socket() as sock:
            assert sock.gettimeout() == 7.0
    finally:
        standard.setdefaulttimeout(None)


def test_a_killed_reader_leaves_the_socket_usable(pair: Pair) -> None:
    reading = waiting(pair[0].recv, 10)
    reading.kill()
    with Timeout(0.001, False):
        pair[0].recv(10)
    pair[1].send(b"x")
    assert pair[0].recv(10) == b"x"


# ---- misuse


@pytest.mark.usefixtures("quiet_hub")
def test_two_readers_at_once_are_told_so(pair: Pair) -> None:
    reading = waiting(pair[0].recv, 10)
    with pytest.raises(ConcurrentObjectUseError, match="already used by another greenlet"):
        pair[0].recv(10)
    pair[1].send(b"x")
    assert reading.get(timeout=20) == b"x"


@pytest.mark.usefixtures("quiet_hub")
def test_closing_ends_whoever_waits(pair: Pair, listener: Any) -> None:
    for sock, greenlet in ((pair[0], waiting(pair[0].recv, 1)), (listener, waiting(listener.accept))):
        sock.close()
        with pytest.raises(OSError, match="closed by another greenlet") as failure:
            greenlet.get(timeout=20)
        assert failure.value.errno == errno.EBADF
        assert sock.fileno() == -1


@pytest.mark.usefixtures("quiet_hub")
def test_detaching_ends_whoever_waits_and_gives_the_descriptor(pair: Pair) -> None:
    reading = waiting(pair[0].recv, 1)
    fd = pair[0].detach()
    with pytest.raises(OSError, match="closed by another greenlet"):
        reading.get(timeout=20)
    with socket.socket(fileno=fd) as again:
        reading = waiting(again.recv, 1)
        pair[1].send(b"x")
        assert reading.get(timeout=20) == b"x"


def test_calls_on_a_closed_socket_say_ebadf(pair: Pair) -> None:
    pair[0].close()
    pair[0].close()
    for call in (lambda: pair[0].recv(1), lambda: pair[0].send(b"x"), lambda: pair[0].accept()):
        with pytest.raises(OSError) as failure:
            call()
        assert failure.value.errno == errno.EBADF


def test_the_loop_goes_on_where_it_cannot_wait(pair: Pair) -> None:
    """In the hub itself there is nobody to switch to."""
    failures: list[BaseException] = []

    def in_hub() -> None:
        try:
            pair[0].recv(1)
        except BaseException as error:
            failures.append(error)

    get_hub().run_callback(in_hub)
    sleep(0.001)
    assert [type(error).__name__ for error in failures] == ["BlockingSwitchOutError"]
    reading = waiting(pair[0].recv, 1)
    pair[1].send(b"x")
    assert reading.get(timeout=20) == b"x"


def test_one_that_nobody_closed_is_closed_and_forgotten() -> None:
    near, far = socket.socketpair()
    near.settimeout(0.001)
    with pytest.raises(TimeoutError):
        near.recv(1)
    fd = near.fileno()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del near
        gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)
    assert not get_hub().fd_watchers
    far.close()


def test_threads_of_their_own_use_one_socket_together(pair: Pair) -> None:
    """This thread writes, another one reads and answers; each waits in its own loop."""
    near, far = pair

    def answer() -> None:
        for _ in range(100):
            far.sendall(far.recv(100).upper())

    assert near.gettimeout() is None
    thread = threading.Thread(target=answer)
    thread.start()
    for _ in range(100):
        near.sendall(b"ping")
        assert near.recv(100) == b"PING"
    thread.join(timeout=20)
    reading = waiting(far.recv, 1)
    near.send(b"x")
    assert reading.get(timeout=20) == b"x"


ANSWERED_AT_ONCE = {
    "negative size": lambda near: near.recv(-1),
    "no size": lambda near: near.recv(0),
    "no number": lambda near: near.recv("x"),
    "flags": lambda near: near.recv(-1, standard.MSG_PEEK),
    "read-only": lambda near: near.recv_into(b"read-only"),
    "no buffer": lambda near: near.recv_into(5),
    "strided": lambda near: near.recv_into(memoryview(bytearray(8))[::2]),
    "empty": lambda near: near.recv_into(bytearray()),
    "too small": lambda near: near.recv_into(bytearray(4), 5),
    "negative part": lambda near: near.recv_into(array("i", [1]), -1),
    "read-only, flags": lambda near: near.recv_into(b"read-only", 0, standard.MSG_PEEK),
    "from, negative": lambda near: near.recvfrom(-1),
    "from, read-only": lambda near: near.recvfrom_into(b"read-only"),
    "from, too small": lambda near: near.recvfrom_into(bytearray(4), 5),
    "message, negative": lambda near: near.recvmsg(-1),
    "message, ancillary": lambda near: near.recvmsg(5, -1),
    "message, read-only": lambda near: near.recvmsg_into([b"read-only"]),
    "message, no list": lambda near: near.recvmsg_into(5),
}


def outcome(call: Any, near: Any) -> Any:
    try:
        return call(near)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("case", ANSWERED_AT_ONCE)
def test_what_needs_no_data_is_answered_at_once(pair: Pair, case: str) -> None:
    """Bad arguments, and no room: also where there is nothing to receive, as the native socket does."""
    call = ANSWERED_AT_ONCE[case]
    native, other = standard.socketpair()
    with native, other:
        expected = outcome(call, native)
    near, far = pair
    far.send(b"abc")
    assert near.recv(9) == b"abc"
    asking = spawn(outcome, call, near)
    sleep()
    assert asking.ready() and asking.get() == expected
    far.send(b"later")
    assert near.recv(9) == b"later"


def test_a_size_that_is_no_int_leaves_the_rest_to_be_read(pair: Pair) -> None:
    class Size:
        def __index__(self) -> int:
            return 2

    near, far = pair
    far.send(b"a")
    assert near.recv(9) == b"a"
    asking = waiting(lambda: [near.recv(Size()), near.recv(Size()), near.recv(9)])
    far.send(b"bcdef")
    assert asking.get() == [b"bc", b"de", b"f"]
    far.send(b"ghi")
    assert near.recv(Size()) == b"gh"
    assert near.recv(9) == b"i"
