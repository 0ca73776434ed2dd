"""The cooperative part of a socket: what its calls do instead of blocking the thread.

The timeout that the user sees is kept here, and no call blocks, whatever the mode
of the descriptor (descriptor_mode.py). A call is tried at once, unless the last one
read all there was (see loop/watcher.py); what would block waits for an edge and is
tried again. So a request-and-response loop makes one system call per call and one poll.

A class mixes this in before a standard socket class, and has the slots of
`SLOTS`; `CooperativeSocket` itself can have none (the layouts would clash).
"""

from __future__ import annotations

import _socket
from collections.abc import Callable
from time import monotonic
from typing import Any

from greenlet import getcurrent

from streamserve.core import lib
from streamserve.green.sending import SendingSocket, bytes_of
from streamserve.green.watched_set import descriptor_closed
from streamserve.loop.hubs import get_hub
from streamserve.loop.waiter import yield_turn
from streamserve.loop.watcher import CREDIT, READ, Side, Watcher

SLOTS = ("_peer", "_reader", "_shared", "_timeout", "_watcher", "_writer")

_DONTWAIT: int = _socket.MSG_DONTWAIT
_WAITALL: int = _socket.MSG_WAITALL
_AF_UNIX: int = _socket.AF_UNIX
_unread = lib.ss_fd_unread

_native: Any = _socket.socket
_recv = _native.recv
_recv_into = _native.recv_into
_SO_PASSCRED: int | None = getattr(_socket, "SO_PASSCRED", None)


def _give_turn(side: Side) -> None:
    """The credit of a side is used up: others get their turn, and the loop looks at other descriptors."""
    side.credit = CREDIT
    hub = get_hub()
    if hub is not getcurrent():
        hub.budget = 0
        yield_turn(hub)


def _has_room(buffer: Any, nbytes: Any) -> bool:
    """Whether it is a buffer that something can be received into, and of that size."""
    if nbytes.__class__ is not int or nbytes < 0:
        return False
    if buffer.__class__ is bytearray:
        return nbytes <= len(buffer) > 0
    try:
        view = memoryview(buffer)
    except TypeError:
        return False
    return not view.readonly and view.contiguous and nbytes <= view.nbytes > 0


class CooperativeSocket(SendingSocket):
    """Mixed in before `socket.socket` or a subclass: its calls wait in the loop."""

    __slots__ = ()

    def _cooperate(self, fd: int, timeout: float | None, shared: bool) -> None:
        """Called by the constructor, once the descriptor is there.

        Args:
            shared: others may have it, in whatever mode it is; else it is non-blocking.
        """
        watcher = self._watcher = Watcher(fd)
        self._reader = watcher.reader
        self._writer = watcher.writer
        if _native.type.__get__(self) != _socket.SOCK_STREAM:
            watcher.reader.trusted = False
        elif _native.family.__get__(self) == _AF_UNIX:
            watcher.reader.trusted = None
        self._timeout = timeout
        self._shared = shared
        self._peer = None

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

    def _read(self, call: Callable[..., Any], flags: int, *args: Any) -> Any:
        """Receives in a way that is rare, or with arguments that the native socket may refuse, or that ask for nothing.

        So where it would have to wait it is asked first: what it says to such arguments does not depend on data.
        """
        side = self._reader
        if side.credit < 1 and side.drained == side.edges:
            try:
                result = call(self, *args)
            except BlockingIOError:
                if self._timeout == 0.0 or flags & _DONTWAIT:
                    raise
            else:
                side.credit = 1  # there may be more
                return result
        return self._patiently(side, READ, call, flags, *args)

    # ---- receiving

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        side = self._reader
        data: bytes
        if flags:
            data = self._read(_recv, flags, size, flags | _DONTWAIT)
            return self._filled(data, size, flags) if flags & _WAITALL else data
        deadline = 0.0
        while True:
            credit = side.credit
            if credit < 1:
                if size.__class__ is not int or size < 1:
                    return self._read(_recv, 0, size, _DONTWAIT)
                deadline = self._wait_for(side, READ, 0, deadline)
                credit = side.credit
            seen = side.edges
            try:
                data = _recv(self, size, _DONTWAIT)
            except BlockingIOError:
                if self._timeout == 0.0:
                    raise
                side.drained = seen
                side.credit = 0
                continue
            if len(data) == size or not data or not (side.trusted or self._is_drained(side)):
                side.credit = credit - 1
            else:
                side.drained = seen
                side.credit = 0
            return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        side = self._reader
        count: int
        if flags:
            count = self._read(_recv_into, flags, buffer, nbytes, flags | _DONTWAIT)
            return count + self._fill([buffer], count, nbytes, flags)
        deadline = 0.0
        while True:
            credit = side.credit
            if credit < 1:
                if not _has_room(buffer, nbytes):
                    return self._read(_recv_into, 0, buffer, nbytes, _DONTWAIT)
                deadline = self._wait_for(side, READ, 0, deadline)
                credit = side.credit
            seen = side.edges
            try:
                count = _recv_into(self, buffer, nbytes, _DONTWAIT)
            except BlockingIOError:
                if self._timeout == 0.0:
                    raise
                side.drained = seen
                side.credit = 0
                continue
            if 0 < count < (nbytes or memoryview(buffer).nbytes) and (side.trusted or self._is_drained(side)):
                side.drained = seen
                side.credit = 0
            else:
                side.credit = credit - 1
            return count

    def _is_drained(self, side: Side) -> bool:
        """Behind a short read of a unix socket: it also ends where descriptors were passed, so the kernel is asked."""
        return side.trusted is None and _unread(self._watcher.fd) == 0

    def recvfrom(self, size: int, flags: int = 0, /) -> Any:
        if size.__class__ is int and size > 0:
            data, address = self._patiently(self._reader, READ, _native.recvfrom, flags, size, flags | _DONTWAIT)
        else:
            data, address = self._read(_native.recvfrom, flags, size, flags | _DONTWAIT)
        return (self._filled(data, size, flags) if flags & _WAITALL else data), address

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> Any:
        count, address = self._read(_native.recvfrom_into, flags, buffer, nbytes, flags | _DONTWAIT)
        return count + self._fill([buffer], count, nbytes, flags), address

    def recvmsg(self, size: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        result = self._read(_native.recvmsg, flags, size, ancbufsize, flags | _DONTWAIT)
        if flags & _WAITALL and not result[1]:
            return (self._filled(result[0], size, flags), *result[1:])
        return result

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        if flags & _WAITALL:
            buffers = list(buffers)
        result = self._read(_native.recvmsg_into, flags, buffers, ancbufsize, flags | _DONTWAIT)
        if flags & _WAITALL and not result[1]:
            return (result[0] + self._fill(buffers, result[0], 0, flags), *result[1:])
        return result

    def _filled(self, data: bytes, size: int, flags: int) -> bytes:
        """What MSG_WAITALL has received, with what is missing: see `_fill`."""
        if not 0 < len(data) < size:
            return data
        rest = bytearray(size - len(data))
        return data + rest[: self._fill([rest], 0, 0, flags, True)]

    def _fill(self, buffers: list[Any], count: int, size: int, flags: int, begun: bool = False) -> int:
        """MSG_WAITALL on a blocking stream waits for the rest; a failure on the way is the next call's.

        Args:
            count: bytes of the buffers that have been received.
            size: most bytes to receive in all; 0: as many as there is room for.
            begun: something was received before.

        Returns:
            how many bytes came behind those.
        """
        asked = flags & _WAITALL and self._timeout is None and not flags & (_DONTWAIT | _socket.MSG_PEEK)
        if not asked or not (count or begun) or _native.type.__get__(self) != _socket.SOCK_STREAM:
            return 0
        left = count
        got = 0
        for buffer in buffers:
            view = bytes_of(buffer)
            view = view[: size or len(view)]
            skipped, left = min(left, len(view)), max(left - len(view), 0)
            while skipped < len(view):
                try:
                    more = self.recv_into(view[skipped:])
                except OSError:
                    return got
                if not more:
                    return got
                skipped += more
                got += more
        return got

    def setsockopt(self, *args: Any) -> None:
        _native.setsockopt(self, *args)
        if len(args) > 1 and args[1] == _SO_PASSCRED and args[0] == _socket.SOL_SOCKET:
            self._reader.trusted = False  # a read now also ends where the sender changes

    # ---- connections

    def _accept(self) -> tuple[int, Any]:
        self._never_blocking()
        return self._patiently(self._reader, READ, _native._accept, 0)

    # ---- the end

    def _real_close(self, *native: Any) -> None:
        self._watcher.close(True)
        super()._real_close(*native)  # type: ignore[misc]
        descriptor_closed(self._watcher.fd)  # who selects on it sees for himself

    def detach(self) -> int:
        self._watcher.close(False)
        self.fileno()  # whoever takes it finds it as the timeout has it
        return super().detach()  # type: ignore[misc]
