"""Signals reach greenlets, KeyboardInterrupt the main one."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from streamserve import Greenlet, getcurrent, joinall, signal_handler, sleep, spawn
from streamserve.loop import hub as hub_module
from streamserve.loop.hubs import get_hub
from streamserve.loop.signals import SignalCounter, _ensure_wake_up
from tests.support.program import line, printed, program

NUMBER = signal.SIGUSR1
HEARS = """
        import os, signal, threading, time
        from streamserve import sleep
        def hears():
            begun = time.monotonic()
            threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()
            try:
                sleep(20)
            except KeyboardInterrupt:
                return time.monotonic() - begun < 10
"""
"""Of programs: hears() tells whether Ctrl-C ends a wait at once of which the system tells another thread."""


@pytest.fixture(autouse=True)
def untouched() -> Any:
    before = signal.getsignal(NUMBER)
    yield
    assert signal.getsignal(NUMBER) == before


def test_runs_the_handler_in_a_new_greenlet_with_its_arguments() -> None:
    seen: list[Any] = []
    handler = signal_handler(NUMBER, lambda *args, **kwargs: seen.append((getcurrent(), args, kwargs)), 1, b=2)
    os.kill(os.getpid(), NUMBER)
    sleep(0.001)
    handler.cancel()
    assert [call[1:] for call in seen] == [((1,), {"b": 2})]
    assert isinstance(seen[0][0], Greenlet)


def test_what_a_signal_handler_raises_in_the_poll_is_raised_in_the_main_greenlet() -> None:
    def raising(*_: Any) -> None:
        raise ZeroDivisionError("from the handler")

    before = signal.signal(NUMBER, raising)
    sender = threading.Timer(0.002, os.kill, (os.getpid(), NUMBER))
    other = spawn(sleep, 20)
    try:
        with pytest.raises(ZeroDivisionError, match="from the handler"):
            sender.start()
            other.join()
        sender.join()
    finally:
        signal.signal(NUMBER, before)
    assert not other.dead
    other.kill()


def test_a_signal_handler_that_raises_loses_no_event_of_the_poll() -> None:
    """The poll returns with a timer and the signal; the greenlet that the timer wakes is woken."""
    hub = get_hub()
    woken = spawn(sleep, 0.001)
    sleep()

    def interrupted(*_: Any) -> int:
        hub_module._poll = real
        real(hub.core, 20_000_000_000)
        raise ZeroDivisionError

    real = hub_module._poll
    hub_module._poll = interrupted  # what the interpreter does when the handler raises at the return of the call
    with pytest.raises(ZeroDivisionError):
        sleep(20)
    woken.get(timeout=20)


def test_wakes_a_loop_that_sleeps() -> None:
    handled = Greenlet(int)
    handler = signal_handler(NUMBER, handled.start)
    sender = threading.Timer(0.002, os.kill, (os.getpid(), NUMBER))
    sender.start()
    handled.join(timeout=60)
    sender.join()
    handler.cancel()
    assert handled.dead


def test_the_handler_may_wait() -> None:
    log: list[str] = []
    handler = signal_handler(NUMBER, lambda: (sleep(0.001), log.append("waited")))
    os.kill(os.getpid(), NUMBER)
    get_hub().join()
    handler.cancel()
    assert log == ["waited"]


def test_a_thousand_signals_do_not_fill_anything() -> None:
    log: list[int] = []
    handler = signal_handler(NUMBER, log.append, 1)
    for _ in range(1000):
        os.kill(os.getpid(), NUMBER)
    sleep(0.001)
    handler.cancel()
    assert len(log) == 1000


def test_cancel_puts_back_what_was_there_and_may_be_repeated() -> None:
    outer = signal_handler(NUMBER, int)
    inner = signal_handler(NUMBER, int)
    inner.cancel()
    inner.cancel()
    assert signal.getsignal(NUMBER) == outer._arrived
    outer.cancel()


def test_does_not_keep_the_loop_running() -> None:
    handler = signal_handler(NUMBER, int)
    assert get_hub().join() is True
    handler.cancel()


def test_needs_something_to_call_and_the_main_thread() -> None:
    with pytest.raises(TypeError, match="callable"):
        signal_handler(NUMBER, 5)  # type: ignore[arg-type]
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            signal_handler(NUMBER, int)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


def test_it_is_set_in_any_greenlet_of_the_main_thread() -> None:
    source = """
        from streamserve import monkey
        monkey.patch_all()
        import os, signal, threading
        from streamserve import signal_handler
        arrived = threading.Event()
        def work():
            signal_handler(signal.SIGUSR1, arrived.set)
            os.kill(os.getpid(), signal.SIGUSR1)
        threading.Thread(target=work).start()
        print(arrived.wait(60))
    """
    assert printed(source) == ["True"]


def test_keyboard_interrupt_reaches_main_while_the_loop_sleeps() -> None:
    other = spawn(sleep, 0.01)
    sender = threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        sender.start()
        sleep(5)
    sender.join()
    other.join(timeout=60)
    assert other.successful()


def test_keyboard_interrupt_loses_no_greenlet_on_its_way() -> None:
    """Each round interrupts a busy loop somewhere: whatever was being switched to still runs."""
    for turn in range(10):
        stopping = False

        def work() -> None:
            while not stopping:  # noqa: B023 - the loop below ends it
                sleep(0.0001)

        greenlets = [spawn(work) for _ in range(40)]
        sender = threading.Timer(0.002 + turn / 2000, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            sender.start()
            joinall(greenlets)
        stopping = True
        sender.join()
        assert len(joinall(greenlets, timeout=60)) == len(greenlets)


def test_keyboard_interrupt_reaches_main_though_the_system_told_another_thread() -> None:
    """What that interrupts is no wait of the loop's."""
    assert printed(f"{HEARS}        print(hears())") == ["True"]


def test_keyboard_interrupt_amid_what_the_core_does_by_itself_is_heard() -> None:
    """It accepts a connection and sees it end without a word to Python, and looks for more."""
    with program("""
        import time
        from streamserve import sleep
        from streamserve.wsgi import WSGIServer
        begun = time.monotonic()
        with WSGIServer("127.0.0.1:0", lambda environ, start_response: []) as server:
            while time.monotonic() - begun < 10:
                try:
                    print(server.address[1], flush=True)
                    begun = time.monotonic()
                    sleep(20)
                except KeyboardInterrupt:
                    pass
    """) as process:
        for turn in range(20):
            port = int(line(process))
            with socket.create_connection(("127.0.0.1", port)):
                time.sleep(0.005)  # it waits for what the connection brings
            until = time.perf_counter() + turn * 5e-6
            while time.perf_counter() < until:
                pass
            process.send_signal(signal.SIGINT)
        assert line(process)


def test_the_hub_after_one_that_was_destroyed_hears_of_signals() -> None:
    assert printed(f"""{HEARS}
        from streamserve import get_hub, signal_handler
        from streamserve.loop.signals import SignalCounter
        signal_handler(signal.SIGUSR1, int)
        counter = SignalCounter([signal.SIGUSR1])
        open_ones = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            get_hub().destroy()
            sleep(0.001)
        print(len(os.listdir("/proc/self/fd")) - open_ones)
        os.kill(os.getpid(), signal.SIGUSR1)
        sleep(0.001)
        print(counter.arrived() == (signal.SIGUSR1,))
        print(hears())
    """) == ["0", "True", "True"]


def test_without_descriptors_there_is_no_hub_rather_than_a_deaf_one() -> None:
    assert printed(f"""{HEARS}
        import resource
        from streamserve import get_hub
        import streamserve.loop.hub, streamserve.loop.forker, streamserve.loop.signals
        least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        open_ones = len(os.listdir("/proc/self/fd")) - 1
        for spare in (0, 1, 2, 3):
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_ones + spare, most))
            try:
                get_hub()
            except OSError as error:
                print(error.errno)
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
        print(hears())
    """) == ["24"] * 4 + ["True"]


def test_a_descriptor_of_the_programs_own_stays_as_it_was() -> None:
    assert printed("""
        import os, signal, socket
        from streamserve.monkey import patch_all
        patch_all()
        near, far = socket.socketpair()
        far.setblocking(False)
        signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGUSR1, lambda *args: None)
        import streamserve
        streamserve.sleep(0.001)
        for _ in range(3000):
            os.kill(os.getpid(), signal.SIGUSR1)
        streamserve.sleep(0.001)
        print(signal.set_wakeup_fd(-1) == far.fileno())
    """) == ["True"]


def test_no_signal_writes_to_the_socket_once_the_interpreter_ends() -> None:
    assert printed("""
        import _signal, atexit
        atexit.register(lambda: print(_signal.set_wakeup_fd(-1)))
        from streamserve import sleep
        from streamserve.loop import signals
        sleep(0.001)
        print(_signal.set_wakeup_fd(signals._wake_up.writer.fileno()) == signals._wake_up.writer.fileno())
    """) == ["True", "-1"]


def test_the_signals_of_a_child_of_fork_are_its_own() -> None:
    assert printed(f"""{HEARS}
        import warnings
        from streamserve.loop import signals
        warnings.filterwarnings("always", category=ResourceWarning)
        signal.signal(signal.SIGUSR1, lambda *args: None)
        sleep(0.001)
        parents = signals._wake_up
        if not (child := os.fork()):
            os.kill(os.getpid(), signal.SIGUSR1)
            os._exit(3 if hears() else 4)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        try:
            print(parents.reader.recv(10))
        except BlockingIOError:
            print("nothing")
    """) == ["3", "nothing"]


def test_a_program_that_handles_ctrl_c_itself_is_left_alone() -> None:
    code = """if True:
        import signal
        def mine(*args): print("mine")
        signal.signal(signal.SIGINT, mine)
        import streamserve
        streamserve.sleep(0.001)
        assert signal.getsignal(signal.SIGINT) is mine
        signal.raise_signal(signal.SIGINT)
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20).stdout == "mine\n"


def test_keyboard_interrupt_ends_a_greenlet_that_never_waits() -> None:
    def spin() -> None:
        sender.start()
        while True:
            pass

    sender = threading.Timer(0.003, os.kill, (os.getpid(), signal.SIGINT))
    spinning = spawn(spin)
    with pytest.raises(KeyboardInterrupt):
        spinning.join()
    sender.join()
    assert isinstance(spinning.exception, KeyboardInterrupt)


def test_what_a_handler_of_the_programs_own_wrote_is_emptied() -> None:
    """Every signal writes to the wake-up socket, also one whose function knows nothing of the loop."""
    ours = signal_handler(signal.SIGUSR2, int)
    reader = _ensure_wake_up(get_hub()).reader
    before = signal.signal(NUMBER, lambda signum, frame: None)
    try:
        os.kill(os.getpid(), NUMBER)
        sleep(0.001)
        with pytest.raises(BlockingIOError):
            reader.recv(1)
    finally:
        signal.signal(NUMBER, before)
        ours.cancel()


def test_signals_are_counted_in_another_thread_before_and_after_the_main_one_reads_them() -> None:
    handler = signal_handler(NUMBER, int)
    counter = SignalCounter([NUMBER])
    seen: list[tuple[int, ...]] = []

    def look() -> None:
        counter.wait(None)
        seen.append(counter.arrived())

    def native(function: Any) -> None:
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()

    try:
        _ensure_wake_up(get_hub()).writer.send(
            bytes([NUMBER, signal.SIGUSR2])
        )  # as the interpreter does when they arrive
        native(look)
        sleep(0.001)  # the hub reads them
        native(look)
        native(lambda: seen.append(counter.arrived()))
    finally:
        counter.close()
        handler.cancel()
    assert seen == [(NUMBER,)] * 3
