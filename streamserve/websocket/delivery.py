"""What comes for a WebSocket, on its way to the application: to `receive` or to a handler, one at a time, in order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from streamserve.core import lib
from streamserve.errors import LocalProtocolError, WebSocketClosed
from streamserve.websocket.deflate import BadMessage, Deflate, Packed
from streamserve.websocket.inbox import Inbox
from streamserve.websocket.message import Close, Message

if TYPE_CHECKING:
    from streamserve.loop.waiter import Waiter
    from streamserve.websocket.listener import Sockets

__all__ = ["Delivery"]

_log = logging.getLogger("streamserve.websocket")


class Delivery:
    """The half of a WebSocket that the server gives messages to."""

    __slots__ = (
        "_busy",
        "_handler",
        "_inbox",
        "_sockets",
        "_waiter",
        "close_code",
        "close_reason",
        "deflate",
        "handle",
    )

    def __init__(self, sockets: Sockets, handle: int) -> None:
        self._sockets = sockets
        self._handler: Any = None
        self._inbox: Inbox | None = None
        self._waiter: Waiter | None = None
        self._busy = False
        self.handle = handle
        self.deflate: Deflate | None = None
        self.close_code: int | None = None
        self.close_reason = ""

    if TYPE_CHECKING:

        def close(self, code: int = 1000, reason: str = "") -> None:
            """Ends the connection."""

    def arrived(self, message: Any) -> None:
        """A message for `receive`: the first goes straight to who waits, what follows is kept for later."""
        if message.__class__ is Close:  # it is kept in any case: whatever comes to an end here hears of it
            self._keep(message)
            if self._waiter is not None:
                self._waiter.wake(message)
        elif self._waiter is None or not self._waiter.wake(message):
            self._keep(message)

    def _keep(self, message: Any) -> None:
        if self.close_code is not None and message.__class__ is not Close:
            return
        if self._inbox is None:
            self._inbox = Inbox(self._sockets.core, self.handle)
        self._inbox.put(message)

    def handled(self, message: Any) -> None:
        """Gives a message to the handler, behind those that it has not finished; in a runner.

        While a method of the handler runs, `receive` may be waiting for it there.
        """
        if self._busy:
            self.arrived(message)
            return
        self._busy = True
        self._call(message)
        self.finished()

    def finished(self) -> None:
        """The handler has done what it had: it gets what came meanwhile, and nobody else does from now on."""
        self._busy = True
        try:
            while self._inbox:
                message = self._inbox.take()
                if message.__class__ is Close:
                    self._inbox = None
                self._call(message)
            self._inbox = None
        finally:
            self._busy = False
            self._end_wait("the method of the handler that was running has ended: what comes now is for the handler")

    def _end_wait(self, why: str) -> None:
        """Lets a greenlet that waits in `receive` know that nothing will come to it."""
        if self._waiter is not None and self._waiter.greenlet is not None:
            self._waiter.fail(LocalProtocolError(f"{why} of this WebSocket, not for receive()"))

    def _call(self, message: Any) -> None:
        """Runs the handler: what it raises is logged, and ends the connection."""
        try:
            if message.__class__ is Close:
                self._ended(message)
                self._handler.on_close(message.reason)
            elif self.close_code is None:
                if message.__class__ is Packed:
                    message = self._unpacked(message)
                if message is not None:
                    self._handler.on_message(message)
        except BaseException as error:
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        """What a handler raises is logged, and ends the connection; that this one has ended is nobody's fault."""
        if isinstance(error, WebSocketClosed) and vars(error).get("websocket") is self:
            return  # its Close is here, or will come
        _log.error("the handler of a WebSocket failed", exc_info=error)
        self.close(lib.SS_WS_FAILED)

    def _unpacked(self, packed: Packed) -> Message | None:
        """Inflated only now: while it waits, a message costs no more than what the client sent."""
        assert self.deflate is not None
        try:
            return self.deflate.unpack(packed)
        except BadMessage as bad:
            self.close(bad.code)
            return None

    def _gone(self) -> WebSocketClosed:
        """The error of who sends now. It says whose it is: a handler may fail on another connection than its own."""
        ended = self._inbox[-1] if self._inbox and self._inbox[-1].__class__ is Close else None
        if self.close_code is None and ended is not None:  # the reader has yet to come to it
            gone = WebSocketClosed(ended.code, ended.reason)
        else:
            gone = WebSocketClosed(self.close_code or lib.SS_WS_ABNORMAL, self.close_reason)
        vars(gone)["websocket"] = self
        return gone

    def _ended(self, close: Close) -> None:
        if self.close_code is None:
            self.close_code, self.close_reason = close.code, close.reason
