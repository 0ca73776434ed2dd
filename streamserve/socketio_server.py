"""SocketIOServer: python-socketio's server on streamserve's engine.

    sio = SocketIOServer(wsgi_app=flask_app)

    @sio.event
    def message(sid, data):
        sio.emit("message", data, skip_sid=sid)

`streamserve module:sio` serves it; so does WSGIServer. Handlers, namespaces, rooms, acknowledgements, sessions and
managers are python-socketio's (its documentation holds); the clients below are ours: no greenlet is held while a
client is silent, and an emit waits for nobody. What it sends by WebSocket leaves before it returns, or with other
messages, at the end of the loop's turn at the latest: docs/websocket.md says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from greenlet import GreenletExit
from socketio import packet
from socketio.base_server import BaseServer
from socketio.pubsub_manager import PubSubManager
from socketio.server import Server

from streamserve.engine.admission import Admission
from streamserve.engine.answers import Answers
from streamserve.engine.arrivals import Arrivals
from streamserve.engine.events import Events, can_take
from streamserve.engine.handlers import HandlerFailed, call, call_class
from streamserve.engine.joining import can_join, join
from streamserve.engine.listeners import listen_beside_the_loop
from streamserve.engine.manager import fast
from streamserve.engine.options import check_serializer, check_site, named_options, number
from streamserve.engine.packets import NO_EVENT, PacketWriter, is_event, is_whole, parsed
from streamserve.engine.payloads import MalformedPayload
from streamserve.engine.server import EngineServer
from streamserve.engine.session import Frame, Session
from streamserve.loop.joining import sleep

__all__ = ["SocketIOServer"]

_ENDS = (SystemExit, KeyboardInterrupt, GreenletExit)


class SocketIOServer(Server):  # type: ignore[misc]
    """A Socket.IO server, and a WSGI application; arguments are those of `socketio.Server`, and:

    Args:
        wsgi_app: What answers requests outside `socketio_path`; None: 404 does.
        socketio_path: Where clients connect.
        connect_timeout: Seconds that a client may stay without having joined a namespace.
        max_namespaces: Namespaces that no handler names which one client may join, where `namespaces="*"` lets it.
        parser: Another name of `serializer`.
        max_queue: Bytes that may wait for one client; whom more wait for is ended.
        max_events: Events of one client whose handlers may run at once; meanwhile its next ones wait.

    Raises:
        ConfigurationError: an async_mode is asked for that is another server's, or an argument cannot be what it is.

    Example:
        >>> SocketIOServer(wsgi_app=app, cors_allowed_origins="*")
    """

    def __init__(
        self,
        *args: Any,
        wsgi_app: Callable[..., Iterable[bytes]] | None = None,
        socketio_path: str = "socket.io",
        connect_timeout: float = 45.0,
        max_namespaces: int = 100,
        parser: Any = None,
        **options: Any,
    ) -> None:
        named = {**named_options(BaseServer, args), **options}
        options.update(check_serializer(named, parser))
        check_site(named, wsgi_app, socketio_path, max_namespaces)
        connect_timeout = number("connect_timeout", connect_timeout)
        self.wsgi_app, self.max_namespaces = wsgi_app, max_namespaces
        self.path = f"/{socketio_path.strip('/')}/"
        super().__init__(*args, **options)
        if isinstance(self.manager, PubSubManager):
            listen_beside_the_loop(self.manager)
        fast(self.manager)
        self.admission = Admission(self.packet_class, self.eio.max_queue, self._overrun)
        self.arrivals = Arrivals(connect_timeout, self.eio.disconnect)
        self.writer = PacketWriter(self.packet_class)
        self.eio.reads_json = False
        kind = type(self)
        self._sends_by_itself = (
            kind._send_packet is SocketIOServer._send_packet
            and kind._send_eio_packet is SocketIOServer._send_eio_packet
        )
        if kind._handle_eio_message is SocketIOServer._handle_eio_message:
            self.eio.answers = Answers(self)
        if can_take(self, SocketIOServer):
            events = Events(self, kind._trigger_event is SocketIOServer._trigger_event)
            self.eio.take_events(events.take, self.async_handlers)

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serves a request."""
        path: str = environ.get("PATH_INFO", "")
        if path.startswith(self.path) or path == self.path[:-1]:
            return self.eio.handle_request(environ, start_response)  # type: ignore[no-any-return]
        if self.wsgi_app is not None:
            return self.wsgi_app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"Nothing is here; Socket.IO clients connect to {self.path}\n".encode()]

    # ---- out

    def sends_plainly(self) -> bool:
        """Whether an event may go to the clients directly: nobody has put something in the place of how it is sent."""
        replaced = self.__dict__
        return self._sends_by_itself and "_send_packet" not in replaced and "_send_eio_packet" not in replaced

    def send_frames(self, eio_sid: str, namespace: str, frames: list[Frame]) -> None:
        """Sends a packet; while its client's connect handler runs, it waits for the answer to its CONNECT."""
        if not self.admission.keeps(eio_sid, namespace, frames):
            self.eio.send_frames(eio_sid, frames)

    def _send_packet(self, eio_sid: str, pkt: Any) -> None:
        """Sends a packet; its attachments follow it with no other packet in between."""
        frames = self.writer.frames_of(pkt)
        namespace = pkt.namespace or "/"
        if pkt.packet_type not in (packet.CONNECT, packet.CONNECT_ERROR):
            self.send_frames(eio_sid, namespace, frames)
            return
        waiting = self.admission.end(eio_sid, namespace)
        self.eio.send_frames(eio_sid, [*frames, *waiting] if pkt.packet_type == packet.CONNECT else frames)

    def _overrun(self, eio_sid: str) -> None:
        """More waits for a client than may."""
        session = self.eio.sockets.get(eio_sid)
        if session is not None:
            self.eio.in_loop(session.overrun)

    def _send_eio_packet(self, eio_sid: str, eio_pkt: Any) -> None:
        """Sends a part of a packet: managers encode an event once for all its recipients."""
        if not self.admission.keeps_encoded(eio_sid, eio_pkt.encode()):
            self.eio.send_packet(eio_sid, eio_pkt)

    # ---- in

    def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        """A client joins a namespace: one that is not there, or a handler that fails, is told so exactly.

        A client that is gone when its handler returns leaves again: what it joined by then was not there to be left.

        Raises:
            MalformedPayload: it is in there already.
        """
        name = namespace or "/"
        if self.manager.sid_from_eio_sid(eio_sid, name) is not None:
            raise MalformedPayload(f"the client has joined {name[:40]} already")
        if not self._has_handlers(name):
            if self.namespaces != "*" and name not in self.namespaces:
                self._refuse(eio_sid, name, "Invalid namespace")
                return
            if self.namespaces == "*" and self._joined_unnamed(eio_sid) >= self.max_namespaces:
                self._refuse(eio_sid, name, "Too many namespaces")
                return
        session = self.eio.sockets.get(eio_sid)
        self.arrivals.end(eio_sid)
        self.admission.begin(eio_sid, name)
        try:
            if can_join(self):
                join(self, eio_sid, name, data)
            else:
                super()._handle_connect(eio_sid, namespace, data)
        except BaseException as error:  # a Timeout is none of Exception
            self.logger.exception("connect handler error")
            sid = self.manager.sid_from_eio_sid(eio_sid, name)
            if sid is not None:
                self.manager.disconnect(sid, name, ignore_queue=True)
            self._refuse(eio_sid, name, "Connection refused by server")
            if isinstance(error, _ENDS):
                raise
        finally:
            self.admission.end(eio_sid, name)
            if isinstance(session, Session) and session.ended is not None:
                self._handle_disconnect(eio_sid, name, session.ended)
            elif eio_sid in self.eio.sockets and not self.manager.namespaces_of(eio_sid):
                self.arrivals.begin(eio_sid)

    def _has_handlers(self, namespace: str) -> bool:
        """Whether a namespace is one that handlers name."""
        return namespace in self.handlers or namespace in self.namespace_handlers

    def _joined_unnamed(self, eio_sid: str) -> int:
        """How many namespaces a client has joined that no handler names."""
        return sum(not self._has_handlers(name) for name in self.manager.namespaces_of(eio_sid))

    def not_joined(self, eio_sid: str, namespace: str) -> None:
        """An event came for a namespace in which its client is not, or not any more.

        Raises:
            MalformedPayload: it has not joined any.
        """
        if eio_sid in self.arrivals:
            raise MalformedPayload("an event came before its client has joined a namespace")
        self.logger.warning("%s is not connected to namespace %s", eio_sid, namespace)

    def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        super()._handle_eio_connect(eio_sid, environ)
        self.arrivals.begin(eio_sid)

    def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self.arrivals.end(eio_sid)
        try:
            for namespace in self.manager.namespaces_of(eio_sid):
                self._handle_disconnect(eio_sid, namespace, reason)
        except BaseException:  # a kill: the others' handlers are called all the same
            self._handle_eio_disconnect(eio_sid, reason)
            raise
        self.environ.pop(eio_sid, None)
        self._binary_packet.pop(eio_sid, None)

    def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None:
        """A client leaves a namespace: whatever its handler comes to, it is gone from there."""
        name = namespace or "/"
        sid = self.manager.sid_from_eio_sid(eio_sid, name)
        if sid is not None and self.manager.begin_leaving(sid, name):
            self._leave(sid, eio_sid, name, reason or self.reason.CLIENT_DISCONNECT)

    def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """Has a client leave a namespace; see `socketio.Server.disconnect`."""
        name = namespace or "/"
        if not ignore_queue and not self.manager.can_disconnect(sid, name):
            return  # it is not here; another process may have it, which was told
        eio_sid = self.manager.eio_sid_from_sid(sid, name)
        if eio_sid is not None and self.manager.begin_leaving(sid, name):
            self.logger.info("Disconnecting %s [%s]", sid, name)
            self._leave(sid, eio_sid, name, self.reason.SERVER_DISCONNECT, told=True)

    def _leave(self, sid: str, eio_sid: str, namespace: str, reason: str, told: bool = False) -> None:
        """Lets go of a client that leaves, also where its handler is killed."""
        try:
            self._binary_packet.pop(eio_sid, None)
            if told:
                self._send_packet(eio_sid, self.packet_class(packet.DISCONNECT, namespace=namespace))
            self._trigger_event("disconnect", namespace, sid, reason)
        finally:
            self.manager.disconnect(sid, namespace, ignore_queue=True)

    def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: list[Any]) -> None:
        """An event that came as a packet; its handler begins before the client's next one is looked at."""
        session = self.eio.sockets.get(eio_sid)
        if self.async_handlers and isinstance(session, Session):
            session.wait_for_room()
        super()._handle_event(eio_sid, namespace, id, data)
        if self.async_handlers:
            sleep(0)

    def _handle_event_internal(self, server: Any, sid: str, eio_sid: str, data: Any, namespace: str, id: Any) -> None:
        """Calls the handler of such an event, and acknowledges it; in a greenlet of its own, if they may run beside.

        Raises:
            Exception: the handler's, where its caller waits for it.
        """
        session = self.eio.sockets.get(eio_sid)
        if isinstance(session, Session):
            session.room -= 1
        try:
            super()._handle_event_internal(server, sid, eio_sid, data, namespace, id)
        except Exception:
            if not self.async_handlers:
                raise
            self.logger.exception("handler of %r failed", data[0])
        finally:
            if isinstance(session, Session):
                session.finished()

    def _get_event_handler(self, event: str, namespace: str, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The handler of an event. One that a client calls "*" is none of its own: it goes to the handler of all."""
        if event == "*":
            handler, found = super()._get_event_handler("", namespace, args)
            return handler, ("*", *found[1:]) if handler else found
        return super()._get_event_handler(event, namespace, args)  # type: ignore[no-any-return]

    def _trigger_event(self, event: Any, namespace: str, *args: Any) -> Any:
        """Calls the handler of an event, once; its name is text, or a number.

        Raises:
            HandlerFailed: that of connect raised TypeError.
        """
        if event in self.reserved_events:
            return self._trigger_reserved(event, namespace, args)
        handler, found = self._get_event_handler(event, namespace, args)
        if handler:
            return handler(*found)
        handler, found = self._get_namespace_handler(namespace, args)
        return handler.trigger_event(str(event), *found) if handler else self.not_handled  # it makes a method's name

    def _trigger_reserved(self, event: str, namespace: str, args: tuple[Any, ...]) -> Any:
        """Calls the handler of connect or disconnect; the client of one that fails is let go of all the same."""
        try:
            handler, found = self._get_event_handler(event, namespace, args)
            if handler:
                return call(handler, found)
            handler, found = self._get_namespace_handler(namespace, args)
            return call_class(handler, event, found) if handler else self.not_handled
        except BaseException as error:  # a Timeout is none of Exception
            if event == "disconnect" and not isinstance(error, _ENDS):
                self.logger.exception("disconnect handler error")
            elif isinstance(error, TypeError):
                raise HandlerFailed(f"{type(error).__name__}: {error}") from error
            else:
                raise

    def _refuse(self, eio_sid: str, namespace: str, message: str) -> None:
        refusal = self.packet_class(packet.CONNECT_ERROR, data={"message": message}, namespace=namespace)
        self._send_packet(eio_sid, refusal)

    def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        """A message of a client, or an attachment of the one before.

        Raises:
            MalformedPayload: it is no packet of Socket.IO; its connection ends.
        """
        pkt = self._binary_packet.get(eio_sid)
        if self.packet_class.uses_binary_events and (pkt is None) == isinstance(data, bytes):
            raise MalformedPayload("an attachment came without its event, or an event before its attachments")
        if pkt is None and data == "0":
            self._handle_connect(eio_sid, None, None)  # what every client sends first, without a packet
        elif pkt is None:
            self._dispatch(eio_sid, parsed(self.packet_class, self.writer.codec, data))
        elif is_whole(pkt, data):
            del self._binary_packet[eio_sid]
            self._dispatch_data(eio_sid, pkt, pkt.packet_type == packet.BINARY_EVENT)

    def _dispatch(self, eio_sid: str, pkt: Any) -> None:
        kind = pkt.packet_type
        if kind == packet.CONNECT:
            self._handle_connect(eio_sid, pkt.namespace, pkt.data)
        elif kind == packet.DISCONNECT:
            self._handle_disconnect(eio_sid, pkt.namespace, self.reason.CLIENT_DISCONNECT)
        elif kind in (packet.EVENT, packet.ACK):
            self._dispatch_data(eio_sid, pkt, kind == packet.EVENT)
        elif kind not in (packet.BINARY_EVENT, packet.BINARY_ACK):
            raise MalformedPayload(f"a client does not send packets of type {kind}")
        elif self.manager.sid_from_eio_sid(eio_sid, pkt.namespace or "/") is None:
            raise MalformedPayload("a binary event came for a namespace that the client has not joined")
        else:
            self._binary_packet[eio_sid] = pkt

    def _dispatch_data(self, eio_sid: str, pkt: Any, event: bool) -> None:
        """An event or an acknowledgement, whole."""
        data = pkt.data
        if not isinstance(data, list) or (event and not is_event(data)):
            raise MalformedPayload(NO_EVENT)
        if event and data[0] in self.reserved_events:  # a subclass may have more of them
            raise MalformedPayload(f"{data[0]!r} is no event that a client may send")
        if eio_sid in self.arrivals:
            self.not_joined(eio_sid, pkt.namespace or "/")
        elif event:
            self._handle_event(eio_sid, pkt.namespace, pkt.id, data)
        else:
            self._handle_ack(eio_sid, pkt.namespace, pkt.id, data)
