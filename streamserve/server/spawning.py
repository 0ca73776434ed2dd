"""How a server starts its handlers, and how many more it may start now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamserve.loop.greenlet import Greenlet
from streamserve.loop.joining import sleep, spawn_raw
from streamserve.pool.threadpool import ThreadPool

RECHECK = 0.02
"""Seconds between two looks at a pool that is full and cannot be waited for."""


class Spawning:
    """What the argument `spawn` of a server says.

    Args:
        spawn: "default": a Greenlet for each; a number: at most so many at once; a Pool, or anything with `spawn` and
            `full`; a function such as `spawn_raw`; None: in the hub, where nothing may wait.

    Attributes:
        pool: the pool, or None.
        start: starts a function with arguments; None: it is to be called in the hub.
        known: `start` only queues, so that the hub may call it while it reads events.

    Raises:
        TypeError: it is none of these.
        ValueError: a number below 1.
    """

    __slots__ = ("known", "pool", "start")

    def __init__(self, spawn: Any) -> None:
        self.pool: Any = None
        self.start: Callable[..., Any] | None = spawn
        if spawn == "default":
            self.start = Greenlet.spawn
        elif isinstance(spawn, int) and not isinstance(spawn, bool):
            if spawn < 1:
                raise ValueError(f"spawn={spawn} would never run a handler: give the most that may run at once")
            from streamserve.pool.group import Pool  # only where it is asked for

            self.pool = Pool(spawn)
        elif isinstance(spawn, ThreadPool):
            raise TypeError(
                f"spawn={spawn!r} runs handlers in other threads, which cannot wait in this loop: give a Pool"
            )
        elif hasattr(spawn, "spawn"):
            self.pool = spawn
        elif spawn is not None and not callable(spawn):
            raise TypeError(f"spawn={spawn!r} starts nothing: give 'default', a number, a Pool, spawn_raw or None")
        if self.pool is not None:
            self.start = self.pool.spawn
        self.known = self.pool is not None or spawn in ("default", spawn_raw)

    def full(self) -> bool:
        """Whether no further handler may start now."""
        full = getattr(self.pool, "full", None)
        return full is not None and bool(full())

    def room(self, most: int) -> int:
        """How many more handlers may start now, `most` at most."""
        if self.pool is None:
            return most
        if self.full():
            return 0
        if not hasattr(self.pool, "free_count"):
            return 1
        return most if self.pool.size is None else min(most, int(self.pool.free_count()))

    def wait_for_room(self) -> None:
        """Waits until the pool has, or may have, a place."""
        if not self.full():
            return
        wait = getattr(self.pool, "wait_available", None)
        if wait is not None:
            wait()
        else:
            sleep(RECHECK)
