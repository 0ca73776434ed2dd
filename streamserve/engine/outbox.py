"""What waits for a client that polls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["Outbox", "size_of"]


def size_of(frames: Iterable[str | bytes]) -> int:
    """Their bytes; those of text, where it is beyond ASCII, are some more."""
    return sum(map(len, frames))


class Outbox(deque[str | bytes]):
    """The frames that its next polls are answered with, in order.

    Attributes:
        bytes: of all of them.
    """

    __slots__ = ("bytes",)

    def __init__(self, frames: Iterable[str | bytes] = ()) -> None:
        super().__init__()
        self.bytes = 0
        if frames:
            self.put(frames)

    def put(self, frames: Iterable[str | bytes]) -> None:
        """Adds frames."""
        for frame in frames:
            self.append(frame)
            self.bytes += len(frame)

    def take(self) -> str | bytes:
        """The first frame."""
        frame = self.popleft()
        self.bytes -= len(frame)
        return frame
