"""TaskQueue: what the native threads of a pool have to do.

CPython's own SimpleQueue may wait for ever, whatever the timeout, before 3.13: where another thread takes the item that
woke it, and its time ends meanwhile. So idle threads would not end.

Every step is one call in C, which nothing interrupts, or a look after which it does not matter who came in between:
any native thread, signal handler and finalizer may use it. (What a signal's function raises comes elsewhere: see
loop/signal_functions.py.)
"""

from __future__ import annotations

from collections import deque
from queue import Empty
from time import monotonic
from typing import Any, Generic, TypeVar

from streamserve.loop.native_threads import TIMEOUT_MAX, allocate_lock

__all__ = ["TaskQueue"]

T = TypeVar("T")


class TaskQueue(Generic[T]):
    """A first-in, first-out queue. Who has waited least gets the next item, so that others find out they are idle.

    One thread is woken at a time, and wakes the next if there is more: many that want the GIL at once would hold each
    other up. It is told by `_waking`, which is set before somebody is looked for, and reset before the woken one looks
    for work. So whoever adds an item and does not wake anybody knows of one who is going to look.
    """

    __slots__ = ("_idle", "_items", "_waking")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._idle: deque[Any] = deque()  # a lock of each thread that waits; releasing it ends the wait
        self._waking = False

    def put(self, item: T) -> None:
        """Adds an item, and has a thread that waits take it."""
        self._items.append(item)
        if not self._waking:
            self._wake_one()

    def get(self, seconds: float | None = None) -> T:
        """Removes the oldest item and returns it; waits for one, at most so many seconds, or as long as it takes.

        Raises:
            queue.Empty: none came in time.
        """
        end = None if seconds is None else monotonic() + seconds
        woken = False
        while True:
            if self._items:
                try:
                    item = self._items.popleft()
                except IndexError:  # another thread took it
                    continue
                if woken and self._items:
                    self._wake_one()
                return item
            left = -1.0 if end is None else min(end - monotonic(), TIMEOUT_MAX)
            if end is not None and left <= 0:
                raise Empty
            woken = self._sleep(left)

    def _wake_one(self) -> None:
        while True:
            self._waking = True
            try:
                lock = self._idle.pop()
            except IndexError:
                self._waking = False
                if self._items and self._idle:  # both since: one did not wake, for this here was about to
                    continue
                return
            lock.release()
            return

    def _sleep(self, seconds: float) -> bool:
        """Waits until somebody wakes this thread; False: nobody did in time."""
        lock = allocate_lock()
        lock.acquire()
        self._idle.append(lock)
        if self._items:  # put since the caller looked
            self._wake_one()
        if not lock.acquire(True, seconds):
            try:
                self._idle.remove(lock)
            except ValueError:  # somebody is waking this one
                pass
            else:
                return False
        self._waking = False
        return True
