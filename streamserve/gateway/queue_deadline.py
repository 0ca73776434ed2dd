"""Requests that wait for a place have a deadline: whom nobody can serve in time learns it, and may try elsewhere."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from streamserve.core import lib
from streamserve.gateway.refusals import Refusals
from streamserve.loop.hub import FOREVER, Hub
from streamserve.settings import Settings

if TYPE_CHECKING:
    from streamserve.gateway.endpoint import Endpoint

Record = tuple[int, int, int, int]
"""A request, as the core reports it (api.h)."""

Waiting = tuple[float, "Endpoint", Record]
"""Until when (monotonic seconds) a request of a listener may wait."""


class QueueDeadline:
    """Refuses requests that have waited for too long; one timer for all, for they wait in the order of their deadlines.

    Args:
        waiting: they, in the order in which they came.
        settings: the limits.
        refusals: where the refused are told.
    """

    def __init__(self, waiting: deque[Waiting], settings: Settings, refusals: Refusals) -> None:
        self._waiting = waiting
        self._settings = settings
        self._refusals = refusals
        self._hub: Hub | None = None
        self._timer = -1

    def begin(self, hub: Hub) -> float:
        """A request begins to wait. Returns until when it may."""
        timeout = self._settings.queue_timeout or FOREVER
        if self._timer < 0 and timeout < FOREVER:
            self._start(hub, timeout)
        return time.monotonic() + timeout

    def close(self) -> None:
        """Nobody waits any more."""
        if self._hub is not None and self._timer >= 0:
            self._hub.stop_timer(self._timer, self)
        self._timer = -1

    def _start(self, hub: Hub, seconds: float) -> None:
        self._hub = hub
        self._timer = hub.start_timer(seconds, self, counts=False)

    def fire(self) -> None:
        """The timer's end: refuses those whose time is over, and waits for that of the next."""
        self._timer = -1
        waiting = self._waiting
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, endpoint, record = waiting.popleft()
            self._refusals.note_wait(record[1], endpoint.memory.request_line(*record[1:]))
            lib.ss_conn_refuse(endpoint.core, record[1], lib.SS_OVERLOADED)
        if waiting and self._hub is not None:
            self._start(self._hub, waiting[0][0] - now)
