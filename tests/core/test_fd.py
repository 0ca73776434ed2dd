"""Readiness of descriptors, with generations."""

import os
import socket
import tempfile
from collections.abc import Iterator

import pytest

from streamserve.core import ffi, lib
from tests.support.loop import BACKENDS, SECOND, Loop, made

READ, WRITE = lib.SS_READ, lib.SS_WRITE


@pytest.fixture(params=BACKENDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    yield from made(request.param)


class Pair:
    """Two connected sockets; the near one is registered."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.handle = lib.ss_fd_open(loop.core, self.near.fileno())
        assert self.handle >= 0

    def arm(self, directions: int) -> int:
        return int(lib.ss_fd_arm(self.loop.core, self.handle, directions))

    def drained(self, directions: int) -> int:
        return int(lib.ss_fd_drained(self.loop.core, self.handle, directions))

    def event(self, directions: int) -> tuple[int, int, int]:
        return (lib.SS_EVENT_FD, self.handle, directions)

    def close(self) -> None:
        assert lib.ss_fd_close(self.loop.core, self.handle) == lib.SS_OK
        self.near.close()
        self.far.close()


@pytest.fixture
def pair(loop: Loop) -> Iterator[Pair]:
    pair = Pair(loop)
    yield pair
    if pair.near.fileno() >= 0:
        pair.close()


def test_armed_direction_is_reported_once(loop: Loop, pair: Pair) -> None:
    assert pair.arm(READ) == 0
    pair.far.send(b"x")
    assert loop.poll(SECOND) == [pair.event(READ)]
    pair.far.send(b"y")
    assert loop.poll(0) == []


def test_readiness_is_remembered_without_a_poll(loop: Loop, pair: Pair) -> None:
    loop.poll(0)
    assert pair.arm(WRITE) == WRITE
    pair.far.send(b"x")
    loop.poll(0)
    assert pair.arm(READ | WRITE) == READ | WRITE


def test_is_believed_until_it_is_contradicted(loop: Loop, pair: Pair) -> None:
    pair.far.send(b"x")
    loop.poll(0)
    pair.near.recv(10)
    assert pair.arm(READ) == READ
    pair.drained(READ)
    assert pair.arm(READ) == 0
    pair.far.send(b"y")
    assert loop.poll(SECOND) == [pair.event(READ)]


def test_nothing_is_reported_to_nobody(loop: Loop, pair: Pair) -> None:
    pair.far.send(b"x")
    assert loop.poll(0) == []
    assert pair.arm(READ) == READ


def test_disarmed_direction_is_not_reported(loop: Loop, pair: Pair) -> None:
    assert pair.arm(READ) == 0
    assert lib.ss_fd_disarm(loop.core, pair.handle, READ) == lib.SS_OK
    assert lib.ss_loop_poll(loop.core, -1) == lib.SS_IDLE
    pair.far.send(b"x")
    assert loop.poll(0) == []


def test_an_armed_direction_keeps_the_loop_from_being_idle(loop: Loop, pair: Pair) -> None:
    assert lib.ss_loop_poll(loop.core, -1) == lib.SS_IDLE
    pair.arm(READ)
    pair.far.send(b"x")
    assert loop.poll(-1) == [pair.event(READ)]
    assert lib.ss_loop_poll(loop.core, -1) == lib.SS_IDLE


def test_a_full_socket_is_writable_when_it_drains(loop: Loop, pair: Pair) -> None:
    loop.poll(0)
    sent = 0
    try:
        while True:
            sent += pair.near.send(b"x" * 65536)
    except BlockingIOError:
        pair.drained(WRITE)
    assert pair.arm(WRITE) == 0
    assert loop.poll(0) == []
    while sent:
        sent -= len(pair.far.recv(65536))
    assert loop.poll(SECOND) == [pair.event(WRITE)]


def test_both_directions_come_in_one_event(loop: Loop, pair: Pair) -> None:
    pair.drained(READ | WRITE)
    assert pair.arm(READ | WRITE) == 0
    pair.far.send(b"x")
    events = loop.poll(SECOND)
    assert events == [pair.event(READ | WRITE)]


def test_the_end_of_the_peer_stays_readable(loop: Loop, pair: Pair) -> None:
    pair.far.shutdown(socket.SHUT_WR)
    loop.poll(0)
    assert pair.arm(READ) == READ
    pair.drained(READ)
    assert pair.arm(READ) == READ
    assert pair.near.recv(1) == b""


def test_a_vanished_peer_makes_both_directions_ready(loop: Loop, pair: Pair) -> None:
    pair.drained(READ | WRITE)
    pair.arm(READ)
    pair.far.close()
    assert loop.poll(SECOND) == [pair.event(READ)]
    pair.drained(READ | WRITE)
    assert pair.arm(READ | WRITE) == READ | WRITE


def test_calls_on_a_closed_handle_say_gone(loop: Loop, pair: Pair) -> None:
    handle = pair.handle
    pair.close()
    assert lib.ss_fd_arm(loop.core, handle, READ) == lib.SS_GONE
    assert lib.ss_fd_disarm(loop.core, handle, READ) == lib.SS_GONE
    assert lib.ss_fd_drained(loop.core, handle, READ) == lib.SS_GONE
    assert lib.ss_fd_close(loop.core, handle) == lib.SS_GONE


@pytest.mark.parametrize("handle", [-1, 0, 1, 12345, 2**62, -(2**63)])
def test_made_up_handles_say_gone(loop: Loop, pair: Pair, handle: int) -> None:
    assert lib.ss_fd_arm(loop.core, handle, READ) == lib.SS_GONE
    assert lib.ss_fd_close(loop.core, handle) == lib.SS_GONE


def test_a_reused_number_gets_no_event_of_its_former_owner(loop: Loop) -> None:
    old = Pair(loop)
    old.arm(READ)
    old.far.send(b"for the old one")  # the backend knows of it, the loop has not looked
    number = old.near.fileno()
    stale = old.handle
    old.close()
    new = Pair(loop)
    assert new.near.fileno() == number
    assert new.handle != stale
    assert new.handle & 0xFFFFFFFF == stale & 0xFFFFFFFF  # the same slot, of another generation
    new.arm(READ)
    assert loop.poll(0) == []
    assert lib.ss_fd_arm(loop.core, stale, READ) == lib.SS_GONE
    new.far.send(b"x")
    assert loop.poll(SECOND) == [new.event(READ)]
    new.close()


def test_a_duplicate_that_lives_on_brings_no_stale_event(loop: Loop) -> None:
    """epoll keys on the open file: closing one number of two does not unregister it."""
    old = Pair(loop)
    old.arm(READ)
    twin = os.dup(old.near.fileno())
    far = old.far.dup()
    old.close()
    far.send(b"x")
    assert loop.poll(0) == []
    os.close(twin)
    far.close()


def test_registering_what_is_not_open_fails_with_its_error(loop: Loop) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    assert lib.ss_fd_open(loop.core, reader) == lib.SS_SYSTEM
    assert lib.ss_loop_errno(loop.core) == 9  # EBADF
    assert loop.counts()[lib.SS_COUNT_FDS] == 0


def test_files_and_directories_are_refused_for_they_are_always_ready(loop: Loop) -> None:
    with tempfile.TemporaryFile() as file:
        assert lib.ss_fd_open(loop.core, file.fileno()) == lib.SS_SYSTEM
        assert lib.ss_loop_errno(loop.core) == 1  # EPERM
    directory = os.open("/", os.O_RDONLY)
    assert lib.ss_fd_open(loop.core, directory) == lib.SS_SYSTEM
    os.close(directory)


def test_pipes_work_too(loop: Loop) -> None:
    reader, writer = os.pipe()
    handle = lib.ss_fd_open(loop.core, reader)
    lib.ss_fd_arm(loop.core, handle, READ)
    os.write(writer, b"x")
    assert loop.poll(SECOND) == [(lib.SS_EVENT_FD, handle, READ)]
    lib.ss_fd_close(loop.core, handle)
    os.close(reader)
    os.close(writer)


def test_hundreds_at_once_are_all_reported_over_several_polls(loop: Loop) -> None:
    pairs = [Pair(loop) for _ in range(400)]
    for pair in pairs:
        pair.drained(READ | WRITE)
        pair.arm(READ)
        pair.far.send(b"x")
    seen: list[int] = []
    while events := loop.poll(0):
        seen += [handle for _, handle, _ in events]
    assert sorted(seen) == sorted(pair.handle for pair in pairs)
    for pair in pairs:
        pair.close()


def test_one_that_is_always_ready_does_not_starve_the_others(loop: Loop) -> None:
    busy, quiet = [Pair(loop) for _ in range(300)], Pair(loop)
    quiet.drained(READ)
    quiet.arm(READ)
    quiet.far.send(b"x")
    for pair in busy:
        pair.far.send(b"x")
    seen: list[int] = []
    for _ in range(5):
        for pair in busy:
            pair.drained(READ)
            pair.arm(READ)
            pair.far.send(b"x")
        seen += [handle for _, handle, _ in loop.poll(0)]
    assert quiet.handle in seen
    for pair in [*busy, quiet]:
        pair.close()


def test_thousands_of_opens_and_closes_keep_the_slots_sound(loop: Loop) -> None:
    pairs: list[Pair] = []
    for turn in range(2000):
        pairs.append(Pair(loop))
        if len(pairs) > 20:
            pairs.pop(turn * 7 % 20).close()
        if turn % 100 == 0:
            assert lib.ss_verify(loop.core) == ffi.NULL
    assert loop.counts()[lib.SS_COUNT_FDS] == 20
    for pair in pairs:
        pair.close()
