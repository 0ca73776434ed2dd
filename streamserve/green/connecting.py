"""Connecting and binding without blocking the thread: by name, with a timeout, to a listener whose backlog is full."""

from __future__ import annotations

import _socket
import errno
import os
from time import monotonic
from typing import TYPE_CHECKING, Any

from streamserve.green import dns
from streamserve.green.descriptor_mode import DescriptorMode
from streamserve.loop.joining import sleep
from streamserve.loop.watcher import WRITE, Side, Watcher

UNIX_CONNECT_RETRY = 0.001
"""Seconds between two tries when the backlog of a unix listener is full: nothing reports that there is room."""

_SPECIAL_HOSTS = ("", "<broadcast>")
_native: Any = _socket.socket


class ConnectingSocket(DescriptorMode):
    """The part of a cooperative socket that deals with addresses."""

    if TYPE_CHECKING:
        __slots__ = ("_watcher", "_writer")  # of the class that it is mixed into
    else:
        __slots__ = ()

    _writer: Side
    _watcher: Watcher

    def connect(self, address: Any, /) -> None:
        self._begin_connect(self._resolved(address))

    def connect_ex(self, address: Any, /) -> int:
        try:
            self._begin_connect(self._resolved(address))  # not `connect`, which a subclass may have
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            if error.errno is None or isinstance(error, _socket.gaierror):
                raise
            return error.errno
        return 0

    def _begin_connect(self, address: Any) -> None:
        timeout = self._timeout
        side = self._writer
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            seen = side.edges
            try:
                return self._unblocked(_native.connect, address)
            except BlockingIOError as error:
                if timeout == 0.0:
                    raise
                waits = error.errno == errno.EINPROGRESS
            if waits:
                return self._finish_connect(address, seen, deadline)
            if deadline is not None and monotonic() > deadline:
                raise TimeoutError("timed out")
            sleep(UNIX_CONNECT_RETRY)

    def _finish_connect(self, address: Any, seen: int, deadline: float | None) -> None:
        """Waits for the outcome and asks for it by connecting again: so the kernel also forgets a failure."""
        side = self._writer
        while True:
            if not self._watcher.wait(
                side, WRITE, seen, None if deadline is None else max(deadline - monotonic(), 0.0)
            ):
                raise TimeoutError("timed out")
            seen = side.edges
            code = self._unblocked(_native.connect_ex, address)
            if code in (0, errno.EISCONN):
                return
            if code not in (errno.EALREADY, errno.EINPROGRESS):  # these: the edge was of something before
                raise OSError(code, os.strerror(code))

    def bind(self, address: Any, /) -> None:
        _native.bind(self, self._resolved(address))

    def _resolved(self, address: Any) -> Any:
        """The address with its host name looked up by the resolver: the native call would block for it."""
        if not isinstance(address, tuple) or not address or not isinstance(address[0], str):
            return address
        host = address[0]
        family: int = _native.family.__get__(self)
        if family not in (_socket.AF_INET, _socket.AF_INET6) or host in _SPECIAL_HOSTS:
            return address
        try:
            _socket.inet_pton(family, host)
        except (OSError, ValueError):
            found = dns.getaddrinfo(host, None, family, _socket.SOCK_DGRAM)
            return (found[0][4][0], *address[1:])
        return address
