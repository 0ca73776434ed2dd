"""What reaches a WebSocket that was handed over: a runner may have cut it out of the payloads of a poll before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamserve.core import lib
from streamserve.websocket.message import Close, Message

if TYPE_CHECKING:
    from streamserve.websocket.connection import WebSocket

__all__ = ["Forwarding"]


class Forwarding:
    """The handler of a WebSocket that was handed over: its messages wait for their turn with the guest.

    Args:
        websocket: that was handed over.
        guest: to which; see Sockets.
    """

    __slots__ = ("_guest", "_websocket")

    def __init__(self, websocket: WebSocket, guest: Any) -> None:
        self._websocket = websocket
        self._guest = guest

    def on_message(self, message: Message) -> None:
        """Hands on a message."""
        self._websocket._sockets.deliver([(self._guest, message)])

    def on_close(self, reason: str) -> None:
        """Hands on the end."""
        code = self._websocket.close_code or lib.SS_WS_ABNORMAL
        close = Close(code.to_bytes(2, "big") + reason.encode())
        self._websocket._sockets.deliver([(self._guest, close)])
