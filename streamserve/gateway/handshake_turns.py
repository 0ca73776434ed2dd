"""Handshakes take turns with requests: a crowd of new clients does not hold up those that are there.

A step of a handshake that signs costs as much as twenty requests, and one poll may tell of a hundred. So they wait in
the order of their coming, and each turn of the loop has a SLICE for them, behind the requests that it brought.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any

from streamserve.loop.hub import Hub

SLICE = 0.001
"""Seconds of a turn after which no further step begins: one is 0.3 to 1 ms, of a large RSA key 3."""


class HandshakeTurns:
    """The handshakes of one listener that have a step to make.

    Args:
        hub: whose turns they are.
        step: makes the step of a connection.

    Attributes:
        requested: a connection that is open has got bytes: what they ask for is with Python in the next turn.
    """

    __slots__ = ("_hub", "_scheduled", "_step", "_stood_back", "_timer", "_waiting", "requested")

    def __init__(self, hub: Hub, step: Callable[[int], Any]) -> None:
        self._hub = hub
        self._step = step
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._scheduled = False
        self._timer = -1
        self._stood_back = False
        self.requested = False

    def add(self, handle: int) -> None:
        """A connection's step waits for its turn, which may be this one."""
        self._waiting[handle] = None
        if not self._scheduled:
            self._scheduled = True
            self._hub.run_callback(self._run)

    def drop(self, handle: int) -> None:
        """The connection is over."""
        self._waiting.pop(handle, None)

    def close(self) -> None:
        """Nobody waits any more."""
        self._waiting.clear()
        if self._timer >= 0:
            self._hub.stop_timer(self._timer, self)
            self._timer = -1

    def fire(self) -> None:
        """The next turn has begun; its requests run first."""
        self._timer = -1
        self._hub.run_callback(self._run)

    def _run(self) -> None:
        """The slice of this turn. One turn may pass without: what a client asked for is answered in the next."""
        try:
            self._stood_back = self.requested and not self._stood_back
            if not self._stood_back:
                self._take_steps()
        finally:
            self.requested = False
            self._scheduled = bool(self._waiting)
            if self._scheduled:
                self._timer = self._hub.start_timer(0, self, counts=False)

    def _take_steps(self) -> None:
        until = monotonic() + SLICE
        while self._waiting:
            handle, _ = self._waiting.popitem(last=False)
            self._step(handle)
            if monotonic() >= until:
                break
