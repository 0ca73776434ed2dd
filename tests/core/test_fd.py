"""Readiness of descriptors, with generations."""

import os
import socket
import tempfile
import threading
import time
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

    def __init__(self, loop: Loop, directions: int = READ) -> None:
        self.loop = loop
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.handle = lib.ss_fd_open(loop.core, self.near.fileno(), directions)
        assert self.handle >= 0

    def widen(self, directions: int) -> None:
        assert lib.ss_fd_widen(self.loop.core, self.handle, directions) == lib.SS_OK

    def drained(self, directions: int) -> None:
        """What a reader or writer says that found nothing; only the poll backend needs it."""
        assert lib.ss_fd_drained(self.loop.core, self.handle, directions) == lib.SS_OK

    def events(self, timeout_ns: int = SECOND) -> list[int]:
        """What the next poll says of this one."""
        found = self.loop.poll(timeout_ns)
        assert {kind for kind, _, _ in found} <= {lib.SS_EVENT_FD}
        return [value for _, handle, value in found if handle == self.handle]

    def close(self, closing: bool = True) -> None:
        assert lib.ss_fd_close(self.loop.core, self.handle, closing) == lib.SS_OK
        self.near.close()
        self.far.close()


@pytest.fixture
def pair(loop: Loop) -> Iterator[Pair]:
    pair = Pair(loop)
    yield pair
    if pair.near.fileno() >= 0:
        pair.close()


def test_what_is_ready_when_it_is_registered_is_an_edge(loop: Loop) -> None:
    pair = Pair(loop, READ | WRITE)
    assert pair.events() == [WRITE]
    assert pair.events(0) == []
    pair.close()


def test_only_the_directions_that_were_asked_for_are_reported(loop: Loop, pair: Pair) -> None:
    assert pair.events(0) == []
    pair.far.send(b"x")
    assert pair.events() == [READ]


def test_an_edge_is_reported_once(loop: Loop, pair: Pair) -> None:
    pair.far.send(b"x")
    assert pair.events() == [READ]
    assert pair.events(0) == []


def test_the_next_edge_comes_after_it_was_found_drained(loop: Loop, pair: Pair) -> None:
    for _ in range(3):
        pair.far.send(b"x")
        assert pair.events() == [READ]
        pair.near.recv(10)
        pair.drained(READ)
        assert pair.events(0) == []


def test_a_widened_one_reports_what_is_ready_in_the_new_direction(loop: Loop, pair: Pair) -> None:
    pair.widen(WRITE)
    assert pair.events() == [WRITE]


def test_a_quiet_one_only_ends_the_poll(loop: Loop) -> None:
    pair = Pair(loop, 0)
    assert lib.ss_loop_poll(loop.core, 0) == 0
    pair.far.send(b"x")
    begun = time.monotonic()
    for timeout in (20 * SECOND, 20 * SECOND, 0, -1, -2):
        assert lib.ss_loop_poll(loop.core, timeout) == lib.SS_WOKEN  # again and again, also without an edge
    assert time.monotonic() - begun < 10
    pair.near.recv(1)
    pair.drained(READ)
    assert lib.ss_loop_poll(loop.core, 0) == 0
    pair.far.send(b"x")
    assert lib.ss_loop_poll(loop.core, 20 * SECOND) == lib.SS_WOKEN
    pair.widen(READ)
    pair.drained(READ)
    assert pair.events() == [READ]
    pair.close()


def test_a_quiet_one_is_told_of_after_what_came_beside_it(loop: Loop) -> None:
    quiet, other = Pair(loop, 0), Pair(loop, READ)
    quiet.far.send(b"x")
    other.far.send(b"x")
    begun = time.monotonic()
    assert other.events() == [READ]
    assert lib.ss_loop_poll(loop.core, 20 * SECOND) == lib.SS_WOKEN
    assert time.monotonic() - begun < 10
    quiet.close()
    other.close()


def test_alone_it_does_not_keep_the_loop_from_being_idle(loop: Loop, pair: Pair) -> None:
    assert lib.ss_loop_poll(loop.core, -1) == lib.SS_IDLE


def test_who_waits_for_a_descriptor_says_so_and_the_poll_blocks(loop: Loop, pair: Pair) -> None:
    thread = threading.Timer(0.002, pair.far.send, [b"x"])
    thread.start()
    assert pair.events(-2) == [READ]
    thread.join()


def test_a_full_socket_is_writable_when_it_drains(loop: Loop) -> None:
    pair = Pair(loop, WRITE)
    assert pair.events() == [WRITE]
    sent = 0
    try:
        while True:
            sent += pair.near.send(b"x" * 65536)
    except BlockingIOError:
        pair.drained(WRITE)
    assert pair.events(0) == []
    while sent:
        sent -= len(pair.far.recv(65536))
    assert pair.events() == [WRITE]
    pair.close()


def test_both_directions_come_in_one_event(loop: Loop) -> None:
    pair = Pair(loop, READ | WRITE)
    pair.far.send(b"x")
    assert pair.events() == [READ | WRITE]
    pair.close()


def test_the_end_of_the_peer_is_told_apart(loop: Loop, pair: Pair) -> None:
    pair.far.shutdown(socket.SHUT_WR)
    assert pair.events() == [READ | lib.SS_HUP]
    assert pair.near.recv(1) == b""


def test_urgent_data_is_told_apart(loop: Loop) -> None:
    """A short count before the urgent mark does not mean that nothing is left."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near = listening.accept()[0]
    handle = lib.ss_fd_open(loop.core, near.fileno(), READ)
    far.send(b"abc", socket.MSG_OOB)
    assert loop.poll(20 * SECOND) == [(lib.SS_EVENT_FD, handle, READ | lib.SS_HUP)]
    assert lib.ss_fd_close(loop.core, handle, 1) == lib.SS_OK
    near.close()
    far.close()


def test_a_vanished_peer_makes_both_directions_ready(loop: Loop) -> None:
    pair = Pair(loop, READ | WRITE)
    pair.far.close()
    assert pair.events() == [READ | WRITE | lib.SS_HUP | lib.SS_FAIL]
    pair.close()


def test_calls_on_a_closed_handle_say_gone(loop: Loop, pair: Pair) -> None:
    handle = pair.handle
    pair.close()
    assert lib.ss_fd_widen(loop.core, handle, READ) == lib.SS_GONE
    assert lib.ss_fd_drained(loop.core, handle, READ) == lib.SS_GONE
    assert lib.ss_fd_close(loop.core, handle, 0) == lib.SS_GONE


@pytest.mark.parametrize("handle", [-1, 0, 1, 12345, 2**62, -(2**63)])
def test_made_up_handles_say_gone(loop: Loop, pair: Pair, handle: int) -> None:
    assert lib.ss_fd_widen(loop.core, handle, READ) == lib.SS_GONE
    assert lib.ss_fd_drained(loop.core, handle, READ) == lib.SS_GONE
    assert lib.ss_fd_close(loop.core, handle, 0) == lib.SS_GONE


def test_a_reused_number_gets_no_event_of_its_former_owner(loop: Loop) -> None:
    old = Pair(loop)
    old.far.send(b"for the old one")  # the backend knows of it, the loop has not looked
    number = old.near.fileno()
    stale = old.handle
    old.close()
    new = Pair(loop)
    assert new.near.fileno() == number
    assert new.handle != stale
    assert new.handle & 0xFFFFFFFF == stale & 0xFFFFFFFF  # the same slot, of another generation
    assert loop.poll(0) == []
    assert lib.ss_fd_drained(loop.core, stale, READ) == lib.SS_GONE
    new.far.send(b"x")
    assert new.events() == [READ]
    new.close()


@pytest.mark.parametrize("closing", [0, 1])
def test_a_number_that_was_closed_unasked_does_not_unregister_its_successor(loop: Loop, closing: int) -> None:
    old = Pair(loop)
    number = old.near.detach()
    os.close(number)
    new = Pair(loop)
    assert new.near.fileno() == number
    assert lib.ss_fd_close(loop.core, old.handle, closing) == lib.SS_OK
    new.far.send(b"x")
    assert new.events() == [READ]
    new.close()
    old.far.close()


def test_one_that_stays_open_can_be_registered_again(loop: Loop, pair: Pair) -> None:
    assert lib.ss_fd_close(loop.core, pair.handle, 0) == lib.SS_OK
    pair.handle = lib.ss_fd_open(loop.core, pair.near.fileno(), READ)
    pair.far.send(b"x")
    assert pair.events() == [READ]


def test_a_duplicate_that_lives_on_brings_no_stale_event(loop: Loop) -> None:
    """epoll keys on the open file: closing one number of two does not unregister it."""
    old = Pair(loop)
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
    assert lib.ss_fd_open(loop.core, reader, READ) == lib.SS_SYSTEM
    assert lib.ss_loop_errno(loop.core) == 9  # EBADF
    assert loop.counts()[lib.SS_COUNT_FDS] == 0


def test_files_and_directories_are_refused_for_they_are_always_ready(loop: Loop) -> None:
    with tempfile.TemporaryFile() as file:
        assert lib.ss_fd_open(loop.core, file.fileno(), READ) == lib.SS_SYSTEM
        assert lib.ss_loop_errno(loop.core) == 1  # EPERM
    directory = os.open("/", os.O_RDONLY)
    assert lib.ss_fd_open(loop.core, directory, READ) == lib.SS_SYSTEM
    os.close(directory)


def test_pipes_work_too(loop: Loop) -> None:
    reader, writer = os.pipe()
    handle = lib.ss_fd_open(loop.core, reader, READ)
    os.write(writer, b"x")
    assert loop.poll(SECOND) == [(lib.SS_EVENT_FD, handle, READ)]
    lib.ss_fd_close(loop.core, handle, 1)
    os.close(reader)
    os.close(writer)


def test_hundreds_at_once_are_all_reported_over_several_polls(loop: Loop) -> None:
    pairs = [Pair(loop) for _ in range(400)]
    for pair in pairs:
        pair.far.send(b"x")
    seen: list[int] = []
    while events := loop.poll(0):
        seen += [handle for _, handle, _ in events]
    assert sorted(seen) == sorted(pair.handle for pair in pairs)
    for pair in pairs:
        pair.close()


def test_one_that_is_always_ready_does_not_starve_the_others(loop: Loop) -> None:
    busy, quiet = [Pair(loop) for _ in range(300)], Pair(loop)
    quiet.far.send(b"x")
    for pair in busy:
        pair.far.send(b"x")
    seen: list[int] = []
    for _ in range(5):
        for pair in busy:
            pair.drained(READ)
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
