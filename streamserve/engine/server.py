"""EngineServer: python-engineio's server with sessions of ours.

What applications and python-socketio call stays as upstream has it. Requests are answered here: upstream's answers
to what the protocol does not allow are others than those of Node's server, which clients are written for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from engineio.server import Server

from streamserve.core import ffi
from streamserve.engine.driver import driver
from streamserve.engine.incoming import MAX_EVENTS
from streamserve.engine.opening import new_name, open_packet
from streamserve.engine.options import check_mode, check_options
from streamserve.engine.payloads import MalformedPayload, Payload
from streamserve.engine.probe import Probe
from streamserve.engine.replies import (
    BAD_METHOD,
    BAD_REQUEST,
    BAD_VERSION,
    FORBIDDEN,
    UNKNOWN_SESSION,
    UNKNOWN_TRANSPORT,
    Refused,
    Reply,
    polled,
    received,
    too_large,
)
from streamserve.engine.session import Frame, Session
from streamserve.gateway.departures import spare_request
from streamserve.gateway.exchange import Exchange
from streamserve.gateway.raw_socket import KEYS
from streamserve.logs.complaints import Complaints
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

__all__ = ["EngineServer"]

_OF_THE_HANDSHAKE = ("wsgi.websocket", *KEYS)

MAX_QUEUE = 1 << 20
"""Bytes that may wait for one client."""

LONGEST_REMEMBERED = 40
"""Characters: of a query with a session's name or a random number no second one comes."""

MOST_OF_A_MESSAGE = (1 << 32) - 1
"""Bytes, as the core counts them."""

MOST_OF_AN_INDEX = 20
"""Digits of the number of a JSONP request."""

Environ = dict[str, Any]
TakeEvent = Callable[[Any, int, int, str, str, int, int], None]


_remembered = lru_cache(maxsize=64)(parse_qs)


def _parsed(query: str) -> dict[str, list[str]]:
    """The fields of a query; all handshakes by WebSocket have the same."""
    return _remembered(query) if len(query) < LONGEST_REMEMBERED else parse_qs(query)


def _not_told_apart(*_: Any) -> None:
    raise AssertionError("the core was not asked for events")


class EngineServer(Server):  # type: ignore[misc]
    """An Engine.IO server whose clients hold no greenlet; arguments are those of `engineio.Server`, and:

    Args:
        async_mode: None or "streamserve"; after `monkey.patch_all(socketio=True)` also what upstream has for servers
            of threads and greenlets, which then means the same.
        max_queue: bytes that may wait for one client; whom more wait for is ended.
        max_events: events of one client whose handlers may run at once; meanwhile its next ones wait.

    Raises:
        ConfigurationError: another async_mode is asked for, or an option cannot be what it is.

    Attributes:
        hub: the loop that serves the clients, None: there was none yet.
        epoch: counts the changes of transports.
        answers: of engine/answers.py; None: the messages are none of Socket.IO.
        reads_json: the handler of messages gets what is JSON decoded, as python-engineio does it.
    """

    def __init__(
        self,
        async_mode: str | None = None,
        max_queue: int = MAX_QUEUE,
        max_events: int = MAX_EVENTS,
        **options: Any,
    ) -> None:
        check_mode(async_mode)
        options = check_options({**options, "max_queue": max_queue, "max_events": max_events})
        self.max_queue, self.max_events = options.pop("max_queue"), options.pop("max_events")
        super().__init__(async_mode="threading", **{**options, "monitor_clients": False})
        self._hubs: dict[Hub, None] = {}  # in the order in which they began to serve clients
        self._async = driver(self._hubs.keys())
        self.hub: Hub | None = None
        self.epoch, self.concurrent_events, self.reads_json = 0, False, True
        self.take_event: TakeEvent = _not_told_apart
        self.answers: Any = None
        self._refused_origins = Complaints()
        self._config: Any = ffi.new("ss_engine_config *")

    def config(self) -> Any:
        """What the core is to hold the WebSocket of a client to, by the attributes as they are now."""
        config = self._config
        config.ping_interval = int(self.ping_interval * 1e9)
        config.ping_timeout = int(self.ping_timeout * 1e9)
        config.max_message = min(self.max_http_buffer_size, MOST_OF_A_MESSAGE)
        config.out_limit = self.max_queue
        return config

    def take_events(self, take: TakeEvent, concurrent: bool) -> None:
        """Has events and acknowledgements of Socket.IO told apart by the core.

        Args:
            take: called with the session and kind, ack id (-1: none), namespace, a text in which the JSON is, and where
                that begins and ends.
            concurrent: events of one client need not wait for each other.
        """
        self.take_event, self.concurrent_events, self._config.events = take, concurrent, 1

    @property
    def async_mode(self) -> str:
        """How python-engineio names this server, in its log too."""
        return "streamserve"

    @async_mode.setter
    def async_mode(self, mode: str | None) -> None:
        """Upstream sets what it imports, which is replaced at once."""

    def async_modes(self) -> list[str]:
        """What upstream may import; it is replaced at once."""
        return ["threading"]

    def _trigger_event(self, event: str, *args: Any, run_async: bool = False) -> Any:
        """Calls a handler; a message that is malformed is the session's to answer.

        Raises:
            MalformedPayload: the handler of messages says so.
        """
        if event == "disconnect" or run_async or event not in self.handlers:
            return super()._trigger_event(event, *args, run_async=run_async)
        try:
            return self.handlers[event](*args)
        except MalformedPayload:
            raise
        except Exception:
            self.logger.exception("%s handler error", event)
            return False if event == "connect" else None

    def generate_id(self) -> str:
        """The name of a client, which nobody can guess."""
        return new_name()

    # ---- out

    def send_frames(self, sid: str, frames: Sequence[Frame]) -> None:
        """Sends frames to a client, with no other one in between."""
        session = self.sockets.get(sid)
        if session is None:
            self.logger.warning("Cannot send to sid %s", sid)
            return
        session.send_frames(frames)

    def send_packet(self, sid: str, pkt: Any) -> None:
        """Sends a packet to a client."""
        self.send_frames(sid, (pkt.encode(),))

    def is_here(self) -> bool:
        """Whether this is the thread that serves the clients, or none does."""
        hub = self.hub
        return hub is None or hub.destroyed or hub.thread_ident == get_ident()

    def in_loop(self, function: Callable[..., Any], *args: Any) -> None:
        """Calls a function in the thread that serves the clients: now, if this is it."""
        hub = self.hub
        if hub is None or self.is_here():
            function(*args)
        else:
            hub.run_callback_threadsafe(function, *args)

    def changed(self) -> None:
        """A client has changed its transport: who keeps an array of connections makes it anew."""
        self.epoch += 1

    def disconnect(self, sid: str | None = None) -> None:
        """Ends a client, or all that are there now: who comes meanwhile stays."""
        if sid is not None:
            super().disconnect(sid)
            return
        for name, session in [*self.sockets.items()]:
            session.close(reason=self.reason.SERVER_DISCONNECT)
            self.sockets.pop(name, None)

    # ---- requests

    def handle_request(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The WSGI application."""
        spare_request(get_hub())  # a handler that a POST calls is the session's, as one that a WebSocket calls
        try:
            reply = self._answer(environ, start_response)
        except Refused as refused:
            self.logger.info("a request was refused: %s", refused)
            reply = refused.reply()
        if reply is None:
            return []  # it has become a WebSocket
        self._compress(environ, reply)
        start_response(reply["status"], reply["headers"] + self._cors_headers(environ))
        return [reply["response"]]

    def _answer(self, environ: Environ, start_response: Callable[..., Any]) -> Reply | None:
        query = _parsed(environ.get("QUERY_STRING", ""))
        method = environ["REQUEST_METHOD"]
        self._check_origin(environ)
        if method == "OPTIONS":
            return self._ok()  # type: ignore[no-any-return]
        transport = query.get("transport", [""])[0]
        if transport not in self.transports:
            raise Refused(UNKNOWN_TRANSPORT, f"transport {transport[:40]!r}")
        jsonp = self._jsonp_index(query)
        sid = query.get("sid", [None])[0]
        if sid is None:
            return self._begin(environ, query, method, transport, jsonp)
        session = self.sockets.get(sid)
        if session is None or not session.connected:
            raise Refused(UNKNOWN_SESSION, f"session {sid[:40]!r}")
        if transport == "websocket":
            self._change_transport(environ, session)
            return None
        if session.upgraded:
            raise Refused(BAD_REQUEST, "polling after the change to WebSocket")
        if method == "GET":
            exchange = getattr(start_response, "__self__", None)  # else: something of the application is in between
            return polled(session.poll(exchange if isinstance(exchange, Exchange) else None), jsonp)
        if method == "POST":
            return self._take(environ, session, jsonp is not None)
        raise Refused(BAD_REQUEST, f"method {method[:20]}")

    def _check_origin(self, environ: Environ) -> None:
        origin = environ.get("HTTP_ORIGIN")
        if self.cors_allowed_origins == [] or not origin:
            return
        allowed = self._cors_allowed_origins(environ)
        if allowed is not None and origin not in allowed:
            self._refused_origins.note(
                f"Socket.IO: a page of {origin[:100]!r} was refused; cors_allowed_origins lists those that may connect"
            )
            raise Refused(FORBIDDEN, f"{origin[:100]} is not an accepted origin")

    @staticmethod
    def _jsonp_index(query: dict[str, list[str]]) -> int | None:
        if "j" not in query:
            return None
        index = query["j"][0]
        if not (index.isascii() and index.isdecimal() and len(index) <= MOST_OF_AN_INDEX):
            raise Refused(BAD_REQUEST, f"JSONP index {index[:20]!r}")
        return int(index)

    # ---- a new session

    def _begin(
        self, environ: Environ, query: dict[str, list[str]], method: str, transport: str, jsonp: int | None
    ) -> Reply | None:
        if method != "GET":
            raise Refused(BAD_METHOD, f"method {method[:20]}")
        if query.get("EIO") != ["4"]:
            raise Refused(BAD_VERSION, "the client speaks another version of Engine.IO than 4")
        websocket = environ.get("wsgi.websocket")
        if transport == "websocket" and websocket is None:
            raise Refused(BAD_REQUEST, "no WebSocket handshake")
        session = Session(self, self.generate_id(), get_hub())
        self._served_by(session.hub)
        self.sockets[session.sid] = session
        try:
            answer = self._trigger_event("connect", session.sid, environ, run_async=False)
        except BaseException:  # a kill, a Timeout
            self._forget(session)
            raise
        if answer is not None and answer is not True:
            self._forget(session)
            return self._unauthorized(answer or None)  # type: ignore[no-any-return]
        if session.closed:
            raise Refused(BAD_REQUEST, "its connect handler has ended it")
        session.connected = True
        if transport == "websocket":
            self._begin_with_websocket(session, environ)
            return None
        session.begin_polling(open_packet(self, session.sid, "polling"))
        return polled(session.poll(), jsonp, self._cookie_headers(session.sid))

    def _forget(self, session: Session) -> None:
        """It did not come in; its connect handler may have ended it too."""
        self.sockets.pop(session.sid, None)
        session.closed = True

    def _served_by(self, hub: Hub) -> None:
        """A loop serves clients; those who polled one that is no more have nobody else to end them."""
        if hub is self.hub and len(self._hubs) == 1:
            return
        self.hub = hub
        self._hubs[hub] = None
        gone = {other for other in [*self._hubs] if other.destroyed}
        if gone:
            for other in gone:
                self._hubs.pop(other, None)
            for session in [*self.sockets.values()]:
                if session.hub in gone:
                    Greenlet.spawn(session.end, self.reason.TRANSPORT_CLOSE)

    def _begin_with_websocket(self, session: Session, environ: Environ) -> None:
        websocket = environ["wsgi.websocket"]
        try:
            websocket.accept(origin_checked=True, held=True)
        except BaseException:
            session.close(abort=True, reason=self.reason.TRANSPORT_ERROR)
            raise
        for key in _OF_THE_HANDSHAKE:  # the environ is kept as long as the client; these are of no more use
            environ.pop(key, None)
        try:
            session.attach(websocket, open_packet(self, session.sid, "websocket"))
        except BaseException:  # an attribute that the application has changed, to what the core does not take
            websocket.close()
            session.close(abort=True, reason=self.reason.TRANSPORT_ERROR)
            raise

    def _cookie_headers(self, sid: str) -> list[tuple[str, str]]:
        if not self.cookie:
            return []
        attributes = self.cookie
        if not isinstance(attributes, dict):
            attributes = {"name": self.cookie, "path": "/", "SameSite": "Lax"}
        return [("Set-Cookie", self._generate_sid_cookie(sid, attributes))]

    # ---- a session that is there

    def _change_transport(self, environ: Environ, session: Session) -> None:
        websocket = environ.get("wsgi.websocket")
        if websocket is None or not self.allow_upgrades:
            raise Refused(BAD_REQUEST, "no WebSocket handshake, or no change of transport is allowed")
        session.may_change()
        probe = Probe(session, websocket)
        session.probing(probe)
        try:
            websocket.accept(origin_checked=True)
        except BaseException:
            probe.on_close("")
            raise
        websocket.handle_by(probe)

    def _take(self, environ: Environ, session: Session, jsonp: bool) -> Reply:
        """Takes the packets of a POST."""
        body = self._read(environ)
        if body is None:
            return too_large(self.max_http_buffer_size)
        try:
            session.receive_all(Payload(body, jsonp, self.reads_json))
        except MalformedPayload as error:
            session.close(abort=True, reason=self.reason.TRANSPORT_ERROR)
            raise Refused(BAD_REQUEST, str(error)) from None
        return received(jsonp)

    def _read(self, environ: Environ) -> bytes | None:
        """The body of a POST; None: it is too large."""
        limit = self.max_http_buffer_size
        if int(environ.get("CONTENT_LENGTH") or 0) > limit:
            return None
        body: bytes = environ["wsgi.input"].read(limit + 1)
        return body if len(body) <= limit else None

    def _compress(self, environ: Environ, reply: Reply) -> None:
        if not self.http_compression or len(reply["response"]) < self.compression_threshold:
            return
        offered = [part.split(";")[0].strip() for part in environ.get("HTTP_ACCEPT_ENCODING", "").split(",")]
        for encoding in offered:
            if encoding in self.compression_methods:
                reply["response"] = getattr(self, "_" + encoding)(reply["response"])
                reply["headers"] += [("Content-Encoding", encoding)]
                return
