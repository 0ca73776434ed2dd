"""A Socket.IO server for each test, and clients of python-socketio."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import engineio
import pytest
import socketio

from streamserve.socketio_server import SocketIOServer
from tests.support.server import Running
from tests.wsgi.conftest import Serve, quick_turns, serve

__all__ = ["Connect", "Host", "connect", "host", "quick_turns", "serve"]

Connect = Callable[..., socketio.Client]
Host = Callable[[SocketIOServer], Running]


class _EngineInOrder(engineio.Client):  # type: ignore[misc]
    def _trigger_event(self, event: str, *args: Any, **options: Any) -> Any:
        return super()._trigger_event(event, *args, **{**options, "run_async": False})

    def disconnect(self, abort: bool = False, reason: str | None = None) -> None:
        if threading.current_thread() is self.read_loop_task:  # it is told to go: it would wait for itself
            self.start_background_task(self.disconnect, abort, reason)
            return
        if self.state == "connected" and not abort:
            self.queue.join()  # else its writer may end before it has said goodbye, and its reader waits for a ping
        super().disconnect(abort, reason)


class InOrder(socketio.Client):  # type: ignore[misc]
    """Its handlers run in the order of the events: python-engineio's client has a thread for each of them."""

    def _engineio_client_class(self) -> type[engineio.Client]:
        return _EngineInOrder


def _let_go(client: socketio.Client) -> None:
    client.disconnect()
    if client.eio.ws is not None:  # websocket-client keeps its socket open when its goodbye could not be sent
        client.eio.ws.shutdown()


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
            client = InOrder(reconnection=False)
            for event, function in (on or {}).items():
                name, _, namespace = event.partition("@")
                client.on(name, function, namespace=namespace or "/")
            stack.callback(_let_go, client)
            url = f"http://127.0.0.1:{server.port}"
            client.connect(url, transports=request.param, wait_timeout=60, **options)
            return client

        yield open_client
