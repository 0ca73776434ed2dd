"""Cooperative `select`: select, poll and epoll that let other greenlets run while they wait.

The real call looks, without waiting; its results and its errors are the answer. Only what happens between two looks
is ours: `select` and `poll` wait on a watched set of their own (watched_set.py), an epoll set is watched itself.
"""

from __future__ import annotations

import errno
import math
import os
import select as _select
from collections.abc import Callable, Iterable
from time import monotonic
from types import TracebackType
from typing import Any

from greenlet import getcurrent

from streamserve.green.watched_set import wait_for_edge, wait_on
from streamserve.loop.hubs import hub_of_thread
from streamserve.loop.waiter import yield_turn
from streamserve.loop.watcher import Watcher

__all__ = ["epoll", "poll", "select"]
__target__ = "select"
__implements__ = ["epoll", "poll", "select"]

_real_select = _select.select
_real_poll = _select.poll
_real_epoll = _select.epoll
_INT_MAX = 2**31 - 1
_SECONDS = 9.3e9
"""Beyond, the real calls refuse a timeout: nanoseconds do not fit into 63 bits."""
_FD_SETSIZE = 1024
_READABLE = _select.POLLIN | _select.POLLRDNORM | _select.POLLRDBAND | _select.POLLHUP | _select.POLLERR
_WRITABLE = _select.POLLOUT | _select.POLLWRNORM | _select.POLLWRBAND | _select.POLLERR
_EXCEPTIONAL = _select.POLLPRI


def __getattr__(name: str) -> Any:
    """All else is the standard module's: its constants, and `error`."""
    return getattr(_select, name)


def _take_turn() -> None:
    """Counts a call that may not wait at all: who only makes such calls must not starve the others."""
    hub = hub_of_thread()  # made here, it could take the number of a closed descriptor that is to be looked at
    if hub is not None:
        hub.budget -= 1
        if hub.budget <= 0 and getcurrent() is not hub:
            yield_turn(hub)


def _number(thing: Any) -> int:
    """The descriptor of a number or of an object with a fileno method, which may be negative."""
    if isinstance(thing, int):
        return thing
    try:
        fileno = thing.fileno
    except AttributeError:
        raise TypeError("argument must be an int, or have a fileno() method.") from None
    fd = fileno()
    if not isinstance(fd, int):
        raise TypeError("fileno() returned a non-integer")
    return fd


def _checked(timeout: Any, lowest: float, highest: float, refuse: Callable[[Any], Any]) -> float | None:
    """The timeout as a number or None; `refuse` is a real call that raises for all that is not within the bounds."""
    if timeout is None:
        return None
    if not isinstance(timeout, (float, int)):
        timeout = timeout.__index__() if hasattr(timeout, "__index__") else refuse(timeout)
    if not lowest <= timeout <= highest:
        refuse(timeout)
    return timeout


# ---- select


def select(
    rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = None, /
) -> tuple[list[Any], list[Any], list[Any]]:
    """Like `select.select`, also for descriptors of 1024 and above.

    Raises:
        OSError: EBADF, one of them is not open.
        ValueError: one of them, or the timeout in seconds, is negative.
    """
    seconds = _checked(timeout, 0, _SECONDS, lambda refused: _real_select((), (), (), refused))
    lists = (_sequence(rlist), _sequence(wlist), _sequence(xlist))
    _take_turn()
    found = _select_now(*lists)
    if seconds != 0 and not any(found):
        found = wait_on(_select_masks(*lists), seconds, lambda: _select_now(*lists))
    return found


def _sequence(things: Iterable[Any]) -> Any:
    if isinstance(things, (list, tuple)):
        return things
    try:
        iterator = iter(things)
    except TypeError:
        raise TypeError("arguments 1-3 must be sequences") from None
    return list(iterator)


def _select_masks(rlist: Any, wlist: Any, xlist: Any) -> dict[int, int]:
    masks: dict[int, int] = {}
    for things, events in (rlist, _select.POLLIN), (wlist, _select.POLLOUT), (xlist, _EXCEPTIONAL):
        for thing in things:
            fd = _number(thing)
            masks[fd] = masks.get(fd, 0) | events
    return masks


def _select_now(rlist: Any, wlist: Any, xlist: Any) -> tuple[list[Any], list[Any], list[Any]]:
    try:
        found: tuple[list[Any], list[Any], list[Any]] = _real_select(rlist, wlist, xlist, 0)
        return found
    except ValueError:
        masks = _select_masks(rlist, wlist, xlist)
        if all(fd < _FD_SETSIZE for fd in masks) or any(fd < 0 for fd in masks):
            raise
    return _select_by_poll(masks, rlist, wlist, xlist)


def _select_by_poll(masks: dict[int, int], *lists: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """What the real select would find if its bit sets were larger."""
    poller = _real_poll()
    for fd, events in masks.items():
        poller.register(fd, events)
    found = dict(poller.poll(0))
    if any(events & _select.POLLNVAL for events in found.values()):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    readable, writable, exceptional = (
        [thing for thing in things if found.get(_number(thing), 0) & events]
        for things, events in zip(lists, (_READABLE, _WRITABLE, _EXCEPTIONAL), strict=True)
    )
    return readable, writable, exceptional


# ---- poll


class Poll:
    """A poll object, made by `poll()`: as the real one, but its `poll` lets other greenlets run."""

    __slots__ = ("_masks", "_poll", "_waiting")
    _masks: dict[int, int]
    _poll: Any
    _waiting: bool

    def __new__(cls) -> Poll:
        raise TypeError(f"cannot create '{cls.__module__}.{cls.__name__}' instances")

    def register(self, fd: Any, eventmask: int = _select.POLLIN | _select.POLLPRI | _select.POLLOUT, /) -> None:
        """Adds a descriptor, or changes its events."""
        number = _number(fd)
        self._poll.register(number, eventmask)
        self._masks[number] = eventmask

    def modify(self, fd: Any, eventmask: int, /) -> None:
        """Changes the events of a descriptor.

        Raises:
            FileNotFoundError: it is not registered.
        """
        number = _number(fd)
        self._poll.modify(number, eventmask)
        self._masks[number] = eventmask

    def unregister(self, fd: Any, /) -> None:
        """Removes a descriptor.

        Raises:
            KeyError: it is not registered.
        """
        number = _number(fd)
        self._poll.unregister(number)
        del self._masks[number]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Returns (descriptor, events) of those that are ready.

        Args:
            timeout: milliseconds at most; None or negative: no limit.

        Raises:
            RuntimeError: another greenlet or thread polls this object.
        """
        if self._waiting:
            raise RuntimeError("concurrent poll() invocation")
        limit = _checked(timeout, -1000 * _SECONDS, _INT_MAX, _real_poll().poll)
        seconds = None if limit is None or limit < 0 else math.ceil(limit) / 1000
        _take_turn()
        found: list[tuple[int, int]] = self._poll.poll(0)
        if found or seconds == 0:
            return found
        self._waiting = True
        try:
            found = wait_on(self._masks.copy(), seconds, lambda: self._poll.poll(0))
        finally:
            self._waiting = False
        return found


def poll() -> Poll:
    """Like `select.poll`."""
    made = object.__new__(Poll)
    made._poll = _real_poll()
    made._masks = {}
    made._waiting = False
    return made


# ---- epoll


class epoll:
    """Like `select.epoll`, but its `poll` lets other greenlets run.

    The real type cannot be subclassed; this holds one. The loop watches it from the first wait until it is closed.
    """

    __slots__ = ("__weakref__", "_epoll", "_watcher")

    def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
        self._hold(_real_epoll(sizehint, flags))

    def _hold(self, real: Any) -> None:
        self._epoll = real
        self._watcher = Watcher(real.fileno())

    @classmethod
    def fromfd(cls, fd: int, /) -> epoll:
        """Takes over the descriptor of an epoll set."""
        made = cls.__new__(cls)
        made._hold(_real_epoll.fromfd(fd))
        return made

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return bool(self._epoll.closed)

    def fileno(self) -> int:
        """The descriptor of the set itself."""
        number: int = self._epoll.fileno()
        return number

    def close(self) -> None:
        """Closes the set; who waits for it gets the error of a closed one."""
        if not self._epoll.closed:
            self._watcher.close(closing=True)
            self._epoll.close()

    def register(self, fd: Any, eventmask: int = _select.EPOLLIN | _select.EPOLLPRI | _select.EPOLLOUT) -> None:
        """Adds a descriptor.

        Raises:
            OSError: it is there already (EEXIST), not open (EBADF), or a regular file (EPERM).
        """
        self._epoll.register(fd, eventmask)

    def modify(self, fd: Any, eventmask: int) -> None:
        """Changes the events of a descriptor."""
        self._epoll.modify(fd, eventmask)

    def unregister(self, fd: Any) -> None:
        """Removes a descriptor."""
        self._epoll.unregister(fd)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Returns (descriptor, events) of those that are ready.

        Args:
            timeout: seconds at most; None or negative: no limit.
            maxevents: at most so many; -1: the real one's own limit.
        """
        seconds = _checked(timeout, -_SECONDS, _INT_MAX / 1000, self._epoll.poll)
        _take_turn()
        watcher = self._watcher
        seen = watcher.reader.edges
        found: list[tuple[int, int]] = self._epoll.poll(0, maxevents)
        if found or seconds == 0:
            return found
        if watcher.reader.greenlet is not None:  # another greenlet waits for this set
            watcher, seen = Watcher(self.fileno()), 0
        deadline = None if seconds is None or seconds < 0 else monotonic() + seconds
        while True:
            in_time = wait_for_edge(watcher, seen, deadline)
            seen = watcher.reader.edges
            found = self._epoll.poll(0, maxevents)
            if found or not in_time:
                return found

    def __enter__(self) -> epoll:
        self._epoll.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.close()
