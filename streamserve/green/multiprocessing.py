"""What `multiprocessing` reads, writes and waits for, without stopping the thread: pipes, semaphores, children.

It does these in C. Its pools and queues run threads around them, which are greenlets here: one that reads a pipe in C
would keep the others from filling it. Nothing is non-blocking, for the processes share what the kernel opened; a call
is made when it is known that it does not wait.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from io import BytesIO
from multiprocessing.util import register_after_fork
from time import monotonic
from typing import Any

from streamserve.green.select import _real_poll
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.joining import sleep
from streamserve.loop.native_threads import others_may_wake
from streamserve.loop.watcher import wait_read, wait_write
from streamserve.sync.lock import RLock

PIECE = select.PIPE_BUF
"""Most bytes of one write: what a pipe or socket that is ready takes without waiting."""

SHORTEST, LONGEST = 0.0005, 0.02
"""Seconds between two looks at a semaphore of another process: nothing reports that it was released."""

SLICE = 0.1
"""Seconds that a thread waits in C for a semaphore while it has nothing else to do."""

_RECURSIVE = 0  # as in multiprocessing.synchronize


def _is_ready(fd: int, event: int) -> bool:
    look = _real_poll()
    look.register(fd, event)
    return bool(look.poll(0))


def send(connection: Any, data: Any, write: Callable[[int, Any], int] = os.write) -> None:
    """`Connection._send`: writes all of it."""
    fd = connection._handle
    view = memoryview(data)
    while view:
        if not _is_ready(fd, select.POLLOUT):
            wait_write(fd)
        view = view[write(fd, view[:PIECE]) :]


def recv(connection: Any, size: int, read: Callable[[int, int], bytes] = os.read) -> BytesIO:
    """`Connection._recv`: reads so many bytes.

    Raises:
        EOFError: there are none any more.
        OSError: there are fewer.
    """
    fd = connection._handle
    received = BytesIO()
    left = size
    while left > 0:
        if not _is_ready(fd, select.POLLIN):
            wait_read(fd)
        piece = read(fd, left)
        if not piece:
            if left == size:
                raise EOFError
            raise OSError("got end of file during message")
        received.write(piece)
        left -= len(piece)
    return received


def wait_for_end(pid: int) -> None:
    """Waits until a child of this process has ended, and leaves it to be asked for its status."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # another system, or a sandbox
        pause = SHORTEST
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            sleep(pause)
            pause = min(2 * pause, LONGEST)
        return
    try:
        wait_read(fd)
    finally:
        os.close(fd)


class Turn:
    """How a semaphore that processes share is acquired and released here.

    Args:
        native: a `_multiprocessing.SemLock`. A recursive one belongs to a native thread, so it is guarded by a lock
            that belongs to a greenlet.
    """

    def __init__(self, native: Any) -> None:
        self._native = native
        self._guard: RLock | None = None
        if native.kind == _RECURSIVE:
            self._forked()
            register_after_fork(self, Turn._forked)

    def _forked(self) -> None:
        self._guard = RLock()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Waits for it; False if it is taken, and `block` false or the seconds passed."""
        seconds = None if timeout is None or not block else max(timeout, 0.0)
        deadline = None if seconds is None else monotonic() + seconds
        guard = self._guard
        if guard is not None and not guard.acquire(block, -1 if seconds is None else seconds):
            return False
        taken = False
        try:
            taken = bool(self._native.acquire(False)) or (bool(block) and self._wait(deadline))
        finally:
            if guard is not None and not taken:
                guard.release()
        return taken

    def _wait(self, deadline: float | None) -> bool:
        pause = SHORTEST
        while deadline is None or deadline > monotonic():
            left = SLICE if deadline is None else max(deadline - monotonic(), 0.0)
            if _is_idle(get_hub()) and self._native.acquire(True, min(left, SLICE)):
                return True
            sleep(min(left, pause))
            pause = min(2 * pause, LONGEST)
            if self._native.acquire(False):
                return True
        return False

    def release(self) -> None:
        """Gives it back.

        Raises:
            AssertionError, ValueError: as the native one does.
        """
        self._native.release()
        if self._guard is not None:
            self._guard.release()


def _is_idle(hub: Hub) -> bool:
    """Nothing but this greenlet is waited for, as in a worker of a pool: it may as well wait in C."""
    return not (hub.ready or hub.fd_waits or hub.timers or hub.ports or hub._threadpool or others_may_wake())
