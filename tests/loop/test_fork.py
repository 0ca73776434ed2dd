"""fork: the child starts with a fresh loop; what was parked belongs to the parent."""

import gc
import os
import signal
import socket
import threading
from collections.abc import Callable

from streamserve import Timeout, signal_handler, sleep, spawn
from streamserve.core import ffi, lib
from streamserve.loop.event_loop import EventLoop
from streamserve.loop.hubs import get_hub
from streamserve.loop.ports import Port
from streamserve.loop.waiter import Waiter


def in_child(function: Callable[[], str]) -> str:
    """Returns what the function returns in a forked child, or its error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = function()
        except BaseException as error:
            answer = repr(error)
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answers:
        answer = answers.read().decode()
    os.waitpid(child, 0)
    return answer


def test_child_runs_greenlets_and_timers_of_its_own() -> None:
    def child() -> str:
        sleep(0.001)
        assert lib.ss_verify(get_hub().core) == ffi.NULL
        return str(spawn(lambda: (sleep(0.001), 42)[1]).get())

    assert in_child(child) == "42"


def test_what_was_parked_or_ready_runs_in_the_parent_only() -> None:
    log: list[int] = []

    def run() -> None:
        try:
            sleep(0.002)
        finally:
            log.append(os.getpid())

    for _ in range(3):
        spawn(run)
    sleep(0)
    spawn(log.append, os.getpid())  # not begun

    def child() -> str:
        gc.collect()
        sleep(0.005)
        gc.collect()
        return str(len(log))

    assert in_child(child) == "0"
    get_hub().join()
    assert log == [os.getpid()] * 4


def test_the_parents_loop_is_not_disturbed() -> None:
    greenlet = spawn(sleep, 0.003)
    sleep(0)
    assert in_child(lambda: str(get_hub().join())) == "True"
    greenlet.join(timeout=60)
    assert greenlet.dead


def test_the_child_has_an_empty_loop_and_the_parent_all_that_was_its_own() -> None:
    hub, waiter = get_hub(), Waiter(get_hub())
    tables = ("timers", "fd_watchers", "ports", "interrupts")
    slot = hub.start_timer(60, waiter)
    hub.fd_watchers[1], hub.ports[1], hub.interrupts[hub] = print, Port(hub), [KeyError()]

    def child() -> str:
        assert all(not getattr(hub, table) for table in tables)
        shared = [name for name in EventLoop.__slots__ if hasattr(hub, name)]
        assert {*tables, "core"} <= set(shared)
        assert all(getattr(hub, name) is getattr(hub._loop, name) for name in shared)
        return "renewed"

    assert in_child(child) == "renewed"
    assert all(len(getattr(hub, table)) == 1 for table in tables)
    for table in tables[1:]:
        getattr(hub, table).clear()
    hub.stop_timer(slot, waiter)


def test_fork_in_a_greenlet_goes_on_there() -> None:
    assert spawn(in_child, lambda: spawn(int, 7).get() * "x").get() == "x" * 7


def test_a_timeout_that_ran_does_not_fire_in_the_child() -> None:
    with Timeout(0.005, False):
        assert in_child(lambda: (sleep(0.01), "undisturbed")[1]) == "undisturbed"


def test_signals_set_in_the_child_wake_its_loop() -> None:
    def child() -> str:
        log: list[str] = []
        signal_handler(signal.SIGUSR1, log.append, "signal")
        spawn(os.kill, os.getpid(), signal.SIGUSR1)
        sleep(0.005)
        return "".join(log)

    assert in_child(child) == "signal"


def test_loops_of_other_threads_go_on_in_the_parent() -> None:
    reader, writer = socket.socketpair()
    ended, opened = threading.Event(), threading.Event()
    events: list[tuple[int, int]] = []

    def other() -> None:
        hub = get_hub()
        handle = lib.ss_fd_open(hub.core, reader.fileno(), lib.SS_READ)
        hub.fd_watchers[handle] = lambda ready: events.append((handle, ready))
        opened.set()
        ended.wait(20)
        sleep(0.001)
        lib.ss_fd_close(hub.core, handle, 1)

    thread = threading.Thread(target=other)
    thread.start()
    opened.wait(20)
    assert in_child(lambda: str(get_hub().join())) == "True"
    writer.send(b"x")
    ended.set()
    thread.join(20)
    assert [ready for _, ready in events] == [lib.SS_READ]
    reader.close()
    writer.close()
