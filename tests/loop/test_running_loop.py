"""Each greenlet has its own running loop of asyncio, and its own current task."""

import pytest

from tests.support.program import printed

HEAD = """
import streamserve
from streamserve import monkey
monkey.patch_all()
import asyncio

async def work(name, meet):
    task = asyncio.current_task()
    await asyncio.to_thread(meet.wait, 60)
    await asyncio.sleep(0.001)
    assert asyncio.current_task() is task and asyncio.get_running_loop().is_running()
    return name
"""


def test_asyncio_runs_in_two_greenlets_at_once() -> None:
    program = """
import threading
meet = threading.Barrier(2)
two = [streamserve.spawn(asyncio.run, work(name, meet)) for name in "ab"]
print(*[one.get() for one in two])
"""
    assert printed(HEAD + program) == ["a b"]


def test_what_waits_inside_a_coroutine_hides_its_loop_from_others() -> None:
    program = """
from streamserve.sync.event import Event
there, back = Event(), Event()

async def blocking():
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    there.set()
    back.wait()
    streamserve.sleep(0)
    assert asyncio.get_running_loop() is loop and asyncio.current_task() is task
    return "mine"

def other():
    there.wait()
    print(asyncio._get_running_loop())
    print(asyncio.run(asyncio.sleep(0, "other")))
    streamserve.sleep(0)
    print(asyncio._get_running_loop())
    back.set()

others = streamserve.spawn(other)
print(streamserve.spawn(asyncio.run, blocking()).get())
others.get()
"""
    assert printed(HEAD + program) == ["None", "other", "None", "mine"]


@pytest.mark.parametrize("wait", ["streamserve.sleep(0)", "streamserve.sleep(0.001)", "first.join()"])
def test_what_is_spawned_in_a_coroutine_begins_without_a_loop(wait: str) -> None:
    """Also in a greenlet that was used before."""
    program = f"""
def look():
    return asyncio._get_running_loop()

async def spawning():
    first = streamserve.spawn(look)
    {wait}
    raw = []
    streamserve.spawn_raw(lambda: raw.append(look()))
    second = streamserve.spawn(look)
    streamserve.sleep(0.001)
    assert asyncio.get_running_loop().is_running()
    return [first.get(), second.get(), *raw]

streamserve.joinall([streamserve.spawn(int) for _ in range(3)])
print(asyncio.run(spawning()))
print(look())
"""
    assert printed(HEAD + program) == ["[None, None, None]", "None"]


def test_an_exception_in_a_wait_puts_the_loop_back() -> None:
    program = """
async def timed():
    try:
        with streamserve.Timeout(0.001):
            streamserve.sleep(60)
    except streamserve.Timeout:
        return await asyncio.sleep(0, "went on")

print(asyncio.run(timed()))
other = streamserve.spawn(asyncio.run, asyncio.sleep(60))
streamserve.sleep(0.001)
other.kill()
print(asyncio._get_running_loop(), asyncio.run(asyncio.sleep(0, "runs")))
"""
    assert printed(HEAD + program) == ["went on", "None runs"]


def test_a_greenlet_that_is_switched_to_by_hand_keeps_the_loop() -> None:
    """SQLAlchemy runs synchronous code in such a one, beside its coroutine."""
    program = """
import greenlet

async def beside():
    return greenlet.greenlet(lambda: asyncio.get_running_loop() is loop).switch()

async def main():
    global loop
    loop = asyncio.get_running_loop()
    return await beside()

print(asyncio.run(main()))
"""
    assert printed(HEAD + program) == ["True"]


def test_without_patching_a_wait_in_a_coroutine_lets_others_run_theirs() -> None:
    program = """
import streamserve
import asyncio

async def parent():
    child = streamserve.spawn(asyncio.run, asyncio.sleep(0, "child"))
    return child.get(), await asyncio.sleep(0, "parent")

print(*asyncio.run(parent()))
"""
    assert printed(program) == ["child parent"]


def test_asyncio_imported_first_is_the_same() -> None:
    program = """
import asyncio
import streamserve

async def parent():
    return streamserve.spawn(asyncio._get_running_loop).get(), asyncio.get_running_loop().is_running()

print(*asyncio.run(parent()))
"""
    assert printed(program) == ["None True"]


def test_nothing_is_done_before_asyncio_is_imported() -> None:
    program = """
import sys
import streamserve
from streamserve.loop.waiter import Waiter
before = Waiter.park
streamserve.sleep(0.001)
print("asyncio" in sys.modules, Waiter.park is before)
import asyncio
print(Waiter.park is before, type(asyncio.__spec__.loader).__name__)
"""
    assert printed(program) == ["False True", "False SourceFileLoader"]


def test_stacks_do_not_show_it() -> None:
    program = """
import asyncio
import streamserve
from streamserve.debug.stacks import format_greenlets

def asks():
    streamserve.sleep(60)

waiting = streamserve.spawn(asks)
streamserve.sleep(0)
shown = format_greenlets()
print([name for name in ("running_loop.py", "waiter.py", "joining.py", "in asks") if name in shown])
"""
    assert printed(program) == ["['joining.py', 'in asks']"]
