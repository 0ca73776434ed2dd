"""A Socket.IO server for each test, and clients of python-socketio."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import socketio

from streamserve.socketio_server import SocketIOServer
from tests.support.server import Running
from tests.wsgi.conftest import Serve, quick_turns, serve

__all__ = ["Connect", "Host", "connect", "host", "quick_turns", "serve"]

Connect = Callable[..., socketio.Client]
Host = Callable[[SocketIOServer], Running]


@pytest.fixture
def host(serve: Serve) -> Host:
    """Serves a SocketIOServer."""

    def start(sio: SocketIOServer) -> Running:
        return serve(sio, websocket_origins="*")

    return start


@pytest.fixture(params=[["polling"], ["websocket"], None], ids=["polling", "websocket", "change"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Connects a client: connect(server, namespaces=…, auth=…, on={event: function}); disconnected after the test."""
    with ExitStack() as stack:

        def open_client(server: Running, on: dict[str, Any] | None = None, **options: Any) -> socketio.Client:
            client = socketio.Client(reconnection=False)
            for event, function in (on or {}).items():
                name, _, namespace = event.partition("@")
                client.on(name, function, namespace=namespace or "/")
            stack.callback(client.disconnect)
            url = f"http://127.0.0.1:{server.port}"
            client.connect(url, transports=request.param, wait_timeout=60, **options)
            return client

        yield open_client
