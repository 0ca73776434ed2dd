"""`multiprocessing` under patching: its threads are greenlets, and none of them waits in C."""

import subprocess
import sys
from pathlib import Path

import pytest

POOL = """
import multiprocessing, os

def double(text):
    return text * 2

def fail(number):
    raise ValueError(number)

if __name__ == "__main__":
    context = multiprocessing.get_context(METHOD)
    with context.Pool(3) as pool:
        assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))
        assert sorted(pool.imap_unordered(abs, range(100), 7)) == list(range(100))
        big = os.urandom(3_000_000)
        assert pool.apply_async(double, (big,)).get(30) == big * 2
        try:
            pool.apply(fail, (7,))
        except ValueError as error:
            assert error.args == (7,)
        pool.close()
        pool.join()
    with context.Pool(1, maxtasksperchild=1) as pool:
        assert len({pool.apply(os.getpid) for _ in range(3)}) == 3
    print("done")
"""

QUEUE = """
import multiprocessing, threading

def answer(questions, answers):
    while (question := questions.get()) is not None:
        answers.put(question * 2)

if __name__ == "__main__":
    context = multiprocessing.get_context(METHOD)
    questions, answers = context.JoinableQueue(), context.Queue(maxsize=2)
    process = context.Process(target=answer, args=(questions, answers))
    process.start()
    got = []

    def read():
        got.extend(answers.get(timeout=30) for _ in range(50))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(199):
        questions.put(number)
    questions.put("x" * 1_000_000)
    for reader in readers:
        reader.join()
    assert sorted(map(str, got)) == sorted([str(2 * number) for number in range(199)] + ["x" * 2_000_000])
    try:
        answers.get(timeout=0.01)
    except Exception as error:
        assert type(error).__name__ == "Empty"
    questions.put(None)
    process.join()
    assert process.exitcode == 0
    print("done")
"""

LOCKS = """
import multiprocessing, threading, time

def count(lock, number, rounds):
    for _ in range(rounds):
        with lock:
            seen = number.value
            time.sleep(0)
            number.value = seen + 1

def release_later(lock):
    time.sleep(0.05)
    lock.release()

def notify(condition):
    with condition:
        condition.notify_all()

if __name__ == "__main__":
    context = multiprocessing.get_context(METHOD)
    for kind in (context.Lock, context.RLock, context.Semaphore):
        lock, number = kind(), context.RawValue("i", 0)
        process = context.Process(target=count, args=(lock, number, 50))
        process.start()
        threads = [threading.Thread(target=count, args=(lock, number, 50)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in (*threads, process):
            thread.join()
        assert number.value == 200, (kind, number.value)
    lock = context.RLock()
    with lock, lock:
        refused = []
        thread = threading.Thread(target=lambda: refused.extend([lock.acquire(False), lock.acquire(timeout=0.01)]))
        thread.start()
        thread.join()
        assert refused == [False, False]
    lock = context.Lock()
    assert lock.acquire() and not lock.acquire(False) and not lock.acquire(timeout=0.01)
    process = context.Process(target=release_later, args=(lock,))
    process.start()
    assert lock.acquire(timeout=30)
    process.join()
    try:
        lock.release()
        lock.release()
    except ValueError:
        pass
    condition = context.Condition()
    with condition:
        process = context.Process(target=notify, args=(condition,))
        process.start()
        assert condition.wait(30)
    process.join()
    event, barrier = context.Event(), context.Barrier(2)
    threading.Timer(0.01, event.set).start()
    assert event.wait(30)
    threading.Thread(target=barrier.wait).start()
    barrier.wait(30)
    print("done")
"""

KILLED = """
import multiprocessing
from streamserve import Timeout, spawn, sleep

near, far = multiprocessing.Pipe()
lock = multiprocessing.Lock()
lock.acquire()
for wait in (near.recv, lock.acquire, lambda: near.poll(None)):
    waiting = spawn(wait)
    sleep(0.01)
    waiting.kill()
    with Timeout(0.01, False):
        wait()
far.send("after")
assert near.recv() == "after"
lock.release()
assert lock.acquire(timeout=10)
far.close()
try:
    near.recv()
except EOFError:
    print("done")
"""


def run(folder: Path, source: str) -> str:
    (folder / "script.py").write_text(source)
    command = [sys.executable, "-m", "streamserve", "run", "script.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("source", [POOL, QUEUE, LOCKS], ids=["pool", "queue", "locks"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_it_works_as_on_threads(tmp_path: Path, method: str, source: str) -> None:
    assert run(tmp_path, source.replace("METHOD", repr(method))) == "done\n"


def test_who_waits_can_be_killed(tmp_path: Path) -> None:
    assert run(tmp_path, KILLED) == "done\n"
