"""A server for each test, on both backends, and clients of the websocket-client package."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import websocket

from tests.support.server import Running
from tests.wsgi.conftest import Serve, quick_turns, serve

__all__ = ["Connect", "Serve", "connect", "quick_turns", "serve"]

Connect = Callable[..., websocket.WebSocket]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens a client: connect(server, path, **options of create_connection); closed after the test."""
    with ExitStack() as stack:

        def open_client(server: Running, path: str = "/", **options: Any) -> websocket.WebSocket:
            client = websocket.create_connection(f"ws://127.0.0.1:{server.port}{path}", timeout=60, **options)
            stack.callback(client.shutdown)
            return client

        yield open_client
