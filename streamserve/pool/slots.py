"""Slots: how many may do something at a time, counted, given in the order of asking.

What is below `sync/` (the thread pool, the feeder of an imap) counts with this.

No lock guards it, so that any native thread, signal handler and finalizer may use
it: CPython interrupts a straight line of loads, comparisons and stores nowhere, and
one call of a deque's method neither. Whoever takes a waiter out of the line has given
it a slot.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from streamserve.loop.failures import as_exception
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import Waiter
from streamserve.sync.line import park_within


class _Taker(Waiter):
    """Waits to be given a slot."""

    __slots__ = ()
    takes = True


class _Looker(Waiter):
    """Waits until a slot is free, and leaves it."""

    __slots__ = ()
    takes = False


class Slots:
    """A number of slots that greenlets take, wait for, and give back.

    Args:
        free: how many there are.

    Attributes:
        free: how many nobody has taken; below zero after `resize` until enough were given back.
    """

    __slots__ = ("_line", "free")

    def __init__(self, free: int) -> None:
        self.free = free
        self._line: deque[_Taker | _Looker] = deque()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Takes a slot; False if none is free (or none became free within `timeout` seconds)."""
        free = self.free
        if free > 0:
            self.free = free - 1
            return True
        if not blocking or (timeout is not None and timeout <= 0):
            return False
        return self._wait(_Taker(get_hub()), timeout)

    def release(self) -> None:
        """Gives a slot back, to whoever has waited longest."""
        self.free += 1
        if self._line:
            self._settle()

    def wait(self, timeout: float | None = None) -> int:
        """Waits until a slot is free, without taking it; returns how many are free."""
        if self.free <= 0 and (timeout is None or timeout > 0):
            self._wait(_Looker(get_hub()), timeout)
        return max(self.free, 0)

    def resize(self, more: int) -> None:
        """Adds slots, or takes some away (`more` below zero)."""
        self.free += more
        self._settle()

    def refuse_waiters(self, exception: Any) -> None:
        """Raises an exception in those who wait for a slot now."""
        for waiter in list(self._line):
            if waiter.takes:  # it stays in the line, and takes itself out: see `_wait`
                error, hub = as_exception(exception), waiter.hub
                if hub.thread_ident == get_ident():
                    waiter.fail(error)
                else:
                    hub.run_callback_threadsafe(waiter.fail, error)

    def forget_waiters(self) -> None:
        """After a fork: they are the parent's."""
        self._line = deque()

    def _settle(self) -> None:
        line = self._line
        while line:
            free = self.free
            if free <= 0:
                return
            self.free = free - 1
            try:
                waiter = line.popleft()
            except IndexError:  # it has gone meanwhile
                self.free += 1
                continue
            if not waiter.takes:
                self.free += 1
            waiter.wake_threadsafe()

    def _wait(self, waiter: _Taker | _Looker, timeout: float | None) -> bool:
        self._line.append(waiter)
        self._settle()  # one may have come free before we stood in the line
        try:
            if timeout is None:
                waiter.park()
                return True
            return park_within(waiter, timeout) or not self._withdraw(waiter)
        except BaseException:
            if not self._withdraw(waiter) and waiter.takes:
                self.release()
            raise

    def _withdraw(self, waiter: _Taker | _Looker) -> bool:
        try:
            self._line.remove(waiter)
        except ValueError:  # somebody took it out: it was given a slot
            return False
        return True
