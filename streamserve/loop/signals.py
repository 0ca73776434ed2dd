"""Signals, delivered to greenlets.

Python runs a signal's function in the main thread, at some later bytecode. A
poll that is about to block would not see it, so every signal also writes to a
socket in the poll set (signal.set_wakeup_fd). That socket is never armed: it
only ends the poll, it keeps nothing alive and makes no event.

Ctrl-C is special: Python would raise KeyboardInterrupt at any bytecode, also
between the one that takes a greenlet from a queue and the one that switches to
it, which would then never run again. So while code of this package runs, the
interrupt is queued, and the hub raises it in the main greenlet.
"""

from __future__ import annotations

import _socket
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from streamserve.core import lib
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub, hub_of_thread


class _WakeUp:
    """The pair of sockets through which signals end a poll. One per process."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.core = hub.core
        self.reader, self.writer = _socket.socketpair()  # native ones, also under patching
        self.reader.setblocking(False)
        self.writer.setblocking(False)
        self.handle = lib.ss_fd_open(hub.core, self.reader.fileno(), 0)
        hub.woken = self.empty
        signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)

    def empty(self) -> None:
        """Reads what signals wrote: the poll hears of the next one only then."""
        try:
            while len(self.reader.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        if self.hub is hub_of_thread() and self.core == self.hub.core:
            lib.ss_fd_drained(self.core, self.handle, lib.SS_READ)

    def drain(self) -> None:
        """Called by a signal's function, at any bytecode."""
        self.empty()
        if self.hub is not hub_of_thread():
            return  # it was destroyed, and its core with it
        lib.ss_loop_wake(self.hub.core)  # the poll must not sleep on what was queued meanwhile


def _interrupted(signum: int, frame: FrameType | None) -> None:
    hub = hub_of_thread()
    if hub is None or frame is None or not str(frame.f_globals.get("__name__")).startswith(_OURS):
        raise KeyboardInterrupt
    hub.run_callback_threadsafe(hub.handle_system_error, KeyboardInterrupt, KeyboardInterrupt())


_OURS = __name__.partition(".")[0] + "."


def guard_interrupts() -> None:
    """Has Ctrl-C wait until the loop is between two things, unless the program handles it itself."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)


_wake_up: _WakeUp | None = None


def _ensure_wake_up(hub: Hub) -> _WakeUp:
    global _wake_up
    if _wake_up is None or _wake_up.core != hub.core:
        _wake_up = _WakeUp(hub)
    return _wake_up


class SignalHandler:
    """What `signal_handler` returns: `cancel` restores what was there before."""

    def __init__(
        self, signum: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if not callable(function):
            raise TypeError(f"signal handler must be callable, not {function!r}")
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("signal handlers can be set in the main thread only")
        self.signum = signum
        self.ref = False
        self._call = (function, args, kwargs)
        self._hub = get_hub()
        self._wake_up = _ensure_wake_up(self._hub)
        self._previous = signal.signal(signum, self._arrived)
        signal.siginterrupt(signum, False)

    def _arrived(self, signum: int, frame: FrameType | None) -> None:
        function, args, kwargs = self._call
        Greenlet.spawn(function, *args, **kwargs)
        self._wake_up.drain()

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
