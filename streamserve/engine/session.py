"""One client: its transport, what waits for it, its heartbeat, its end.

No greenlet is held for a client. A poll is a request that waits; a WebSocket's messages come to a handler. The
heartbeat is one timer of the loop: it asks after `ping_interval`, and ends the session `ping_timeout` later if no
answer came, exactly, on either transport.

A session begins with polling and may change to WebSocket once: the client probes on the new connection, the
poll that waits is answered, and when the client says that it has changed, what waits goes there.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from engineio import packet
from engineio.packet import Packet

from streamserve.core import lib
from streamserve.engine.payloads import MalformedPayload, decode_frame
from streamserve.engine.replies import BAD_REQUEST, Refused
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import Waiter

if TYPE_CHECKING:
    from streamserve.engine.server import EngineServer
    from streamserve.loop.hub import Hub
    from streamserve.websocket import WebSocket

_log = logging.getLogger("streamserve.engine")

UPGRADE_TIMEOUT = 10.0
"""Seconds from the probe of a new transport until the client must have changed to it."""

MOST_OF_A_POLL = 16
"""Packets that answer one poll: clients of python-engineio refuse a body with more, and lose them all."""

NOOP_EVERY = 0.1
"""Seconds after which a poll that waits is ended while the client changes its transport."""


class Session:
    """A client of an EngineServer; the attributes without a line below are those of python-engineio's Socket.

    Attributes:
        sid: its name.
        upgraded: it speaks WebSocket.
        session: what the application keeps of it.
    """

    __slots__ = (
        "_asked",
        "_poll",
        "_probe",
        "_timer",
        "_waiting",
        "_websocket",
        "closed",
        "closing",
        "connected",
        "hub",
        "server",
        "session",
        "sid",
        "upgraded",
        "upgrading",
    )

    def __init__(self, server: EngineServer, sid: str, hub: Hub) -> None:
        self.server = server
        self.sid = sid
        self.hub = hub
        self.session: dict[str, Any] = {}
        self.connected = self.upgrading = self.upgraded = self.closing = self.closed = False
        self._waiting: deque[Any] = deque()
        self._poll: Waiter | None = None
        self._websocket: WebSocket | None = None
        self._probe: _Probe | None = None
        self._asked = False
        self._timer = -1

    # ---- out

    def send(self, pkt: Any) -> None:
        """Sends a packet, or keeps it for the next poll; never waits. Any native thread may call it."""
        self.send_all((pkt,))

    def send_all(self, packets: Any) -> None:
        """Sends packets with no other one in between."""
        if self.hub.thread_ident != get_ident():
            self.hub.run_callback_threadsafe(self.send_all, packets)
        elif self.closed:
            _log.debug("%s: a packet came after the end", self.sid)
        elif self._websocket is not None:
            self._write(packets)
        else:
            self._waiting.extend(packets)
            if self._poll is not None:
                self._poll.wake()

    def _write(self, packets: Any) -> None:
        websocket = self._websocket
        assert websocket is not None
        queued = 0
        for pkt in packets:
            queued = websocket.send_now(pkt.encode())
        if queued > self.server.max_queue:
            _log.info("%s: over %d bytes wait for it (max_queue)", self.sid, self.server.max_queue)
            Greenlet.spawn(self._end, self.server.reason.TRANSPORT_ERROR, lib.SS_WS_OVERLOADED)

    # ---- polling

    def poll(self) -> list[Any]:
        """Waits for packets and returns them, as the body of a GET.

        Raises:
            Refused: another poll waits already, which ends the session; or the client speaks WebSocket now.
        """
        if self._poll is not None:
            self._waiting.append(Packet(packet.CLOSE))
            self._poll.wake()
            self._end(self.server.reason.TRANSPORT_ERROR)
            raise Refused(BAD_REQUEST, "a second poll while one waits")
        if not self._waiting and not self.closed:
            self._wait()
        count = min(len(self._waiting), MOST_OF_A_POLL)
        return [self._waiting.popleft() for _ in range(count)] or [Packet(packet.NOOP)]

    def _wait(self) -> None:
        waiter = self._poll = Waiter(self.hub)
        try:
            if self._probe is None:
                waiter.park()
            else:
                waiter.park_for(NOOP_EVERY)  # an empty answer lets the client change its transport
        finally:
            self._poll = None

    def receive(self, pkt: Any) -> None:
        """Takes a packet of the client.

        Raises:
            MalformedPayload: a client does not send such a packet.
        """
        kind = pkt.packet_type
        if self.closed:
            return
        if kind == packet.MESSAGE:
            self.server._trigger_event("message", self.sid, pkt.data, run_async=self.server.async_handlers)
        elif kind == packet.PONG:
            self._answered()
        elif kind == packet.CLOSE:
            if self._poll is not None:
                self._waiting.append(Packet(packet.NOOP))
            self._end(self.server.reason.CLIENT_DISCONNECT)
        else:
            raise MalformedPayload(f"a client does not send packets of type {kind}")

    # ---- WebSocket

    def attach(self, websocket: WebSocket) -> None:
        """Speaks WebSocket from now on: what waits is sent there."""
        self._websocket, self._probe = websocket, None
        self.upgraded, self.upgrading = True, False
        waiting, self._waiting = self._waiting, deque()
        self._write(waiting)
        if self._poll is not None:
            self._poll.wake()

    def probe(self, websocket: WebSocket) -> Any:
        """Returns the handler of a connection to which the client may change.

        Raises:
            Refused: it has changed already, or is about to.
        """
        if self.upgraded or self.upgrading:
            raise Refused(BAD_REQUEST, "a second WebSocket")
        self.upgrading = True
        self._probe = _Probe(self, websocket)
        return self._probe

    def probe_ended(self, probe: _Probe) -> None:
        """The connection to which the client was about to change is gone: polling goes on."""
        if self._probe is probe:
            self._probe, self.upgrading = None, False

    def on_message(self, message: str | bytes) -> None:
        """A message of its WebSocket; see WebSocketApplication."""
        if len(message) > self.server.max_http_buffer_size:
            self._end(self.server.reason.TRANSPORT_ERROR, lib.SS_WS_TOO_BIG)
            return
        try:
            self.receive(decode_frame(message))
        except MalformedPayload as error:
            _log.info("%s: %s", self.sid, error)
            self._end(self.server.reason.TRANSPORT_ERROR, lib.SS_WS_PROTOCOL_ERROR)

    def on_close(self, reason: str) -> None:
        """Its WebSocket has ended."""
        self._end(self.server.reason.TRANSPORT_CLOSE)

    # ---- heartbeat

    def begin_heartbeat(self) -> None:
        """The client is in: it is asked for a sign of life from now on."""
        self._set_timer(self.server.ping_interval)

    def _set_timer(self, seconds: float) -> None:
        if self._timer >= 0:
            self.hub.stop_timer(self._timer, self)
        self._timer = self.hub.start_timer(seconds, self, counts=False)

    def fire(self) -> None:
        """The timer's end, in the hub."""
        self._timer = -1
        if self.closed:
            return
        if self._asked:
            _log.info("%s: no answer to a ping within %g s (ping_timeout)", self.sid, self.server.ping_timeout)
            Greenlet.spawn(self._end, self.server.reason.PING_TIMEOUT)
            return
        self._asked = True
        self._set_timer(self.server.ping_timeout)
        self.send(Packet(packet.PING))

    def _answered(self) -> None:
        if self._asked:
            self._asked = False
            self._set_timer(self.server.ping_interval)

    # ---- the end

    def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """Ends the session: the client is told, unless `abort`."""
        if not self.closing and not self.closed and not abort:
            self.send(Packet(packet.CLOSE))
        self._end(reason or self.server.reason.SERVER_DISCONNECT)

    def _end(self, reason: str, code: int = lib.SS_WS_NORMAL) -> None:
        if self.closing or self.closed:
            return
        self.closing = True
        try:
            if self.connected:
                self.server._trigger_event("disconnect", self.sid, reason, run_async=False)
        finally:
            self._let_go(code)

    def _let_go(self, code: int) -> None:
        self.closed = True
        if self._timer >= 0:
            self.hub.stop_timer(self._timer, self)
            self._timer = -1
        if self._poll is not None:
            self._poll.wake()
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.websocket.close()
        if self._websocket is not None:
            self._websocket.close(code)
        self.server.sockets.pop(self.sid, None)


class _Probe:
    """The connection to which a client may change its session."""

    __slots__ = ("_done", "_probed", "_session", "_timer", "websocket")

    def __init__(self, session: Session, websocket: WebSocket) -> None:
        self.websocket = websocket
        self._session = session
        self._probed = self._done = False
        self._timer = session.hub.start_timer(UPGRADE_TIMEOUT, self, counts=False)

    def on_message(self, message: str | bytes) -> None:
        """The probe, then the change; after it, what the session gets."""
        session = self._session
        if self._done:
            session.on_message(message)
        elif message == "2probe" and not self._probed:
            self._probed = True
            self.websocket.send_now("3probe")
            if session._poll is not None:
                session._poll.wake()
        elif message == "5" and self._probed and not session.closed:
            self._done = True
            self._stop()
            session.attach(self.websocket)
        else:
            _log.info("%s: %r came while it was changing to WebSocket", session.sid, message[:20])
            self.websocket.close()

    def on_close(self, reason: str) -> None:
        """Before the change the session goes on without it."""
        self._stop()
        if self._done:
            self._session.on_close(reason)
        else:
            self._session.probe_ended(self)

    def _stop(self) -> None:
        if self._timer >= 0:
            self._session.hub.stop_timer(self._timer, self)
            self._timer = -1

    def fire(self) -> None:
        """It takes too long; in the hub."""
        self._timer = -1
        self._session.probe_ended(self)
        self.websocket.close()
