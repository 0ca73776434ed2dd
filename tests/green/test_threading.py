"""`threading` on greenlets, in processes that are patched."""

import threading

import pytest

from tests.support.program import printed, run_program

START = """
from streamserve.monkey import patch_all, get_original
patch_all()
import gc, os, signal, sys, threading, time
import streamserve
"""


def test_current_thread_of_a_spawned_greenlet_is_gone_with_it() -> None:
    assert printed(
        START
        + """
def name():
    thread = threading.current_thread()
    assert thread is threading.current_thread() and thread.is_alive() and thread.daemon
    assert isinstance(thread, threading._DummyThread) and thread in threading.enumerate()
    return thread
seen = [streamserve.spawn(name) for _ in range(100)]
streamserve.joinall(seen, raise_error=True)
print(len({greenlet.value.name for greenlet in seen}), len({greenlet.value.ident for greenlet in seen}))
print(threading.enumerate() == [threading.main_thread()], any(greenlet.value.is_alive() for greenlet in seen))
raw = streamserve.spawn_raw(threading.current_thread)
streamserve.sleep(0)
print(threading.active_count())
del raw
print(threading.active_count(), repr(seen[0].value).endswith(f"daemon {seen[0].value.ident})>"))
named = streamserve.Greenlet(lambda: threading.current_thread().name)
named.name = "my greenlet"
named.start()
print(named.get())
"""
    ) == ["100 100", "True False", "2", "1 True", "my greenlet"]


def test_foreign_native_thread_has_its_own_thread_until_it_ends() -> None:
    assert printed(
        START
        + """
lock, seen, ended = threading.Lock(), [], threading.Event()
lock.acquire()
def native():
    lock.acquire()  # across threads
    thread = threading.current_thread()
    seen.append((thread.ident == get_original("_thread", "get_ident")(), type(thread).__name__, thread.is_alive()))
    ended.set()
get_original("_thread", "start_new_thread")(native, ())
time.sleep(0)
lock.release()
print(ended.wait(60), seen)
"""
    ) == ["True [(True, '_DummyThread', True)]"]


def test_thread_pool_has_current_threads_too() -> None:
    assert printed(
        START
        + """
name, main = streamserve.get_hub().threadpool.apply(
    lambda: (threading.current_thread().name, threading.current_thread() is threading.main_thread()))
print(bool(name), main)
"""
    ) == ["True False"]


def test_local_is_by_greenlet() -> None:
    assert printed(
        START
        + """
class Mine(threading.local):
    def __init__(self, start): self.value = start
mine = Mine(5)
mine.value += 1
def work():
    mine.value += 10
    time.sleep(0)
    return mine.value
threads = [streamserve.spawn(work) for _ in range(3)]
print([thread.get() for thread in threads], mine.value)
"""
    ) == ["[15, 15, 15] 6"]


def test_timer_condition_and_semaphore() -> None:
    assert printed(
        START
        + """
fired = threading.Event()
threading.Timer(0.001, fired.set).start()
never = threading.Timer(1000, print, ["never"])
never.start(); never.cancel(); never.join()
condition, items, got = threading.Condition(), [], []
def take():
    with condition:
        condition.wait_for(lambda: items, 60)
        got.append(items.pop())
takers = [threading.Thread(target=take) for _ in range(3)]
for taker in takers: taker.start()
with condition:
    items.extend("abc")
    condition.notify_all()
for taker in takers: taker.join()
free = threading.BoundedSemaphore(1)
print(fired.wait(60), sorted(got), free.acquire(), free.acquire(timeout=0.001), free.acquire(blocking=False))
"""
    ) == ["True ['a', 'b', 'c'] True False False"]


def test_main_thread_can_be_joined_by_another() -> None:
    assert printed(
        START
        + """
def wait_for_main():
    threading.main_thread().join()
    print("main has ended", threading.main_thread().is_alive())
threading.Thread(target=wait_for_main).start()
print("end of main")
"""
    ) == ["end of main", "main has ended False"]


def test_exit_does_not_wait_for_threads_that_nothing_can_wake() -> None:
    result = run_program(
        START + "threading.Thread(target=threading.Event().wait, name='stuck').start()\nprint('end of main')"
    )
    assert (result.returncode, result.stdout) == (0, "end of main\n")
    assert "RuntimeWarning" in result.stderr and "stuck" in result.stderr
    assert "Traceback" not in result.stderr


def test_uncaught_exception_goes_to_the_excepthook() -> None:
    result = run_program(START + "t = threading.Thread(target=lambda: 1 / 0, name='mine'); t.start(); t.join()")
    assert result.returncode == 0
    assert result.stderr.startswith("Exception in thread mine:\nTraceback")
    assert "ZeroDivisionError" in result.stderr


def test_daemons_that_wait_at_exit_are_silent() -> None:
    assert (
        printed(
            START
            + """
def wait_for_ever():
    try:
        time.sleep(1000)
    except Exception:
        print("disturbed")
for _ in range(5): threading.Thread(target=wait_for_ever, daemon=True).start()
"""
        )
        == []
    )


@pytest.mark.parametrize("where", ["main", "thread", "spawned"])
def test_fork_leaves_one_thread_which_is_the_main_one(where: str) -> None:
    start = {
        "main": "fork()",
        "thread": "t = threading.Thread(target=fork); t.start(); t.join()",
        "spawned": "streamserve.spawn(fork).get()",
    }[where]
    assert printed(
        START
        + f"""
others = [threading.Thread(target=time.sleep, args=(1000,), daemon=True) for _ in range(2)]
for other in others: other.start()
def fork():
    threading.current_thread()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            alone = threading.enumerate() == [threading.current_thread()] == [threading.main_thread()]
            inner = threading.Thread(target=time.sleep, args=(0.001,))
            inner.start()
            inner.join()
            dead = not any(other.is_alive() for other in others) and not inner.is_alive()
            code = 0 if alone and dead else 2
        finally:
            os._exit(code)
    return print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
{start}
"""
    ) == ["0"]


def test_interrupt_main_reaches_a_main_greenlet_that_waits() -> None:
    assert printed(
        START
        + """
import _thread
thread = threading.Thread(target=_thread.interrupt_main)
try:
    thread.start()
    thread.join()
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
signal.signal(signal.SIGINT, signal.SIG_IGN)
streamserve.spawn(_thread.interrupt_main).join()
try:
    _thread.interrupt_main(1000)
except ValueError as error:
    print(error)
"""
    ) == ["interrupted", "signal number out of range"]


def test_importing_the_green_module_alone_changes_nothing() -> None:
    from streamserve.green import threading as green

    assert "Thread" not in green.__implements__
    assert {"_DummyThread", "_shutdown", "Lock", "local", "get_ident"} <= set(green.__implements__)
    assert threading.Lock is not green.Lock  # type: ignore[attr-defined]


def test_native_thread_that_outlives_the_main_one_ends_in_silence() -> None:
    assert printed(
        START
        + """
native = get_original("_thread", "allocate_lock")()  # never free again: the thread waits until the process is gone
native.acquire()
asked = threading.Event()
def outlive():
    threading.current_thread()
    asked.set()
    native.acquire()
get_original("_thread", "start_new_thread")(outlive, ())
greenlets = [streamserve.spawn(lambda: (threading.current_thread(), time.sleep(1000))) for _ in range(3)]
print(asked.wait(60))
"""
    ) == ["True"]


def test_a_join_that_is_interrupted_does_not_take_the_thread_for_ended() -> None:
    source = """
from streamserve.monkey import patch_all; patch_all()
import threading, time
from streamserve import Timeout, spawn
def work():
    time.sleep(0.05)
    print("ended")
thread = threading.Thread(target=work)
thread.start()
with Timeout(0.001, False):
    thread.join()
print(thread.is_alive())
thread.join()
print(thread.is_alive(), thread in threading.enumerate())
"""
    assert printed(source) == ["True", "ended", "False False"]


def test_each_green_thread_has_a_native_id_of_its_own_and_first_ones_have_the_systems() -> None:
    assert printed(
        START
        + """
seen = []
def note():
    assert threading.get_native_id() == threading.current_thread().native_id
    seen.append(threading.get_native_id())
threads = [threading.Thread(target=note) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print([thread.native_id for thread in threads] == seen)
streamserve.joinall([streamserve.spawn(note) for _ in range(3)], raise_error=True)
note()
print(len(set(seen)), seen[-1] == os.getpid() == threading.main_thread().native_id)
get_original("_thread", "start_new_thread")(lambda: seen.append(threading.get_native_id()), ())
while len(seen) < 8:
    time.sleep(0.001)
print(os.path.exists(f"/proc/{os.getpid()}/task/{seen[-1]}") or seen[-1] > os.getpid(), min(seen[:6]) > 4194303)
"""
    ) == ["True", "7 True", "True True"]
