"""Native threads that were started before patching: greenlets wait for their end in the thread pool."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from greenlet import getcurrent

from streamserve.loop.hubs import hub_of_thread
from streamserve.loop.joining import sleep

__all__ = ["NativeHandle", "NativeSentinel"]


LOOK = 0.01
"""Seconds between two looks where no thread can be started any more."""


def _wait(ended: Callable[[], bool], blocking_call: Callable[[Any], Any], timeout: float | None) -> Any:
    """Calls what would block all greenlets of this thread, if it has any."""
    hub = hub_of_thread()
    if hub is None or getcurrent() is hub:
        return blocking_call(timeout)
    try:
        return hub.threadpool.apply(blocking_call, (timeout,))
    except RuntimeError:  # from CPython 3.12 on, while the interpreter's end waits for threads
        return _look(ended, timeout)


def _look(ended: Callable[[], bool], timeout: float | None) -> bool:
    end = None if timeout is None or timeout < 0 else monotonic() + timeout
    while not ended():
        if end is not None and monotonic() >= end:
            return False
        sleep(LOOK)
    return True


class NativeSentinel:
    """Up to CPython 3.12: the lock that the thread holds until its end; as Sentinel is for greenlets.

    Args:
        native: that lock.
    """

    __slots__ = ("__weakref__", "_interrupted", "_native")

    def __init__(self, native: Any) -> None:
        self._native = native
        self._interrupted: Any = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Waits for the end, and has the lock then; False if that does not come in time."""
        try:
            while not self._native.acquire(False):
                if not blocking or timeout == 0 or not _wait(self._is_free, self._seen_free, timeout):
                    return False
        except BaseException:
            self._interrupted = getcurrent()
            raise
        return True

    def _is_free(self) -> bool:
        return not self._native.locked()

    def _seen_free(self, timeout: float) -> bool:
        """In the pool; who waits may be killed meanwhile, so nothing is kept here."""
        if not self._native.acquire(True, timeout):
            return False
        self._native.release()
        return True

    def release(self) -> None:
        """Gives the lock back."""
        self._native.release()

    def locked(self) -> bool:
        """True while the thread runs, or somebody has it; False to an interrupted `Thread.join`, see there."""
        if self._interrupted is not None and self._interrupted is getcurrent():
            self._interrupted = None
            return False
        return bool(self._native.locked())

    def _at_fork_reinit(self) -> None:
        self._native._at_fork_reinit()


class NativeHandle:
    """From CPython 3.13 on: the handle of the thread.

    Args:
        native: the interpreter's.
    """

    __slots__ = ("__weakref__", "_native")

    def __init__(self, native: Any) -> None:
        self._native = native

    @property
    def ident(self) -> int:
        return int(self._native.ident)

    def join(self, timeout: float | None = None, /) -> None:
        """Waits until the thread has ended, or `timeout` seconds have passed."""
        if not self._native.is_done():
            _wait(self.is_done, self._native.join, timeout)

    def is_done(self) -> bool:
        """True once the thread has ended."""
        return bool(self._native.is_done())

    def _set_done(self) -> None:
        self._native._set_done()
