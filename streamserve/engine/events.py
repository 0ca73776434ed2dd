"""Events that the core has told apart: from their JSON to the handler, and back as an acknowledgement.

This is the path of what comes most, so it says again, in fewer steps, what `socketio.Server` does for a packet of its
own: about 3 us an event, where that takes 30. tests/socketio/test_paths.py holds the two together.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from socketio import packet

from streamserve.core import lib
from streamserve.engine.json_codec import Attached
from streamserve.engine.manager import FastManager
from streamserve.engine.packets import NO_EVENT, NUMBERS, RESERVED
from streamserve.engine.payloads import MalformedPayload

if TYPE_CHECKING:
    from streamserve.engine.session import Session
    from streamserve.socketio_server import SocketIOServer

__all__ = ["Events", "can_take"]

_ACK: int = lib.SS_ENGINE_ACK
_NO_JSON = (ValueError, StopIteration, RecursionError)
_NOBODY: dict[str, Any] = {}

_WAYS = ("_handle_eio_message", "_handle_event", "_handle_event_internal", "_handle_ack")
"""Where a subclass has one of these of its own, events come by it."""


def can_take(server: SocketIOServer, original: type) -> bool:
    """Whether events may come this way: packets are python-socketio's, and no step of theirs is replaced."""
    kind = type(server)
    own = all(getattr(kind, name) is getattr(original, name) for name in _WAYS)
    return own and server.writer.codec is not None and isinstance(server.manager, FastManager)


class Events:
    """Takes the events of a server's clients.

    Args:
        server: the server.
        direct: `_trigger_event` is not replaced by a subclass: a handler may be called without it.
    """

    __slots__ = ("_codec", "_direct", "_encode", "_manager", "_plain", "_reserved", "_scan", "_server")

    def __init__(self, server: SocketIOServer, direct: bool) -> None:
        codec = server.writer.codec
        assert codec is not None
        self._server = server
        self._manager: FastManager = server.manager
        self._direct = direct
        self._codec, self._encode, self._scan = codec, codec.encode, codec.scan
        self._plain = codec.standard and server.sends_plainly()
        self._reserved = RESERVED.union(server.reserved_events)

    def take(self, session: Session, kind: int, number: int, namespace: str, text: str, start: int, end: int) -> None:
        """An event or acknowledgement; see EngineServer.take_events.

        Raises:
            MalformedPayload: its JSON is none of an event.
        """
        server, manager = self._server, self._manager
        try:
            data, stop = self._scan(text, start)
        except _NO_JSON:
            stop = -1
        if stop != end:
            data = self._codec.loads(text[start:end])  # says what is wrong with it, or that only spaces follow
        if (kind == _ACK or server._binary_packet) and self._is_no_event(session, kind, number, namespace, data):
            return
        name: Any = data[0] if data else None
        if (name.__class__ is not str and name.__class__ not in NUMBERS) or name in self._reserved:
            raise MalformedPayload(NO_EVENT)
        try:
            sid = manager.rooms[namespace][None]._invm.get(session.sid)
        except KeyError:  # nobody is there, or no more
            sid = None
        if manager.pending_connect or manager.pending_disconnect:
            sid = manager.connected_sid(session.sid, namespace)
        if getattr(server.logger, "level", 0) <= logging.INFO:
            server.logger.info('received event "%s" from %s [%s]', name, sid, namespace)
        if sid is None:
            return server.not_joined(session.sid, namespace)
        replaced = server.__dict__
        try:
            handler = server.handlers.get(namespace, _NOBODY).get(name)
            if handler is None or name == "*" or not self._direct or "_trigger_event" in replaced:
                answer = server._trigger_event(name, namespace, sid, *data[1:])
            else:
                answer = handler(sid, *data[1:])
            if number < 0 or answer is server.not_handled:
                return
            quickly = answer.__class__ is str and namespace == "/" and self._plain and "_send_packet" not in replaced
            if not quickly or "_send_eio_packet" in replaced or not session.acknowledge(number, answer):
                self._acknowledge(session, number, namespace, answer)
        except Exception:  # of the handler, or its answer is none that can be sent
            server.logger.exception("handler of %r failed", name)

    def _is_no_event(self, session: Session, kind: int, number: int, namespace: str, data: Any) -> bool:
        """Takes an acknowledgement.

        Raises:
            MalformedPayload: attachments of the packet before it have still to come, or its client has joined nothing.
        """
        if session.sid in self._server._binary_packet:
            raise MalformedPayload("an event came before the attachments of the one before")
        if kind == _ACK:
            if session.sid in self._server.arrivals:
                self._server.not_joined(session.sid, namespace)
            self._server._handle_ack(session.sid, namespace, number, data)
        return kind == _ACK

    def _acknowledge(self, session: Session, number: int, namespace: str, answer: Any) -> None:
        """Sends what a handler returned, whatever it is and whoever looks at packets."""
        server = self._server
        values = [] if answer is None else list(answer) if isinstance(answer, tuple) else [answer]
        if not server.sends_plainly():
            ack = server.packet_class(packet.ACK, namespace=namespace, id=number, data=values)
            server._send_packet(session.sid, ack)
            return
        if namespace == "/":
            try:
                session.send_text(f"43{number}{self._encode(values)}")
                return
            except Attached:
                pass
        session.send_frames(server.writer.frames(packet.ACK, namespace, number, values))
