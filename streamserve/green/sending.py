"""What sends on a cooperative socket. On a blocking one that is all of it, as the kernel has it; else what fits."""

from __future__ import annotations

import _socket
import io
import os
import socket as _standard
from collections.abc import Callable, Iterable
from typing import Any

from streamserve.core import ffi
from streamserve.green.connecting import ConnectingSocket
from streamserve.loop.watcher import WRITE, Side

_DONTWAIT: int = _socket.MSG_DONTWAIT
_native: Any = _socket.socket
_send = _native.send


def bytes_of(data: Any) -> memoryview:
    """A view of the bytes of any buffer, also of one that has no length (a ctypes structure)."""
    view = memoryview(data)
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # a format that is no native one
        return memoryview(ffi.buffer(ffi.from_buffer(data)))


class SendingSocket(ConnectingSocket):
    """The part of a cooperative socket that sends."""

    __slots__ = ()

    _wait_for: Callable[[Side, int, int, float], float]
    _patiently: Callable[..., Any]

    def send(self, data: Any, flags: int = 0, /) -> int:
        side = self._writer
        credit = side.credit
        sent = 0
        if credit > 0 and not flags:
            side.credit = credit - 1
            try:
                sent = _send(self, data, _DONTWAIT)
            except BlockingIOError:
                if self._timeout == 0.0:
                    raise
            else:
                if self._peer is not None:
                    self._announce(self._peer)
                size = len(data) if data.__class__ is bytes else memoryview(data).nbytes
                if sent == size or self._timeout is not None:
                    return sent
        if self._timeout is None and not flags & _DONTWAIT:
            return self._send_whole(data, sent, flags)
        return self._patiently(side, WRITE, _send, flags, data, flags | _DONTWAIT)

    def _send_whole(self, data: Any, sent: int, flags: int) -> int:
        """What a blocking call does: sends all behind the first `sent` bytes; less if it fails on the way.

        The failure is then the next call's, as in the kernel.
        """
        view = bytes_of(data)
        while True:
            try:
                sent += self._patiently(self._writer, WRITE, _send, flags, view[sent:], flags | _DONTWAIT)
            except OSError:
                if not sent:
                    raise
                return sent
            if sent >= len(view):
                return sent

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        side = self._writer
        credit = side.credit
        sent = 0
        if credit > 0 and data.__class__ is bytes and not flags:
            side.credit = credit - 1
            try:
                sent = _send(self, data, _DONTWAIT)
            except BlockingIOError:
                if self._timeout == 0.0:
                    raise
            else:
                if sent == len(data):
                    if self._peer is not None:
                        self._announce(self._peer)
                    return
        self._send_rest(bytes_of(data), sent, flags)

    def _send_rest(self, view: memoryview, sent: int, flags: int) -> None:
        """The timeout is for all of it, as in the standard library."""
        side = self._writer
        deadline = 0.0
        while True:
            if side.credit < 1:
                deadline = self._wait_for(side, WRITE, flags, deadline)
            seen = side.edges
            try:
                sent += _send(self, view[sent:], flags | _DONTWAIT)
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
        if not args:
            return _native.sendto(self, data)  # which says what is missing
        *before, address = args
        flags = before[0] if before else 0
        more = before[1:]
        sent: int = self._patiently(
            self._writer, WRITE, _native.sendto, flags, data, flags | _DONTWAIT, *more, self._resolved(address)
        )
        return self._rest_of([data], sent, flags)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        if not isinstance(buffers, (list, tuple)):
            buffers = list(buffers)
        if ancdata:
            self._reveal()
        to = () if address is None else (self._resolved(address),)
        sent: int = self._patiently(
            self._writer, WRITE, _native.sendmsg, flags, buffers, ancdata, flags | _DONTWAIT, *to
        )
        return self._rest_of(buffers, sent, flags)

    def _rest_of(self, buffers: Iterable[Any], sent: int, flags: int) -> int:
        """Of a blocking call that sent so many bytes: sends the others too; see `_send_whole`."""
        if self._timeout is not None or flags & _DONTWAIT:
            return sent
        end = 0
        for buffer in buffers:
            size = memoryview(buffer).nbytes
            start, end = end, end + size
            if sent < end:
                sent = start + self._send_whole(buffer, sent - start, flags)
                if sent < end:
                    break
        return sent

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


def _sendfile(sock: Any, source: int, offset: int, count: int) -> int:
    sent: int = sock._unblocked(_sendfile_at, source, offset, count)
    return sent


def _sendfile_at(sock: Any, source: int, offset: int, count: int) -> int:
    return os.sendfile(_native.fileno(sock), source, offset, count)
