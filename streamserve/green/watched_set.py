"""Waiting for several descriptors at once: an epoll set that the loop watches, for one wait of one greenlet.

A set of its own, because the loop's takes a descriptor only once and somebody else may have it there; and because
a number that is closed and given to another file while we wait must not be taken out of the loop's set by us.
"""

from __future__ import annotations

import errno
import os
import select as _select
from collections.abc import Callable
from time import monotonic
from typing import Any

from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import thread_local
from streamserve.loop.waiter import Waiter
from streamserve.loop.watcher import Watcher

LARGEST_SPARE = 8
"""Descriptors in a set that is emptied and kept; a larger one is closed, which empties it in one call."""

MOST_SPARES = 16
"""Empty sets that a native thread keeps."""

_real_epoll = _select.epoll


class WatchedSet:
    """An epoll set that the loop watches: readable when one of its descriptors has something to tell."""

    __slots__ = ("_members", "epoll", "watcher")

    def __init__(self) -> None:
        self._members: list[int] = []
        self.epoll = _real_epoll()
        self.watcher = Watcher(self.epoll.fileno())

    def fill(self, masks: dict[int, int]) -> None:
        """Takes descriptors with their poll events into the empty set."""
        for fd, mask in masks.items():
            try:
                self.epoll.register(fd, mask | _select.EPOLLET)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EBADF):  # always ready, or closed: to be seen without us
                    raise
            else:
                self._members.append(fd)
                _waiting.setdefault(fd, []).append(self)

    def wait(self, deadline: float | None) -> bool:
        """Waits until one of them has something to tell; False if the deadline passed first."""
        return wait_for_edge(self.watcher, self.watcher.reader.edges, deadline)

    def empty(self) -> bool:
        """Takes all out; False if that is dearer than a new set, or one was closed and may have left something."""
        members, self._members = self._members, []
        for fd in members:
            if self in (group := _waiting.get(fd, [])):
                group.remove(self)
        if len(members) > LARGEST_SPARE:
            return False
        try:
            for fd in members:
                self.epoll.unregister(fd)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Ends the set, which `empty` was called for."""
        self.watcher.close(closing=True)
        self.epoll.close()


class _Spares(thread_local):
    """Empty sets of this native thread: making and closing one costs half as much as all the rest of a wait."""

    def __init__(self) -> None:
        self.sets: list[WatchedSet] = []


_waiting: dict[int, list[WatchedSet]] = {}  # by descriptor; one that was ever waited for keeps its list


def descriptor_closed(fd: int) -> None:
    """Has all who wait for a descriptor look again: called after it was closed, which epoll tells nobody."""
    for watched in _waiting.get(fd, ())[:]:
        side = watched.watcher.reader
        if not side.done:
            side.wake_threadsafe()


_spares = _Spares()


def _after_fork_in_child() -> None:
    """Who waits, waits in the parent; and its sets are the parent's, though their descriptors are here too."""
    _waiting.clear()
    _spares.sets.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def wait_for_edge(watcher: Watcher, seen: int, deadline: float | None) -> bool:
    """Waits for an edge; False if the deadline passed first. True too if the watcher was closed: look then."""
    try:
        return watcher.wait_read(seen, None if deadline is None else max(deadline - monotonic(), 0.0))
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return True


def wait_on(masks: dict[int, int], seconds: float | None, look: Callable[[], Any]) -> Any:
    """Waits until `look` finds something, at most so many seconds; returns what it found last.

    Args:
        masks: descriptor → poll events.
        look: makes the real call without waiting; some element of what it returns is true if it found something.
    """
    if not masks:
        Waiter(get_hub()).park_for(seconds)
        return look()
    deadline = None if seconds is None else monotonic() + seconds
    spares = _spares.sets
    watched = spares.pop() if spares else WatchedSet()
    try:
        watched.fill(masks)
        while True:
            in_time = watched.wait(deadline)
            found = look()
            if not in_time or any(found):
                return found
            watched.epoll.poll(0)  # else it stays readable, and a loop without edges would report it again at once
            found = look()
            if any(found):
                return found
    finally:
        if watched.empty() and len(spares) < MOST_SPARES:
            spares.append(watched)
        else:
            watched.close()
