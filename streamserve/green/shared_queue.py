"""SharedQueue: a native SimpleQueue from before patching, at which native threads may wait, for greenlets too.

A ThreadPoolExecutor that has threads when it is patched goes on with those, and with greenlets beside them. The items
stay in the native queue. Who puts one here also wakes a greenlet; of one that a thread puts past this, which has the
native queue itself, greenlets learn by looking. So nobody holds an item that he could lose when he is killed.
"""

from __future__ import annotations

from _queue import SimpleQueue as NativeQueue
from collections import deque
from queue import Empty
from time import monotonic
from typing import Any

from greenlet import getcurrent

from streamserve.green.queue import SimpleQueue
from streamserve.loop.hubs import get_hub, hub_of_thread
from streamserve.loop.native_threads import others_run
from streamserve.loop.waiter import Waiter

__all__ = ["SharedQueue"]

LOOK = 0.02
"""Seconds between two looks of a greenlet that waits, as long as there are native threads."""


class SharedQueue(SimpleQueue):
    """What takes the place of that queue.

    Args:
        native: the queue.
    """

    __slots__ = ("_native", "_sleepers")

    def __init__(self, native: NativeQueue[Any]) -> None:
        super().__init__()
        self._native = native
        self._sleepers: deque[Waiter] = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds an item; it never waits."""
        self._native.put(item)
        while self._sleepers:
            try:
                sleeper = self._sleepers.popleft()
            except IndexError:  # another thread woke it
                return
            if not sleeper.done and not sleeper.hub.destroyed:
                sleeper.wake_threadsafe()
                return

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Removes the oldest item and returns it; see `queue.SimpleQueue.get`."""
        hub = hub_of_thread()
        if not block or hub is None or getcurrent() is hub:
            return self._native.get(block and hub is None, timeout)
        if timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        end = None if timeout is None else monotonic() + timeout
        while True:
            try:
                return self._native.get_nowait()
            except Empty:
                if end is not None and monotonic() >= end:
                    raise
            self._sleep(end)

    def _sleep(self, end: float | None) -> None:
        waiter = Waiter(get_hub())
        self._sleepers.append(waiter)
        if not self._native.empty():  # put since we looked
            waiter.wake()
        look = LOOK if others_run() else None
        if end is not None:
            left = max(end - monotonic(), 0.0)
            look = left if look is None else min(left, look)
        slot = -1 if look is None else waiter.hub.start_timer(look, waiter, counts=end is not None)
        try:
            waiter.park()
        finally:
            waiter.hub.stop_timer(slot, waiter)
            if waiter in self._sleepers:
                self._sleepers.remove(waiter)

    def get_nowait(self) -> Any:
        """`get` that does not wait."""
        return self._native.get_nowait()

    def empty(self) -> bool:
        """True if it holds nothing."""
        return self._native.empty()

    def qsize(self) -> int:
        """How many items it holds."""
        return self._native.qsize()
