"""What programs set by `signal.signal` runs in the main greenlet: it may wait there, and raise what main gets."""

import signal

import pytest

from tests.support.program import printed, run_program

KILL = """
import os, signal, subprocess, sys, threading, time
from streamserve.loop.native_threads import start_new_thread
from streamserve.loop import signal_functions

def kill_soon(number, after=0.05):
    def run(sleep=signal_functions.native_sleep):
        sleep(after)
        os.kill(os.getpid(), number)
    start_new_thread(run, ())
"""
PATCHED = "from streamserve.monkey import patch_all; patch_all()\n" + KILL


def program(source: str, head: str = KILL) -> list[str]:
    """Lines that it prints."""
    return printed(head + source)


def test_a_wait_that_only_a_signal_can_end_is_no_dead_end() -> None:
    source = """
from streamserve.sync.event import Event
event = Event()
signal.signal(signal.SIGINT, lambda *a: event.set())
subprocess.Popen(["sh", "-c", "sleep 0.1; kill -INT $1", "sh", str(os.getpid())])  # no thread is left here
print(event.wait())
"""
    assert program(source) == ["True"]


def test_without_a_function_of_a_signal_it_is_one() -> None:
    source = """
from streamserve.sync.event import Event
signal.signal(signal.SIGTERM, signal.SIG_IGN)
Event().wait()
"""
    assert "LoopExit" in run_program(KILL + source).stderr


def test_a_thread_that_c_made_may_still_wake() -> None:
    source = """
import ctypes
from streamserve.sync.event import Event
libc, event = ctypes.CDLL(None), Event()
@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
def called(_):
    signal_functions.native_sleep(1.5)
    event.set()
thread = ctypes.c_size_t()
libc.pthread_create(ctypes.byref(thread), None, called, None)
print(event.wait())
libc.pthread_join(thread, None)
"""
    assert program(source) == ["True"]


def test_a_thread_that_was_just_started_may_still_wake() -> None:
    source = """
from streamserve.sync.event import Event
for _ in range(200):
    event = Event()
    start_new_thread(event.set, ())
    event.wait()
print("all")
"""
    assert program(source) == ["all"]


def test_it_may_wait_for_threads_and_end_the_program() -> None:
    source = """
stop = threading.Event()
def work():
    while not stop.wait(0.01):
        pass
    print("worker ended")
worker = threading.Thread(target=work)
worker.start()
def end(*args):
    stop.set()
    worker.join()
    print("handled by", threading.current_thread().name, flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
kill_soon(signal.SIGTERM)
try:
    worker.join()
    print("went on")
finally:
    print("main cleans up", flush=True)
"""
    done = run_program(PATCHED + source)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines() == ["worker ended", "handled by MainThread", "main cleans up"]


def test_it_may_wait_while_main_waits_on_and_main_loses_nothing() -> None:
    source = """
import queue
items = queue.Queue()
def look(*args):
    threading.Thread(target=items.put, args=(1,)).start()
    time.sleep(0.01)
    print("looked", items.qsize())
condition = threading.Condition()
signal.signal(signal.SIGUSR1, look)
kill_soon(signal.SIGUSR1)
print(items.get())
with condition:
    kill_soon(signal.SIGUSR1)
    print(condition.wait(0.2))
"""
    assert program(source, PATCHED) == ["looked 1", "1", "looked 1", "False"]


def test_a_log_line_under_contention_is_written() -> None:
    source = """
import logging
logging.basicConfig(stream=sys.stdout, format="%(message)s")
handler = logging.getLogger().handlers[0]
signal.signal(signal.SIGUSR1, lambda *a: logging.warning("logged"))
def hold():
    with handler.lock:
        kill_soon(signal.SIGUSR1, 0.01)
        time.sleep(0.1)
holder = threading.Thread(target=hold)
holder.start()
holder.join()
time.sleep(0.01)
"""
    assert program(source, PATCHED) == ["logged"]


def test_what_it_raises_reaches_main_while_another_greenlet_runs() -> None:
    source = """
def raising(*args):
    raise ZeroDivisionError
signal.signal(signal.SIGUSR1, raising)
def work():
    end = time.monotonic() + 20
    kill_soon(signal.SIGUSR1)
    while time.monotonic() < end and not caught:
        sum(range(1000))
        time.sleep(0)
    print("worker ended")
caught = []
worker = threading.Thread(target=work)
worker.start()
try:
    time.sleep(20)
except ZeroDivisionError:
    caught.append(1)
    print("main")
"""
    assert program(source, PATCHED) == ["main", "worker ended"]


def test_a_greenlet_that_never_waits_does_not_keep_it_from_running() -> None:
    source = """
stopped = []
signal.signal(signal.SIGUSR1, lambda *args: stopped.append(1))
def spin():
    kill_soon(signal.SIGUSR1)
    while not stopped:
        pass
spinning = threading.Thread(target=spin)
spinning.start()
spinning.join()
print(stopped)
"""
    assert program(source, PATCHED) == ["[1]"]


@pytest.mark.parametrize("yielding", ["time.sleep(0)", "pass"])
def test_ctrl_c_is_not_lost_in_a_bare_except(yielding: str) -> None:
    source = f"""
ended = []
def work():
    end = time.monotonic() + 20
    kill_soon(signal.SIGINT)
    while not ended and time.monotonic() < end:
        try:
            for _ in range(10):
                sum(range(1000))
                {yielding}
        except:
            ended.append("swallowed")
try:
    threading.Thread(target=work, daemon=True).start()
    time.sleep(20)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
time.sleep(0.01)
ended.append(1)
"""
    assert program(source, PATCHED) == ["KeyboardInterrupt"]


def test_it_runs_before_main_goes_on_whose_wait_ended_in_the_same_turn() -> None:
    source = """
import _thread
def end():
    _thread.interrupt_main()
thread = threading.Thread(target=end)
try:
    thread.start()
    thread.join()
    print("went on")
except KeyboardInterrupt:
    print("KeyboardInterrupt")
thread.join()
signal.signal(signal.SIGUSR1, lambda *args: print("once", items.qsize()))
import queue
items = queue.SimpleQueue()
def put():
    os.kill(os.getpid(), signal.SIGUSR1)
    items.put(1)
threading.Thread(target=put).start()
print(items.get())
time.sleep(0.15)
"""
    assert program(source, PATCHED) == ["KeyboardInterrupt", "once 1", "1"]


@pytest.mark.parametrize(
    "server",
    [
        'WSGIServer(("127.0.0.1", 0), lambda environ, start: [], log=None)',
        'StreamServer(("127.0.0.1", 0), lambda *a: None)',
    ],
)
def test_it_may_stop_a_server_and_its_errors_end_none(server: str) -> None:
    source = f"""
from streamserve import get_hub
from streamserve.server import StreamServer
from streamserve.wsgi import WSGIServer
server = {server}
server.start()
get_hub().exception_stream = sys.stdout
signal.signal(signal.SIGUSR1, lambda *args: kill_soon(signal.SIGTERM) or 1 / 0)
signal.signal(signal.SIGTERM, lambda *args: print("stopped", server.stop()))
kill_soon(signal.SIGUSR1)
server.serve_forever()
print("ended")
"""
    lines = program(source)
    assert any("ServingWaiter" in line and "ZeroDivisionError" in line for line in lines)
    assert lines[-2:] == ["stopped 0", "ended"]


def test_a_stop_that_is_interrupted_leaves_nothing_open() -> None:
    source = """
import socket
import streamserve
from streamserve.wsgi import WSGIServer
def slow(environ, start):
    streamserve.sleep(20)
server = WSGIServer(("127.0.0.1", 0), slow, log=None)
server.start()
client = socket.create_connection(server.address)
client.send(b"GET / HTTP/1.0\\r\\n\\r\\n")
streamserve.sleep(0.05)
kill_soon(signal.SIGINT)
try:
    server.stop(20)
except KeyboardInterrupt:
    print("interrupted", client.recv(9))
"""
    assert program(source) == ["interrupted b''"]


def test_the_loops_descriptor_survives_asyncio() -> None:
    source = """
import asyncio, _signal
from streamserve import signal_handler
from streamserve.loop import signals
handler = signal_handler(signal.SIGUSR1, int)
async def wait():
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR2, arrived.set_result, "arrived")
    kill_soon(signal.SIGUSR2)
    print(await arrived)
    print(loop.remove_signal_handler(signal.SIGUSR2))
asyncio.run(wait())
print(_signal.set_wakeup_fd(-1) == signals._wake_up.writer.fileno())
"""
    assert program(source, PATCHED) == ["arrived", "True", "True"]
    assert program(source, KILL) == ["arrived", "True", "True"]


def test_programs_see_what_they_have_set() -> None:
    def mine(*args: object) -> None:
        pass

    before = signal.signal(signal.SIGUSR1, mine)
    try:
        assert signal.getsignal(signal.SIGUSR1) is mine
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        assert signal.signal(signal.SIGUSR1, before) is mine
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
