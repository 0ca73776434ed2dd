"""What streamserve serves in the WebSocket cases: `bench.servers.ws_streamserve:echo`, `:receive`, `:broadcast`."""

from __future__ import annotations

from typing import Any

from streamserve.websocket import Resource, WebSocket, WebSocketApplication
from streamserve.websocket import broadcast as to_all

_everyone: set[WebSocket] = set()


class Echo(WebSocketApplication):
    """Sends back what comes."""

    def on_message(self, message: str | bytes) -> None:
        """One message."""
        self.ws.send(message)


class Everyone(WebSocketApplication):
    """Sends what comes to all."""

    def on_open(self) -> None:
        """One more that gets them."""
        _everyone.add(self.ws)

    def on_message(self, message: str | bytes) -> None:
        """One message."""
        to_all(_everyone, message)

    def on_close(self, reason: str) -> None:
        """One fewer."""
        _everyone.discard(self.ws)


def receive(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Sends back what comes, in a greenlet for each connection."""
    websocket: WebSocket = environ["wsgi.websocket"]
    while (message := websocket.receive()) is not None:
        websocket.send(message)
    return []


echo = Resource({"/": Echo})
broadcast = Resource({"/": Everyone})
