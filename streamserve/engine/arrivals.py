"""Clients that have a connection and belong to no namespace: they have some time to join one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hubs import get_hub

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

__all__ = ["Arrivals"]

_log = logging.getLogger("streamserve.engine")


class Arrivals:
    """Those clients, in the order in which their time is over; one timer of the loop is for the first of them.

    Most have joined long before their time is over, so the timer is not stopped for them: it finds who is left.

    Args:
        seconds: how long they have.
        close: called with the name of a client that took longer, in a greenlet.
    """

    __slots__ = ("_close", "_hub", "_seconds", "_waiting")

    def __init__(self, seconds: float, close: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._close = close
        self._waiting: dict[str, float] = {}
        self._hub: Hub | None = None  # whose timer runs

    def begin(self, eio_sid: str) -> None:
        """A client belongs to no namespace from now on."""
        self._waiting.pop(eio_sid, None)  # it comes behind the others
        self._waiting[eio_sid] = monotonic() + self._seconds
        if self._hub is None or self._hub.destroyed:
            self._start(self._seconds)

    def end(self, eio_sid: str) -> None:
        """It joins one, or is gone. Any native thread may say so."""
        self._waiting.pop(eio_sid, None)

    def _start(self, seconds: float) -> None:
        self._hub = get_hub()
        self._hub.start_timer(seconds, self, counts=False)

    def fire(self) -> None:
        """The timer's end, in the hub."""
        self._hub = None
        now = monotonic()
        late = []
        for eio_sid, deadline in [*self._waiting.items()]:
            if deadline > now:
                self._start(deadline - now)
                break
            late.append(eio_sid)
        for eio_sid in late:
            if self._waiting.pop(eio_sid, None) is not None:
                _log.info("%s: joined no namespace within %g s (connect_timeout)", eio_sid, self._seconds)
                Greenlet.spawn(self._close, eio_sid)

    def __contains__(self, eio_sid: object) -> bool:
        return eio_sid in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)
