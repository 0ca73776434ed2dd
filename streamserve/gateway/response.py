"""What a response sends, and when: its head, the framing that tells its end, its pieces, and when to park.

The head leaves with the first bytes of the body, in one send. A body whose length
is not known is chunked for HTTP/1.1 and ends with the connection for 1.0. When
the client is slow the core queues up to its high water, then the greenlet parks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from streamserve.core import ffi, lib
from streamserve.errors import ClientGoneWhileSending, LocalProtocolError
from streamserve.gateway.request_body import BrokenRequestBody
from streamserve.gateway.response_head import ResponseHead
from streamserve.gateway.turns import PIECE_COST

if TYPE_CHECKING:
    from streamserve.gateway.endpoint import Endpoint
    from streamserve.gateway.environ import Environ
    from streamserve.gateway.raw_socket import OwnedConnection
    from streamserve.websocket.connection import WebSocket

_log = logging.getLogger("streamserve.wsgi")

PIECE = 65536
"""Most bytes that are given to the core at once: what a slow client can make it queue."""

_REPORTED = -2  # what is left of a body whose excess was logged

_HEAD: int = lib.SS_SEND_HEAD
_LENGTH: int = lib.SS_SEND_LENGTH
_CHUNKED: int = lib.SS_SEND_CHUNKED
_LAST: int = lib.SS_SEND_LAST
_CLOSE: int = lib.SS_SEND_CLOSE
_NO_BODY: int = lib.SS_SEND_NO_BODY
_send = lib.ss_conn_send
_queued = lib.ss_conn_queued


class Response:
    """The side of an exchange that sends; what it says of the attributes holds for both.

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

    # ---- the body, piece by piece

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
            raise ClientGoneWhileSending("the client went away before its response was complete")
        if not flags & _NO_BODY:
            self.sent += size
        if self.done:
            return
        if queued:  # with TLS it is not even encrypted, and PEP 3333 wants it sent while the application makes the next
            endpoint.send_now(self.handle)
        if queued >= endpoint.high_water:
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
