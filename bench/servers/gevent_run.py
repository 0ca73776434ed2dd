# mypy: disable-error-code="import-not-found, import-untyped"
"""gevent.pywsgi without access log, with TCP_NODELAY on each accepted socket and room in the backlog."""

from __future__ import annotations

import socket
from typing import Any

from gevent.pywsgi import WSGIServer

from bench.servers.arguments import app_and_port


class NoDelayServer(WSGIServer):  # type: ignore[misc]  # gevent has no types
    """A WSGIServer whose answers never wait for Nagle's algorithm."""

    def handle(self, client_socket: Any, address: Any) -> None:
        """Set the option, then handle the connection as ever."""
        client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle(client_socket, address)


app, port = app_and_port()
NoDelayServer(("127.0.0.1", port), app, backlog=1024, log=None).serve_forever()
