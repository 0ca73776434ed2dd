"""Clients that leave while their request waits: the application is told where it waits, by ClientGone.

Most requests never wait, so nothing is kept of them. Only when a second runner goes on with the requests of a poll is
it known that the first one stopped amid its own: then it is noted which greenlet waits for which connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamserve.gateway.client_faults import client_gone

if TYPE_CHECKING:
    from streamserve.errors import ClientGone
    from streamserve.loop.hub import Hub
    from streamserve.loop.waiter import Runner

__all__ = ["Departures"]


class _Request:
    """One that waits, or whose client has left."""

    __slots__ = ("error", "left", "runner")

    def __init__(self) -> None:
        self.runner: Runner | None = None
        self.left = False
        self.error: ClientGone | None = None


class Departures:
    """The requests of one listener that wait, or whose clients have left.

    Args:
        hub: that of the listener.

    Attributes:
        known: connection → such a request.
        runner: serves requests now, or did until its request waited; None: none is being served.
    """

    __slots__ = ("_hub", "known", "runner")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.known: dict[int, _Request] = {}
        self.runner: Runner | None = None

    def enter(self, runner: Runner) -> None:
        """A runner goes on with the requests of a poll; if another one was amid them, its request waits."""
        before, self.runner = self.runner, runner
        if before is not None:
            request = self.known.setdefault(before.job, _Request())
            request.runner = before
            if request.left:
                self._interrupt(request)

    def leave(self, runner: Runner) -> None:
        """A runner has served what there was."""
        if self.runner is runner:
            self.runner = None

    def left(self, connection: int) -> None:
        """The client of a request has left."""
        request = self.known.setdefault(connection, _Request())
        request.left = True
        if request.runner is not None:
            self._interrupt(request)

    def over(self, connection: int) -> None:
        """A request is over: what was not raised in it is for nobody."""
        request = self.known.pop(connection, None)
        if request is not None and request.error is not None:
            self._hub.withdraw_interrupt(request.runner, request.error)

    def _interrupt(self, request: _Request) -> None:
        if request.error is None:
            request.error = client_gone()
            self._hub.interrupt(request.runner, request.error)
