"""The handlers of a server that run: waiting for their end, and cutting them off."""

from __future__ import annotations

from time import monotonic
from typing import Any

from streamserve.loop.greenlet import getcurrent
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.joining import kill
from streamserve.loop.waiter import Waiter, yield_turn


class Handlers:
    """The greenlets that run handlers of one server.

    Attributes:
        running: those that have begun and not ended.
        term: what a handler is spawned with. Cutting off begins a new term, and a handler of an old one, which was
            spawned but has not begun, never runs.
    """

    __slots__ = ("_waiters", "running", "term")

    def __init__(self) -> None:
        self.running: set[Any] = set()
        self.term = object()
        self._waiters: list[Waiter] = []

    def enter(self) -> Any:
        """Notes that the current greenlet runs a handler; returns what `leave` takes."""
        current = getcurrent()
        self.running.add(current)
        return current

    def leave(self, greenlet: Any) -> None:
        """Notes that its handler has ended."""
        self.running.discard(greenlet)
        for waiter in self._waiters:
            waiter.wake()

    def wait(self, timeout: float) -> bool:
        """Waits until no other greenlet than the current one runs a handler; False if `timeout` seconds passed first.

        Handlers that were spawned before begin first.
        """
        hub = get_hub()
        if timeout > 0:
            yield_turn(hub)
        deadline = monotonic() + timeout
        while self._others():
            waiter = Waiter(hub)
            self._waiters.append(waiter)
            try:
                if not waiter.park_for(deadline - monotonic()):
                    return not self._others()
            finally:
                self._waiters.remove(waiter)
        return True

    def cut_off(self) -> int:
        """Kills those that run, except the current one; returns how many. It does not wait."""
        self.term = object()
        victims = self._others()
        for victim in victims:
            kill(victim)
        return len(victims)

    def _others(self) -> list[Any]:
        if not self.running:
            return []
        current = getcurrent()
        return [greenlet for greenlet in self.running if greenlet is not current and not isinstance(greenlet, Hub)]
