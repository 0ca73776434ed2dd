"""Listeners whose connections go to Python: the allowance, the peers' addresses, and want of descriptors."""

import contextlib
import errno
import os
import resource
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from streamserve.core import ffi, lib
from tests.support.loop import BACKENDS, SECOND, Loop, made

ACCEPTED, FAILED = lib.SS_EVENT_ACCEPTED, lib.SS_EVENT_ACCEPT_FAILED


def named(kind: int, number: int) -> int:
    """The first word of an event of a listener."""
    return kind | number << lib.SS_EVENT_LISTENER_SHIFT


@pytest.fixture(params=BACKENDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    yield from made(request.param)


class Listening:
    """A raw listener of the loop, its clients, and what it accepted."""

    def __init__(self, loop: Loop, cleanup: contextlib.ExitStack, family: int = socket.AF_INET) -> None:
        self.loop, self.cleanup = loop, cleanup
        self.socket = cleanup.enter_context(socket.socket(family))
        self.socket.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        self.socket.listen(1024)
        self.socket.setblocking(False)
        config = ffi.new("ss_listener_config *")
        lib.ss_listener_defaults(config)
        config.raw = 1
        self.number = lib.ss_listener_open(loop.core, self.socket.fileno(), config)
        assert self.number >= 0
        cleanup.callback(lib.ss_listener_close, loop.core, self.number)

    def connect(self, count: int = 1) -> list[socket.socket]:
        return [
            self.cleanup.enter_context(socket.create_connection(self.socket.getsockname()[:2])) for _ in range(count)
        ]

    def allow(self, count: int) -> None:
        assert lib.ss_listener_allow(self.loop.core, self.number, count) == lib.SS_OK

    def accept(self) -> list[socket.socket]:
        """Polls once; returns what was accepted and is now ours."""
        events = self.loop.poll(0)
        assert {word for word, _, _ in events} <= {named(ACCEPTED, self.number)}, events
        return [self.cleanup.enter_context(socket.socket(fileno=fd)) for _, fd, _ in events]

    def accept_all(self, count: int) -> list[socket.socket]:
        """Polls until `count` are accepted: the kernel finishes a connection a moment after the client knows of it."""
        found: list[socket.socket] = []
        while len(found) < count:
            found += self.accept()
        return found

    def peer(self, place: int) -> bytes:
        records = ffi.buffer(lib.ss_loop_peers(self.loop.core), lib.SS_PEERS * lib.SS_PEER_BYTES)
        start = place * lib.SS_PEER_BYTES
        return bytes(records[start : start + lib.SS_PEER_BYTES])


@pytest.fixture
def cleanup() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as cleanup:
        yield cleanup


@pytest.fixture
def listening(loop: Loop, cleanup: contextlib.ExitStack) -> Listening:
    return Listening(loop, cleanup)


def test_hands_over_sockets_that_do_not_block(listening: Listening) -> None:
    (client,) = listening.connect()
    (accepted,) = listening.accept_all(1)
    assert accepted.getpeername() == client.getsockname()
    assert (os.get_blocking(accepted.fileno()), accepted.get_inheritable()) == (False, False)


def test_accepts_as_many_as_it_was_allowed_to(listening: Listening) -> None:
    listening.allow(3)
    clients = listening.connect(5)
    first = listening.accept_all(3)
    assert listening.accept() == listening.accept() == []
    listening.allow(1)
    listening.accept_all(1)
    assert listening.accept() == []
    listening.allow(100)
    rest = listening.accept_all(1)
    assert {accepted.getpeername() for accepted in first + rest} < {client.getsockname() for client in clients}


def test_nothing_allowed_does_not_keep_the_poll_awake(listening: Listening) -> None:
    listening.allow(0)
    listening.connect()

    def sleeps() -> bool:
        began = time.monotonic_ns()
        assert listening.loop.poll(SECOND // 100) == []
        return time.monotonic_ns() - began >= SECOND // 100

    assert any(sleeps() for _ in range(3))  # the first may be ended by the client's arrival
    listening.allow(1)
    listening.accept_all(1)


def test_flood_comes_in_batches_and_every_one_knows_its_peer(listening: Listening) -> None:
    clients = listening.connect(300)
    found: dict[tuple[str, int], tuple[str, int]] = {}
    while len(found) < len(clients):
        events = listening.loop.poll(0)
        assert len(events) <= lib.SS_PEERS
        for _, fd, place in events:
            accepted = listening.cleanup.enter_context(socket.socket(fileno=fd))
            _, port, host = struct.unpack_from("!HH4s", listening.peer(place))
            found[accepted.getpeername()] = (socket.inet_ntop(socket.AF_INET, host), port)
    assert all(name == told for name, told in found.items())


def test_peer_that_has_gone_is_known(listening: Listening) -> None:
    (client,) = listening.connect()
    port = client.getsockname()[1]
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    events: list[tuple[int, int, int]] = []
    while not events:
        events = listening.loop.poll(0)
    with socket.socket(fileno=events[0][1]) as accepted:
        accepted.settimeout(60)
        with pytest.raises(ConnectionResetError):
            accepted.recv(1)
        with pytest.raises(OSError, match="not connected"):
            accepted.getpeername()
    assert struct.unpack_from("!2xH4s", listening.peer(events[0][2])) == (port, b"\x7f\0\0\1")


def test_each_event_names_its_listener(loop: Loop, cleanup: contextlib.ExitStack) -> None:
    several = [Listening(loop, cleanup) for _ in range(300)]  # more than a byte counts
    for listening in (several[0], several[1], several[299]):
        listening.connect()
        assert len(listening.accept_all(1)) == 1


def test_closed_listener_is_gone(listening: Listening) -> None:
    number = listening.number
    assert lib.ss_listener_close(listening.loop.core, number) == lib.SS_OK
    assert lib.ss_listener_allow(listening.loop.core, number, 1) == lib.SS_GONE


def test_no_number_is_given_again_before_the_next_poll(loop: Loop, cleanup: contextlib.ExitStack) -> None:
    first, second = Listening(loop, cleanup), Listening(loop, cleanup)
    first.connect()
    while not (events := loop.poll(0)):
        pass
    assert lib.ss_listener_close(loop.core, first.number) == lib.SS_OK
    third = Listening(loop, cleanup)
    assert events[0][0] == named(ACCEPTED, first.number), "an event that is still to be read"
    assert third.number not in (first.number, second.number)
    os.close(events[0][1])
    loop.poll(0)
    assert Listening(loop, cleanup).number == first.number, "then it is free"


class TestOutOfDescriptors:
    @pytest.fixture
    def short(self, listening: Listening, cleanup: contextlib.ExitStack) -> int:
        """Five clients wait, and no descriptor is left for them. The time stands still."""
        lib.ss_loop_set_clock(listening.loop.core, 1000 * SECOND)
        self.clients = listening.connect(5)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        cleanup.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        self.limits = limits
        return listening.number

    def failure(self, listening: Listening) -> list[tuple[int, int, int]]:
        return [(named(FAILED, listening.number), 0, errno.EMFILE)]

    def wait_for_failure(self, listening: Listening) -> None:
        events: list[tuple[int, int, int]] = []
        while not events:
            events = listening.loop.poll(0)
        assert events == self.failure(listening)

    def refused(self) -> int:
        return len(select.select(self.clients, [], [], 10)[0])

    def test_refuses_one_and_pauses_for_a_second(self, listening: Listening, short: int) -> None:
        self.wait_for_failure(listening)
        assert self.refused() == 1
        assert listening.loop.poll(0) == []
        lib.ss_loop_set_clock(listening.loop.core, 1000 * SECOND + SECOND * 9 // 10)
        assert listening.loop.poll(0) == []
        lib.ss_loop_set_clock(listening.loop.core, 1001 * SECOND + SECOND // 5)
        assert listening.loop.poll(0) == []  # the sweep finds the deadline, the next poll accepts
        assert listening.loop.poll(0) == self.failure(listening)
        while self.refused() < 2:
            pass
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)
        lib.ss_loop_set_clock(listening.loop.core, 1003 * SECOND)
        assert len(listening.accept_all(3)) == 3

    def test_free_descriptors_end_the_pause(self, listening: Listening, short: int) -> None:
        self.wait_for_failure(listening)
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)
        listening.allow(10)
        assert len(listening.accept_all(4)) == 4

    def test_who_ends_the_pause_in_vain_refuses_nobody(self, listening: Listening, short: int) -> None:
        self.wait_for_failure(listening)
        for _ in range(3):
            listening.allow(10)
            assert listening.loop.poll(0) == self.failure(listening)
            assert self.refused() == 1
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)
        listening.allow(10)
        assert len(listening.accept_all(4)) == 4
