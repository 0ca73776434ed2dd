"""The module `queue` under patching: its own classes on our locks, and a SimpleQueue that does not block."""

import pytest

from tests.support.program import printed

START = """
from streamserve.monkey import patch_all
patch_all()
import queue, threading, time, streamserve
"""


@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"])
def test_getters_wait_side_by_side(kind: str) -> None:
    assert printed(
        START
        + f"""
line, got = queue.{kind}(), []
waiting = threading.Barrier(4)
def take():
    waiting.wait(60)
    got.append(line.get(timeout=60))
takers = [threading.Thread(target=take) for _ in range(3)]
for taker in takers: taker.start()
waiting.wait(60)
for number in range(3): line.put(number)
for taker in takers: taker.join()
print(sorted(got), line.empty(), line.qsize())
try:
    line.get(timeout=0.001)
except queue.Empty:
    print("empty")
try:
    line.get(timeout=-1)
except ValueError as error:
    print(error)
"""
    ) == ["[0, 1, 2] True 0", "empty", "'timeout' must be a non-negative number"]


def test_queue_has_the_attributes_of_the_standard_one() -> None:
    assert printed(
        START
        + """
line = queue.Queue(maxsize=1)
with line.mutex:
    line.queue.append(1)
    line.not_empty.notify()
print(line.get(), line.unfinished_tasks, line.maxsize)
line.put(2)
try:
    line.put(3, timeout=0.001)
except queue.Full:
    print("full")
def finish():
    line.get()
    line.task_done()
streamserve.spawn(finish)
line.join()
with line.all_tasks_done:
    print(line.unfinished_tasks)
print(queue.Queue(maxsize=-1).full(), queue.Queue(0).full())
"""
    ) == ["1 0 1", "full", "0", "False False"]


def test_simple_queue_takes_no_arguments_and_joins_native_threads() -> None:
    assert printed(
        START
        + """
from streamserve.monkey import get_original
try:
    queue.SimpleQueue(5)
except TypeError:
    print("no arguments")
line, back = queue.SimpleQueue(), queue.SimpleQueue()
get_original("_thread", "start_new_thread")(lambda: back.put(line.get() + 1), ())
line.put(1, block=False, timeout=5)
print(back.get(timeout=60), line.put_nowait(7), line.get_nowait())
"""
    ) == ["no arguments", "2 None 7"]
