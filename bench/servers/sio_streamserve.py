"""What streamserve serves in the Socket.IO cases: `bench.servers.sio_streamserve:app`, `:beating` with quick pings."""

from __future__ import annotations

from typing import Any

from streamserve.socketio_server import SocketIOServer


def _server(ping_interval: float) -> SocketIOServer:
    sio = SocketIOServer(ping_interval=ping_interval, ping_timeout=600)

    @sio.event  # type: ignore[untyped-decorator]
    def connect(sid: str, environ: dict[str, Any]) -> None:
        sio.enter_room(sid, "room")

    @sio.event  # type: ignore[untyped-decorator]
    def echo(sid: str, data: Any) -> Any:
        return data

    @sio.on("all")  # type: ignore[untyped-decorator]
    def to_all(sid: str, data: Any) -> None:
        sio.emit("all", data, to="room")

    return sio


app = _server(3600)
beating = _server(1)
