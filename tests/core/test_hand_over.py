"""A connection leaves the core with what was read of it, and comes in again: here or on another loop."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from streamserve.core import ffi, lib
from tests.support.http_listener import HttpListener
from tests.support.loop import BACKENDS, SECOND, Loop, made

GET = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
ROOM = 1 << 16


@pytest.fixture(params=BACKENDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    yield from made(request.param)


@pytest.fixture(params=BACKENDS)
def other(request: pytest.FixtureRequest) -> Iterator[Loop]:
    yield from made(request.param)


@pytest.fixture
def cleanup(loop: Loop, other: Loop) -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def detach(loop: Loop, handle: int, room: int = ROOM) -> tuple[int, bytes]:
    """Takes a connection out of the core: its descriptor, and what was read of it."""
    into, taken = ffi.new("char[]", room), ffi.new("int64_t *")
    fd = lib.ss_conn_detach(loop.core, handle, into, room, taken)
    assert lib.ss_verify(loop.core) == ffi.NULL
    return fd, ffi.unpack(into, taken[0])


def body_of(client: socket.socket, length: int) -> bytes:
    """Reads a response up to `length` bytes of its body."""
    data = b""
    while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < length:
        part = client.recv(4096)
        assert part, data
        data += part
    return data.partition(b"\r\n\r\n")[2]


def test_unread_bytes_come_along_to_another_loop(loop: Loop, other: Loop, cleanup: contextlib.ExitStack) -> None:
    first, second = HttpListener(loop, cleanup), HttpListener(other, cleanup)
    client = first.connect()
    client.sendall(GET % b"first" + GET % b"second" + GET[:9] % b"third")
    fd, unread = detach(loop, first.request())
    assert unread == GET % b"second" + GET[:9] % b"third"
    assert loop.counts()[lib.SS_COUNT_CONNECTIONS] == 0

    assert lib.ss_conn_adopt(other.core, second.number, fd, unread, len(unread)) >= 0
    handle = second.request()
    assert second.target(handle) == b"/second"
    second.respond(handle, b"two")
    assert body_of(client, 3) == b"two"
    client.sendall((GET % b"third")[len(GET[:9] % b"third") :])
    handle = second.request()
    assert second.target(handle) == b"/third"
    second.respond(handle, b"three")
    assert body_of(client, 5) == b"three"


def test_the_peer_is_known_after_it_came_in(loop: Loop, other: Loop, cleanup: contextlib.ExitStack) -> None:
    first, second = HttpListener(loop, cleanup), HttpListener(other, cleanup)
    client = first.connect()
    client.sendall(GET % b"")
    fd, _ = detach(loop, first.request())
    handle = lib.ss_conn_adopt(other.core, second.number, fd, b"", 0)
    text = ffi.new("char[]", 128)
    size = lib.ss_conn_address(other.core, handle, 0, text, 128)
    host, port = client.getsockname()
    assert ffi.unpack(text, size) == b"%s\0%d\0" % (host.encode(), port)


def test_what_left_is_an_ordinary_socket(loop: Loop, cleanup: contextlib.ExitStack) -> None:
    listener = HttpListener(loop, cleanup)
    client = listener.connect()
    client.sendall(GET % b"")
    handle = listener.request()
    fd, unread = detach(loop, handle)
    with socket.socket(fileno=fd) as taken:
        client.sendall(b"behind")
        taken.settimeout(60)
        assert (unread, taken.recv(100)) == (b"", b"behind")
        assert loop.poll(0) == []
        assert lib.ss_conn_detach(loop.core, handle, ffi.NULL, 0, ffi.new("int64_t *")) == lib.SS_GONE


def test_stays_when_the_room_for_unread_bytes_is_too_small(loop: Loop, cleanup: contextlib.ExitStack) -> None:
    listener = HttpListener(loop, cleanup)
    client = listener.connect()
    client.sendall(GET % b"first" + GET % b"second")
    handle = listener.request()
    assert detach(loop, handle, room=5) == (lib.SS_MISUSE, b"")
    listener.respond(handle, b"one")
    assert body_of(client, 3) == b"one"
    assert listener.target(listener.request()) == b"/second"


def test_does_not_leave_in_the_middle_of_its_output(loop: Loop, cleanup: contextlib.ExitStack) -> None:
    listener = HttpListener(loop, cleanup)
    client = listener.connect(receive_buffer=4096)
    client.sendall(GET % b"")
    handle = listener.request()
    listener.begin(handle)
    while lib.ss_conn_send(loop.core, handle, b"", 0, b"x" * ROOM, ROOM, 0) == 0:
        continue
    assert detach(loop, handle)[0] == lib.SS_MISUSE
    assert lib.ss_conn_abort(loop.core, handle, 1) == lib.SS_OK


def test_does_not_leave_with_half_a_decoded_chunk(loop: Loop, cleanup: contextlib.ExitStack) -> None:
    listener = HttpListener(loop, cleanup)
    client = listener.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    handle = listener.request()
    into = ffi.new("char[]", 2)
    assert lib.ss_conn_read(loop.core, handle, into, 2) == 2
    assert detach(loop, handle)[0] == lib.SS_MISUSE
    assert lib.ss_conn_abort(loop.core, handle, 0) == lib.SS_OK


def test_a_listener_that_is_not_there_adopts_nothing(loop: Loop, cleanup: contextlib.ExitStack) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert lib.ss_conn_adopt(loop.core, 0, ours.fileno(), b"", 0) == lib.SS_GONE
        listener = HttpListener(loop, cleanup)
        assert lib.ss_conn_adopt(loop.core, listener.number, ours.fileno(), b"", -1) == lib.SS_MISUSE
        ours.sendall(b"still ours")
        assert theirs.recv(100) == b"still ours"


def test_a_descriptor_that_cannot_be_adopted_stays_open(loop: Loop, cleanup: contextlib.ExitStack) -> None:
    listener = HttpListener(loop, cleanup)
    with socket.socket() as unconnected:
        assert lib.ss_conn_adopt(loop.core, listener.number, unconnected.fileno(), b"", 0) == lib.SS_SYSTEM
        assert lib.ss_loop_errno(loop.core) != 0
        assert unconnected.fileno() >= 0 and unconnected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert loop.counts()[lib.SS_COUNT_CONNECTIONS] == 0


def test_deadlines_count_from_the_adoption(loop: Loop, cleanup: contextlib.ExitStack) -> None:
    listener = HttpListener(loop, cleanup, head_timeout=SECOND)
    now = lib.ss_loop_now(loop.core)
    ours, theirs = socket.socketpair()
    with theirs:
        lib.ss_loop_set_clock(loop.core, now)
        assert lib.ss_conn_adopt(loop.core, listener.number, ours.detach(), b"GET", 3) >= 0
        loop.poll(0)
        assert loop.counts()[lib.SS_COUNT_CONNECTIONS] == 1
        lib.ss_loop_set_clock(loop.core, now + 2 * SECOND)
        loop.poll(0)
        theirs.settimeout(60)
        assert theirs.recv(100).startswith(b"HTTP/1.1 408 ")
