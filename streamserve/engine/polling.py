"""A client that polls: what waits for its next poll, the poll that waits, and the heartbeat.

A poll is a request that waits in its greenlet. Between two polls nothing is held but this object; a client on a
WebSocket has none. It is asked for a sign of life `ping_interval` after its last one, and ended `ping_timeout` later if
no answer came: one timer of the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from streamserve.engine.outbox import Outbox
from streamserve.engine.posts import Posts
from streamserve.engine.replies import BAD_REQUEST, Refused
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.waiter import Waiter

if TYPE_CHECKING:
    from streamserve.engine.session import Frame, Session
    from streamserve.gateway.exchange import Exchange

__all__ = ["Polling"]

_log = logging.getLogger("streamserve.engine")

MOST_OF_A_POLL = 16
"""Packets that answer one poll: clients of python-engineio refuse a body with more, and lose them all."""

NOOP_EVERY = 0.1
"""Seconds after which a poll that waits is ended while the client changes its transport."""

_CLOSE, _PING, _NOOP = "1", "2", "6"


class Polling:
    """The side of a session that polls.

    Args:
        session: of the client.

    Attributes:
        waiting: frames for the next poll.
        waiter: of the poll that waits.
        posts: what it posts.
    """

    __slots__ = ("_asked", "_session", "_timer", "posts", "waiter", "waiting")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked = False
        self._timer = -1
        self.waiting = Outbox()
        self.waiter: Waiter | None = None
        self.posts = Posts(session)

    # ---- polls

    def put(self, frames: Iterable[Frame]) -> int:
        """Frames wait for the client, or answer the poll that waits; returns how many bytes wait."""
        self.waiting.put(frames)
        self.wake()
        return self.waiting.bytes

    def clear(self) -> None:
        """Nothing waits any more."""
        self.waiting = Outbox()

    def wake(self) -> None:
        """Has a poll that waits answered."""
        if self.waiter is not None:
            self.waiter.wake()

    def leave(self) -> None:
        """The client says that it goes: its poll, if one waits, gets an answer without meaning."""
        if self.waiter is not None:
            self.waiting.put((_NOOP,))

    def poll(self, exchange: Exchange | None) -> list[Frame]:
        """Waits for frames and returns them, for the body of a GET.

        Args:
            exchange: the request; a client that hangs up while it waits has left.

        Raises:
            Refused: another poll waits already, which ends the session.
        """
        session = self._session
        if self.waiter is not None:
            self.put((_CLOSE,))
            session.end(session.server.reason.TRANSPORT_ERROR)
            raise Refused(BAD_REQUEST, "a second poll while one waits")
        if not self.waiting and not session.closed:
            self._wait(exchange)
        count = min(len(self.waiting), MOST_OF_A_POLL)
        return [self.waiting.take() for _ in range(count)] or [_NOOP]

    def _wait(self, exchange: Exchange | None) -> None:
        session = self._session
        waiter = self.waiter = Waiter(session.hub)
        gone = exchange is not None and exchange.watch(waiter)
        try:
            if gone:
                pass
            elif not session.upgrading:
                waiter.park()
            else:
                waiter.park_for(NOOP_EVERY)  # an empty answer lets the client change its transport
        finally:
            self.waiter = None
            if exchange is not None:
                exchange.unwatch(waiter)
        if exchange is not None and not self.waiting and exchange.client_is_gone():
            session.end(session.server.reason.TRANSPORT_ERROR)

    # ---- heartbeat

    def begin(self, first: Frame) -> None:
        """The client is in: `first` is what it gets first, and it is asked for a sign of life from now on."""
        self.waiting = Outbox((first, *self.waiting))
        self._set_timer(self._session.server.ping_interval)

    def answered(self) -> None:
        """The sign of life."""
        if self._asked:
            self._asked = False
            self._set_timer(self._session.server.ping_interval)

    def stop(self) -> None:
        """The client polls no more: the one poll that may wait is answered."""
        self._stop_timer()
        self.wake()

    def _set_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._session.hub.start_timer(seconds, self, counts=False)

    def _stop_timer(self) -> None:
        if self._timer >= 0:
            self._session.hub.stop_timer(self._timer, self)
            self._timer = -1

    def fire(self) -> None:
        """The timer's end, in the hub."""
        session = self._session
        self._timer = -1
        if session.closed:
            return
        server = session.server
        if self._asked:
            _log.info("%s: no answer to a ping within %g s (ping_timeout)", session.sid, server.ping_timeout)
            Greenlet.spawn(session.end, server.reason.PING_TIMEOUT)
            return
        self._asked = True
        self._set_timer(server.ping_timeout)
        self.put((_PING,))
