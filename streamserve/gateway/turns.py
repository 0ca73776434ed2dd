"""Turns: how much one request may send and read before the others have theirs.

A greenlet whose client takes and gives as fast as the application does never waits,
so by itself it would never let anybody else run, and the hub would not poll.
"""

from __future__ import annotations

from greenlet import getcurrent

from streamserve.loop.hub import Hub
from streamserve.loop.waiter import yield_turn

TURN = 1 << 20
"""Bytes that are sent and read without waiting until the others have their turn."""

PIECE_COST = 1 << 15
"""What a piece counts beyond its bytes: 32 empty ones are a turn too."""


class Turns:
    """Counts what the requests of a listener send and read; one that finds it used up calls `take`.

    It is not counted anew after a wait: a turn too many costs little, as little as `sleep(0)`.

    Attributes:
        left: bytes until the next turn is due; below zero it is.
    """

    __slots__ = ("_hub", "left")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.left = TURN

    def take(self) -> None:
        """Lets the others run, and the hub poll; the current greenlet may be killed meanwhile."""
        self.left = TURN
        hub = self._hub
        if getcurrent() is not hub:  # there nobody can wait
            hub.budget = 0  # else the poll came after 256 turns
            yield_turn(hub)
            if hub.ready:  # what the poll has found stands behind this greenlet, whose turn would come first
                yield_turn(hub)
