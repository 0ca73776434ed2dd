"""Watchers: greenlets that wait for a descriptor, also from several threads."""

import errno
import os
import socket
import tempfile
import threading
from collections.abc import Iterator

import pytest

from streamserve import Timeout, get_hub, sleep, spawn
from streamserve.errors import ConcurrentObjectUseError
from streamserve.loop.watcher import Watcher, wait_read, wait_readwrite, wait_write


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def watcher(pair: tuple[socket.socket, socket.socket]) -> Iterator[Watcher]:
    watcher = Watcher(pair[0].fileno())
    yield watcher
    watcher.close()


def test_making_one_registers_nothing(watcher: Watcher) -> None:
    assert not get_hub().fd_watchers


def test_what_is_ready_already_ends_the_first_wait(pair, watcher: Watcher) -> None:
    pair[1].send(b"x")
    assert watcher.wait_read(watcher.reader.edges, 20) is True


def test_a_wait_ends_with_the_next_edge(pair, watcher: Watcher) -> None:
    waiting = spawn(watcher.wait_read, watcher.reader.edges)
    sleep()
    assert get_hub().fd_waits == 1
    pair[1].send(b"x")
    assert waiting.get(timeout=20) is True
    assert get_hub().fd_waits == 0


def test_an_edge_since_the_noted_one_ends_the_wait_at_once(pair, watcher: Watcher) -> None:
    seen = watcher.reader.edges
    pair[1].send(b"x")
    assert watcher.wait_read(seen, 20)
    seen = watcher.reader.edges
    pair[1].send(b"y")
    reader = spawn(watcher.wait_read, seen)
    assert reader.get(timeout=20)
    assert watcher.wait_read(seen, 20)  # the same edge again: nobody switches


def test_the_time_is_up_after_the_timeout(watcher: Watcher) -> None:
    assert watcher.wait_read(watcher.reader.edges, 0.001) is False
    assert watcher.wait_read(watcher.reader.edges, 0.001) is False
    assert get_hub().fd_waits == 0


def test_a_shorter_timeout_does_not_wait_for_the_timer_of_a_longer_one(pair, watcher: Watcher) -> None:
    pair[1].send(b"x")
    assert watcher.wait_read(watcher.reader.edges, 3600)
    assert watcher.wait_read(watcher.reader.edges, 0.001) is False


def test_the_timer_of_an_earlier_wait_does_not_end_a_later_one(pair, watcher: Watcher) -> None:
    pair[1].send(b"x")
    assert watcher.wait_read(watcher.reader.edges, 0.005)
    waiting = spawn(watcher.wait_read, watcher.reader.edges)
    sleep(0.02)
    assert not waiting.ready()
    pair[1].send(b"x")
    assert waiting.get(timeout=20) is True


def test_a_timer_that_nobody_needs_is_not_started_anew(pair, watcher: Watcher) -> None:
    for _ in range(20):
        pair[1].send(b"x")
        assert watcher.wait_read(watcher.reader.edges, 3600)
        pair[0].recv(1)
    assert len(get_hub().timers) == 1
    watcher.close()
    assert not get_hub().timers


def test_both_directions_are_waited_for_side_by_side(pair, watcher: Watcher) -> None:
    reading = spawn(watcher.wait_read, watcher.reader.edges)
    writing = spawn(watcher.wait_write, watcher.writer.edges)
    assert writing.get(timeout=20)
    assert not reading.ready()
    pair[1].send(b"x")
    assert reading.get(timeout=20)


def test_a_second_reader_is_told_who_reads(watcher: Watcher) -> None:
    first = spawn(watcher.wait_read, watcher.reader.edges)
    sleep()
    with pytest.raises(ConcurrentObjectUseError, match=r"already used by another greenlet.*lock"):
        watcher.wait_read(watcher.reader.edges)
    first.kill()


def test_a_killed_wait_leaves_the_watcher_usable(pair, watcher: Watcher) -> None:
    waiting = spawn(watcher.wait_read, watcher.reader.edges)
    sleep()
    waiting.kill()
    assert get_hub().fd_waits == 0
    with Timeout(0.001, False):
        watcher.wait_read(watcher.reader.edges)
    pair[1].send(b"x")
    assert watcher.wait_read(watcher.reader.edges, 20)


def test_closing_ends_the_wait_with_ebadf(watcher: Watcher) -> None:
    reading = spawn(watcher.wait_read, watcher.reader.edges)
    sleep()
    get_hub().handle_error = lambda *failure: None  # type: ignore[method-assign]
    try:
        watcher.close(closing=True)
        with pytest.raises(OSError, match="closed by another greenlet") as failure:
            reading.get(timeout=20)
    finally:
        del get_hub().handle_error
    assert failure.value.errno == errno.EBADF


def test_its_last_user_takes_it_along(pair) -> None:
    watcher = Watcher(pair[0].fileno())
    assert not watcher.wait_read(watcher.reader.edges, 0.001)
    assert len(get_hub().fd_watchers) == 1
    del watcher
    assert not get_hub().fd_watchers


def test_a_second_watcher_of_a_descriptor_is_told_of_the_same_edges(pair, watcher: Watcher) -> None:
    twin = Watcher(pair[0].fileno())
    first = spawn(watcher.wait_read, watcher.reader.edges)
    second = spawn(twin.wait_read, twin.reader.edges)
    sleep()
    pair[1].send(b"x")
    assert first.get(timeout=20)
    assert second.get(timeout=20)
    assert not twin.reader.trusted
    twin.close()


def test_threads_that_wait_on_one_watcher_each_get_their_edges(pair, watcher: Watcher) -> None:
    """The other thread reads, this one writes; and when the first thread is gone, the second reads on."""
    got: list[bytes] = []

    def read(count: int) -> None:
        while len(got) < count:
            seen = watcher.reader.edges
            try:
                got.append(pair[0].recv(1))
            except BlockingIOError:
                assert watcher.wait_read(seen, 20)

    assert not watcher.wait_read(watcher.reader.edges, 0.001)  # registered here
    for count in (3, 6):
        thread = threading.Thread(target=read, args=(count,))
        thread.start()
        for _ in range(3):
            pair[1].send(b"x")
        thread.join(timeout=20)
    assert got == [b"x"] * 6
    pair[1].send(b"y")
    read(7)
    assert got[-1] == b"y"


def test_a_watcher_outlives_the_thread_that_waited_first(pair) -> None:
    watcher = Watcher(pair[0].fileno())
    thread = threading.Thread(target=watcher.wait_read, args=(0, 0.001))
    thread.start()
    thread.join()
    pair[1].send(b"x")
    assert watcher.wait_read(watcher.reader.edges, 20)
    watcher.close()


def test_after_fork_the_child_waits_anew(pair, watcher: Watcher) -> None:
    assert not watcher.wait_read(watcher.reader.edges, 0.001)
    child = os.fork()
    if child == 0:
        pair[1].send(b"x")
        os._exit(7 if watcher.wait_read(watcher.reader.edges, 20) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert watcher.wait_read(watcher.reader.edges, 20)


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError) as failure:
        Watcher(reader).wait_read(0)
    assert failure.value.errno == errno.EBADF


def test_the_functions_wait_for_any_descriptor() -> None:
    reader, writer = os.pipe()
    wait_write(writer)
    waiting = spawn(wait_read, reader)
    sleep()
    os.write(writer, b"x")
    waiting.get(timeout=20)
    wait_readwrite(writer, timeout=20)
    os.read(reader, 1)
    with pytest.raises(TimeoutError):
        wait_read(reader, timeout=0.001)
    with pytest.raises(KeyError):
        wait_readwrite(reader, timeout=0.001, timeout_exc=KeyError)
    os.close(reader)
    os.close(writer)
    assert not get_hub().fd_watchers


def test_a_file_is_always_ready() -> None:
    with tempfile.TemporaryFile() as file:
        wait_read(file.fileno(), timeout=0.001)


def test_a_number_reused_by_another_watcher_keeps_its_registration(pair) -> None:
    """The first descriptor was closed behind our back; closing its watcher must not unregister the second."""
    old, far = socket.socketpair()
    stale = Watcher(old.fileno())
    assert not stale.wait_read(0, 0.001)
    number = old.detach()
    os.close(number)
    os.dup2(pair[0].fileno(), number)
    fresh = Watcher(number)
    assert not fresh.wait_read(0, 0.001)
    del stale
    pair[1].send(b"x")
    assert fresh.wait_read(fresh.reader.edges, 20)
    fresh.close()
    os.close(number)
    far.close()


def test_a_hub_on_which_descriptors_alone_are_waited_for_blocks_and_ends_no_wait(pair, watcher: Watcher) -> None:
    waiting = spawn(watcher.wait_read, watcher.reader.edges)
    thread = threading.Timer(0.005, pair[1].send, [b"x"])
    thread.start()
    assert waiting.get() is True
    thread.join()
