"""The loop of the core: waiting, waking, idleness, several loops, fork."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from streamserve.core import ffi, lib
from tests.support.loop import BACKENDS, SECOND, Loop, made


@pytest.fixture(params=BACKENDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    yield from made(request.param)


def test_names_its_backend(loop: Loop) -> None:
    assert ffi.string(lib.ss_loop_backend(loop.core)) == loop.name.encode()


def test_with_nothing_to_wait_for_is_idle(loop: Loop) -> None:
    assert lib.ss_loop_poll(loop.core, -1) == lib.SS_IDLE


def test_a_poll_with_a_limit_is_never_idle(loop: Loop) -> None:
    assert loop.poll(0) == []
    assert loop.poll(SECOND // 1000) == []


def test_waits_as_long_as_asked(loop: Loop) -> None:
    started = time.monotonic()
    loop.poll(2_000_000)
    assert time.monotonic() - started >= 0.002


def test_wake_before_the_poll_ends_it(loop: Loop) -> None:
    lib.ss_loop_wake(loop.core)
    lib.ss_loop_wake(loop.core)
    assert loop.poll(20 * SECOND) == [(lib.SS_EVENT_WOKEN, 0, 0)]
    assert loop.poll(0) == []


def test_wake_is_seen_by_a_poll_that_would_be_idle(loop: Loop) -> None:
    lib.ss_loop_wake(loop.core)
    assert loop.poll(-1) == [(lib.SS_EVENT_WOKEN, 0, 0)]
    assert lib.ss_loop_poll(loop.core, -1) == lib.SS_IDLE


def test_wake_from_a_thread_ends_a_poll(loop: Loop) -> None:
    thread = threading.Timer(0.002, lib.ss_loop_wake, (loop.core,))
    thread.start()
    assert loop.poll(20 * SECOND) == [(lib.SS_EVENT_WOKEN, 0, 0)]
    thread.join()


def test_wakes_of_many_threads_are_at_least_one(loop: Loop) -> None:
    threads = [threading.Thread(target=lambda: [lib.ss_loop_wake(loop.core) for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    woken = 0
    while any(thread.is_alive() for thread in threads):
        woken += len(loop.poll(SECOND // 1000))
    assert woken + len(loop.poll(0)) >= 1


def test_a_signal_ends_the_wait(loop: Loop) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: lib.ss_loop_wake(loop.core))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        assert loop.poll(20 * SECOND) in ([], [(lib.SS_EVENT_WOKEN, 0, 0)])
    finally:
        signal.signal(signal.SIGALRM, before)


def test_tells_when_it_last_returned(loop: Loop) -> None:
    assert lib.ss_loop_entered(loop.core) == 0
    before = lib.ss_loop_now(loop.core)
    loop.poll(0)
    assert before <= lib.ss_loop_entered(loop.core) <= lib.ss_loop_now(loop.core)


def test_tells_another_thread_that_it_waits(loop: Loop) -> None:
    loop.poll(0)
    seen: list[bool] = []

    def watch() -> None:
        deadline = time.monotonic() + 20
        while lib.ss_loop_entered(loop.core) and time.monotonic() < deadline:
            time.sleep(0.001)
        seen.append(lib.ss_loop_entered(loop.core) == 0)
        lib.ss_loop_wake(loop.core)

    thread = threading.Thread(target=watch)
    thread.start()
    loop.poll(30 * SECOND)
    thread.join()
    assert seen == [True]


def test_the_clock_can_be_held(loop: Loop) -> None:
    lib.ss_loop_set_clock(loop.core, 5)
    loop.poll(0)
    assert lib.ss_loop_now(loop.core) == 5


def test_counts_its_polls(loop: Loop) -> None:
    for _ in range(3):
        loop.poll(0)
    assert loop.counts()[lib.SS_COUNT_POLLS] == 3


def test_free_takes_null() -> None:
    lib.ss_loop_free(ffi.NULL)


@pytest.mark.parametrize("backend", BACKENDS)
def test_birth_and_death_leave_no_descriptor(backend: int) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        core = lib.ss_loop_new(backend)
        lib.ss_timer_start(core, 1, 1)
        reader, writer = os.pipe()
        lib.ss_fd_open(core, reader, lib.SS_READ)
        lib.ss_loop_free(core)
        os.close(reader)
        os.close(writer)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_loops_in_two_threads_do_not_meet(backend: int) -> None:
    failures: list[Any] = []

    def run() -> None:
        for loop in made(backend):
            for turn in range(300):
                slot = lib.ss_timer_start(loop.core, 1000, 1)
                events = loop.poll(-1)
                if events != [(lib.SS_EVENT_TIMER, slot, 0)]:
                    failures.append((turn, events))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert failures == []


def test_after_fork_the_child_lets_go_and_the_parent_goes_on(loop: Loop) -> None:
    reader, writer = os.pipe()
    handle = lib.ss_fd_open(loop.core, reader, lib.SS_READ)
    child = os.fork()
    if child == 0:
        lib.ss_loop_abandon(loop.core)
        lib.ss_loop_free(loop.core)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.write(writer, b"x")
    assert loop.poll(20 * SECOND) == [(lib.SS_EVENT_FD, handle, lib.SS_READ)]
    lib.ss_fd_close(loop.core, handle, 1)
    os.close(reader)
    os.close(writer)


def test_a_loop_that_was_let_go_answers_that_all_is_gone(loop: Loop) -> None:
    reader, writer = os.pipe()
    handle = lib.ss_fd_open(loop.core, reader, lib.SS_READ)
    lib.ss_timer_start(loop.core, SECOND, 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = ffi.new("ss_listener_config *")
        lib.ss_listener_defaults(config)
        listener = lib.ss_listener_open(loop.core, listening.fileno(), config)
        for _ in range(2):
            lib.ss_loop_abandon(loop.core)
    assert lib.ss_listener_close(loop.core, listener) == lib.SS_GONE
    assert lib.ss_fd_close(loop.core, handle, 1) == lib.SS_GONE
    lib.ss_loop_wake(loop.core)
    assert lib.ss_loop_poll(loop.core, 0) == lib.SS_SYSTEM
    os.close(reader)
    os.close(writer)


def test_bytes_stand_for_text_alone() -> None:
    frame = lib.ss_ws_frame_new(lib.SS_WS_BINARY, b"data", 4, 0)
    with pytest.raises(TypeError, match="must be a cdata pointer, not bytes"):
        lib.ss_frame_free(b"data")  # type: ignore[arg-type]
    lib.ss_frame_free(frame)


@pytest.mark.parametrize("value", [1 << 31, -(1 << 31) - 1, 1 << 63])
def test_numbers_that_do_not_fit_are_refused(value: int) -> None:
    with pytest.raises(OverflowError):
        lib.ss_ws_frame_new(value, b"", 0, 0)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError):
        lib.ss_ws_frame_new(1.5, b"", 0, 0)  # type: ignore[arg-type]
