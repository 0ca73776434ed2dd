"""Clients that have a connection and belong to no namespace: they have some time to join one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

__all__ = ["Arrivals"]

_log = logging.getLogger("streamserve.engine")


class Arrivals:
    """Those clients, each with a timer of the loop.

    Args:
        seconds: how long they have.
        close: called with the name of a client that took longer, in a greenlet.
    """

    __slots__ = ("_close", "_seconds", "_waiting")

    def __init__(self, seconds: float, close: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._close = close
        self._waiting: dict[str, _Arrival] = {}

    def begin(self, eio_sid: str) -> None:
        """A client belongs to no namespace from now on."""
        self._waiting[eio_sid] = _Arrival(self, eio_sid, get_hub(), self._seconds)

    def end(self, eio_sid: str) -> None:
        """It joins one, or is gone. Any native thread may say so."""
        arrival = self._waiting.pop(eio_sid, None)
        if arrival is not None:
            arrival.stop()

    def late(self, arrival: _Arrival) -> None:
        """Its time is over, in the hub."""
        if self._waiting.get(arrival.eio_sid) is arrival:
            del self._waiting[arrival.eio_sid]
            _log.info("%s: joined no namespace within %g s (connect_timeout)", arrival.eio_sid, self._seconds)
            Greenlet.spawn(self._close, arrival.eio_sid)

    def __len__(self) -> int:
        return len(self._waiting)


class _Arrival:
    """One client."""

    __slots__ = ("_arrivals", "_hub", "_timer", "eio_sid")

    def __init__(self, arrivals: Arrivals, eio_sid: str, hub: Hub, seconds: float) -> None:
        self.eio_sid = eio_sid
        self._arrivals = arrivals
        self._hub = hub
        self._timer = hub.start_timer(seconds, self, counts=False)

    def stop(self) -> None:
        if self._hub.thread_ident == get_ident():
            self._hub.stop_timer(self._timer, self)
        # else it fires for nobody: a timer is its own thread's

    def fire(self) -> None:
        self._arrivals.late(self)
