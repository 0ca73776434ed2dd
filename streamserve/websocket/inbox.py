"""What waits for a WebSocket's reader."""

from __future__ import annotations

from collections import deque
from typing import Any

from streamserve.core import lib

__all__ = ["Inbox"]

LIMIT = 1 << 20
"""Bytes of messages that wait for `receive` or for a busy handler; beyond them the peer is not read."""


class Inbox(deque[Any]):
    """The messages of one connection that nobody has taken yet, in order; its peer is stopped while they are many.

    Args:
        core: the loop.
        handle: the connection.

    Attributes:
        bytes: of all that waits.
        paused: the peer is not read.
    """

    __slots__ = ("_core", "_handle", "bytes", "paused")

    def __init__(self, core: Any, handle: int) -> None:
        super().__init__()
        self._core = core
        self._handle = handle
        self.bytes = 0
        self.paused = False

    def put(self, message: Any) -> None:
        """Keeps a message behind those that wait."""
        self.append(message)
        self.bytes += _size(message)
        if self.bytes > LIMIT and not self.paused:
            self.paused = True
            lib.ss_ws_reading(self._core, self._handle, 0)

    def take(self) -> Any:
        """The next one; the peer goes on once half of the limit is free."""
        message = self.popleft()
        self.bytes -= _size(message)
        if self.paused and self.bytes < LIMIT // 2:
            self.paused = False
            lib.ss_ws_reading(self._core, self._handle, 1)
        return message

    def take_all(self) -> list[Any]:
        """All of them, and the peer goes on."""
        return [self.take() for _ in range(len(self))]


MESSAGE = 256
"""Bytes that a message takes however short it is: a client that sends many of two bytes is stopped as early."""


def _size(message: Any) -> int:
    """What it takes. An event of Socket.IO is a tuple, with its JSON at the end."""
    return MESSAGE + (len(message[-1]) if message.__class__ is tuple else len(message))
