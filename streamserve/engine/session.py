"""One client: its transport, what waits for it, its heartbeat, its end.

No greenlet is held for a client. What comes by a WebSocket is handed to `handled`, by a runner of the loop; its
heartbeat is the core's. What goes out are frames: a str is a packet with its type in front, bytes are binary data.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from engineio import packet

from streamserve.core import lib
from streamserve.engine.incoming import Incoming
from streamserve.engine.outbox import size_of
from streamserve.engine.payloads import MalformedPayload, Payload, decode_frame
from streamserve.engine.polling import Polling
from streamserve.engine.replies import BAD_REQUEST, Refused
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.native_threads import get_ident
from streamserve.websocket.deflate import BadMessage, Packed
from streamserve.websocket.message import Close

if TYPE_CHECKING:
    from streamserve.engine.probe import Probe
    from streamserve.engine.server import EngineServer
    from streamserve.gateway.exchange import Exchange
    from streamserve.loop.hub import Hub
    from streamserve.websocket import WebSocket
    from streamserve.websocket.deflate import Deflate

__all__ = ["Frame", "Session"]

_log = logging.getLogger("streamserve.engine")
_send = lib.ss_ws_send
_send_text = lib.ss_ws_send_text
_acknowledge = lib.ss_engine_acknowledge
_MISUSE: int = lib.SS_MISUSE
_TEXT: int = lib.SS_WS_TEXT
_BINARY: int = lib.SS_WS_BINARY
_ELSEWHERE: int = lib.SS_ELSEWHERE

Frame = str | bytes

MOST_OF_A_HEADER = 14
"""Bytes that a WebSocket puts before each frame, at most."""

_CLOSE = "1"


class Session(Incoming):
    """A client of an EngineServer; the attributes without a line below are those of python-engineio's Socket.

    Attributes:
        sid: its name.
        handle: its WebSocket in the core; -1: it polls.
        deflate: how its messages are compressed, None: they are not.
        ended: why it ends, or has ended; None: it goes on.
        upgraded: it speaks WebSocket.
        polling: its side that polls, None: it has none, or no more.
    """

    __slots__ = (
        "_probe",
        "_session",
        "closed",
        "closing",
        "connected",
        "deflate",
        "ended",
        "polling",
        "sid",
        "upgraded",
        "upgrading",
    )

    _handler = _busy = True
    """It is a guest of websocket.listener.Sockets: `handled` gets every message of its connection."""

    def __init__(self, server: EngineServer, sid: str, hub: Hub) -> None:
        super().__init__(server, hub)
        self.sid = sid
        self.deflate: Deflate | None = None
        self.connected = self.upgrading = self.upgraded = self.closing = self.closed = False
        self.ended: str | None = None
        self._session: dict[str, Any] | None = None
        self.polling: Polling | None = None
        self._probe: Probe | None = None

    @property
    def session(self) -> dict[str, Any]:
        """What the application keeps of it."""
        if self._session is None:
            self._session = {}
        return self._session

    @session.setter
    def session(self, value: dict[str, Any]) -> None:
        self._session = value

    # ---- out

    def send(self, pkt: Any) -> None:
        """Sends a packet of python-engineio's, or keeps it for the next poll; never waits. Any thread may call it."""
        self.send_frames((pkt.encode(),))

    def send_frames(self, frames: Any) -> None:
        """Sends frames with no other one in between."""
        if self.hub.thread_ident != get_ident():
            self.hub.run_callback_threadsafe(self.send_frames, frames)
        elif self.handle >= 0:
            queued = 0
            for frame in frames:
                queued = self._write(frame)
            if queued > self.server.max_queue:
                self._overloaded(queued, frames)
        elif self.ended is not None:
            _log.debug("%s: a packet came after the end", self.sid)
        else:
            waiting = self._polls().put(frames)
            if waiting > self.server.max_queue:
                self._overloaded(waiting, frames)

    def send_text(self, frame: str) -> None:
        """Sends one frame of text: send_frames in fewer steps, where nothing is in the way."""
        if self.handle < 0 or self.deflate is not None:
            self.send_frames((frame,))
            return
        data = frame.encode()
        queued = _send_text(self._core, self.handle, data, len(data))
        if queued > self.server.max_queue:
            self._overloaded(queued, (frame,))
        elif queued == _ELSEWHERE:
            self.send_frames((frame,))

    def acknowledge(self, number: int, text: str) -> bool:
        """Acknowledges an event in the default namespace with a text, made in the core: a third of the steps.

        Returns:
            False: nothing was sent, for JSON has it in another form, or something is in the way.
        """
        if self.handle < 0 or self.deflate is not None:
            return False
        try:
            data = text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            return False
        queued = _acknowledge(self._core, self.handle, number, data, len(data))
        if queued > self.server.max_queue:
            self._overloaded(queued, (f'43{number}["{text}"]',))
        return queued != _MISUSE and queued != _ELSEWHERE

    def _write(self, frame: Frame) -> int:
        data, opcode, flags = (frame, _BINARY, 0) if isinstance(frame, bytes) else (frame.encode(), _TEXT, 0)
        if self.deflate is not None:
            data, flags = self.deflate.pack(data)
        return int(_send(self._core, self.handle, opcode, data, len(data), flags))

    def _overloaded(self, queued: int, frames: Any) -> None:
        """More waits for it than may, unless it is one message alone."""
        if queued > size_of(frames) + MOST_OF_A_HEADER * len(frames):
            self.overrun()

    def overrun(self) -> None:
        """More waits for it than may: it ends, and nothing more is kept for it; twice is fine."""
        if self.ended is not None:
            return
        _log.info("%s: over %d bytes wait for it (max_queue)", self.sid, self.server.max_queue)
        self.ended = self.server.reason.TRANSPORT_ERROR
        if self.polling is not None:
            self.polling.clear()
        handle, self.handle = self.handle, -1
        if handle >= 0:
            lib.ss_ws_close(self._core, handle, lib.SS_WS_OVERLOADED, b"", 0)
        Greenlet.spawn(self.end, self.ended)

    # ---- polling

    def poll(self, exchange: Exchange | None = None) -> list[Frame]:
        """Waits for frames and returns them, for the body of a GET; see Polling."""
        return self._polls().poll(exchange)

    def _polls(self) -> Polling:
        if self.polling is None:
            self.polling = Polling(self)
        return self.polling

    def begin_polling(self, first: Frame) -> None:
        """A client that polls is in: this is what it gets first, and from now on it is asked for a sign of life."""
        self._polls().begin(first)

    def end_poll(self) -> None:
        """Has a poll that waits answered."""
        if self.polling is not None:
            self.polling.wake()

    def receive_all(self, packets: Payload) -> None:
        """Takes the packets of a POST, once those of the one before are dealt with: see Posts.

        Raises:
            MalformedPayload: a client does not send such a packet.
        """
        self._polls().posts.take(packets)

    def _sort(self) -> None:
        super()._sort()
        if self.polling is not None:
            self.polling.posts.sort()

    def take_message(self, data: Any) -> None:
        """Takes what a client sends to the application."""
        if self.closing or self.closed:
            return
        if not self.server.async_handlers:
            self.server._trigger_event("message", self.sid, data, run_async=False)
            return
        self.wait_for_room()
        self.room -= 1
        Greenlet.spawn(self._take_beside, data)

    def _take_beside(self, data: Any) -> None:
        try:
            self.server._trigger_event("message", self.sid, data, run_async=False)
        finally:
            self.finished()

    def receive(self, pkt: Any) -> None:
        """Takes a packet of the client.

        Raises:
            MalformedPayload: a client does not send such a packet.
        """
        kind = pkt.packet_type
        if self.closing or self.closed:
            return
        if kind == packet.MESSAGE:
            self.take_message(pkt.data)
        elif kind == packet.PONG:
            if self.handle >= 0:
                lib.ss_engine_answered(self._core, self.handle)
            elif self.polling is not None:
                self.polling.answered()
        elif kind == packet.CLOSE:
            if self.polling is not None:
                self.polling.leave()
            self.end(self.server.reason.CLIENT_DISCONNECT)
        else:
            raise MalformedPayload(f"a client does not send packets of type {kind}")

    # ---- WebSocket

    def attach(self, websocket: WebSocket, first: Frame | None = None) -> None:
        """Speaks WebSocket from now on: what waits is sent there, behind a first frame."""
        config = self.server.config()
        self.handle, self.deflate = websocket.handle, websocket.deflate
        self._sockets = websocket.hand_over(self)
        self._probe = None
        self.upgraded, self.upgrading = True, False
        self.server.changed()
        lib.ss_engine_begin(self._core, self.handle, config)
        if first is not None:
            self._write(first)
        polling, self.polling = self.polling, None
        if polling is not None:
            waiting = [*polling.waiting]
            polling.clear()
            self.send_frames(waiting)
            if polling.posts.later:
                self.hold()  # what it has posted was sent before
            polling.stop()

    def probing(self, probe: Probe) -> None:
        """The client tries a WebSocket."""
        self.upgrading = True
        self._probe = probe

    def may_change(self) -> None:
        """The client is about to try a WebSocket.

        Raises:
            Refused: it has changed already, or is about to.
        """
        if self.upgraded or self.upgrading:
            raise Refused(BAD_REQUEST, "a second WebSocket")

    def probe_ended(self, probe: Probe) -> None:
        """The connection to which the client was about to change is gone: polling goes on."""
        if self._probe is probe:
            self._probe, self.upgrading = None, False

    def _take(self, message: Any) -> None:
        kind = message.__class__
        if kind is tuple:
            self.server.take_event(self, *message, 0, len(message[-1]))  # type: ignore[call-arg]
        elif kind is Close:
            self.lost(message)
        elif not self.closed:
            if kind is Packed:
                assert self.deflate is not None
                message = self.deflate.unpack(message)
            self.on_message(message)

    def on_message(self, message: Frame) -> None:
        """A message as it came.

        Raises:
            MalformedPayload: it is no packet.
        """
        if len(message) > self.server.max_http_buffer_size:
            self.end(self.server.reason.TRANSPORT_ERROR, lib.SS_WS_TOO_BIG)
            return
        if message[:1] == "4" and not self.server.reads_json:
            self.take_message(message[1:])  # of Socket.IO: no packet is made
        else:
            self.receive(decode_frame(message, self.server.reads_json))

    def failed(self, error: BaseException) -> None:
        """What a message came to: what is malformed ends the session, other failures are reported."""
        if isinstance(error, MalformedPayload):
            _log.info("%s: %s", self.sid, error)
            self.end(self.server.reason.TRANSPORT_ERROR, lib.SS_WS_PROTOCOL_ERROR)
        elif isinstance(error, BadMessage):
            self.end(self.server.reason.TRANSPORT_ERROR, error.code)
        else:
            self.hub.report(error, self)

    def lost(self, close: Close | None = None) -> None:
        """Its WebSocket has ended."""
        silent = close is not None and close.reason == "ping timeout" and close.code == lib.SS_WS_ABNORMAL
        reason = self.server.reason
        self.end(reason.PING_TIMEOUT if silent else reason.TRANSPORT_CLOSE)

    # ---- the end

    def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """Ends the session: the client is told, unless `abort`."""
        if not self.closing and not self.closed and not abort:
            self.send_frames((_CLOSE,))
        self.end(reason or self.server.reason.SERVER_DISCONNECT)

    def end(self, reason: str, code: int = lib.SS_WS_NORMAL) -> None:
        if self.closing or self.closed:
            return
        self.closing, self.ended = True, reason
        self.unlimit()
        try:
            if self.connected:
                self.server._trigger_event("disconnect", self.sid, reason, run_async=False)
        finally:
            self._let_go(code)

    def _let_go(self, code: int) -> None:
        self.closed = True
        if self.hub.thread_ident == get_ident():
            self._release(code)
        else:
            self.hub.run_callback_threadsafe(self._release, code)
        self.server.sockets.pop(self.sid, None)

    def _release(self, code: int) -> None:
        if self.polling is not None:
            self.polling.stop()
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.websocket.close()
        handle, self.handle = self.handle, -1
        if handle >= 0 and not self.hub.destroyed:
            lib.ss_ws_close(self._core, handle, code, b"", 0)
