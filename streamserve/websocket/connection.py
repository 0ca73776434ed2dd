"""WebSocket, as applications hold it: messages in, messages out, to one or to many (RFC 6455).

A WSGI application finds one in `environ["wsgi.websocket"]` when a client offers to upgrade. The
101 leaves at its first use, so the application can still answer 401 or 404 like any other request.

Messages are read by `receive` in the greenlet of the request; or a handler gets them (`on_message` of a
WebSocketApplication), and then no greenlet is held while nothing comes. A connection's messages are handed over
one at a time, in order. What nobody takes waits in an inbox, which stops the peer when it is full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from streamserve.core import lib
from streamserve.errors import InvalidThreadUseError, LocalProtocolError
from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import Waiter
from streamserve.websocket.arguments import check_subprotocol, check_timeout, close_reason, header_pairs, ping_payload
from streamserve.websocket.deflate import Packed
from streamserve.websocket.delivery import Delivery
from streamserve.websocket.forwarding import Forwarding
from streamserve.websocket.inbox import Inbox
from streamserve.websocket.message import Close, Message, encoded

if TYPE_CHECKING:
    from streamserve.websocket.listener import Sockets

__all__ = ["WebSocket"]

_TEXT: int = lib.SS_WS_TEXT
_BINARY: int = lib.SS_WS_BINARY
_PING: int = lib.SS_WS_PING
_ELSEWHERE: int = lib.SS_ELSEWHERE
_send = lib.ss_ws_send
_send_text = lib.ss_ws_send_text


class WebSocket(Delivery):
    """One connection; made by the server.

    Attributes:
        environ: that of its request while that runs, then None: keep what you need of it.
        path: PATH_INFO of its request.
        protocol: the subprotocol that was agreed, None: none.
        close_code: how it ended (RFC 6455 section 7.4.1), None: it has not. 1005: the peer
            gave no code, 1006: it sent no Close.
        close_reason: what the peer said.
        deflate: how its messages are compressed, None: they are not.

    Example:
        >>> def app(environ, start_response):
        ...     websocket = environ["wsgi.websocket"]
        ...     for message in websocket:
        ...         websocket.send(message)
        ...     return []
    """

    __slots__ = (
        "__weakref__",
        "_core",
        "_handshake",
        "environ",
        "path",
        "protocol",
    )

    def __init__(self, sockets: Sockets, handle: int, environ: dict[str, Any], handshake: Any) -> None:
        super().__init__(sockets, handle)
        self._core: Any = None  # the loop, while a text can be sent just as it is
        self._handshake = handshake
        self.environ: dict[str, Any] | None = environ
        self.path: str = environ.get("PATH_INFO", "")
        self.protocol: str | None = None

    # ---- the beginning

    @property
    def accepted(self) -> bool:
        """The 101 has left."""
        return self._handshake is None

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers, in its order of preference (Sec-WebSocket-Protocol)."""
        offered = (self.environ or {}).get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
        return [name.strip() for name in offered.split(",") if name.strip()]

    def accept(
        self,
        subprotocol: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        *,
        origin_checked: bool = False,
        held: bool = False,
    ) -> None:
        """Sends the 101; the first use does it too, without a subprotocol or headers.

        Args:
            subprotocol: one of those that the client offers.
            headers: more fields of the response, such as Set-Cookie.
            origin_checked: the application has judged the page's origin itself: the setting does not count.
            held: the 101 leaves together with the first message, at the end of the loop's turn at the latest.

        Raises:
            HandshakeRefused: the client's handshake is none, or its origin may not; let it pass, the server answers.
            LocalProtocolError: it was accepted before, or the client did not offer the subprotocol.
            TypeError: subprotocol is neither str nor None, or headers are no pairs.
            WebSocketClosed: the client has gone.
        """
        check_subprotocol(subprotocol)
        pairs = header_pairs(headers)
        handshake, self._handshake = self._handshake, None
        if handshake is None:
            raise LocalProtocolError("the WebSocket was accepted before: call accept() first, and once")
        try:
            handshake(self, subprotocol, pairs, origin_checked, held)
        except BaseException:
            self._handshake = handshake
            raise
        self.protocol = subprotocol
        self._sockets.open[self.handle] = self
        self._sockets.receiving.add(self.handle)
        if self.deflate is None:
            self._core = self._sockets.core

    def _use(self) -> None:
        if self._handshake is not None:
            self.accept()

    # ---- messages in

    def receive(self, timeout: float | None = None) -> Message | None:
        """Returns the next message, str for text and bytes for binary; None when the connection has ended.

        With a handler it is for the handler's methods, while they run: what it returns does not come to `on_message`.

        Raises:
            TimeoutError: none came within `timeout` seconds.
            LocalProtocolError: another greenlet receives, or the messages are for the handler, no method of which runs.
            InvalidThreadUseError: this is not the thread that serves the connection.
            TypeError: timeout is neither a number nor None; ValueError: it is NaN.
        """
        if timeout is not None:
            check_timeout(timeout)
        if self._handshake is not None:
            self.accept()
        if self._inbox:
            return self._take()
        if self.close_code is not None:
            return None
        hub = self._sockets.hub
        waiter = self._waiter
        if (
            hub.thread_ident != get_ident()
            or (waiter is not None and waiter.greenlet is not None)
            or self._handler is not None
        ):
            self._check_receiver()
        if waiter is None:
            waiter = self._waiter = Waiter(hub)
        else:  # it has ended, which is why nobody wakes it between two waits
            waiter.done = False
        try:
            if timeout is None:
                waiter.park()
            elif not waiter.park_for(timeout):
                raise TimeoutError(f"no message came within {timeout:g} seconds")
        except BaseException:
            self._waiter = None
            raise
        message: Any = waiter.value
        waiter.greenlet = waiter.value = None
        if message.__class__ is Close:
            self._ended(message)
        if self.close_code is not None:
            return None
        return self._unpacked(message) if message.__class__ is Packed else message

    def _check_receiver(self) -> None:
        """Lets one greenlet at a time wait, in the thread of the connection; and beside a handler while that runs."""
        if self._sockets.hub.thread_ident != get_ident():
            raise InvalidThreadUseError("a WebSocket is received from in the thread that serves it")
        if self._waiter is not None and self._waiter.greenlet is not None:
            raise LocalProtocolError("another greenlet receives from this WebSocket: let one hand on what comes")
        if not self._busy:
            raise LocalProtocolError(
                "the messages of this WebSocket are for its handler: receive() works in on_message, while that runs"
            )
        if self._inbox is None:  # it has `finished` called when the method returns
            self._inbox = Inbox(self._sockets.core, self.handle)

    def _take(self) -> Message | None:
        inbox = self._inbox
        assert inbox is not None
        if inbox[0].__class__ is Close:  # it stays, for `on_close` and for whoever asks again
            self._ended(inbox[0])
            return None
        message = inbox.take()
        return self._unpacked(message) if message.__class__ is Packed else message

    def __iter__(self) -> Iterator[Message]:
        while (message := self.receive()) is not None:
            yield message

    # ---- messages out

    def send(self, message: Message | bytearray | memoryview, binary: bool | None = None) -> None:
        """Sends a message; waits while the client has not taken most of what was sent before.

        From another native thread it returns at once: the thread that serves the connection sends it.

        Args:
            message: str is sent as text, anything else as binary.
            binary: says so where the type does not: bytes that are UTF-8 may be text.

        Raises:
            WebSocketClosed: the connection has ended, or is ending.
            TypeError: message is neither str nor bytes.
        """
        core = self._core
        if core is not None and message.__class__ is str and binary is None:  # the common case of what follows
            data = message.encode()
            queued = _send_text(core, self.handle, data, len(data))
            if queued and not 0 < queued < self._sockets.high_water:
                self._not_taken(queued, _TEXT, data, 0)
            return
        data, opcode, flags = encoded(message), _TEXT if isinstance(message, str) else _BINARY, 0
        if binary is not None:
            opcode = _BINARY if binary else _TEXT
        if self._handshake is not None:
            self.accept()
        if self.deflate is not None:
            data, flags = self.deflate.pack(data)
        queued = _send(self._sockets.core, self.handle, opcode, data, len(data), flags)
        if not 0 <= queued < self._sockets.high_water:
            self._not_taken(queued, opcode, data, flags)

    def send_now(self, message: Message) -> int:
        """Sends a message without waiting, in the thread that serves the connection.

        Returns:
            The bytes that are queued now; below zero: the connection has ended.
        """
        data, flags = encoded(message), 0
        opcode = _TEXT if isinstance(message, str) else _BINARY
        if self.deflate is not None:
            data, flags = self.deflate.pack(data)
        return _send(self._sockets.core, self.handle, opcode, data, len(data), flags)

    def ping(self, payload: bytes = b"") -> None:
        """Asks for a sign of life; the answer is seen by the server alone.

        Raises:
            LocalProtocolError: payload is longer than 125 bytes.
            TypeError: payload is not bytes.
            WebSocketClosed: the connection has ended.
        """
        data = ping_payload(payload)
        self._use()
        queued = _send(self._sockets.core, self.handle, _PING, data, len(data), 0)
        if not 0 <= queued < self._sockets.high_water:
            self._not_taken(queued, _PING, data, 0)

    def _not_taken(self, queued: int, opcode: int, data: bytes, flags: int) -> None:
        """What the core answered to a message is not that there is room for more."""
        sockets = self._sockets
        if queued == _ELSEWHERE:
            sockets.hub.run_callback_threadsafe(_send, sockets.core, self.handle, opcode, data, len(data), flags)
            return
        if queued > 0:
            queued = sockets.drain(self.handle)
        if queued < 0:
            raise self._gone()

    # ---- the end

    @property
    def closed(self) -> bool:
        """Nothing more can be sent: the connection has ended, or close() was called."""
        return self.close_code is not None

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Sends Close; without effect when the connection has ended.

        Args:
            code: 1000 to 1014 or 3000 to 4999, as RFC 6455 section 7.4 has them.
            reason: at most 123 bytes of UTF-8.

        Raises:
            LocalProtocolError: the code or the reason may not go on the wire.
            TypeError: code is no int, or reason no str.
        """
        data = close_reason(code, reason)
        if self.close_code is not None:
            return
        self._use()
        sockets = self._sockets
        if sockets.hub.thread_ident != get_ident():
            sockets.hub.run_callback_threadsafe(self.close, code, reason)
            return
        lib.ss_ws_close(sockets.core, self.handle, code, data, len(data))
        self._ending(code, reason)

    def _ending(self, code: int, reason: str) -> None:
        """We closed it: nothing more is received. Where the peer was first, how it ended is for the peer to say."""
        inbox, self._inbox = self._inbox, None
        if inbox and inbox[-1].__class__ is Close:
            self._ended(inbox[-1])
            self._keep(inbox[-1])  # for `on_close`
        else:
            self.close_code, self.close_reason = code, reason
        if self._waiter is not None:
            self._waiter.wake()

    # ---- what the server does

    def handle_by(self, handler: Any) -> None:
        """Has a handler get the messages from now on, as a WebSocketApplication does; see `receive`."""
        self._use()
        self._end_wait("a handler was set: what comes now is for the handler")
        self._handler = handler
        self._sockets.receiving.discard(self.handle)
        waiting, self._inbox = self._inbox, None
        if waiting:
            self._sockets.deliver([(self, message) for message in waiting.take_all()])

    def hand_over(self, guest: Any) -> Sockets:
        """Has another object deal with all that comes from now on, the end too: see Sockets. This one is done.

        Returns:
            The WebSockets of the listener, for what the other object asks of them.
        """
        sockets = self._sockets
        self._handler = Forwarding(self, guest)  # for what a runner has already cut out of the payloads for this one
        if self.handle in sockets.open:
            sockets.open[self.handle] = guest
            sockets.receiving.discard(self.handle)
        waiting, self._inbox = self._inbox, None
        if waiting:
            sockets.deliver([(guest, message) for message in waiting.take_all()])
        return sockets

    def release(self, failed: bool) -> None:
        """The application has returned: without a handler that is the end."""
        self.environ = None
        if self.accepted and self._handler is None:
            self.close(lib.SS_WS_FAILED if failed else lib.SS_WS_NORMAL)

    def __repr__(self) -> str:
        state = f"closed with {self.close_code}" if self.closed else "open" if self.accepted else "not accepted"
        return f"<WebSocket {self.path} {state}>"
