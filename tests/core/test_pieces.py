"""Small pieces of a response wait in the kernel for those that follow at once, never beyond the turn or a moment."""

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from streamserve.core import ffi, lib
from tests.support.http_listener import HttpListener
from tests.support.loop import BACKENDS, SECOND, Loop, made

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SMALL = b"x" * 100
LARGE = b"x" * 5000
MOMENT = SECOND // 1000
SIOCOUTQNSD = 0x894B  # bytes in the socket's queue that were never sent


@pytest.fixture(params=BACKENDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    yield from made(request.param)


class Stream:
    """A response that has begun, its client, and the server's end of the connection.

    The kernel lets go what waits after 200 ms, or when what left before is confirmed, which may take it 40 ms: a test
    that looks later sees nothing wait.
    """

    def __init__(self, loop: Loop, cleanup: contextlib.ExitStack) -> None:
        listener = HttpListener(loop, cleanup)
        self.loop = loop
        self.now = SECOND
        lib.ss_loop_set_clock(loop.core, self.now)
        self.client = listener.connect()
        self.client.sendall(GET)
        self.handle = listener.request()
        listener.begin(self.handle)
        self.fd = self._server_end(self.client.getsockname())
        self.sent = 0

    @staticmethod
    def _server_end(peer: object) -> int:
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if not os.readlink(entry).startswith("socket:"):
                    continue
                with socket.socket(fileno=os.dup(int(entry.name))) as found:
                    if found.getpeername() == peer:
                        return int(entry.name)
        raise AssertionError("the server has no such connection")

    def give(self, data: bytes, flags: int) -> None:
        """Sends a piece."""
        assert lib.ss_conn_send(self.loop.core, self.handle, b"", 0, data, len(data), flags) == 0
        self.sent += len(data)

    def send(self, data: bytes) -> bool:
        """Sends a piece; does something wait in the kernel for what follows?"""
        self.give(data, 0)
        waits = self.waits()
        assert lib.ss_verify(self.loop.core) == ffi.NULL
        return waits

    def waits(self) -> bool:
        """Does something wait in the kernel?"""
        count = bytearray(4)
        fcntl.ioctl(self.fd, SIOCOUTQNSD, count)
        return struct.unpack("i", count) != (0,)

    def later(self, time: int) -> None:
        """Moves the clock."""
        self.now += time
        lib.ss_loop_set_clock(self.loop.core, self.now)

    def arrived(self) -> bool:
        """All that was sent is with the client."""
        data = self.client.recv(1 << 20, socket.MSG_PEEK).partition(b"\r\n\r\n")[2]
        return len(data) == self.sent


@pytest.fixture
def stream(loop: Loop) -> Iterator[Stream]:
    """What the head left has made is a turn of its own."""
    with contextlib.ExitStack() as cleanup:
        stream = Stream(loop, cleanup)
        loop.poll(0)
        yield stream


def in_time(attempt: Callable[[], list[bool]]) -> list[bool]:
    """What it found when nothing delayed it: some tens of milliseconds later the kernel sends by itself."""
    while True:
        start = monotonic()
        found = attempt()
        if monotonic() - start < 0.02:
            return found


def test_the_first_leaves_at_once_and_those_that_follow_when_the_turn_ends(stream: Stream) -> None:
    def turn() -> list[bool]:
        stream.later(MOMENT)
        found = [stream.send(SMALL) for _ in range(6)]
        stream.loop.poll(0)
        assert not stream.waits() and stream.arrived()
        return found

    for _ in range(3):
        assert in_time(turn) == [False, *[True] * 5]


def test_none_waits_for_one_that_comes_later_than_a_moment(stream: Stream) -> None:
    assert not stream.send(SMALL)
    assert stream.send(SMALL)
    for _ in range(3):
        stream.later(MOMENT)
        assert not stream.send(SMALL)
        assert stream.arrived()


def test_a_flock_that_goes_on_is_sent_every_moment(stream: Stream) -> None:
    def flock() -> list[bool]:
        stream.later(MOMENT)
        return [stream.send(SMALL) for _ in range(4) if not stream.later(MOMENT // 3 + 1)]

    assert in_time(flock) == [False, True, True, False]


def test_a_large_piece_takes_along_what_waits(stream: Stream) -> None:
    stream.send(SMALL)
    assert stream.send(SMALL)
    assert not stream.send(LARGE)
    assert stream.arrived()


@pytest.mark.parametrize("data", [SMALL, b""])
def test_the_end_of_a_response_takes_along_what_waits(stream: Stream, data: bytes) -> None:
    stream.send(SMALL)
    assert stream.send(SMALL)
    stream.give(data, lib.SS_SEND_LAST)  # the connection is closed now
    assert stream.arrived()


def test_a_piece_of_the_next_turn_leaves_at_once(stream: Stream) -> None:
    stream.send(SMALL)
    assert stream.send(SMALL)
    stream.loop.poll(0)
    assert not stream.send(SMALL)
    assert stream.arrived()


def test_a_client_that_resets_while_pieces_wait(stream: Stream) -> None:
    stream.send(SMALL)
    stream.send(SMALL)
    stream.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.client.close()
    stream.loop.poll(SECOND)
    assert lib.ss_conn_send(stream.loop.core, stream.handle, b"", 0, SMALL, len(SMALL), 0) == lib.SS_BROKEN
