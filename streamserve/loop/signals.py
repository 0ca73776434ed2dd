"""Signals, delivered to greenlets.

Python runs a signal's function in the main thread, at some later bytecode. A
poll that is about to block would not see it, nor one that goes on by itself after
what the core did alone, nor the main thread's when the system interrupted another
thread. So every signal, Ctrl-C among them, also writes to a socket in the poll set
of the main thread's hub (signal.set_wakeup_fd), unless the program has set another. That socket is never armed: it only
ends the poll, it keeps nothing alive and makes no event.

Where the functions run that programs set by `signal.signal`, Ctrl-C's among them,
is said in signal_functions.py.
"""

from __future__ import annotations

import _socket
import os
import signal
from _socket import MSG_PEEK
from collections.abc import Callable, Iterable
from contextlib import suppress
from select import POLLIN
from select import poll as native_poll
from types import FrameType
from typing import Any

from greenlet import GreenletExit

from streamserve.core import ffi, lib
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub, hub_of_thread
from streamserve.loop.native_threads import in_main_thread
from streamserve.loop.signal_functions import adopt_functions, use_descriptor

__all__ = ["SignalCounter", "SignalHandler", "hear_signals", "signal_handler"]


def _nobody(numbers: bytes) -> None:
    """What `told` is while nobody counts signals."""


class _WakeUp:
    """The pair of sockets through which signals end the polls of a hub. One per process."""

    def __init__(self) -> None:
        self.reader, self.writer = _socket.socketpair()  # native ones, also under patching
        self.reader.setblocking(False)
        self.writer.setblocking(False)
        self.told: Callable[[bytes], None] = _nobody
        self.hub: Hub | None = None
        self.core: Any = None
        self.handle = -1
        use_descriptor(self.writer.fileno())

    def attach(self, hub: Hub) -> None:
        """From now on it is the polls of this hub that they end.

        Raises:
            OSError: the loop cannot watch the socket.
        """
        handle = lib.ss_fd_open(hub.core, self.reader.fileno(), 0)
        if handle < 0:
            code = lib.ss_loop_errno(hub.core)
            raise OSError(code, f"signals cannot wake the loop: {os.strerror(code)}")
        self.hub, self.core, self.handle = hub, hub.core, handle
        hub.woken = self.empty

    def is_of(self, hub: Hub) -> bool:
        return self.hub is hub and self.core == hub.core

    def close(self) -> None:
        """In a child of fork, where they are the parent's."""
        self.reader.close()
        self.writer.close()

    def empty(self) -> None:
        """Reads what signals wrote: the poll hears of the next one only then."""
        try:
            while True:
                numbers = self.reader.recv(4096)
                self.told(numbers)
                if len(numbers) < 4096:
                    break
        except BlockingIOError:
            pass
        hub = hub_of_thread()
        if hub is not None and self.is_of(hub):
            lib.ss_fd_drained(self.core, self.handle, lib.SS_READ)


_wake_up: _WakeUp | None = None


def hear_signals(hub: Hub) -> None:
    """Has signals end the polls of a hub, and functions of signals run in its main greenlet; in the main thread.

    Raises:
        OSError: no descriptor is left.
    """
    adopt_functions()
    _ensure_wake_up(hub)


def _ensure_wake_up(hub: Hub) -> _WakeUp:
    global _wake_up
    if _wake_up is None:
        _wake_up = _WakeUp()
    if not _wake_up.is_of(hub):
        _wake_up.attach(hub)
    return _wake_up


def _after_fork_in_child() -> None:
    """What the child writes must not wake the parent; nor is it counted by the parent's SignalCounter."""
    global _wake_up
    parents, _wake_up = _wake_up, None
    hub = hub_of_thread()
    if hub is not None:
        hear_signals(hub)
    else:
        use_descriptor(-1)
    if parents is not None:
        parents.close()


os.register_at_fork(after_in_child=_after_fork_in_child)


LOOK = 0.05
"""Seconds between two looks for further signals while the main thread does not come to the first ones."""


class SignalCounter:
    """Counts signals from another native thread as they arrive, whether or not the main one comes to their functions.

    Call it in the main thread; `wait` in one other.

    Args:
        numbers: The signals that count.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = frozenset(numbers)
        self._wake_up = _ensure_wake_up(get_hub())
        self._read: tuple[int, ...] = ()  # those that the main thread has taken from the socket
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll, self._poll_event = native_poll(), native_poll()
        self._poll.register(self._wake_up.reader, POLLIN)
        self._poll.register(self._event, POLLIN)
        self._poll_event.register(self._event, POLLIN)
        self._wake_up.told = self._take
        self._guard: Any = ffi.NULL

    def _take(self, numbers: bytes) -> None:
        """The main thread came to the signals."""
        those = self._those(numbers)
        self._read += those
        if self._guard != ffi.NULL and those:
            lib.ss_guard_tick(self._guard, len(those), those[-1])
        os.eventfd_write(self._event, 1)

    def _those(self, numbers: bytes) -> tuple[int, ...]:
        return tuple(number for number in numbers if number in self._numbers)

    def arrived(self) -> tuple[int, ...]:
        """Their numbers, in the order in which they arrived."""
        before = self._read
        unread = self._those(self._unread())
        return before + unread if self._read is before else self._read

    def _unread(self) -> bytes:
        """What the main thread did not come to yet."""
        try:
            return self._wake_up.reader.recv(4096, MSG_PEEK)
        except OSError:  # nothing; or this is a child of fork, where the parent's counter counts no more
            return b""

    def wait(self, seconds: float | None) -> None:
        """Waits until signals arrive or were read, for so many seconds at most (None: as long as it takes)."""
        if self._unread():  # they lie there for as long as the main thread is blocked: others are looked for in turns
            self._poll_event.poll(1000 * (LOOK if seconds is None else min(seconds, LOOK)))
        else:
            self._poll.poll(None if seconds is None else 1000 * seconds)
        if self._guard != ffi.NULL:
            lib.ss_guard_tick(self._guard, 0, 0)
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)

    def guard(self, patience: float, graceful: float, report: int) -> None:
        """Has a thread of the core end the process where no thread of Python's can: a call of C keeps the GIL.

        Args:
            patience: Seconds for which nobody may be in `wait`, once there was a signal, before it is taken for stuck.
            graceful: Seconds from the first signal for which it may be, unless a second comes.
            report: A signal whose handler shows all stacks without the GIL; 0: none.

        Raises:
            OSError: the thread cannot be started.
        """
        config: Any = ffi.new("ss_guard_config *")
        config.fd, config.report = self._wake_up.reader.fileno(), report
        config.patience, config.graceful = int(patience * 1e9), int(graceful * 1e9)
        config.numbers = sum(1 << number for number in self._numbers)
        self._guard = lib.ss_guard_new(config)
        if self._guard == ffi.NULL:
            raise OSError(ffi.errno, f"the guard of signals cannot start: {os.strerror(ffi.errno)}")

    def wake(self) -> None:
        """Ends a `wait`."""
        os.eventfd_write(self._event, 1)

    def close(self) -> None:
        """Counts no longer; nobody may be in `wait`."""
        self._wake_up.told = _nobody
        guard, self._guard = self._guard, ffi.NULL
        lib.ss_guard_free(guard)
        os.close(self._event)


class SignalHandler:
    """What `signal_handler` returns: `cancel` restores what was there before."""

    def __init__(
        self, signum: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if not callable(function):
            raise TypeError(f"signal handler must be callable, not {function!r}")
        if not in_main_thread():
            raise ValueError("signal handlers can be set in the main thread only")
        self.signum = signum
        self.ref = False
        self._call = (function, args, kwargs)
        self._hub = get_hub()
        self._previous = signal.signal(signum, self._arrived)
        signal.siginterrupt(signum, False)

    def _arrived(self, signum: int, frame: FrameType | None) -> None:
        Greenlet.spawn(self._run)
        hub = get_hub()
        if _wake_up is not None and _wake_up.is_of(hub):  # else it is just being made
            _wake_up.empty()
        lib.ss_loop_wake(hub.core)  # the poll must not sleep on what was queued meanwhile

    def _run(self) -> None:
        function, args, kwargs = self._call
        try:
            function(*args, **kwargs)
        except GreenletExit:
            raise
        except BaseException as error:
            self._hub.throw_main(error)

    def cancel(self) -> None:
        """Puts back the handler that this one replaced."""
        if self._previous is not None and signal.getsignal(self.signum) == self._arrived:
            signal.signal(self.signum, self._previous)
        self._previous = None


def signal_handler(signum: int, handler: Callable[..., Any], *args: Any, **kwargs: Any) -> SignalHandler:
    """Calls `handler(*args, **kwargs)` in a new greenlet when the signal arrives.

    Raises:
        TypeError: handler cannot be called.
        ValueError: not in the main thread.
    """
    return SignalHandler(signum, handler, args, kwargs)
