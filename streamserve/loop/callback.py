"""Callback: a function that the hub calls in its own greenlet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamserve.loop.hubs import get_hub


class Callback:
    """A function that the hub calls in its own greenlet; `stop` before it ran prevents it."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function: Callable[..., Any] | None = function
        self.args = args

    def stop(self) -> None:
        self.function = None
        self.args = ()

    @property
    def pending(self) -> bool:
        return self.function is not None

    def fire(self) -> None:
        """A timer's end: called by the hub among the events, so it only queues itself."""
        get_hub().ready.append(self)
