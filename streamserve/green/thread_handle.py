"""What a thread is joined by, where it is a greenlet: a ThreadHandle from CPython 3.13 on, before that a Sentinel."""

from __future__ import annotations

import _thread
import os
from typing import Any
from weakref import WeakSet

from greenlet import getcurrent

from streamserve.green.identity import get_ident, when_ended
from streamserve.sync.event import Event

__all__ = ["Sentinel", "ThreadHandle", "get_main_thread_ident", "make_thread_handle", "shutdown"]

_unfinished: WeakSet[ThreadHandle] = WeakSet()
"""Handles of threads that have not ended, for a child after fork, where only one of them goes on."""

_awaited: dict[ThreadHandle, None] = {}
"""Those that are no daemons, in order of their start: `shutdown` waits for them."""


class Sentinel:
    """A lock that its thread holds until its end; afterwards all who wait for it have it, at once.

    A lock that is handed from one to the next would still be locked when `threading` asserts that it is not.
    """

    __slots__ = ("__weakref__", "_end", "_holders", "_interrupted")

    def __init__(self) -> None:
        self._end = Event()
        self._holders = 0
        self._interrupted: Any = None  # the greenlet whose wait for it was

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """The first call is the thread's own; any other waits for its end, and returns False if that does not come."""
        if self._holders:
            if not blocking or timeout == 0:
                return False
            try:
                if not self._end.wait(None if timeout < 0 else timeout):
                    return False
            except BaseException:
                self._interrupted = getcurrent()
                raise
        self._holders += 1
        return True

    def release(self) -> None:
        """The first call is the end."""
        self._holders -= 1
        self._end.set()

    def locked(self) -> bool:
        """True while the thread runs, or somebody has it.

        `Thread.join` that was interrupted in `acquire` would take that for its own, and end the thread: it gets False.
        """
        if self._interrupted is not None and self._interrupted is getcurrent():
            self._interrupted = None
            return False
        return self._holders > 0

    def _at_fork_reinit(self) -> None:
        self._end = Event()
        self._holders = 0


class ThreadHandle:
    """One thread's start and end.

    Attributes:
        ident: that of the thread; 0 before it starts.
    """

    __slots__ = ("__weakref__", "_done", "_end", "_started", "ident")

    def __init__(self) -> None:
        self.ident = 0
        self._started = False
        self._done = False
        self._end: Event | None = None

    def begin(self, daemon: bool) -> None:
        """Marks it as started; refuses to do so twice."""
        if self._started:
            raise RuntimeError("thread already started")
        self._started = True
        _unfinished.add(self)
        if not daemon:
            _awaited[self] = None

    def join(self, timeout: float | None = None, /) -> None:
        """Waits until the thread has ended, or `timeout` seconds (None or below 0: no limit) have passed.

        Raises:
            RuntimeError: it was not started, or is the current one.
        """
        if timeout is not None and not isinstance(timeout, (int, float)):
            raise TypeError(f"'{type(timeout).__name__}' object cannot be interpreted as a number")
        if not self._started:
            raise RuntimeError("thread not started")
        if self._done:
            return
        if self.ident == get_ident():
            raise RuntimeError("Cannot join current thread")
        if self._end is None:
            self._end = Event()
        end = self._end
        if not self._done:  # `_set_done` stores that before it looks for an event
            end.wait(None if timeout is None or timeout < 0 else timeout)

    def is_done(self) -> bool:
        """True once the thread has ended."""
        return self._done

    def _set_done(self) -> None:
        if not self._started:
            raise RuntimeError("thread not started")
        self._done = True
        _awaited.pop(self, None)
        _unfinished.discard(self)
        if self._end is not None:
            self._end.set()

    def __repr__(self) -> str:
        return f"<_ThreadHandle object: ident={self.ident}>"


def make_thread_handle(ident: int, /) -> ThreadHandle:
    """Returns the handle of the current thread, which was not started by one."""
    handle = ThreadHandle()
    handle.ident = ident
    handle._started = True
    _unfinished.add(handle)
    if ident == get_ident() and ident != get_main_thread_ident():
        when_ended(handle._set_done)
    return handle


def shutdown() -> None:
    """Waits for all threads that are no daemons, also those that start meanwhile."""
    while _awaited:
        handle = next(iter(_awaited))
        handle.join()
        _awaited.pop(handle, None)
    if _native_shutdown is not None:
        _native_shutdown()


_native_shutdown: Any = getattr(_thread, "_shutdown", None)
_native_main_ident: Any = getattr(_thread, "_get_main_thread_ident", None)

_process = os.getpid()
_forked_by: int | None = None
"""Who called the last fork that led to this process: its main thread."""


def get_main_thread_ident() -> int:
    """Returns the ident of the main thread; after fork that of whatever called it."""
    _look_for_fork()
    if _forked_by is not None:
        return _forked_by
    return int(_native_main_ident()) if _native_main_ident is not None else 0


def _look_for_fork() -> None:
    """In a child: `threading` asks before `_after_fork_in_child` has its turn, and nobody else has run till then."""
    global _process, _forked_by
    if _process != os.getpid():
        _process, _forked_by = os.getpid(), get_ident()


def _after_fork_in_child() -> None:
    """Only the thread that called fork goes on here."""
    _look_for_fork()
    _awaited.clear()
    for handle in list(_unfinished):
        if handle.ident != _forked_by:
            handle._set_done()


os.register_at_fork(after_in_child=_after_fork_in_child)
