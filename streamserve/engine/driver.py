"""What python-engineio builds on: threads, queues, events and sleep are those of greenlets."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from streamserve.loop.greenlet import Greenlet
from streamserve.loop.joining import sleep
from streamserve.sync.event import Event
from streamserve.sync.queue import Queue


class Task:
    """A background task with the face of `threading.Thread`, as `start_background_task` makes them."""

    def __init__(
        self, target: Callable[..., Any], args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.greenlet = Greenlet(target, *args, **(kwargs or {}))

    def start(self) -> None:
        """Begins to run, soon."""
        self.greenlet.start()

    def join(self, timeout: float | None = None) -> None:
        """Waits until it has ended, for `timeout` seconds at most."""
        self.greenlet.join(timeout)

    def is_alive(self) -> bool:
        """It runs, or is about to."""
        return not self.greenlet.ready()


DRIVER: dict[str, Any] = {
    "thread": Task,
    "queue": Queue,
    "queue_empty": queue.Empty,
    "event": Event,
    "websocket": Task,  # what is not None: WebSocket is spoken, but not by python-engineio's code
    "sleep": sleep,
}
