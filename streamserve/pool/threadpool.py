"""ThreadPool: functions that block, in native threads, while greenlets go on.

The threads know only the Crew: what there is to do and how many they are. So a pool
that nobody holds any more can end them. They are started and woken by `_thread`,
which patching the standard library does not change.
"""

from __future__ import annotations

import atexit
import os
from _queue import SimpleQueue as NativeQueue
from collections.abc import Callable, Iterable
from sys import is_finalizing
from typing import Any
from weakref import WeakSet

from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident
from streamserve.loop.timeout import within
from streamserve.pool.crew import Crew, Task
from streamserve.pool.mapping import Mapping, wait_with
from streamserve.pool.slots import Slots
from streamserve.sync.result import AsyncResult

OF_A_HUB = 10
"""Native threads at most in the pool of a hub."""

IDLE = 5.0
"""Seconds without work after which such a thread ends."""


class ThreadPool(Mapping):
    """Runs functions in native threads; each call gives an AsyncResult.

    Threads are started as they are needed. A function may use greenlets: its thread has a loop of its own.

    Args:
        maxsize: most threads.
        hub: where errors are reported; the current one by default.
        idle_task_timeout: seconds after which a thread without work ends; -1: never.

    Raises:
        TypeError: maxsize is no int.
        ValueError: it is negative.
    """

    __slots__ = ("__weakref__", "_crew", "_followers", "_idle_seconds", "_maxsize", "_slots", "hub")

    def __init__(self, maxsize: int, hub: Hub | None = None, idle_task_timeout: float = -1) -> None:
        self._maxsize = _checked_size(maxsize, "maxsize")
        self._idle_seconds = idle_task_timeout if idle_task_timeout >= 0 else None
        self.hub = hub or get_hub()
        self._slots = Slots(maxsize)
        self._crew = Crew(self._idle_seconds, self._slots)
        self._followers: WeakSet[Greenlet] = WeakSet()
        _pools.add(self)

    # ---- calls

    def spawn(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> AsyncResult:
        """Has a thread call the function; waits while `maxsize` calls are not finished.

        What the function raises, be it SystemExit, is raised by `get` of the result; failures are also reported
        as those of greenlets are. The function starts with an empty context (contextvars).

        Raises:
            TypeError: function cannot be called.
            RuntimeError: no thread can be started.
        """
        return self._begin(Task(function, args, kwargs, self.hub))

    def _begin(self, task: Task) -> AsyncResult:
        if not callable(task.function):
            raise TypeError(f"a function is needed, not {task.function!r}")
        self._slots.acquire()
        crew = self._crew
        crew.put(task)
        if crew.unfinished > crew.size < self._maxsize:
            crew.start_needed_thread()
        return task.result

    def _called_from_member(self) -> bool:
        return get_ident() in self._crew.idents

    def _result_of(self, func: Callable[..., Any], args: Iterable[Any], kwds: dict[str, Any]) -> Any:
        return self._begin(Task(func, tuple(args), kwds, None)).get()  # who called it is told, nobody else needs to be

    # ---- sizes

    def __len__(self) -> int:
        """How many calls are not finished."""
        return self._crew.unfinished

    def __bool__(self) -> bool:
        return self._crew.unfinished > 0

    @property
    def maxsize(self) -> int:
        """Most threads. Those in excess end when they have no work."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, maxsize: int) -> None:
        more = _checked_size(maxsize, "maxsize") - self._maxsize
        self._maxsize = maxsize
        self._slots.resize(more)
        if self._crew.size > maxsize:
            self._crew.dismiss(self._crew.size - maxsize)

    @property
    def size(self) -> int:
        """How many threads there are; set it to start some, or to let some end after the work that is queued."""
        return self._crew.size

    @size.setter
    def size(self, size: int) -> None:
        if _checked_size(size, "size") > self._maxsize:
            raise ValueError(f"size {size} is more than maxsize, which is {self._maxsize}")
        crew = self._crew
        while crew.size < size:
            crew.start_thread()
        crew.dismiss(crew.size - size)

    # ---- the end

    def join(self, timeout: float | None = None) -> bool:
        """Waits until all calls are finished and their callbacks ended; False if `timeout` seconds passed first."""
        return within(timeout, lambda: wait_with(self._followers, self._crew.wait_finished))

    def _feeding(self, feeder: Greenlet, awaited: bool) -> Greenlet:
        return self._following(feeder) if awaited else feeder

    def _following(self, follower: Greenlet) -> Greenlet:
        self._followers.add(follower)
        return follower

    def kill(self) -> None:
        """Ends the threads, after the calls that are queued, and waits for that.

        The pool may be used again: a new call starts a new thread.
        """
        self._crew.dismiss(self._crew.size)
        self._crew.wait_gone()

    def __del__(self, finalizing: Callable[[], bool] = is_finalizing) -> None:
        crew = getattr(self, "_crew", None)
        if crew is not None and not finalizing():  # else its threads stand still, and end with the process
            crew.dismiss(crew.size)

    def _after_fork(self) -> None:
        """In a child: its threads and calls are the parent's."""
        self._slots = Slots(self._maxsize)
        self._followers = WeakSet()
        self._crew = Crew(self._idle_seconds, self._slots)

    def at_exit(self) -> None:
        """Ends the threads that are idle, so that none is left to stumble over the interpreter's end."""
        crew = self._crew
        idle = crew.alive - crew.unfinished
        crew.gone = NativeQueue()
        crew.dismiss(crew.size)
        crew.wait_gone_natively(idle)

    def __repr__(self) -> str:
        crew = self._crew
        return f"<ThreadPool at {id(self):#x} tasks={crew.unfinished} size={crew.size} maxsize={self._maxsize}>"


def _checked_size(size: Any, name: str) -> int:
    if not isinstance(size, int):
        raise TypeError(f"{name} must be an integer, not {size!r}")
    if size < 0:
        raise ValueError(f"{name} must not be negative: {size!r}")
    return size


_pools: WeakSet[ThreadPool] = WeakSet()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool._after_fork()


def _at_exit() -> None:
    for pool in list(_pools):
        pool.at_exit()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)


def _pool_of(hub: Hub) -> ThreadPool:
    return ThreadPool(OF_A_HUB, hub, IDLE)


Hub.threadpool_factory = _pool_of
