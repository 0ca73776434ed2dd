"""The WebSocket to which a client that polls may change (Engine.IO protocol 4, "Upgrade").

The client sends "2probe" on the new connection and gets "3probe"; the poll that waits is answered, and when nothing of
the old transport is under way, the client says "5": from then on the session is on the WebSocket.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamserve.engine.session import Session
    from streamserve.websocket import WebSocket

__all__ = ["Probe"]

_log = logging.getLogger("streamserve.engine")

UPGRADE_TIMEOUT = 10.0
"""Seconds from the probe of a new transport until the client must have changed to it."""


class Probe:
    """Handles the messages of a WebSocket until its client has changed to it.

    Args:
        session: of the client.
        websocket: the new connection.
    """

    __slots__ = ("_probed", "_session", "_timer", "websocket")

    def __init__(self, session: Session, websocket: WebSocket) -> None:
        self.websocket = websocket
        self._session = session
        self._probed = False
        self._timer = session.hub.start_timer(UPGRADE_TIMEOUT, self, counts=False)

    def on_message(self, message: str | bytes) -> None:
        """The probe, then the change; what comes behind that is the session's."""
        session = self._session
        if message == "2probe" and not self._probed:
            self._probed = True
            self.websocket.send_now("3probe")
            session.end_poll()
        elif message == "5" and self._probed and not session.closed:
            self._stop()
            try:
                session.attach(self.websocket)
            except BaseException:  # see EngineServer._begin_with_websocket; a poll waits no longer
                self.websocket.close()
                session.close(abort=True, reason=session.server.reason.TRANSPORT_ERROR)
                raise
        else:
            _log.info("%s: %r came while it was changing to WebSocket", session.sid, message[:20])
            self.websocket.close()

    def on_close(self, reason: str) -> None:
        """Before the change the session goes on without it."""
        self._stop()
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
