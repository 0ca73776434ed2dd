"""The cooperative part of a socket: what its calls do instead of blocking the thread.

The descriptor is always non-blocking; the timeout that the user sees is kept
here. A call is tried at once, unless the last one read all there was (see
loop/watcher.py); what would block waits for an edge and is tried again. So a
request-and-response loop makes one system call per call and one poll.

A class mixes this in before a standard socket class, and has the slots of
`SLOTS`; `CooperativeSocket` itself can have none (the layouts would clash).
"""

from __future__ import annotations

import _socket
import io
import os
import socket as _standard
from collections.abc import Callable
from operator import index
from time import monotonic
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from streamserve.green.connecting import ConnectingSocket
from streamserve.green.watched_set import descriptor_closed
from streamserve.loop.hubs import get_hub
from streamserve.loop.waiter import yield_turn
from streamserve.loop.watcher import CREDIT, READ, WRITE, Side, Watcher

SLOTS = ("_reader", "_timeout", "_watcher", "_writer")

_DONTWAIT: int = _socket.MSG_DONTWAIT
_LONGEST_TIMEOUT = 9.2e9  # seconds that fit the standard library's clock

_native: Any = _socket.socket
_recv = _native.recv
_recv_into = _native.recv_into
_send = _native.send
_SO_PASSCRED: int | None = getattr(_socket, "SO_PASSCRED", None)


def _give_turn(side: Side) -> None:
    """The credit of a side is used up: others get their turn, and the loop looks at other descriptors."""
    side.credit = CREDIT
    hub = get_hub()
    if hub is not getcurrent():
        hub.budget = 0
        yield_turn(hub)


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


class CooperativeSocket(ConnectingSocket):
    """Mixed in before `socket.socket` or a subclass: its calls wait in the loop."""

    if TYPE_CHECKING:
        __slots__ = ("_reader", "_timeout", "_watcher", "_writer")  # of the class that it is mixed into
    else:
        __slots__ = ()

    _reader: Side
    _writer: Side
    _watcher: Watcher
    _timeout: float | None

    def _cooperate(self, fd: int, stream: bool, timeout: float | None) -> None:
        """Called by the constructor, once the descriptor is there and non-blocking."""
        watcher = self._watcher = Watcher(fd)
        self._reader = watcher.reader
        self._writer = watcher.writer
        watcher.reader.trusted = stream
        self._timeout = timeout

    # ---- waiting

    def _wait_for(self, side: Side, direction: int, flags: int, deadline: float) -> float:
        """The credit of a side is used up: waits for an edge if it is drained, else gives others their turn.

        Args:
            flags: of the call, in which MSG_DONTWAIT may be.
            deadline: what this returned before for the same call; 0.0 at first.

        Raises:
            TimeoutError: the socket's timeout passed.
        """
        timeout = self._timeout
        if timeout == 0.0 or flags & _DONTWAIT:
            return deadline  # the call itself says that it would have to wait
        if side.drained != side.edges:
            _give_turn(side)
            return deadline
        if timeout is not None:
            now = monotonic()
            if not deadline:
                deadline = now + timeout
            timeout = max(deadline - now, 0.0)
        if not self._watcher.wait(side, direction, side.edges, timeout):
            raise TimeoutError("timed out")
        return deadline

    def _patiently(self, side: Side, direction: int, call: Callable[..., Any], flags: int, *args: Any) -> Any:
        """Makes a call of the native socket until it does not say that it would block; see `_wait_for`."""
        deadline = 0.0
        while True:
            if side.credit < 1:
                deadline = self._wait_for(side, direction, flags, deadline)
            seen = side.edges
            try:
                result = call(self, *args)
            except BlockingIOError:
                if self._timeout == 0.0 or flags & _DONTWAIT:
                    raise
                side.drained = seen
                side.credit = 0
            else:
                side.credit -= 1
                return result

    # ---- receiving

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        side = self._reader
        if flags:
            return self._patiently(side, READ, _recv, flags, size, flags)
        deadline = 0.0
        while True:
            credit = side.credit
            if credit < 1:
                deadline = self._wait_for(side, READ, 0, deadline)
                credit = side.credit
            seen = side.edges
            try:
                data: bytes = _recv(self, size)
            except BlockingIOError:
                if self._timeout == 0.0:
                    raise
                side.drained = seen
                side.credit = 0
                continue
            if len(data) == size or not data or not side.trusted:
                side.credit = credit - 1
            else:
                side.drained = seen
                side.credit = 0
            return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        side = self._reader
        if flags:
            return self._patiently(side, READ, _recv_into, flags, buffer, nbytes, flags)
        deadline = 0.0
        while True:
            credit = side.credit
            if credit < 1:
                deadline = self._wait_for(side, READ, 0, deadline)
                credit = side.credit
            seen = side.edges
            try:
                count: int = _recv_into(self, buffer, nbytes)
            except BlockingIOError:
                if self._timeout == 0.0:
                    raise
                side.drained = seen
                side.credit = 0
                continue
            if side.trusted and 0 < count < (nbytes or memoryview(buffer).nbytes):
                side.drained = seen
                side.credit = 0
            else:
                side.credit = credit - 1
            return count

    def recvfrom(self, *args: Any) -> Any:
        return self._patiently(self._reader, READ, _native.recvfrom, _flags(args, 1), *args)

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> Any:
        return self._patiently(self._reader, READ, _native.recvfrom_into, flags, buffer, nbytes, flags)

    def recvmsg(self, *args: Any) -> Any:
        return self._patiently(self._reader, READ, _native.recvmsg, _flags(args, 2), *args)

    def recvmsg_into(self, *args: Any) -> Any:
        return self._patiently(self._reader, READ, _native.recvmsg_into, _flags(args, 2), *args)

    def setsockopt(self, *args: Any) -> None:
        _native.setsockopt(self, *args)
        if len(args) > 1 and args[1] == _SO_PASSCRED and args[0] == _socket.SOL_SOCKET:
            self._reader.trusted = False  # a read now also ends where the sender changes

    # ---- sending

    def send(self, data: Any, flags: int = 0, /) -> int:
        side = self._writer
        credit = side.credit
        if credit > 0 and not flags:
            side.credit = credit - 1
            try:
                return _send(self, data)
            except BlockingIOError:
                if self._timeout == 0.0:
                    raise
        return self._patiently(side, WRITE, _send, flags, data, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        side = self._writer
        credit = side.credit
        sent = 0
        if credit > 0 and data.__class__ is bytes and not flags:
            side.credit = credit - 1
            try:
                sent = _send(self, data)
            except BlockingIOError:
                if self._timeout == 0.0:
                    raise
            else:
                if sent == len(data):
                    return
        self._send_rest(memoryview(data).cast("B"), sent, flags)

    def _send_rest(self, view: memoryview, sent: int, flags: int) -> None:
        """The timeout is for all of it, as in the standard library."""
        side = self._writer
        deadline = 0.0
        while True:
            if side.credit < 1:
                deadline = self._wait_for(side, WRITE, flags, deadline)
            seen = side.edges
            try:
                sent += _send(self, view[sent:], flags)
            except BlockingIOError:
                if self._timeout == 0.0 or flags & _DONTWAIT:
                    raise
                side.drained = seen
                side.credit = 0
                continue
            side.credit -= 1
            if sent >= len(view):
                return

    def sendto(self, data: Any, *args: Any) -> int:
        *flags, address = args or (None,)
        if args:
            args = (*flags, self._resolved(address))
        return self._patiently(
            self._writer, WRITE, _native.sendto, _flags(args, 0) if len(args) > 1 else 0, data, *args
        )

    def sendmsg(self, *args: Any) -> int:
        return self._patiently(self._writer, WRITE, _native.sendmsg, _flags(args, 2), *args)

    def sendmsg_afalg(self, *args: Any, **kwargs: Any) -> int:
        return _native.sendmsg_afalg(self, *args, **kwargs)

    def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Sends a regular file by os.sendfile; `_GiveupOnSendfile` if it is none."""
        self._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]
        give_up = _standard._GiveupOnSendfile  # type: ignore[attr-defined]
        try:
            source = file.fileno()
            size = os.fstat(source).st_size
        except (AttributeError, io.UnsupportedOperation, OSError) as error:
            raise give_up(error) from None
        if not size:
            return 0
        if self._timeout == 0.0:
            raise ValueError("non-blocking sockets are not supported: settimeout(None) before sendfile")
        sent = 0
        try:
            while count is None or sent < count:
                block = min(size if count is None else count - sent, 1 << 30)
                try:
                    moved = self._patiently(self._writer, WRITE, _sendfile, 0, source, offset + sent, block)
                except TimeoutError:
                    raise
                except OSError as error:
                    if not sent:
                        raise give_up(error) from None
                    raise
                if not moved:
                    break
                sent += moved
            return sent
        finally:
            if sent and hasattr(file, "seek"):
                file.seek(offset + sent)

    def _accept(self) -> tuple[int, Any]:
        return self._patiently(self._reader, READ, _native._accept, 0)

    # ---- timeouts

    def settimeout(self, value: float | None, /) -> None:
        self._timeout = checked_timeout(value)

    def gettimeout(self) -> float | None:
        return self._timeout

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may wait; None: no limit, 0.0: it does not wait."""
        return self._timeout

    def setblocking(self, flag: bool, /) -> None:
        _native.setblocking(self, False)  # it may have been changed through another object of the same file
        self._timeout = None if index(flag) else 0.0

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    # ---- the end

    def _real_close(self, *native: Any) -> None:
        self._watcher.close(True)
        super()._real_close(*native)  # type: ignore[misc]
        descriptor_closed(self._watcher.fd)  # who selects on it sees for himself

    def detach(self) -> int:
        self._watcher.close(False)
        return super().detach()  # type: ignore[misc]


def _flags(args: tuple[Any, ...], place: int) -> int:
    """The flags among the arguments of a call; what is no number is refused by the call itself."""
    return args[place] if len(args) > place and isinstance(args[place], int) else 0


def _sendfile(sock: Any, source: int, offset: int, count: int) -> int:
    return os.sendfile(sock.fileno(), source, offset, count)
