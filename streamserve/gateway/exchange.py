"""One request and its response: start_response, write, and what goes out when.

The head leaves with the first bytes of the body, in one send. A body whose length
is not known is chunked for HTTP/1.1 and ends with the connection for 1.0. When
the client is slow the core queues up to its high water, then the greenlet parks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from streamserve.core import ffi, lib
from streamserve.errors import ClientGone, HandshakeRefused, LocalProtocolError, ResponseComplete, WebSocketClosed
from streamserve.gateway.file_wrapper import FileWrapper, send_file
from streamserve.gateway.handshake import refusal_head
from streamserve.gateway.raw_socket import OwnedConnection
from streamserve.gateway.request_body import BrokenRequestBody
from streamserve.gateway.request_ids import NAME
from streamserve.gateway.response_head import ResponseHead
from streamserve.gateway.turns import PIECE_COST
from streamserve.logs.log_line import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamserve.gateway.endpoint import Endpoint
    from streamserve.gateway.environ import Environ
    from streamserve.loop.waiter import Waiter
    from streamserve.websocket.connection import WebSocket

_log = logging.getLogger("streamserve.wsgi")

PIECE = 65536
"""Most bytes that are given to the core at once: what a slow client can make it queue."""

_REPORTED = -2  # what is left of a body whose excess was logged
_AT_HAND: Any = (type(iter([])), type(iter(())))  # iterators whose next piece costs nothing and comes at once

_HEAD: int = lib.SS_SEND_HEAD
_LENGTH: int = lib.SS_SEND_LENGTH
_CHUNKED: int = lib.SS_SEND_CHUNKED
_LAST: int = lib.SS_SEND_LAST
_CLOSE: int = lib.SS_SEND_CLOSE
_NO_BODY: int = lib.SS_SEND_NO_BODY
_send = lib.ss_conn_send
_queued = lib.ss_conn_queued


class Exchange:
    """A request whose response the application is making.

    Made by `Endpoint.serve`, which sets every attribute below: a Python `__init__`
    would be a tenth of a request's cost.

    Attributes:
        broken: why the request's body could not be read, as the arguments of BrokenRequestBody; set only where there
            are flags. The fault is the client's: an application's 5xx gives way to the answer of that error.
        environ: what the application was called with; None until it is built, and after the end.
        head: what start_response was given, as bytes; None before.
        flags: the last word of the request's record (api.h).
        started: the head has left.
        done: the last byte has been handed to the core; the connection is no longer ours.
        sent: bytes of the body handed to the core.
        refused: a handshake for a WebSocket was answered; set only where there are flags.
        websocket: what the application may turn the connection into, or has made of it; set only where there are flags.
    """

    __slots__ = (
        "_chunked",
        "_left",
        "broken",
        "done",
        "endpoint",
        "environ",
        "failed",
        "flags",
        "handle",
        "head",
        "refused",
        "sent",
        "started",
        "websocket",
    )

    _chunked: bool
    _left: int
    broken: tuple[str, int, int] | None
    done: bool
    endpoint: Endpoint
    environ: Environ | None
    flags: int
    handle: int
    head: ResponseHead | None
    sent: int
    refused: bool
    started: bool
    websocket: WebSocket | OwnedConnection | None
    failed: bool

    @property
    def head_only(self) -> bool:
        """The method is HEAD."""
        return self.flags >> lib.SS_METHOD_SHIFT == lib.SS_HEAD

    @property
    def is_tunnel(self) -> bool:
        """The answer is 2xx to CONNECT: what follows its head would be the tunnel's (RFC 9110 section 9.3.6)."""
        if self.flags >> lib.SS_METHOD_SHIFT != lib.SS_CONNECT or self.head is None:
            return False
        return 200 <= self.head.status < 300

    @property
    def http10(self) -> bool:
        """The client speaks HTTP/1.0."""
        return self.flags & lib.SS_REQUEST_HTTP10 != 0

    @property
    def request_line(self) -> str:
        """Which request it is, for a log line: " at GET /path", escaped; "" before that is known."""
        environ = self.environ or {}
        if "RAW_URI" not in environ:
            return ""
        line = f" at {escape(str(environ.get('REQUEST_METHOD')))} {escape(str(environ['RAW_URI']))}"
        if self.endpoint.request_ids is not None:
            line += f" (request id {escape(str(environ.get(NAME)))})"
        return line

    # ---- a response that waits

    def watch(self, waiter: Waiter) -> bool:
        """Has the waiter woken too when the client hangs up or the server stops, until `unwatch`.

        Returns:
            Whether either is so already.
        """
        self.endpoint.waiters[self.handle] = waiter
        self.endpoint.watching.add(waiter)
        return self.client_is_gone() or self.endpoint.server.stopping

    def unwatch(self, waiter: Waiter) -> None:
        """Nobody waits any more."""
        self.endpoint.watching.discard(waiter)
        if self.endpoint.waiters.get(self.handle) is waiter:
            del self.endpoint.waiters[self.handle]

    def client_is_gone(self) -> bool:
        """The client has hung up, or sends no more."""
        return lib.ss_conn_hung_up(self.endpoint.core, self.handle) != 0

    # ---- what PEP 3333 gives the application

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Sets the status and headers; nothing is sent before the first byte of the body.

        Args:
            status: "200 OK".
            headers: (name, value) each.
            exc_info: sys.exc_info(), to replace what was set before.

        Raises:
            AssertionError: called twice without exc_info.
            LocalProtocolError: the status or a header may not go on the wire.
            BaseException: that of exc_info, when the head has left.
        """
        if self.head is not None:
            try:
                if self._restart(exc_info):
                    return self.write
            finally:
                exc_info = None  # what is raised is its error, whose traceback has this frame
        cache = self.endpoint.head_cache
        if headers == cache.last_headers and status == cache.last_status:
            self.head = cache.last_head
        else:
            self.head = cache.find(status, headers)
        return self.write

    def _restart(self, exc_info: Any) -> bool:
        """True: nothing begins any more: the connection is a WebSocket, the application's, or was refused to be one."""
        if self.flags and (self.refused or (self.websocket is not None and self.websocket.accepted)):
            return True
        if not exc_info:
            raise AssertionError("start_response was called a second time without exc_info (PEP 3333)")
        if self.started or self.done:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # as in start_response
        return False

    def write(self, data: bytes) -> None:
        """Sends a piece of the body; for applications that cannot return an iterable.

        Raises:
            ResponseComplete: nothing more belongs to the response: its Content-Length is reached, or it has no body
                (PEP 3333).
            ClientGone: the client has left, or takes nothing.
        """
        if not isinstance(data, bytes):
            raise LocalProtocolError(f"write() takes bytes, not {type(data).__name__}")
        if not data:
            self.spend(0)
        elif self.done:
            raise ResponseComplete(f"write() of {len(data)} bytes after the end of the response")
        else:
            self._send(data, last=False)

    # ---- sending what the application returned

    def respond(self, result: Any) -> None:
        """Sends the iterable that the application returned, to its end or that of the response."""
        if self.flags and self.refused:
            return
        if result.__class__ in (list, tuple) and not self.started and self._is_small(result):
            self.need_head()
            self._send(b"".join(result), last=True)
            return
        if result.__class__ is FileWrapper:
            if not self.started and send_file(self, result):
                return
            result.left = self._left if self.started else self.need_head().length
        single = hasattr(result, "__len__") and len(result) == 1
        pieces = iter(result)
        for piece in pieces if not self.done else ():
            if not isinstance(piece, bytes):
                raise LocalProtocolError(f"the body must be of bytes, not {type(piece).__name__}")
            if piece:
                self._send(piece, last=single)
                if self.done:  # nobody reads the next piece, and it may never come
                    break
            else:
                self.spend(0)
        if self.done:
            self._report_rest(pieces)
        else:
            self._finish()

    def _report_rest(self, pieces: Any) -> None:
        """Logs that pieces are left over, as far as that can be known without calling the application."""
        if pieces.__class__ in _AT_HAND:
            self._report_excess(sum(len(piece) for piece in pieces if piece.__class__ is bytes))

    @staticmethod
    def _is_small(result: list[Any] | tuple[Any, ...]) -> bool:
        return all(piece.__class__ is bytes for piece in result) and sum(map(len, result)) <= PIECE

    def need_head(self) -> ResponseHead:
        """What start_response was given, as it must have been by now."""
        if self.head is None:
            raise LocalProtocolError("the application did not call start_response before its body (PEP 3333)")
        return self.head

    def _finish(self) -> None:
        if not self.started:
            self._send(b"", last=True)
            return
        short = not self.head_only and self._is_short()
        self._give(b"", (_CHUNKED if self._chunked else 0) | _LAST | (_CLOSE if short else 0))

    def _send(self, data: bytes, last: bool) -> None:
        if self.done:
            self._report_excess(len(data))
            return
        flags = 0
        prefix = b""
        if not self.started:
            prefix, flags = self._begin(data, last)
        if self._left >= 0:
            excess = len(data) - self._left
            data = data[: self._left]
            self._left -= len(data)
            last = last or self._left == 0
            self._report_excess(excess)
        if flags & _NO_BODY:
            self._report_excess(len(data))
            self._give(data, flags | _LAST, prefix)
            return
        if self._chunked:
            flags |= _CHUNKED
        short = last and self._is_short()
        self._give_pieces(data, flags, _LAST * last | _CLOSE * short, prefix)

    def _is_short(self) -> bool:
        """Whether bytes of the body are missing at its end, which is logged."""
        if self._left <= 0:
            return False
        _log.error("the application sent %d bytes less than its Content-Length; the connection is closed", self._left)
        return True

    def _begin(self, data: bytes, last: bool) -> tuple[bytes, int]:
        """The head's bytes and the flags of the first send: how is the end of the body told?"""
        head = self.need_head()
        if self.flags and self.broken is not None and head.status >= 500:
            raise BrokenRequestBody(*self.broken)
        self.started = True
        self.sent = 0
        self._chunked = False
        self._left = head.length
        if self.is_tunnel:
            self._left = -1
            return head.without_length, head.flags | _NO_BODY
        if head.bodiless or self.head_only:
            if head.length < 0 and last and not head.bodiless:
                return head.data, head.flags | _NO_BODY | _LENGTH
            self._left = -1
            return head.data, head.flags | _NO_BODY
        if head.length >= 0:
            return head.data, head.flags
        if last:
            self._left = len(data)
            return head.data + b"Content-Length: %d\r\n" % len(data), head.flags
        self._chunked = not self.http10
        return head.data, head.flags if self._chunked else head.flags | _CLOSE

    def _give_pieces(self, data: bytes, flags: int, end: int, prefix: bytes) -> None:
        if len(data) <= PIECE:
            self._give(data, flags | end, prefix)
            return
        size = len(data)
        # An error may keep this frame in a cycle, whose members the collector clears in any order. A memoryview that is
        # still exported then is read through NULL by CPython 3.11 and 3.12: what is exported here are the bytes.
        with ffi.from_buffer(data) as first:
            for start in range(0, size, PIECE):
                final = start + PIECE >= size
                self._give(first + start, flags | (end if final else 0), prefix, min(PIECE, size - start))
                if self.done:  # also: it was ended by others, while this waited
                    return
                flags &= ~_HEAD
                prefix = b""

    def _give(self, data: Any, flags: int, prefix: bytes = b"", size: int = -1) -> None:
        """Hands a piece to the core, and parks when its queue is full, or lets others run when it is their turn.

        Args:
            data: bytes, or a pointer to `size` of them.
        """
        endpoint = self.endpoint
        if size < 0:
            size = len(data)
        queued = _send(endpoint.core, self.handle, prefix, len(prefix), data, size, flags)
        if flags & _LAST:
            self.done = True
        if queued < 0:
            raise ClientGone("the client went away before its response was complete")
        if not flags & _NO_BODY:
            self.sent += size
        if self.done:
            return
        if queued >= endpoint.high_water:
            endpoint.send_now(self.handle)
            low_water = endpoint.high_water // 4  # as in readiness.c
            waited = False
            while not self.done and _queued(endpoint.core, self.handle) > low_water:
                endpoint.wait(self.handle)
                waited = True
            if waited:
                return
        self.spend(size)  # also when the queue was full: TLS may have emptied it without a wait

    def spend(self, size: int) -> None:
        """Counts a piece of so many bytes that left without waiting, and lets others run when it is their turn."""
        turns = self.endpoint.turns
        turns.left -= size + PIECE_COST
        if turns.left < 0:
            turns.take()

    def _report_excess(self, count: int) -> None:
        """Logs, once a response, that bytes of its body are dropped."""
        if count <= 0 or self.head_only or self.is_tunnel or self.head is None or self.head.status == 101:
            return
        if getattr(self, "_left", 0) == _REPORTED:  # a response that left in one piece has none
            return
        self._left = _REPORTED
        if self.head.bodiless or self.head.status == 205:
            _log.warning("a body of %d bytes or more was dropped: status %d has none", count, self.head.status)
        else:
            _log.error("the application sent more than its Content-Length; %d bytes or more were dropped", count)

    # ---- failing

    def is_fault(self, error: BaseException) -> bool:
        """Whether it is the application's: the client may leave, and one that writes need not know that it was HEAD."""
        if self.flags and isinstance(self.websocket, OwnedConnection):
            return False
        if isinstance(error, ResponseComplete):
            return not self.head_only and self.head is not None and not self.head.bodiless
        return not isinstance(error, (ClientGone, BrokenRequestBody, HandshakeRefused, WebSocketClosed))

    def fail(self, error: BaseException) -> None:
        """Ends the exchange after an exception: 500 if nothing was sent, else the connection breaks off."""
        core = self.endpoint.core
        if self.done:
            return
        self.done = True
        if self.started:
            only_end_tells = self._left < 0 and not self._chunked  # an orderly end would look like success
            lib.ss_conn_abort(core, self.handle, only_end_tells)
        elif isinstance(error, BrokenRequestBody):
            self.sent = 0
            self.head = ResponseHead(b"", error.status, -1)  # what the core answers, for the access log
            if lib.ss_conn_refuse(core, self.handle, error.refusal or lib.SS_BODY_TRUNCATED) < 0:
                lib.ss_conn_abort(core, self.handle, 0)
        elif isinstance(error, HandshakeRefused):
            self.refuse(error)
        else:
            self._answer(self.endpoint.failure_head(self.environ), b"Internal Server Error\n")

    def refuse(self, error: HandshakeRefused) -> None:
        """Answers a handshake that is none; what the application answers is for nobody."""
        self.endpoint.server.refusals.note_client(self.handle, f"refused with {error.status}: {error.message}")
        self.done = self.refused = True
        server = self.endpoint.head_cache.server
        self._answer(refusal_head(error.status, server), f"{error.message}\n".encode())

    def _answer(self, head: ResponseHead, body: bytes) -> None:
        """Sends a whole response of the server's own."""
        self.head = head
        self.started = True
        self.sent = 0 if self.head_only else len(body)
        flags = _HEAD | _LENGTH | _LAST | (_NO_BODY if self.head_only else 0)
        _send(self.endpoint.core, self.handle, head.data, head.size, body, len(body), flags)
