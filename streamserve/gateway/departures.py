"""Clients that leave while their request waits: the application is told where it waits, by ClientGone.

Most requests never wait, so nothing is kept of them. Only when a second runner goes on with the requests of a poll is
it known that the first one stopped amid its own: then it is noted which greenlet waits for which connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import getcurrent

from streamserve.gateway.client_faults import client_gone
from streamserve.loop.waiter import Runner

if TYPE_CHECKING:
    from streamserve.errors import ClientGone
    from streamserve.loop.hub import Hub

__all__ = ["Departures", "spare_request"]


def spare_request(hub: Hub) -> None:
    """The request of the current greenlet goes on whatever its client does: what it brought is for others, too."""
    runner = getcurrent()
    if isinstance(runner, Runner):
        for port in [*hub.ports.values()]:
            departures = getattr(port, "departures", None)
            if departures is not None:
                departures.spare(runner)


class _Request:
    """One that waits, or whose client has left."""

    __slots__ = ("error", "left", "runner", "spared")

    def __init__(self) -> None:
        self.runner: Runner | None = None
        self.spared = False
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

    def spare(self, runner: Runner) -> None:
        """The request that a runner serves goes on whatever its client does. Not if it is another listener's."""
        request = self.known.get(runner.job)
        if self.runner is runner:
            request = self.known.setdefault(runner.job, _Request())
        elif request is None or request.runner is not runner:
            return
        request.spared = True

    def _interrupt(self, request: _Request) -> None:
        if request.error is None and not request.spared:
            request.error = client_gone()
            self._hub.interrupt(request.runner, request.error)
