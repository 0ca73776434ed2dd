"""Event: a flag that greenlets and threads wait for. AsyncResult is in sync/result.py and named here too."""

from __future__ import annotations

from typing import Any

from greenlet import getcurrent

from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import Runner, Waiter, yield_turn
from streamserve.sync.line import Link, Linkable, Waitlist, park_within
from streamserve.sync.result import AsyncResult

__all__ = ["AsyncResult", "Event"]


class _Arrival(Waiter):
    """One wait for an event; `since` is the event's state when it began."""

    __slots__ = ("since",)
    since: int


class Event(Linkable):
    """A flag. Any native thread, signal handler or finalizer may set it.

    Example:
        >>> event = Event()
        >>> spawn_later(0.01, event.set)
        >>> event.wait(timeout=5)
        True
    """

    # `_state` counts the changes: odd is set. So a waiter knows whether the event was set since it came, even if it
    # was cleared at once, and a slow `set` in another thread wakes nobody who came after the next `clear`.
    # `_last` is the last waiter that was woken in its own thread and has not run yet.
    __slots__ = ("_last", "_state")

    def __init__(self) -> None:
        self._state = 0
        self._waiters = None
        self._last: _Arrival | None = None

    def is_set(self) -> bool:
        """True if it is set."""
        return self._state & 1 == 1

    isSet = ready = is_set

    def set(self) -> None:
        """Sets it and wakes all that wait, in order."""
        state = self._state
        if not state & 1:
            state += 1
            self._state = state
        waiters = self._waiters
        if not waiters:
            return
        thread = get_ident()
        while waiters:
            try:
                if self._state == state:  # so nobody came after a `clear`
                    first = waiters.popleft()
                else:
                    first = waiters[0]
                    if first.since >= state:
                        return
                    waiters.remove(first)
            except (IndexError, ValueError):  # it gave up, or another `set` was quicker
                continue
            if first.__class__ is _Arrival and first.hub.thread_ident == thread:
                self._last = first
                first.wake()
            else:
                first.wake_threadsafe()

    def clear(self) -> None:
        """Clears it; whoever was woken before stays so."""
        state = self._state
        if state & 1:
            self._state = state + 1

    def wait(self, timeout: Any = None) -> bool:
        """Waits until it is set.

        Args:
            timeout: seconds at most; None: no limit.

        Returns:
            True if it was set at any time since, False if the time was up.
        """
        state = self._state
        if state & 1:
            if self._last is not None:
                self._queue_behind(self._last)
            return True
        waiters = self._waiters
        if waiters is None:
            waiters = self._waitlist()
        current: Any = getcurrent()
        waiter = _Arrival(current.hub if current.__class__ is Runner else get_hub())  # the short way first
        del current  # as in Waiter.park
        waiter.since = state
        waiters.append(waiter)
        try:
            if self._state != state:  # set since we looked
                waiters.withdraw(waiter)
                return True
            if timeout is None:
                waiter.park()
                return True
            return park_within(waiter, timeout) or not waiters.withdraw(waiter)
        except BaseException:
            waiters.withdraw(waiter)
            raise
        finally:
            if self._last is waiter:
                self._last = None

    def _queue_behind(self, last: _Arrival) -> None:
        """Lets those run first that waited before it was set and were woken in this thread."""
        hub = last.hub
        if hub.thread_ident == get_ident() and getcurrent() is not hub:
            yield_turn(hub)
            if self._last is last:
                self._last = None

    def _enter(self, waiters: Waitlist, link: Link) -> None:
        state = link.since = self._state
        waiters.append(link)
        if (state & 1 or self._state != state) and waiters.withdraw(link):
            link.wake_threadsafe()

    def _at_fork_reinit(self) -> None:
        super()._at_fork_reinit()
        self._last = None

    _reset_internal_locks = _at_fork_reinit

    def __repr__(self) -> str:
        state = "set" if self.is_set() else "unset"
        return f"<{type(self).__name__} at {id(self):#x}: {state}, {self.linkcount()} waiting>"
