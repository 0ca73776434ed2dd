"""The mode of a socket's descriptor, which others see: blocking where the standard library's would be.

Whoever is handed a descriptor (a child process, `os.write`, another library) finds it as the socket's timeout has it:
blocking without one. Non-blocking is a property of what the kernel calls the open file, which they share: a child that
writes to it would lose what does not fit. A socket that was made here is non-blocking as long as nobody else has seen
its descriptor, which is how it connects; `fileno` and `detach` show it, and from then on it is as `settimeout` says.
What reads and writes never minds: it says MSG_DONTWAIT. Calls that cannot say so find the descriptor non-blocking.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Any

from streamserve.green.socket_pair import PairedSocket

_native: Any = _socket.socket
_get_blocking = os.get_blocking
_set_blocking = os.set_blocking
_LONGEST_TIMEOUT = 9.2e9  # seconds that fit the standard library's clock


def checked_timeout(value: Any) -> float | None:
    """Returns a timeout in seconds as a float, or None.

    Raises:
        TypeError, ValueError, OverflowError: as `socket.settimeout` does.
    """
    if value is None:
        return None
    seconds = value if isinstance(value, float) else float(index(value))
    if seconds != seconds:
        raise ValueError("Invalid value NaN (not a number)")
    if seconds < 0:
        raise ValueError("Timeout value out of range")
    if seconds > _LONGEST_TIMEOUT:
        raise OverflowError("timeout is too large: give None to wait without a limit")
    return float(seconds)


class DescriptorMode(PairedSocket):
    """The part of a cooperative socket that deals with its timeout, and with what others find."""

    if TYPE_CHECKING:
        __slots__ = ("_shared", "_timeout")  # of the class that it is mixed into
    else:
        __slots__ = ()

    _shared: bool
    """Others may have the descriptor, and its mode is theirs to see; else it is non-blocking."""

    _timeout: float | None

    def fileno(self) -> int:
        fd: int = _native.fileno(self)
        if not self._shared and fd >= 0:
            self._share(fd)
        return fd

    def _share(self, fd: int) -> None:
        self._shared = True
        self._reveal()
        if self._timeout is None:
            _set_blocking(fd, True)

    def _unblocked(self, call: Callable[..., Any], *args: Any) -> Any:
        """Makes a call that takes no flags on a non-blocking descriptor, and leaves that as it was."""
        if not self._shared:
            return call(self, *args)
        fd = _native.fileno(self)
        if not _get_blocking(fd):
            return call(self, *args)
        _set_blocking(fd, False)
        try:
            return call(self, *args)
        finally:
            _set_blocking(fd, True)

    def _never_blocking(self) -> None:
        """For who accepts: of several processes on one listener, none may be blocked, so it stays non-blocking."""
        if self._shared and _get_blocking(fd := _native.fileno(self)):
            _set_blocking(fd, False)

    def settimeout(self, value: float | None, /) -> None:
        self._timeout = checked_timeout(value)
        if self._shared:
            self._show_mode()

    def setblocking(self, flag: bool, /) -> None:
        self._timeout = None if index(flag) else 0.0
        if self._shared:
            self._show_mode()

    def _show_mode(self) -> None:
        _set_blocking(_native.fileno(self), self._timeout is None)

    def gettimeout(self) -> float | None:
        return self._timeout

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may wait; None: no limit, 0.0: it does not wait."""
        return self._timeout

    def getblocking(self) -> bool:
        return self._timeout != 0.0
