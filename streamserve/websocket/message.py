"""What goes through a WebSocket: messages, and the Close behind the last."""

from __future__ import annotations

from typing import Any

__all__ = ["Close", "Message", "encoded"]

Message = str | bytes


def encoded(message: Any) -> bytes:
    """The bytes of a message, as they go on the wire.

    Raises:
        TypeError: it is neither str nor bytes.
    """
    if isinstance(message, str):
        return message.encode()
    if not isinstance(message, (bytes, bytearray, memoryview)):
        raise TypeError(f"a message is str or bytes, not {type(message).__name__}; encode it, with json.dumps perhaps")
    return bytes(message)


class Close:
    """Stands in an inbox behind the last message."""

    __slots__ = ("code", "reason")

    def __init__(self, data: bytes) -> None:
        self.code = int.from_bytes(data[:2], "big")
        self.reason = data[2:].decode()

    def __len__(self) -> int:
        return 0
