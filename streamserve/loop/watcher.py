"""Watcher: the readiness of one descriptor, for greenlets that wait for it.

What one must know of edges: the core reports each change of readiness once, and
asks nothing of the kernel between two waits. So every side counts its edges.
Who wants to wait notes the count, tries the system call, and if that found
nothing waits for an edge after the noted one:

    seen = watcher.reader.edges
    ... recv: EAGAIN ...
    watcher.wait_read(seen, timeout)

An edge that came in between is not missed. On a stream socket a short read says
the same as EAGAIN (`drained`), unless the peer's FIN or urgent data may be what
cut it short: then no further edge will come, so `trusted` is False from there on.
A read of a unix socket also ends where descriptors were passed.

A descriptor is registered with the hub of the thread that first waits, once. A
thread that waits on a watcher of another one gets a watcher of its own behind it.
Two objects that watch one descriptor on one hub: the second one is watched
through an epoll set of its own, for a set takes a descriptor only once.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from sys import is_finalizing
from time import monotonic
from typing import Any

from streamserve.core import lib
from streamserve.errors import ConcurrentObjectUseError
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import EXPIRED, Waiter

READ: int = lib.SS_READ
WRITE: int = lib.SS_WRITE
_UNTRUSTED: int = lib.SS_HUP | lib.SS_FAIL
_NESTED = select.EPOLLIN | select.EPOLLOUT | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLET
_epoll = select.epoll


_USED = (
    "This descriptor is already used by another greenlet that waits for the same direction: {!r}; "
    "let one greenlet read it, or guard it with a lock"
)

CREDIT = 200
"""Most calls in a row that find one side ready; small enough for the integers that CPython keeps."""


class Side(Waiter):
    """One direction of a descriptor: its edges, and the greenlet that waits for the next.

    Attributes:
        credit: how many more calls may be tried without looking further: 0 when it is drained,
            or when it was found ready so often in a row that others get their turn first.
        edges: how often readiness was reported.
        drained: the count of edges whose data was read to the end, or -1.
        trusted: whether a short count means drained; None: the kernel has to be asked (a unix socket).
    """

    __slots__ = ("credit", "deadline", "drained", "due", "edges", "timer", "trusted")

    def __init__(self) -> None:
        self.hub: Any = None
        self.greenlet = None
        self.done = True
        self.value = self.error = None
        self.edges = 0
        self.credit = CREDIT
        self.drained = self.timer = -1
        self.trusted: bool | None = True
        self.deadline = self.due = 0.0

    def limit(self, timeout: float) -> None:
        """Sees to it that `fire` is called at the deadline; a timer of an earlier wait that ends before it will do."""
        deadline = self.deadline = monotonic() + timeout
        if self.timer >= 0:
            if self.due <= deadline:
                return
            self.hub.stop_timer(self.timer, self)
        self.due = deadline
        self.timer = self.hub.start_timer(timeout, self, False)

    def fire(self) -> None:
        """A timer ended; called by the hub."""
        self.timer = -1
        if self.done or not self.deadline:
            return
        left = self.deadline - monotonic()
        if left > 0:
            self.due = self.deadline
            self.timer = self.hub.start_timer(left, self, False)
        else:
            self.wake(EXPIRED)

    def close(self) -> None:
        """Ends the wait of whoever waits, and the timer; in the thread of the hub."""
        if self.timer >= 0:
            self.hub.stop_timer(self.timer, self)
            self.timer = -1
        if not self.done:
            self.fail(OSError(errno.EBADF, "File descriptor was closed by another greenlet"))


class _Sides:
    """What the hub knows of a watcher: not the watcher itself, which ends with its last user."""

    __slots__ = ("nested", "reader", "writer")

    def __init__(self, reader: Side, writer: Side) -> None:
        self.reader = reader
        self.writer = writer
        self.nested: Any = None

    def report(self, ready: int) -> None:
        """The core reported an edge; called by the hub."""
        if ready & READ:
            side = self.reader
            side.edges += 1
            side.credit = CREDIT
            if ready & _UNTRUSTED:
                side.trusted = False
            if not side.done:  # `side.wake()`, without the call
                side.done = True
                side.hub.ready.append(side.greenlet)
        if ready & WRITE:
            side = self.writer
            side.edges += 1
            side.credit = CREDIT
            if not side.done:
                side.done = True
                side.hub.ready.append(side.greenlet)

    def report_nested(self, ready: int) -> None:
        """The epoll set of a second watcher has something to tell."""
        for _, mask in self.nested.poll(0):
            self.reader.trusted = False
            self.report((READ if mask & ~select.EPOLLOUT else 0) | (WRITE if mask & ~_ONLY_READ else 0))


_ONLY_READ = select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP


class Watcher:
    """The readiness of one descriptor.

    Args:
        fd: the descriptor; it stays the caller's.

    Raises, when first waited on:
        OSError: it cannot be watched (EBADF).
    """

    __slots__ = ("_behind", "_core", "_directions", "_handle", "_hub", "_sides", "fd", "reader", "writer")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.reader = Side()
        self.writer = Side()
        self._core: Any = None
        self._hub: Any = None
        self._handle = -1
        self._directions = 0
        self._behind: dict[Any, Watcher] | None = None

    def wait_read(self, seen: int, timeout: float | None = None) -> bool:
        """Waits until there is an edge after the `seen` ones; False if `timeout` seconds passed first.

        Raises:
            ConcurrentObjectUseError: another greenlet waits to read.
            OSError: EBADF, it was closed meanwhile.
        """
        return self.wait(self.reader, READ, seen, timeout)

    def wait_write(self, seen: int, timeout: float | None = None) -> bool:
        """Like `wait_read`, for writing."""
        return self.wait(self.writer, WRITE, seen, timeout)

    def wait(self, side: Side, direction: int, seen: int, timeout: float | None) -> bool:
        """Waits for an edge of one of the two sides; see `wait_read`."""
        if side.edges != seen:
            return True
        hub = self._hub
        if hub is None or hub.thread_ident != get_ident() or self._core is not hub.core:
            hub = get_hub()
            if self._hub is not None and self._hub is not hub and not self._hub.destroyed:
                return self._wait_behind(hub, direction, timeout)
            self._open(hub, direction)
        elif not self._directions & direction:
            self._widen(direction)
        if hub.level_triggered:
            lib.ss_fd_drained(hub.core, self._handle, direction)
        if side.greenlet is not None:
            raise ConcurrentObjectUseError(_USED.format(getattr(side.greenlet, "task", None) or side.greenlet))
        side.drained = seen
        side.hub = hub
        side.value = None
        side.done = False
        if timeout is None:
            side.deadline = 0.0
        else:
            side.limit(timeout)
        hub.fd_waits += 1
        try:
            return side.park() is not EXPIRED
        finally:
            hub.fd_waits -= 1
            side.done = True
            side.greenlet = None

    def wait_any(self, directions: int, timeout: float | None) -> bool:
        """Waits once for one of several directions, on a watcher that is used for nothing else."""
        side = self.reader if directions & READ else self.writer
        if directions == READ | WRITE:
            self.writer = side
        return self.wait(side, directions, side.edges, timeout)

    # ---- registration

    def _open(self, hub: Hub, directions: int) -> None:
        """Registers with a hub: the first one, or a new one when that is gone (its thread ended, a fork)."""
        self._sides = _Sides(self.reader, self.writer)
        report = self._sides.report
        handle: int = lib.ss_fd_open(hub.core, self.fd, directions)
        if handle == lib.SS_SYSTEM and lib.ss_loop_errno(hub.core) == errno.EEXIST:
            self._sides.nested = nested = _epoll()
            nested.register(self.fd, _NESTED)
            directions = READ | WRITE
            report = self._sides.report_nested
            handle = lib.ss_fd_open(hub.core, nested.fileno(), READ)
        if handle < 0:
            code = lib.ss_loop_errno(hub.core) if handle == lib.SS_SYSTEM else errno.ENOMEM
            raise OSError(code, os.strerror(code))
        hub.fd_watchers[handle] = report
        self._hub, self._core, self._handle, self._directions = hub, hub.core, handle, directions

    def _widen(self, direction: int) -> None:
        if lib.ss_fd_widen(self._core, self._handle, direction) != lib.SS_OK:
            code = lib.ss_loop_errno(self._core)
            raise OSError(code, os.strerror(code))
        self._directions |= direction

    def _wait_behind(self, hub: Hub, direction: int, timeout: float | None) -> bool:
        """Waits in another thread than the one that waited first, by a watcher of its own."""
        if self._behind is None:
            self._behind = {}
        watcher = self._behind.get(hub.core)
        if watcher is None:
            watcher = self._behind[hub.core] = Watcher(self.fd)
        side = watcher.reader if direction == READ else watcher.writer
        edges = side.edges
        if side.drained != edges:  # an edge that nobody here tried yet
            side.drained = edges
            return True
        return watcher.wait(side, direction, edges, timeout)

    def close(self, closing: bool = False) -> None:
        """Forgets the descriptor: who waits gets EBADF. From any native thread.

        Args:
            closing: the descriptor itself is closed right after this call.
        """
        behind, self._behind = self._behind, None
        for watcher in (behind or {}).values():
            watcher.close(closing)
        hub, core, handle = self._hub, self._core, self._handle
        self._hub = self._core = None
        self._handle, self._directions = -1, 0
        if hub is None or core is not hub.core or hub.destroyed:
            return
        if hub.thread_ident == get_ident():
            _close(hub, core, handle, self._sides, closing)
        else:  # by the time that thread comes to it, the number may mean another file: it must not be unregistered
            hub.run_callback_threadsafe(_close, hub, core, handle, self._sides, True)

    def __del__(self, finalizing: Callable[[], bool] = is_finalizing) -> None:
        if not finalizing():  # else the loop ends with the process, and this module may be empty
            self.close(True)


def _close(hub: Hub, core: Any, handle: int, sides: _Sides, closing: bool) -> None:
    """The end of a registration, in the thread of its hub."""
    if core is not hub.core:
        return
    hub.fd_watchers.pop(handle, None)
    nested = sides.nested
    lib.ss_fd_close(core, handle, closing and nested is None)
    sides.reader.close()
    sides.writer.close()
    if nested is not None:
        nested.close()


# ---- waiting for any descriptor by its number


def wait_read(fd: int, timeout: float | None = None, timeout_exc: Any = TimeoutError) -> None:
    """Waits until a descriptor is readable; it is registered for this one wait.

    Args:
        fd: the descriptor's number.
        timeout: seconds at most; None: no limit.
        timeout_exc: what is raised when they passed.

    Raises:
        OSError: it is not open (EBADF).
    """
    _wait_once(fd, READ, timeout, timeout_exc)


def wait_write(fd: int, timeout: float | None = None, timeout_exc: Any = TimeoutError) -> None:
    """Waits until a descriptor is writable; see `wait_read`."""
    _wait_once(fd, WRITE, timeout, timeout_exc)


def wait_readwrite(fd: int, timeout: float | None = None, timeout_exc: Any = TimeoutError) -> None:
    """Waits until a descriptor is readable or writable; see `wait_read`."""
    _wait_once(fd, READ | WRITE, timeout, timeout_exc)


def _wait_once(fd: int, directions: int, timeout: float | None, timeout_exc: Any) -> None:
    watcher = Watcher(fd)
    try:
        if not watcher.wait_any(directions, timeout):
            raise timeout_exc
    except PermissionError:
        return  # a file or a directory: always ready
    finally:
        watcher.close()
