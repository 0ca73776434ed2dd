"""What upstream's tests take for granted, where this engine says the same in other words.

They make `socketio.server.Server` and `engineio.server.Server` by those names, replace `engineio.Server` by a mock,
send requests without the `transport` that the protocol asks for, and compare the one line that upstream refuses with.
"""

import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import engineio.server
import socketio.server

from streamserve.engine.server import EngineServer
from streamserve.socketio_server import SocketIOServer


def speak(package: str) -> None:
    """Makes the classes that the tests of this package use ours."""
    assert socketio.Server is SocketIOServer and engineio.Server is EngineServer
    if package == "python-socketio":
        socketio.server.Server = socketio.Server = _SocketIO
        web_server = ModuleType("tests.web_server")
        web_server.SocketIOWebServer = _WebServer  # type: ignore[attr-defined]
        sys.modules["tests.web_server"] = web_server
        socketio.Client.connect = _connect
    elif package == "python-engineio":
        engineio.server.Server = engineio.Server = _EngineIO


class _SocketIO(SocketIOServer):
    """Its engine may be a mock, which is sent a packet at a time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if isinstance(self.eio, Mock):
            self.eio.send_frames.side_effect = self._send_one_by_one

    def _engineio_server_class(self) -> Any:
        return engineio.Server

    def _send_one_by_one(self, eio_sid: str, frames: Iterable[str | bytes]) -> None:
        for frame in frames:
            self.eio.send(eio_sid, frame[1:] if isinstance(frame, str) else frame)


class _EngineIO(EngineServer):
    """Takes polling for granted, and refuses as upstream does."""

    def handle_request(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        if "transport=" not in query:
            environ["QUERY_STRING"] = query + "&transport=polling"

        def start(status: str, headers: Any) -> Any:
            return start_response("400 BAD REQUEST" if status[:3] in ("400", "403") else status, headers)

        return super().handle_request(environ, start)


_connect_by_name = socketio.Client.connect


def _connect(client: socketio.Client, url: str, *args: Any, **options: Any) -> None:
    _connect_by_name(client, url.replace("localhost:8900", f"127.0.0.1:{_WebServer.port}"), *args, **options)


class _WebServer:
    """Serves a Socket.IO server for the tests of the Admin UI, on a free port in place of the one that they name."""

    port = 0

    def __init__(self, sio: Any) -> None:
        self.app = socketio.WSGIApp(sio)
        self.sio = sio

    def start(self, port: int = 8900) -> None:
        from streamserve.wsgi import WSGIServer

        self.server = WSGIServer("127.0.0.1:0", self.app, log=None)
        self.server.start()
        _WebServer.port = self.server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.sio.shutdown()
        self.server.stop()
