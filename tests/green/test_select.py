"""select, poll and epoll: what the real ones say, while others run."""

import errno
import gc
import os
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamserve import Timeout, sleep, spawn
from streamserve.green import select as green_select
from streamserve.green import socket as green_socket
from streamserve.green import watched_set
from streamserve.green.watched_set import descriptor_closed
from streamserve.loop.hubs import get_hub
from tests.loop.test_fork import in_child

Pair = tuple[socket.socket, socket.socket]
LONG = 3600.0


@pytest.fixture(autouse=True)
def no_spare_sets() -> Iterator[None]:
    """Sets that are kept for the next wait are no leak, but the fixture of the hub counts descriptors."""
    yield
    spares = watched_set._spares.sets
    while spares:
        spares.pop().close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            assert fd == reader  # a test closed it


def by_select(things: list[Any], timeout: float | None = LONG) -> list[Any]:
    return green_select.select(things, [], [], timeout)[0]


def by_poll(things: list[Any], timeout: float | None = LONG) -> list[Any]:
    poller = green_select.poll()
    for thing in things:
        poller.register(thing, select.POLLIN)
    numbers = [fd for fd, _ in poller.poll(None if timeout is None else timeout * 1000)]
    return [thing for thing in things if number(thing) in numbers]


def by_epoll(things: list[Any], timeout: float | None = LONG) -> list[Any]:
    with green_select.epoll() as poller:
        for thing in things:
            poller.register(thing, select.EPOLLIN)
        numbers = [fd for fd, _ in poller.poll(timeout)]
    return [thing for thing in things if number(thing) in numbers]


def number(thing: Any) -> int:
    return thing if isinstance(thing, int) else thing.fileno()


WAYS = pytest.mark.parametrize("wait", [by_select, by_poll, by_epoll])
Wait = Callable[..., list[Any]]


def error_of(function: Callable[..., Any], *args: Any) -> Any:
    with pytest.raises(Exception) as caught:
        function(*args)
    return caught.type, str(caught.value)


# ---- all three


@WAYS
def test_others_run_until_it_is_ready(wait: Wait, pair: Pair) -> None:
    order: list[Any] = []
    waiting = spawn(lambda: order.append(wait([pair[0]])))
    spawn(lambda: (order.append("sent"), pair[1].send(b"x")))
    waiting.join()
    assert order == ["sent", [pair[0]]]


@WAYS
def test_several_are_watched_at_once(wait: Wait) -> None:
    pairs = [socket.socketpair() for _ in range(20)]
    readers = [left for left, _ in pairs]
    for left, right in pairs:
        waiting = spawn(wait, readers)
        sleep(0)
        right.send(b"x")
        assert waiting.get() == [left]
        left.recv(1)
    for left, right in pairs:
        left.close()
        right.close()


@WAYS
def test_a_ready_one_is_found_without_a_switch(wait: Wait, pair: Pair) -> None:
    pair[1].send(b"x")
    others: list[int] = []
    spawn(others.append, 1)
    assert wait([pair[0]]) == [pair[0]]
    assert not others


@WAYS
@pytest.mark.parametrize("timeout", [0, 0.01])
def test_nothing_is_found_when_the_time_is_up(wait: Wait, pair: Pair, timeout: float) -> None:
    assert wait([pair[0]], timeout) == []


@WAYS
def test_the_end_of_the_peer_is_found(wait: Wait, pair: Pair) -> None:
    waiting = spawn(wait, [pair[0]])
    sleep(0)
    pair[1].close()
    assert waiting.get() == [pair[0]]


@WAYS
def test_several_greenlets_wait_for_one_descriptor(wait: Wait, pair: Pair) -> None:
    waiting = [spawn(wait, [pair[0]]) for _ in range(5)]
    sleep(0)
    pair[1].send(b"x")
    assert [each.get() for each in waiting] == [[pair[0]]] * 5


@WAYS
def test_a_greenlet_that_waits_can_be_killed(wait: Wait, pair: Pair) -> None:
    waiting = spawn(wait, [pair[0]], None)
    sleep(0)
    waiting.kill()
    assert waiting.dead
    pair[1].send(b"x")
    assert wait([pair[0]]) == [pair[0]]


@WAYS
def test_a_timeout_of_the_greenlet_ends_it(wait: Wait, pair: Pair) -> None:
    with pytest.raises(Timeout), Timeout(0.01):
        wait([pair[0]], None)


@WAYS
def test_another_native_thread_waits_by_its_own_loop(wait: Wait, pair: Pair) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(wait([pair[0]])))
    thread.start()
    pair[1].send(b"x")
    get_hub().threadpool.apply(thread.join, ())
    assert found == [[pair[0]]]


@WAYS
def test_a_descriptor_of_1024_and_above(wait: Wait, pair: Pair) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("no more descriptors may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    high = 2000
    os.dup2(pair[0].fileno(), high)
    try:
        assert wait([high], 0) == []
        waiting = spawn(wait, [high])
        sleep(0)
        pair[1].send(b"x")
        assert waiting.get() == [high]
    finally:
        os.close(high)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@WAYS
def test_who_only_looks_does_not_starve_the_others(wait: Wait, pair: Pair) -> None:
    pair[1].send(b"x")
    done = spawn(sleep, 0.001)
    while not done.dead:
        assert wait([pair[0]], 0) == [pair[0]]


@WAYS
def test_many_waits_leave_nothing_open(wait: Wait, pair: Pair) -> None:
    def once() -> None:
        waiting = spawn(wait, [pair[0]])
        sleep(0)
        pair[1].send(b"x")
        waiting.get()
        pair[0].recv(1)

    once()
    gc.collect()
    before = os.listdir("/proc/self/fd")
    for _ in range(100):
        once()
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("wait", [by_select, by_poll])
def test_a_closed_descriptor_ends_the_wait(wait: Wait, pipe: tuple[int, int]) -> None:
    waiting = spawn(lambda: error_of(wait, [pipe[0]]) if wait is by_select else wait([pipe[0]]))
    sleep(0)
    os.close(pipe[0])
    descriptor_closed(pipe[0])
    bad = OSError, f"[Errno {errno.EBADF}] {os.strerror(errno.EBADF)}"
    assert waiting.get() == (bad if wait is by_select else [pipe[0]])


def test_a_socket_closed_by_another_greenlet_ends_the_select() -> None:
    left, right = green_socket.socketpair()
    with left, right:
        waiting = spawn(error_of, by_select, [left], None)
        sleep(0)
        left.close()
        assert waiting.get() == error_of(select.select, [left], [], [])


def test_a_socket_that_another_greenlet_reads_can_be_selected_on() -> None:
    left, right = green_socket.socketpair()
    with left, right:
        reading, waiting = spawn(left.recv, 1), spawn(by_select, [left], None)
        sleep(0)
        right.send(b"xy")
        assert waiting.get() == [left]
        assert reading.get() == b"x"
        assert by_select([left]) == [left]


@pytest.mark.parametrize("wait", [by_select, by_poll])
def test_a_number_that_means_another_file_meanwhile_stays_watched(wait: Wait, pair: Pair) -> None:
    fd = os.dup(pair[0].fileno())
    waiting = spawn(wait, [fd], None)
    sleep(0)
    other, peer = socket.socketpair()
    os.dup2(other.fileno(), fd)  # which closes what it meant
    next_one = spawn(wait, [fd], None)
    sleep(0)
    waiting.kill()
    peer.send(b"x")
    assert next_one.get() == [fd]
    os.close(fd)
    other.close()
    peer.close()


@WAYS
def test_a_forked_child_waits_by_sets_of_its_own(wait: Wait, pair: Pair) -> None:
    def child() -> str:
        waiting = spawn(wait, [left])
        sleep(0)
        right.send(b"x")
        return str(waiting.get() == [left])

    left, right = pair
    assert wait([left], 0.001) == []  # which leaves a set for the next wait
    parked = spawn(wait, [left])
    sleep(0)
    assert in_child(child) == "True"
    assert parked.get() == wait([left], 0.001) == [left]  # sent in the child, readable in both


def test_a_socket_closed_in_a_forked_child_wakes_nobody_there() -> None:
    found: list[Any] = []

    def child() -> str:
        left.close()
        sleep(0)
        return str(found)

    left, right = green_socket.socketpair()
    with left, right:
        waiting = spawn(lambda: found.append(by_select([left], None)))
        sleep(0)
        assert in_child(child) == "[]"
        right.send(b"x")
        waiting.join()
        assert found == [[left]]


# ---- select


def test_writable_and_readable_are_told_apart(pair: Pair) -> None:
    left, right = pair
    assert green_select.select([left], [left], [left]) == ([], [left], [])
    right.send(b"x")
    assert green_select.select((left,), iter([right]), {left}, LONG) == ([left], [right], [])


def test_room_to_write_is_waited_for(pair: Pair) -> None:
    left, right = pair
    left.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            left.send(b"x" * 65536)
    waiting = spawn(green_select.select, [], [left], [], None)
    sleep(0)
    right.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            right.recv(65536)
    assert waiting.get() == ([], [left], [])


def test_urgent_data_is_an_exceptional_condition() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        served, _ = listener.accept()
        with served:
            waiting = spawn(green_select.select, [], [], [served], None)
            sleep(0)
            client.send(b"!", socket.MSG_OOB)
            assert waiting.get() == ([], [], [served])


def test_the_end_of_a_pipe_is_no_exceptional_condition(pipe: tuple[int, int]) -> None:
    waiting = spawn(green_select.select, [], [], [pipe[1]], 0.05)
    sleep(0)
    os.close(pipe[0])
    assert waiting.get() == ([], [], [])


def test_regular_files_are_always_ready(tmp_path: Any) -> None:
    with open(tmp_path / "file", "w+") as file:
        assert green_select.select([file], [file], [], None) == ([file], [file], [])


def test_the_three_lists_are_new_ones() -> None:
    first, second, third = green_select.select([], [], [], 0.001)
    assert first is not second is not third is not first


@pytest.mark.parametrize("timeout", [-1, -0.1, float("nan"), float("inf"), 1 << 80, "1", b"", 1e10], ids=repr)
def test_timeouts_are_refused_as_in_the_standard_library(timeout: Any) -> None:
    assert error_of(green_select.select, [], [], [], timeout) == error_of(select.select, [], [], [], timeout)


def test_a_timeout_that_is_an_index_is_waited_for_by_us(pair: Pair) -> None:
    class Long:
        def __index__(self) -> int:
            return 3600

    waiting = spawn(green_select.select, [pair[0]], [], [], Long())
    sleep(0)
    pair[1].send(b"x")
    assert waiting.get() == ([pair[0]], [], [])


class Nameless:
    pass


class Wrong:
    def fileno(self) -> Any:
        return "1"


@pytest.mark.parametrize(
    "lists", [([-1], [], []), ([1 << 40], [], []), (1, 2, 3), ([Nameless()], [], []), ([], [Wrong()], [])]
)
def test_what_is_no_descriptor_is_refused_as_in_the_standard_library(lists: Any) -> None:
    assert error_of(green_select.select, *lists, 0) == error_of(select.select, *lists, 0)


def test_a_closed_one_among_large_ones_is_refused(pair: Pair) -> None:
    assert error_of(green_select.select, [2_000_000], [], [], 0)[0] is OSError


def test_all_else_is_the_standard_modules() -> None:
    from streamserve.green.select import POLLIN

    assert POLLIN == select.POLLIN
    assert green_select.error is OSError
    with pytest.raises(AttributeError):
        _ = green_select.kqueue


# ---- poll


def test_events_are_those_of_the_real_one(pair: Pair) -> None:
    fd = pair[0].fileno()
    poller = green_select.poll()
    poller.register(pair[0])
    assert poller.poll() == [(fd, select.POLLOUT)]
    poller.modify(fd, select.POLLIN)
    assert poller.poll(0) == []
    poller.register(fd, 0)
    waiting = spawn(poller.poll)
    sleep(0)
    pair[1].close()
    assert waiting.get() == [(fd, select.POLLHUP)]
    poller.unregister(pair[0])
    assert poller.poll(1) == []


def test_a_closed_descriptor_is_pollnval(pipe: tuple[int, int]) -> None:
    poller = green_select.poll()
    poller.register(pipe[0])
    os.close(pipe[0])
    assert poller.poll() == [(pipe[0], select.POLLNVAL)]


def test_a_poll_object_serves_one_greenlet_at_a_time(pair: Pair) -> None:
    poller = green_select.poll()
    poller.register(pair[0], select.POLLIN)
    waiting = spawn(poller.poll)
    sleep(0)
    with pytest.raises(RuntimeError, match="concurrent poll"):
        poller.poll(0)
    pair[1].send(b"x")
    assert waiting.get() == [(pair[0].fileno(), select.POLLIN)]
    assert poller.poll(0)


@pytest.mark.parametrize(
    "timeout", [float("nan"), float("inf"), -float("inf"), 1 << 31, 1 << 80, -(1 << 80), "1"], ids=repr
)
def test_poll_refuses_timeouts_as_in_the_standard_library(timeout: Any) -> None:
    assert error_of(green_select.poll().poll, timeout) == error_of(select.poll().poll, timeout)


@pytest.mark.parametrize("timeout", [None, -1, -0.1, -1e12])
def test_a_negative_timeout_of_poll_is_none(timeout: Any, pair: Pair) -> None:
    poller = green_select.poll()
    poller.register(pair[0], select.POLLIN)
    waiting = spawn(poller.poll, timeout)
    sleep(0)
    pair[1].send(b"x")
    assert waiting.get()


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("register", (0, -1)),
        ("register", (0, 1 << 16)),
        ("register", (-1,)),
        ("register", (Nameless(),)),
        ("register", (Wrong(),)),
        ("modify", (1, 1)),
        ("unregister", (1,)),
        ("unregister", ("x",)),
    ],
)
def test_poll_objects_refuse_what_the_real_ones_refuse(method: str, args: Any) -> None:
    ours, real = error_of(getattr(green_select.poll(), method), *args), error_of(getattr(select.poll(), method), *args)
    assert ours == real


# ---- epoll


def test_an_epoll_set_is_kept_between_waits(pair: Pair) -> None:
    with green_select.epoll(flags=select.EPOLL_CLOEXEC) as poller:
        poller.register(pair[0], select.EPOLLIN | select.EPOLLET)
        for _ in range(3):
            waiting = spawn(poller.poll)
            sleep(0)
            pair[1].send(b"x")
            assert waiting.get() == [(pair[0].fileno(), select.EPOLLIN)]
            assert poller.poll(0) == []
        assert not os.get_inheritable(poller.fileno())
    assert poller.closed


def test_two_greenlets_share_an_epoll_set(pair: Pair) -> None:
    with green_select.epoll() as poller:
        poller.register(pair[0], select.EPOLLIN)
        waiting = [spawn(poller.poll, LONG) for _ in range(2)]
        sleep(0)
        pair[1].send(b"x")
        assert [each.get() for each in waiting] == [[(pair[0].fileno(), select.EPOLLIN)]] * 2


def test_at_most_so_many_events_are_given() -> None:
    pairs = [socket.socketpair() for _ in range(4)]
    with green_select.epoll() as poller:
        for left, _ in pairs:
            poller.register(left, select.EPOLLOUT)
        assert len(poller.poll(LONG, 3)) == 3
        assert len(poller.poll(maxevents=-1)) == 4
        assert error_of(poller.poll, 0, 0) == error_of(poller._epoll.poll, 0, 0)
    for left, right in pairs:
        left.close()
        right.close()


def test_an_epoll_set_closed_by_another_greenlet_ends_the_wait(pair: Pair) -> None:
    poller = green_select.epoll()
    poller.register(pair[0], select.EPOLLIN)
    waiting = spawn(error_of, poller.poll)
    sleep(0)
    poller.close()
    assert waiting.get()[0] is ValueError
    poller.close()
    assert error_of(poller.fileno)[0] is ValueError


def test_an_epoll_set_is_made_of_a_descriptor(pair: Pair) -> None:
    with select.epoll() as real, green_select.epoll.fromfd(os.dup(real.fileno())) as poller:
        poller.register(pair[0], select.EPOLLIN)
        pair[1].send(b"x")
        assert poller.poll() == real.poll() == [(pair[0].fileno(), select.EPOLLIN)]


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), 1 << 80, 2147484, "1"], ids=repr)
def test_epoll_refuses_timeouts_as_in_the_standard_library(timeout: Any) -> None:
    with green_select.epoll() as ours, select.epoll() as real:
        assert error_of(ours.poll, timeout) == error_of(real.poll, timeout)


def test_an_epoll_set_that_is_dropped_is_closed(pair: Pair) -> None:
    poller = green_select.epoll()
    poller.register(pair[0], select.EPOLLIN)
    assert poller.poll(0.001) == []
    fd = poller.fileno()
    del poller
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)
