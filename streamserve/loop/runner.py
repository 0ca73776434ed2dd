"""What a Runner does: it takes item after item from the ready queue.

On CPython 3.11 and up every new greenlet costs an mmap and munmap of its frame
stack, so greenlets are reused. An item is a tuple whose first member is called
with the tuple itself and the runner, and which handles its own errors. As long as items do not
block, one runner works through all of them without a switch; when one blocks,
the hub gives the rest to another runner.

A program that asks greenlet itself which one is current gets a runner. What it keeps under that, as a key or an
attribute, must not reach the next item: a runner that somebody holds, or refers to weakly, is not used again, and
what was set on one is dropped. What only this package holds while an item runs is always the same (`Runner.alone`).
"""

from __future__ import annotations

from sys import getrefcount
from typing import TYPE_CHECKING, Any
from weakref import getweakrefcount

from greenlet import getcurrent

from streamserve.loop.waiter import Runner, switch_out

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

IDLE_RUNNERS = 1024
"""Most runners that are kept for later, per hub."""


def refresh(runner: Runner) -> None:
    """Parts a runner from what it did: the next item gets a context, a handle and an identity of its own.

    Only a greenlet that somebody asked for (`task`) can have been sent an exception,
    and one that was not raised before the end is for nobody.
    """
    runner.gr_context = runner.identity = None
    if runner.task is not None:
        runner.task.detach(runner)
        runner.hub.interrupts.pop(runner, None)


def _work() -> None:
    runner: Any = getcurrent()
    hub = runner.hub
    ready = hub.ready
    idle = hub.idle_runners
    attributes = runner.attributes
    alone = runner.alone = getrefcount(runner)
    item, runner.item = runner.item, None  # held here only: what is done must not stay alive
    while True:
        item[0](item, runner)
        if runner.gr_context is not None or runner.task is not None:
            refresh(runner)
        if getrefcount(runner) != alone or getweakrefcount(runner):  # 25 ns
            break
        if attributes:
            attributes.clear()
        if ready and hub.budget > 0 and ready[0].__class__ is tuple:
            hub.budget -= 1
            item = ready.popleft()
            continue
        if len(idle) >= IDLE_RUNNERS:
            break
        item = None
        idle.append(runner)
        switch_out(hub)
        item, runner.item = runner.item, None
    item = runner.go = None  # a traceback may keep this frame


def new_runner(hub: Hub) -> Runner:
    """Makes a runner of this hub; switch to it after setting its `item`."""
    runner = Runner(_work, hub)
    runner.hub = hub
    runner.task = runner.waiter = runner.identity = None
    runner.attributes = runner.__dict__
    runner.go = runner.switch
    return runner


def run_item(hub: Hub, item: Any) -> None:
    """Called by the hub: gives the item to a runner and returns when that one waits."""
    idle = hub.idle_runners
    runner = idle.pop() if idle else new_runner(hub)
    runner.item = item
    go = runner.go
    del runner
    go()
