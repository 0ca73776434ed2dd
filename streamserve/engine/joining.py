"""A client joins a namespace: what `socketio.Server._handle_connect` does, in fewer steps.

It is half of what Socket.IO itself costs of a connection. tests/socketio holds both ways to the same behaviour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socketio import exceptions, packet

if TYPE_CHECKING:
    from streamserve.socketio_server import SocketIOServer

__all__ = ["can_join", "join"]


def can_join(server: SocketIOServer) -> bool:
    """Whether clients may join this way: packets are python-socketio's, and go to the client directly."""
    return server.writer.codec is not None and server.sends_plainly() and not server.always_connect


def join(server: SocketIOServer, eio_sid: str, namespace: str, data: Any) -> None:
    """Asks the connect handler whether a client may join, and tells the client.

    Args:
        data: what the client sent to identify itself; nothing: it did not.
    """
    manager, codec = server.manager, server.writer.codec
    assert codec is not None
    sid = manager.pre_connect(eio_sid, namespace)
    refusal: Any = None
    if sid is None:
        _refuse(server, eio_sid, namespace, "Unable to connect")
        return
    try:
        if _asked(server, eio_sid, namespace, sid, data) is False:
            refusal = exceptions.ConnectionRefusedError().error_args
    except exceptions.ConnectionRefusedError as refused:
        refusal = refused.error_args
    except ConnectionRefusedError:
        refusal = {"message": "Connection refused by server"}
    if refusal is not None:
        _refuse(server, eio_sid, namespace, refusal)
        manager.disconnect(sid, namespace, ignore_queue=True)
        return
    name = "" if namespace == "/" else namespace + ","
    frame = f'4{packet.CONNECT}{name}{{"sid":{codec.encode(sid)}}}'
    server.eio.send_frames(eio_sid, [frame, *server.admission.end(eio_sid, namespace)])
    manager.connect(sid, namespace)


def _asked(server: SocketIOServer, eio_sid: str, namespace: str, sid: str, data: Any) -> Any:
    """What the connect handler says. One that takes no `auth` may be meant where its call raises TypeError."""
    environ = server.environ[eio_sid]
    if data:
        return server._trigger_event("connect", namespace, sid, environ, data)
    try:
        return server._trigger_event("connect", namespace, sid, environ, None)
    except TypeError as error:
        try:
            return server._trigger_event("connect", namespace, sid, environ)
        except TypeError:
            raise error from None


def _refuse(server: SocketIOServer, eio_sid: str, namespace: str, refusal: Any) -> None:
    server._send_packet(eio_sid, server.packet_class(packet.CONNECT_ERROR, data=refusal, namespace=namespace))
