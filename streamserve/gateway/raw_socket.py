"""The socket of a request, for code that speaks a protocol of its own: simple-websocket, flask-sock, Flask-SocketIO.

Whoever offers an upgrade has one in the environ, under the names that other servers use. Nothing happens until it is
touched: then the connection leaves the core, and from there on the server has no part in it but its end.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from streamserve.core import ffi, lib
from streamserve.errors import InvalidThreadUseError, LocalProtocolError
from streamserve.gateway.response_head import ResponseHead
from streamserve.green.socket import MSG_PEEK, socket
from streamserve.loop.native_threads import get_ident

if TYPE_CHECKING:
    from streamserve.gateway.exchange import Exchange

__all__ = ["KEYS", "OwnedConnection", "RawSocket", "pending_socket"]

KEYS = ("werkzeug.socket", "gunicorn.socket", "streamserve.socket")
"""What it is called in the environ."""

_READ_AHEAD = 65536  # bytes that may have been read beside twice the longest head: the buffer grows by doubling


class RawSocket(socket):
    """A connection that has left the server: a cooperative socket whose first bytes are those that had been read.

    It is a subclass of the standard `socket.socket`. It belongs to the application, which may send and receive what it
    likes until its call returns; then it is closed. Who needs it for longer takes a `dup()` or `detach()` along.

    `fileno()`, `select` and selectors tell nothing of bytes that had been read: receive them first.

    Raises, when it is first used:
        LocalProtocolError: the response has begun, the WebSocket was accepted, the request is over, or the connection
            is one of TLS.
        InvalidThreadUseError: this is not the thread that serves the request.
    """

    __slots__ = ("_exchange", "_unread")

    _exchange: Exchange | None
    _unread: bytes

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        socket.__init__(self, family, type, proto, fileno)
        self._unread = b""

    def _next(self, size: int, flags: int) -> bytes:
        """What had been read, as far as it is asked for."""
        data = self._unread[: max(size, 0)]
        if not flags & MSG_PEEK:
            self._unread = self._unread[len(data) :]
        return data

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        return self._next(size, flags) if self._unread else super().recv(size, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        if not self._unread:
            return super().recv_into(buffer, nbytes, flags)
        with memoryview(buffer) as given, given.cast("B") as view:
            data = self._next(nbytes or len(view), flags)
            view[: len(data)] = data
        return len(data)

    def recvfrom(self, *args: Any) -> Any:
        return (self.recv(*args), None) if self._unread else super().recvfrom(*args)

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> Any:
        if self._unread:
            return self.recv_into(buffer, nbytes, flags), None
        return super().recvfrom_into(buffer, nbytes, flags)

    def recvmsg(self, *args: Any) -> Any:
        if not self._unread:
            return super().recvmsg(*args)
        size, _, flags = (*args, 0, 0)[:3]
        return self.recv(size, flags), [], 0, None

    def recvmsg_into(self, buffers: Any, *args: Any) -> Any:
        if not self._unread:
            return super().recvmsg_into(buffers, *args)
        flags = args[1] if len(args) > 1 else 0
        return self.recv_into(next(iter(buffers)), 0, flags), [], 0, None


class _PendingSocket(RawSocket):
    """A RawSocket before its first use, which makes one of it: code that only looks at the environ takes nothing."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("__"):  # of the object, not of the socket
            _take(self)
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        return "<RawSocket not taken yet>"


class OwnedConnection:
    """Stands where a request's WebSocket does, once the application has taken the connection itself.

    Args:
        raw: the socket.
        websocket: what stood there before.
    """

    __slots__ = ("_raw", "_websocket")

    accepted = True  # as of a WebSocket: nothing is answered any more

    def __init__(self, raw: RawSocket, websocket: Any) -> None:
        self._raw = raw
        self._websocket = websocket

    def release(self, failed: bool) -> None:
        """The application has returned, which ends the connection as in other servers: nobody else would."""
        if self._websocket is not None:
            self._websocket.release(failed)
        self._raw.close()


def pending_socket(exchange: Exchange) -> RawSocket:
    """The socket of a request, which costs nothing until it is used."""
    raw = RawSocket.__new__(_PendingSocket)
    raw._exchange = exchange
    return raw


def _take(raw: RawSocket) -> None:
    exchange = object.__getattribute__(raw, "_exchange")
    endpoint = exchange.endpoint
    if endpoint.hub.thread_ident != get_ident():
        raise InvalidThreadUseError("the raw socket of a request is first used in the thread that serves the request")
    if exchange.done or exchange.started:
        raise LocalProtocolError("a raw socket is taken before its request is answered, accepted as WebSocket, or over")
    if not endpoint.sends_files:
        raise LocalProtocolError(
            "a connection of TLS has no raw socket: use environ['wsgi.websocket'], or have a proxy speak TLS"
        )
    fd, unread = _detached(exchange)
    raw.__class__ = RawSocket
    try:
        RawSocket.__init__(raw, fileno=fd)
    except BaseException:
        os.close(fd)
        raise
    finally:
        raw._exchange = None
        exchange.head = ResponseHead(b"", 101, -1)  # for the access log
        exchange.started = exchange.done = True
        exchange.sent = 0
    raw._shared = False  # type: ignore[attr-defined] # nobody else has it, and the core's are non-blocking
    raw._unread = unread
    exchange.websocket = OwnedConnection(raw, exchange.websocket)


def _detached(exchange: Exchange) -> tuple[int, bytes]:
    """The descriptor, and what had been read behind the request's head."""
    endpoint = exchange.endpoint
    room = _READ_AHEAD + 2 * endpoint.server.settings.max_header_bytes
    into, taken = ffi.new("char[]", room), ffi.new("int64_t *")
    fd: int = lib.ss_conn_detach(endpoint.core, exchange.handle, into, room, taken)
    if fd == lib.SS_MISUSE:
        raise LocalProtocolError("a raw socket is taken before its request's body is read and before anything is sent")
    if fd < 0:
        raise ConnectionAbortedError(errno.ECONNABORTED, "the connection has ended, and its server with it")
    return fd, ffi.unpack(into, taken[0])
