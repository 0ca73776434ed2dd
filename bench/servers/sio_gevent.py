"""python-socketio on gevent with gevent-websocket: sio_gevent.py app|beating PORT."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
from typing import Any  # noqa: E402

import socketio  # noqa: E402
from gevent import pywsgi  # noqa: E402
from geventwebsocket.handler import WebSocketHandler  # type: ignore[import-not-found]  # noqa: E402

mode, port = sys.argv[1:]
sio = socketio.Server(
    async_mode="gevent", ping_interval=1 if mode == "beating" else 3600, ping_timeout=600, monitor_clients=False
)


@sio.event  # type: ignore[untyped-decorator]
def connect(sid: str, environ: dict[str, Any]) -> None:
    """As the other servers."""
    sio.enter_room(sid, "room")


@sio.event  # type: ignore[untyped-decorator]
def echo(sid: str, data: Any) -> Any:
    """The acknowledgement has what came."""
    return data


@sio.on("all")  # type: ignore[untyped-decorator]
def to_all(sid: str, data: Any) -> None:
    """To everybody."""
    sio.emit("all", data, to="room")


server = pywsgi.WSGIServer(
    ("127.0.0.1", int(port)), socketio.WSGIApp(sio), handler_class=WebSocketHandler, log=None, backlog=1024
)
server.serve_forever()
