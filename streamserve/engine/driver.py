"""What python-engineio builds on: threads, queues, events and sleep are those of greenlets."""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hubs import hub_of_thread
from streamserve.loop.joining import sleep
from streamserve.sync.event import Event
from streamserve.sync.queue import Queue

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

__all__ = ["Task", "driver"]


class Task:
    """A background task with the face of `threading.Thread`, as `start_background_task` makes them.

    Args:
        hubs: those that serve the clients, in the order in which they began to: a native thread that is none of
            theirs has no loop that goes on, and its tasks run in the last one of these.
        target: what it calls.
        args: with these arguments.
        kwargs: and with these named ones.
    """

    def __init__(
        self,
        hubs: Collection[Hub],
        target: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.greenlet = Greenlet(target, *args, **(kwargs or {}))
        self._hubs = hubs

    def start(self) -> None:
        """Begins to run, soon. Any thread may say so."""
        hubs = [hub for hub in [*self._hubs] if not hub.destroyed]
        if not hubs or hub_of_thread() in hubs:
            self.greenlet.start()
        else:
            hubs[-1].run_callback_threadsafe(self.greenlet.start)

    def join(self, timeout: float | None = None) -> None:
        """Waits until it has ended, for `timeout` seconds at most. Any thread may."""
        self.greenlet.join(timeout)

    def is_alive(self) -> bool:
        """It runs, or is about to."""
        return not self.greenlet.ready()


def driver(hubs: Collection[Hub]) -> dict[str, Any]:
    """What a server of python-engineio takes for its modules of threads.

    Args:
        hubs: those that serve its clients, as they are at any time.
    """
    return {
        "thread": partial(Task, hubs),
        "queue": Queue,
        "queue_empty": queue.Empty,
        "event": Event,
        "websocket": Task,  # what is not None: WebSocket is spoken, but not by python-engineio's code
        "sleep": sleep,
    }
