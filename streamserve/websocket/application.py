"""WebSockets by path and class, in gevent-websocket's shape."""

from __future__ import annotations

import re
from typing import Any

from streamserve.errors import HandshakeRefused
from streamserve.websocket.connection import WebSocket
from streamserve.websocket.message import Message

__all__ = ["Resource", "WebSocketApplication"]


class WebSocketApplication:
    """One client of a Resource: a subclass says what is done with its messages. No greenlet is held between them.

    Args:
        ws: the connection.
    """

    def __init__(self, ws: WebSocket) -> None:
        self.ws = ws

    def on_open(self) -> None:
        """The connection has begun."""

    def on_message(self, message: Message) -> None:
        """A message came."""

    def on_close(self, reason: str) -> None:
        """The connection has ended; `ws.close_code` says how."""


class Resource:
    """A WSGI application that has WebSockets at some paths.

    A handshake goes to the first WebSocketApplication whose path matches, any other request to the first WSGI
    application. A handshake that no WebSocketApplication is there for goes there too: it may speak WebSocket itself.

    Args:
        apps: path, a regular expression for its beginning → a WebSocketApplication subclass, or a WSGI application; a
            dict, or pairs. None: there is nothing.

    Example:
        >>> Resource({"/chat$": Chat, "/": flask_app})
    """

    def __init__(self, apps: Any = None) -> None:
        pairs = apps.items() if hasattr(apps, "items") else apps or ()
        self._apps = [(re.compile(path), app, _speaks_websocket(app)) for path, app in pairs]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ.get("PATH_INFO", "")
        websocket = environ.get("wsgi.websocket")
        if websocket is not None and (client_class := self._first(path, True)) is not None:
            return _begin(client_class, websocket)
        app = self._first(path, False)
        if app is not None:
            return app(environ, start_response)
        if self._first(path, True) is not None:
            raise HandshakeRefused("this path speaks WebSocket: ask for an upgrade (RFC 6455 section 4.1)", 426)
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"Nothing is here.\n"]

    def _first(self, path: str, for_websocket: bool) -> Any:
        """The first application of a kind that is there for a path."""
        for pattern, app, speaks_websocket in self._apps:
            if speaks_websocket == for_websocket and pattern.match(path):
                return app
        return None


def _speaks_websocket(app: Any) -> bool:
    return isinstance(app, type) and issubclass(app, WebSocketApplication)


def _begin(client_class: Any, websocket: WebSocket) -> list[bytes]:
    client = client_class(websocket)
    websocket.accept(getattr(client, "protocol_name", lambda: None)() or None)  # there, "" is none
    client.on_open()
    websocket.handle_by(client)
    return []
