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

    Args:
        apps: path, a regular expression for the whole of it → a WebSocketApplication subclass, or a WSGI application.

    Example:
        >>> Resource({"/chat": Chat, "/.*": flask_app})
    """

    def __init__(self, apps: Any) -> None:
        pairs = apps.items() if hasattr(apps, "items") else apps
        self._apps = [(re.compile(path), app) for path, app in pairs]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ.get("PATH_INFO", "")
        for pattern, app in self._apps:
            if pattern.fullmatch(path):
                return self._serve(app, environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"Nothing is here.\n"]

    def _serve(self, app: Any, environ: dict[str, Any], start_response: Any) -> Any:
        if not (isinstance(app, type) and issubclass(app, WebSocketApplication)):
            return app(environ, start_response)
        websocket = environ.get("wsgi.websocket")
        if websocket is None:
            raise HandshakeRefused("this path speaks WebSocket: ask for an upgrade (RFC 6455 section 4.1)", 426)
        client = app(websocket)
        websocket.accept(getattr(client, "protocol_name", lambda: None)())
        client.on_open()
        websocket.handle_by(client)
        return []
