"""The last finalizers of an interpreter that ends: no greenlet runs any more; locks, queues and waits still answer."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PATIENCE = 60  # seconds; only a failing test waits so long
ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import os
from streamserve import monkey
if {patched}:
    monkey.patch_all()
import logging
"""
LOCKS_AND_QUEUES = """
from streamserve.green import thread
from streamserve.sync.event import Event
from streamserve.sync.lock import BoundedSemaphore, Lock, RLock, Semaphore
from streamserve.sync.queue import Queue

class Late:
    def __init__(self, event=Event(), queue=Queue()):
        self.locks = Lock(), Semaphore(), BoundedSemaphore(), RLock(), thread.RLock(), thread.allocate_lock()
        self.other = Semaphore()
        self.event, self.queue, self.get_ident = event, queue, thread.get_ident

    def __del__(self, write=os.write):
        try:
            for lock in self.locks:
                with lock, lock if "RLock" in type(lock).__name__ else self.other:
                    write(1, b"held ")
            self.event.set()
            self.queue.put(1)
            write(1, b"%d\\n" % (self.queue.get() + bool(self.get_ident())))
        except BaseException as error:
            write(1, repr(error).encode())

logging.late = Late()
"""
STANDARD_LIBRARY = """
import os, queue, select, socket, threading, time
import streamserve
from streamserve import Timeout
from streamserve.sync.result import AsyncResult

condition, event, rlock, semaphore = threading.Condition(), threading.Event(), threading.RLock(), threading.Semaphore()
data, result, later = threading.local(), AsyncResult(), AsyncResult()
data.mine = "mine"
held = threading.RLock()
held.acquire()
others, spun = [threading.Lock(), threading.RLock()], threading.Lock()
left, right = socket.socketpair()

def hold_for_ever():
    for lock in others:
        lock.acquire()
    streamserve.sleep(1e6)

parked = streamserve.spawn(hold_for_ever)
streamserve.sleep(0)
spun.acquire()

def in_order(condition=condition, rlock=rlock):
    with rlock, rlock, condition:
        condition.notify_all()
        return condition.wait(0.001), rlock._is_owned()

def set_and_get():
    event.set(), result.set(3)
    return event.wait(), result.get(), later.wait(0.001)

def local():
    data.other = 1
    return data.mine, sorted(data.__dict__)

def lines():
    items = queue.Queue()
    items.put(1)
    first = items.get()
    try:
        items.get(timeout=0.001)
    except Exception as error:
        return first, type(error).__name__

def sockets():
    right.settimeout(0.001)
    try:
        right.recv(1)
    except TimeoutError:
        left.send(b"x")
        return select.select([right], [], [], 60)[0] == [right], right.recv(1), select.select([right], [], [], 0.001)[0]

def sleeping():
    before = time.monotonic()
    time.sleep(0.01)
    time.sleep(0)
    return time.monotonic() - before >= 0.01

def limits():
    with Timeout(60), Timeout(60, False):
        return streamserve.getcurrent().parent

def of_others():
    for lock in others:
        with lock:
            pass
    return [lock.locked() for lock in others]

def for_ever():
    try:
        later.get()
    except streamserve.errors.LoopExit:
        return "LoopExit"

import streamserve.errors
def spinning():
    return [spun.acquire(False) for _ in range(200)].count(False)

def threads():
    return threading.current_thread().name, threading.get_ident() == threading.main_thread().ident

def cleaning():
    held.release()
    with semaphore:
        parked.kill(block=False)
        left.close()
        return streamserve.spawn(int).ready()

class Late:
    calls = [in_order, set_and_get, local, lines, sockets, sleeping, limits, of_others, for_ever, spinning, threads]
    calls.append(cleaning)

    def __del__(self, write=os.write):
        for call in self.calls:
            try:
                write(1, f"{call.__name__} {call()}\\n".encode())
            except BaseException as error:
                write(1, f"{call.__name__}: {error!r}\\n".encode())

logging.late = Late()
"""
ANSWERS = """\
in_order (False, True)
set_and_get (True, 3, None)
local ('mine', ['mine', 'other'])
lines (1, 'Empty')
sockets (True, b'x', [])
sleeping True
limits None
of_others [False, False]
for_ever LoopExit
spinning 200
threads ('MainThread', True)
cleaning False
"""
WATCHERS = """
import os
import streamserve
from streamserve.green import socket
from streamserve.loop.watcher import Watcher
reader, writer = os.pipe()
watchers = [Watcher(reader), Watcher(reader), Watcher(writer)]
for watcher in watchers:
    watcher.wait_read(watcher.reader.edges, 0.001)
left, right = socket.socketpair()
receiving = streamserve.spawn(left.recv, 1)
pool = streamserve.get_hub().threadpool
pool.apply(int)
streamserve.sleep(0)
os.kept = [watchers, left, right, receiving, pool, lambda: streamserve]  # freed when our modules are empty
del watcher, watchers, left, right, receiving, pool
"""


@pytest.fixture(scope="session")
def folders() -> dict[str, str]:
    return {}


@pytest.fixture(params=["installed", "oldest", "newest"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, folders: dict[str, str]) -> str:
    """A PYTHONPATH with a release of greenlet that pyproject.toml allows."""
    if request.param == "installed":
        return str(ROOT)
    if request.param not in folders:
        folder = folders[request.param] = str(tmp_path_factory.mktemp(f"greenlet-{request.param}"))
        needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        wanted = next(word for word in needed if word.startswith("greenlet"))
        if request.param == "oldest":
            wanted = re.sub(r">=([0-9.]+).*", r"==\1", wanted)
        options = "--quiet --disable-pip-version-check --no-deps --only-binary=:all: --retries=0 --timeout=15".split()
        pip = [sys.executable, "-m", "pip", "install", *options, "--target", folder, wanted]
        if subprocess.run(pip, capture_output=True, timeout=4 * PATIENCE).returncode:
            folders[request.param] = ""
    if not folders[request.param]:
        pytest.skip(f"pip cannot reach the {request.param} greenlet here")
    return os.pathsep.join([folders[request.param], str(ROOT)])


def ran(program: str, path: str, *, patched: bool) -> tuple[str, str, int]:
    done = subprocess.run(
        [sys.executable, "-c", HEAD.format(patched=patched) + program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize("patched", [False, True])
def test_locks_queues_and_events_serve_the_last_finalizers(patched: bool, path: str) -> None:
    assert ran(LOCKS_AND_QUEUES, path, patched=patched) == ("held " * 6 + "2\n", "", 0)


def test_the_patched_standard_library_serves_the_last_finalizers(path: str) -> None:
    assert ran(STANDARD_LIBRARY, path, patched=True) == (ANSWERS, "", 0)


@pytest.mark.parametrize("patched", [False, True])
def test_descriptors_and_pools_that_are_in_use_at_the_end_say_nothing(patched: bool, path: str) -> None:
    assert ran(WATCHERS, path, patched=patched) == ("", "", 0)


def test_a_program_that_fails_says_why_and_nothing_else(path: str) -> None:
    """Its traceback holds frames, whose locks and log are used when they are freed."""
    program = """
import logging.handlers, threading
from http.client import HTTPConnection
data, ready = threading.local(), threading.Event()
data.name = "closed"
log = logging.getLogger("late")
log.addHandler(logging.handlers.MemoryHandler(10, target=logging.StreamHandler()))

def lines():
    with logging._lock, log.handlers[0].lock:
        try:
            yield 1
        finally:
            log.error(data.name)
            ready.wait(0.001)

going = lines()
next(going)
HTTPConnection.no_such_attribute
"""
    out, error, code = ran(program, path, patched=True)
    assert (out, code) == ("", 1)
    assert error.count("Traceback") == 1 and "Exception ignored" not in error, error


@pytest.mark.parametrize("patched", [False, True])
def test_what_the_main_greenlets_locals_have_is_finalized(patched: bool) -> None:
    program = """
import atexit, threading
class Value:
    def __del__(self):
        print("finalized")
mine = threading.local()
mine.value = Value()
atexit.register(lambda: print("at exit", hasattr(mine, "value")))
"""
    assert ran(program, str(ROOT), patched=patched) == ("at exit True\nfinalized\n", "", 0)
