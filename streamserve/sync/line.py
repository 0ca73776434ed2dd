"""Waitlist: who waits for one thing, first come first, from any native thread.

What any thread may touch is kept right without a lock: one that a finalizer or
a signal handler found taken, by the very code it interrupts, would never be
free. CPython interrupts Python code only where it calls something and where it
jumps back, so these hold by themselves:
  - a straight line of loads, comparisons, arithmetic and stores is one step;
  - one call of a method of deque or list is one step (nothing here has an `__eq__`).
Whoever takes an entry out of the list decides: it was a giver, then the entry's
owner has the thing, or the owner, then it has given up. Who wants to wait adds
its entry first, then looks again, and only then parks.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from streamserve.loop.callback import Callback
from streamserve.loop.hubs import get_hub
from streamserve.loop.links import DIRECT_LINKS
from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import Waiter


class Waitlist(deque[Any]):
    """Entries in order of arrival: Waiters, and Links. `told` has the links whose function is yet to be called."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Link] = []

    def withdraw(self, entry: Any) -> bool:
        """Takes an entry out; False if somebody else did before."""
        try:
            self.remove(entry)
        except ValueError:
            return False
        return True


class Link:
    """An entry that does not wait: a function, called in the hub of the thread that linked it.

    `since` belongs to the thing that is waited for.
    """

    __slots__ = ("callback", "hub", "since", "source", "told")

    callback: Any

    def __init__(self, source: Linkable, callback: Any, told: list[Link]) -> None:
        self.callback = callback
        self.source = source
        self.told = told
        self.hub = get_hub()
        self.since = -1

    def wake_threadsafe(self) -> None:
        hub, callback = self.hub, self.callback
        here = hub.thread_ident == get_ident()
        if here and type(callback) in DIRECT_LINKS:
            callback.wake(self.source)
            return
        self.told.append(self)
        if here:
            hub.ready.append(Callback(self.call, ()))
        else:
            hub.run_callback_threadsafe(self.call)

    def call(self) -> None:
        """Calls the function, unless it was taken back on the way; in the hub."""
        try:
            self.told.remove(self)
        except ValueError:
            return
        callback = self.callback
        try:
            if type(callback) in DIRECT_LINKS:
                callback.wake(self.source)
            else:
                callback(self.source)
        except BaseException as error:
            self.hub.report(error, (callback, self.source))


class Linkable:
    """What others wait for: the part that knows who does. The list is made for the first of them."""

    __slots__ = ("__weakref__", "_waiters")

    _waiters: Waitlist | None

    def ready(self) -> bool:
        """True if nobody would have to wait now."""
        raise NotImplementedError

    def _waitlist(self) -> Waitlist:
        if self._waiters is None:
            made = Waitlist()
            if self._waiters is None:  # still: making it may have let others run
                self._waiters = made
        return self._waiters

    def rawlink(self, callback: Any) -> None:
        """Has `callback(self)` called in the hub, once, when this is ready; it must not wait or raise.

        Raises:
            TypeError: callback cannot be called.
        """
        if not callable(callback) and callback.__class__ is not Waiter:
            raise TypeError(f"Expected callable: {callback!r}")
        waiters = self._waitlist()
        link = Link(self, callback, waiters.told)
        if self.ready():
            link.wake_threadsafe()
            return
        self._enter(waiters, link)

    def _enter(self, waiters: Waitlist, link: Link) -> None:
        waiters.append(link)
        if self.ready() and waiters.withdraw(link):
            link.wake_threadsafe()

    def unlink(self, callback: Any) -> None:
        """Takes a link back; without effect if it was called already."""
        waiters = self._waiters
        if waiters is None:
            return
        for link in list(waiters):
            if link.__class__ is Link and link.callback == callback and waiters.withdraw(link):
                return
        for link in list(waiters.told):
            if link.callback == callback:
                waiters.told.remove(link)
                return

    def linkcount(self) -> int:
        """Returns how many wait or are linked."""
        return len(self._waiters or ())

    def _at_fork_reinit(self) -> None:
        """In a child after fork: who waits here waits in the parent."""
        self._waiters = None


def park_within(waiter: Waiter, timeout: Any) -> bool:
    """Parks for a number of seconds, or those of a Timeout, at most; False if the time was up."""
    if not isinstance(timeout, BaseException):
        return waiter.park_for(timeout)
    try:
        with timeout.start_new(timeout):  # type: ignore[attr-defined]
            waiter.park()
            return True
    except BaseException as error:
        if error is not timeout:
            raise
    return False
