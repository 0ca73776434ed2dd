"""One request and its response: start_response, write, what the application returned, and what becomes of failures.

What goes out when is the matter of response.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamserve.core import lib
from streamserve.errors import (
    ClientGone,
    ClientGoneWhileSending,
    HandshakeRefused,
    LocalProtocolError,
    ResponseComplete,
    WebSocketClosed,
)
from streamserve.gateway.client_faults import CLIENT_GONE
from streamserve.gateway.file_wrapper import FileWrapper, send_file
from streamserve.gateway.handshake import refusal_head
from streamserve.gateway.raw_socket import OwnedConnection
from streamserve.gateway.request_body import BrokenRequestBody
from streamserve.gateway.request_ids import NAME
from streamserve.gateway.response import PIECE, Response
from streamserve.gateway.response_head import ResponseHead
from streamserve.logs.log_line import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamserve.loop.waiter import Waiter

_AT_HAND: Any = (type(iter([])), type(iter(())))  # iterators whose next piece costs nothing and comes at once

_HEAD: int = lib.SS_SEND_HEAD
_LENGTH: int = lib.SS_SEND_LENGTH
_LAST: int = lib.SS_SEND_LAST
_NO_BODY: int = lib.SS_SEND_NO_BODY
_send = lib.ss_conn_send


class Exchange(Response):
    """A request whose response the application is making.

    Its attributes are those of `Response`; `Endpoint.serve` sets them.
    """

    __slots__ = ()

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
            ClientGoneWhileSending: the client has left, or takes nothing.
        """
        if not isinstance(data, bytes):
            raise LocalProtocolError(f"write() takes bytes, not {type(data).__name__}")
        if not data:
            self.spend(0)
        elif self.done:
            raise ResponseComplete(f"write() of {len(data)} bytes after the end of the response")
        else:
            try:
                self._send(data, last=False)
            except ClientGoneWhileSending:
                raise
            except ClientGone as gone:  # it waited for this client alone: to the application the send has failed
                raise ClientGoneWhileSending(str(gone)) from None

    # ---- sending what the application returned

    def respond(self, result: Any) -> None:
        """Sends the iterable that the application returned, to its end or that of the response."""
        if (self.flags and self.refused) or (self.done and result == []):
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

    # ---- failing

    def cause(self, error: BaseException) -> BaseException:
        """What an exception of the application comes from: what its client did, where it has made an error of that.

        Libraries wrap what they catch, and few applications know that an upload may break off: whatever fails behind
        that is no fault of theirs. Their own use of WSGI is, as is what ends a greenlet or the process.
        """
        told = self.endpoint.departures.known.get(self.handle)
        left = told is not None and told.left
        if isinstance(error, ClientGone):
            return error if left or self.client_is_gone() else _of_another_request(error)
        known = (LocalProtocolError, BrokenRequestBody, HandshakeRefused, WebSocketClosed)
        if self.done or isinstance(error, known) or not isinstance(error, Exception):
            return error
        if self.flags and self.broken is not None and (not self.started or _comes_from(error, BrokenRequestBody)):
            return BrokenRequestBody(*self.broken)
        if (left and not self.started) or (_comes_from(error, ClientGone) and self.client_is_gone()):
            return ClientGone("the client went away before its response was complete")
        return error

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
        elif isinstance(error, ClientGone):
            self.sent = 0
            self.head = ResponseHead(b"", CLIENT_GONE, -1)  # for the access log
            lib.ss_conn_abort(core, self.handle, 0)
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


def _comes_from(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether it was raised for an error of that kind, or while one was handled."""
    seen = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:  # who sets causes by hand can make a ring of them
        if isinstance(at, kind):
            return True
        seen.add(id(at))
        at = at.__cause__ or at.__context__
    return False


def _of_another_request(error: ClientGone) -> LocalProtocolError:
    """It came by a future, or what else several requests share: this client is there, and waits for an answer."""
    foreign = LocalProtocolError("it raised the ClientGone of another request, and its own client is still there")
    foreign.__cause__ = error
    return foreign
