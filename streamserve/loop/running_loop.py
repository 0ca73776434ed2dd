"""asyncio's running loop, one for each greenlet.

asyncio keeps the loop that runs, and the task in which it is, in one place per native
thread. A greenlet that waits inside a coroutine, or in its loop's `select`, would leave
them there for the greenlets that run meanwhile: their `asyncio.run` fails, and Django
refuses their queries. So a wait puts both away before it switches and back afterwards.
Every greenlet thus begins and goes on with its own, and one that has none with none.

What `switch` does by hand is left alone: SQLAlchemy runs synchronous code in a greenlet
beside its coroutine, which must find the loop of that coroutine.

Nothing of this exists before asyncio is imported. From then on a wait outside of
coroutines costs one look for a running loop more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from streamserve.loop import waiter as _waiter
from streamserve.loop.imports import after_import
from streamserve.loop.waiter import Waiter

__all__: list[str] = []

What = TypeVar("What")


def _keep_apart(asyncio: ModuleType) -> None:
    """Has the places that switch greenlets put the running loop away."""
    place: Any
    for place, name in ((_waiter, "switch_out"), (Waiter, "park")):
        setattr(place, name, _apart(getattr(place, name)))


def _apart(wait: Callable[[What], Any]) -> Callable[[What], Any]:
    events: Any = sys.modules["asyncio.events"]
    running, set_running = events._get_running_loop, events._set_running_loop
    tasks: Any = sys.modules["asyncio.tasks"]
    current_task = tasks.current_task
    # Up to 3.13 each loop has its task, and there is nothing to put away; before 3.12 nothing to do it with either.
    swap_task: Any = getattr(tasks, "_swap_current_task", None)

    def wait_apart(what: What) -> Any:
        loop = running()
        if loop is None:
            return wait(what)
        task = current_task(loop) if swap_task is not None else None
        if task is not None:
            swap_task(loop, None)
        set_running(None)
        try:
            return wait(what)
        finally:
            set_running(loop)
            if task is not None:
                swap_task(loop, task)

    return wait_apart


after_import("asyncio", _keep_apart)
