"""Acknowledgements that come while their client's events wait: told apart, to be taken before their turn.

A handler that has asked its client something and waits holds up an event of that client once `max_events` handlers
run: were the answer behind that event, neither would go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socketio import packet

from streamserve.core import lib
from streamserve.engine.packets import is_whole, parsed
from streamserve.engine.payloads import MalformedPayload
from streamserve.websocket.deflate import BadMessage, Packed

if TYPE_CHECKING:
    from streamserve.engine.session import Session
    from streamserve.socketio_server import SocketIOServer

__all__ = ["Answers"]

_ACK: int = lib.SS_ENGINE_ACK

_NO_ATTACHMENT = "a packet came before the attachments of the one before"

_PART = object()
"""A part of an acknowledgement whose attachments have not all come."""

_ACKS = (packet.ACK, packet.BINARY_ACK)


class Answers:
    """Reads the acknowledgements of a server's clients, and takes them."""

    __slots__ = ("_server",)

    def __init__(self, server: SocketIOServer) -> None:
        self._server = server

    def find(self, session: Session, message: Any) -> Any:
        """A message as an acknowledgement.

        Returns:
            Something for `take`; None: it is something else, or malformed, which its turn will show.

        Raises:
            MalformedPayload: an attachment was to come.
        """
        kind = message.__class__
        if kind is tuple:
            if session.begun_answer is not None:
                raise MalformedPayload(_NO_ATTACHMENT)
            return message if message[0] == _ACK else None
        if kind is Packed:
            assert session.deflate is not None
            try:
                message = session.deflate.unpack(message)
            except BadMessage:
                return None
        if len(message) > session.server.max_http_buffer_size:
            return None
        if isinstance(message, bytes):
            return self._read(session, message)
        return self._read(session, message[1:]) if message[:1] == "4" or session.begun_answer is not None else None

    def takes_bytes(self, session: Session) -> bool:
        """Whether bytes may be an acknowledgement, or a part of one."""
        return session.begun_answer is not None or not self._server.packet_class.uses_binary_events

    def _read(self, session: Session, data: str | bytes) -> Any:
        server, begun = self._server, session.begun_answer
        if begun is not None:
            if not isinstance(data, bytes):
                raise MalformedPayload(_NO_ATTACHMENT)
            if not is_whole(begun, data):
                return _PART
            session.begun_answer = None
            return begun
        kind = server.packet_class
        if kind.uses_binary_events and (isinstance(data, bytes) or data[:1] not in ("3", "6")):
            return None
        eio_sid = session.sid
        if eio_sid in server.arrivals:
            return None
        try:
            pkt = parsed(kind, server.writer.codec, data)
        except MalformedPayload:
            return None
        if pkt.packet_type not in _ACKS:
            return None
        if pkt.packet_type == packet.BINARY_ACK:
            if server.manager.sid_from_eio_sid(eio_sid, pkt.namespace or "/") is None:
                return None
            session.begun_answer = pkt
            return _PART
        return pkt

    def take(self, session: Session, answer: Any) -> None:
        """Has who waits for it go on.

        Raises:
            MalformedPayload: its data is none of an acknowledgement.
        """
        if session.closed or answer is _PART:
            return
        if answer.__class__ is tuple:
            session.server.take_event(session, *answer, 0, len(answer[-1]))  # type: ignore[call-arg]
        else:
            self._server._dispatch_data(session.sid, answer, False)
